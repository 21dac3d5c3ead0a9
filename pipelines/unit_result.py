"""Commit a unit: write its objects, then the record that makes them count."""

import re
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from pipelines.commit import Commit, commit_path, read_commit, row_ids_digest
from pipelines.errors import LedgerError
from pipelines.ledger import Ledger
from pipelines.plan import Unit
from pipelines.shards import Shard, parquet_bytes
from schemas.manifest import ObjectEntry


@dataclass(frozen=True, kw_only=True)
class UnitResult:
    """What is known of a unit when its rows are through.

    Attributes:
        unit: The unit.
        row_ids: The ids of its input rows.
        table: The results.
        failed: The dead letters, of schema FAILED.
        attempts: Times that a worker began the unit.
        started_at: Unix time when it was read, in seconds.
        seconds: Where the time went, by stage.
        events: What the worker noted, and how often.
    """

    unit: Unit
    row_ids: pa.Array
    table: pa.Table
    failed: pa.Table
    attempts: int
    started_at: float
    seconds: dict[str, float]
    events: dict[str, int] = field(default_factory=dict)


def commit_unit(ledger: Ledger, result: UnitResult, shards: Sequence[Shard]) -> Commit:
    """Write the unit's objects, then the record that makes them count.

    Returns:
        The record that counts: another's, where another driver was first with the same result.

    Raises:
        LedgerError: A row is neither a result nor a dead letter, or is both; or the unit was committed
            with other bytes.
    """
    unit = result.unit
    rows_done = _check_rows(ledger, result)
    _check_paths(unit, shards)
    started = time.monotonic()
    failed = None
    if result.failed.num_rows:
        path = f"failed/{unit.id}.parquet"
        failed = Shard(path=path, data=parquet_bytes(result.failed), rows=result.failed.num_rows)
    written = [*shards, failed] if failed else list(shards)
    if not all([_write_output(ledger, unit, shard) for shard in written]):
        return read_commit(ledger.storage, unit.id)
    kinds = [f"{stage}: {kind}" for stage, kind in _columns(result.failed, "stage", "error_type")]
    record = Commit(
        unit=unit.id,
        rows_in=unit.num_rows,
        rows_done=rows_done,
        rows_failed=result.failed.num_rows,
        rows_out=result.table.num_rows,
        row_ids_sha256=row_ids_digest(result.row_ids.to_pylist()),
        outputs=tuple(ObjectEntry.of(s.path, s.data, s.rows) for s in shards),
        failed=ObjectEntry.of(failed.path, failed.data, failed.rows) if failed else None,
        failures={kind: kinds.count(kind) for kind in sorted(set(kinds))},
        seconds=result.seconds | {"write": time.monotonic() - started},
        events=result.events,
        attempts=result.attempts,
        host=socket.gethostname(),
        started_at=result.started_at,
        committed_at=time.time(),
        code_version=ledger.spec.code_version,
    )
    if ledger.storage.create(commit_path(unit.id), record.to_bytes()):
        return record
    other = read_commit(ledger.storage, unit.id)
    if not record.same_result(other):
        raise LedgerError(
            f"{ledger.storage.uri_of(commit_path(unit.id))}: a worker on {other.host} committed other "
            "bytes for this unit: results vary between runs. Stop all but one driver, run verify, "
            "delete rollups/ and the commit records it names, and start again"
        )
    return other


def _check_rows(ledger: Ledger, result: UnitResult) -> int:
    """The number of input rows with results, once every row is accounted for exactly once."""
    ids = set(result.row_ids.to_pylist())
    results = result.table[ledger.spec.row_id].cast(pa.string()) if result.table.num_rows else pa.array([])
    done = set(results.to_pylist())
    failed = set(result.failed["row_id"].to_pylist())
    for what, wrong in (
        ("neither a result nor a dead letter", ids - done - failed),
        ("both a result and a dead letter", done & failed),
        ("results, but no such input row", (done | failed) - ids),
    ):
        if wrong:
            raise LedgerError(
                f"unit {result.unit.id}: {len(wrong)} rows with {what}, such as '{min(wrong)}' in column "
                f"'{ledger.spec.row_id}'; this is a fault of the job's worker"
            )
    return result.unit.num_rows - result.failed.num_rows


def _write_output(ledger: Ledger, unit: Unit, shard: Shard) -> bool:
    """Write one object; False when the unit turns out to be committed already."""
    if ledger.storage.create(shard.path, shard.data) or ledger.storage.read(shard.path) == shard.data:
        return True
    # Other bytes: left by an older program that was killed here, or another driver's.
    if ledger.storage.exists(commit_path(unit.id)):
        return False
    ledger.storage.write(shard.path, shard.data)
    return True


def _columns(table: pa.Table, *names: str) -> list[tuple[Any, ...]]:
    return list(zip(*(table[name].to_pylist() for name in names), strict=True))


def _check_paths(unit: Unit, shards: Sequence[Shard]) -> None:
    for shard in shards:
        folder, _, name = shard.path.partition("/")
        stem = re.sub(r"^train-(.+)-of-\d{5,}$", r"\1", re.split(r"[./_]", name)[0])
        if folder != "data" or stem not in (unit.id, unit.shard_name):
            raise LedgerError(
                f"unit {unit.id}: shard '{shard.path}' must be named data/{unit.id}.suffix or "
                f"data/{unit.shard_name}.suffix; correct the job's pack"
            )
