"""The lines that workers and tasks log of a run: each with run, stage and unit, none with what rows say.

Where `jobs.ray_session` started Ray, they are JSON, one object a line, in Ray's worker logs.
"""

import logging
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from pipelines.commit import Commit
from pipelines.run_labels import RunLabels

_log = logging.getLogger(__name__)
_MAX_ROW_IDS = 10


@dataclass(frozen=True, kw_only=True)
class RunLog:
    """The log of a run within one stage.

    Attributes:
        labels: Of the run.
        stage: What logs.
    """

    labels: RunLabels
    stage: str

    def worker_built(self, seconds: float) -> None:
        """A worker is ready after so many seconds."""
        self._tell(logging.INFO, "worker built", seconds=round(seconds, 3))

    def worker_not_built(self) -> None:
        """A worker's constructor raised; to call where the error is caught."""
        self._tell(logging.ERROR, "worker not built", exc_info=True)

    def unit_begun(self, unit: str, rows: int, attempt: int) -> None:
        """A worker begins the unit, for the first time if `attempt` is 1."""
        level = logging.INFO if attempt == 1 else logging.WARNING
        self._tell(level, "unit begun", unit=unit, rows=rows, attempt=attempt)

    def unit_finished(self, unit: str, rows: int, rows_failed: int, seconds: float) -> None:
        """A worker is through with the unit."""
        self._tell(
            logging.INFO,
            "unit finished",
            unit=unit,
            rows=rows,
            rows_failed=rows_failed,
            seconds=round(seconds, 3),
        )

    def rows_raised(self, unit: str, start: int, stop: int) -> None:
        """These rows of the unit raised, together; to call where the error is caught."""
        self._tell(logging.WARNING, "rows raised", exc_info=True, unit=unit, rows=[start, stop])

    def noted(self, unit: str, events: dict[str, int]) -> None:
        """What the worker noted, such as memory that ran out, and how often."""
        for event, times in sorted(events.items()):
            self._tell(logging.WARNING, "worker noted", unit=unit, event=event, times=times)

    def unit_committed(self, commit: Commit, failed: pa.Table) -> None:
        """The unit counts from now on.

        Args:
            commit: Its record.
            failed: Its dead letters, of schema FAILED.
        """
        kinds: dict[tuple[str, str], list[str]] = {}
        names = ("stage", "error_type", "row_id")
        for stage, error_type, row_id in zip(*(failed[name].to_pylist() for name in names), strict=True):
            kinds.setdefault((stage, error_type), []).append(row_id)
        for (stage, error_type), row_ids in kinds.items():
            self._tell(
                logging.WARNING,
                "dead letters",
                unit=commit.unit,
                failed_in=stage,
                error_type=error_type,
                rows_failed=len(row_ids),
                row_ids=row_ids[:_MAX_ROW_IDS],
            )
        self._tell(
            logging.INFO,
            "unit committed",
            unit=commit.unit,
            rows=commit.rows_in,
            rows_failed=commit.rows_failed,
            rows_out=commit.rows_out,
            attempts=commit.attempts,
            seconds={name: round(seconds, 3) for name, seconds in commit.seconds.items()},
        )

    def committed_before(self, unit: str) -> None:
        """The unit turned out to be committed: by another driver, or by a task whose answer was lost."""
        self._tell(logging.INFO, "unit committed before", unit=unit)

    def _tell(self, level: int, message: str, exc_info: bool = False, **fields: Any) -> None:
        known = {"job_name": self.labels.job, "run": self.labels.run, "stage": self.stage}
        _log.log(level, message, exc_info=exc_info, extra=known | fields)
