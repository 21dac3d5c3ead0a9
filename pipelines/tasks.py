"""What a Ray task gave."""

from typing import Any

import ray
from ray.exceptions import RayTaskError

from pipelines.errors import RefusalError


def task_result(reference: Any) -> Any:
    """The task's result; a refusal that it raised is raised as it was, without Ray's frames."""
    try:
        return ray.get(reference)
    except RayTaskError as error:
        if isinstance(error.cause, RefusalError):
            raise error.cause from error
        raise
