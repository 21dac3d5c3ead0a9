"""The first and the last stage of a job: tasks that read units, and that write and commit their results."""

import time
from collections.abc import Callable

import numpy as np
import pyarrow as pa

from pipelines.commit import commit_path, read_commit
from pipelines.envelope import unwrap, wrap
from pipelines.ledger import Ledger
from pipelines.metrics import count_commit
from pipelines.plan import Unit
from pipelines.run_labels import RunLabels
from pipelines.run_logs import RunLog
from pipelines.shards import Shard
from pipelines.unit_result import UnitResult, commit_unit
from pipelines.worker import WorkerError
from schemas.failed import FAILED


class ReadStage:
    """Ray Data's function for a pending unit: gives its rows, or its record if it is done after all.

    Another driver may have been faster, or the listing that told which units are done was behind.
    """

    def __init__(self, read: Callable[[Unit], pa.Table], ledger: Ledger) -> None:
        self.read = read
        self.ledger = ledger
        self.row_id = ledger.spec.row_id

    def __call__(self, block: pa.Table) -> pa.Table:
        """Read the unit in a one-row block; the result is such a block again."""
        facts, _ = unwrap(block)
        unit = Unit.from_json(facts["unit"])
        if self.ledger.storage.exists(commit_path(unit.id)):
            return wrap({"commit": read_commit(self.ledger.storage, unit.id).to_json(), "is_ours": False}, {})
        started_at, began = time.time(), time.monotonic()
        rows = self.read(unit)
        if rows.num_rows != unit.num_rows:
            raise WorkerError(
                f"unit {unit.id}: read gave {rows.num_rows} rows, not {unit.num_rows}; correct it"
            )
        if self.row_id not in rows.column_names or rows[self.row_id].null_count:
            raise WorkerError(
                f"unit {unit.id} ({unit.path}): no column '{self.row_id}', or rows without one; columns are "
                f"{', '.join(rows.column_names)}; every row needs an id"
            )
        return wrap(
            facts
            | {
                "started_at": started_at,
                "seconds": {"read": time.monotonic() - began},
                "events": {},
                "attempts": 0,
                "bytes_read": rows.nbytes,
            },
            {
                "rows": rows,
                "places": pa.table({"place": np.arange(rows.num_rows)}),
                "row_ids": pa.table({"id": rows[self.row_id].cast(pa.string())}),
                "failed": FAILED.empty_table(),
            },
        )


class CommitStage:
    """Ray Data's function for a unit's results: encodes, writes and commits them, gives the commit record."""

    def __init__(self, pack: Callable[[Unit, pa.Table], list[Shard]], ledger: Ledger) -> None:
        self.pack = pack
        self.ledger = ledger
        self.log = RunLog(labels=RunLabels.of(ledger.spec.job, ledger.storage.uri), stage="commit")

    def __call__(self, block: pa.Table) -> pa.Table:
        """Commit the unit in a one-row block."""
        facts, tables = unwrap(block)
        if "commit" in facts:
            return block
        unit, began, began_at = Unit.from_json(facts["unit"]), time.monotonic(), time.time()
        results = tables["rows"]
        shards = self.pack(unit, results) if results.num_rows else []
        result = UnitResult(
            unit=unit,
            row_ids=tables["row_ids"]["id"].combine_chunks(),
            table=results,
            failed=tables["failed"],
            attempts=facts["attempts"],
            started_at=facts["started_at"],
            seconds=facts["seconds"] | {"pack": time.monotonic() - began},
            events=facts["events"],
        )
        commit = commit_unit(self.ledger, result, shards)
        # else it is another driver's, or an earlier attempt's of this very task, which counted it
        if commit.started_at == result.started_at and commit.committed_at >= began_at:
            count_commit(self.log.labels, commit, facts["bytes_read"])
            self.log.unit_committed(commit, result.failed)
        else:
            self.log.committed_before(unit.id)
        return wrap({"commit": commit.to_json(), "is_ours": True}, {})
