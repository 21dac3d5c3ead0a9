"""What tells the metrics and log lines of one run from another's."""

import hashlib
import re
from dataclasses import dataclass

from pipelines.storage import without_options

_NAME_CHARS, _DIGEST_CHARS = 40, 8


@dataclass(frozen=True, kw_only=True)
class RunLabels:
    """A run, in few words.

    Attributes:
        job: The job's name, such as "generate".
        run: The output folder's last name and a digest of its URI: the same whenever the run goes on.
    """

    job: str
    run: str

    @classmethod
    def of(cls, job: str, output: str) -> "RunLabels":
        """The labels of a job that writes to this URI; the URI's options do not count."""
        location = without_options(output).rstrip("/")
        name = re.sub(r"[^A-Za-z0-9_.-]+", "-", location.rpartition("/")[2])[:_NAME_CHARS]
        digest = hashlib.sha256(location.encode()).hexdigest()[:_DIGEST_CHARS]
        return cls(job=job, run=f"{name}-{digest}")
