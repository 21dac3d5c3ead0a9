"""Whether a job will run on the cluster, asked of all its nodes before it costs anything.

for check in examine("generate", config):
    print(check.name, check.is_ok, check.found)
"""

from __future__ import annotations

from collections.abc import Iterator

from pipelines.cluster.check import Check
from pipelines.cluster.node_checks import check_nodes
from pipelines.config import Config
from pipelines.errors import RefusalError


def examine(job: str, config: Config) -> Iterator[Check]:
    """Look at all that the job needs, as it would need it; needs a connected Ray.

    Args:
        job: Its name.
        config: Its configuration.
    """
    yield from _told("nodes", check_nodes(str(config.model_dump()["output"])))
    yield from _told("job", _check_job(job, config))


def _check_job(job: str, config: Config) -> Iterator[Check]:
    if job == "train":
        from pipelines.cluster.training_checks import check_training
        from pipelines.training.settings import TrainConfig

        assert isinstance(config, TrainConfig)
        return check_training(config)
    from pipelines.cluster.row_checks import check_rows

    return check_rows(job, config)


def _told(name: str, checks: Iterator[Check]) -> Iterator[Check]:
    """The checks; a refusal is the last of them: it says itself what to do."""
    try:
        yield from checks
    except RefusalError as error:
        yield Check(name=name, is_ok=False, found=str(error))
