"""A unit's commit accounts for every row, once; a second one changes nothing."""

from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from pipelines.errors import LedgerError
from pipelines.ledger import Ledger
from pipelines.shards import Shard, parquet_shard
from pipelines.unit_result import UnitResult, commit_unit
from pipelines.verify import verify
from schemas.failed import FAILED
from tests.pipelines.toys import RESULT, commit_inline, square_ledger, write_input, write_manifest


@pytest.fixture
def source(tmp_path: Path) -> str:
    return write_input(tmp_path / "in", negative=(3, 33))


def _result(ledger: Ledger, **changes: object) -> UnitResult:
    unit = ledger.planned()[0]
    names = [f"row-{n}" for n in range(5)]
    table = pa.table([names, [f"{name}-0" for name in names], [1] * 5], schema=RESULT)
    result = UnitResult(
        unit=unit,
        row_ids=pa.array(names),
        table=table,
        failed=FAILED.empty_table(),
        attempts=1,
        started_at=0.0,
        seconds={},
    )
    return replace(result, **changes)


def test_a_second_equal_commit_changes_nothing(root_uri: str, source: str) -> None:
    ledger = square_ledger(root_uri, source)
    first = commit_inline(ledger, ledger.planned(), source)
    assert commit_inline(ledger, ledger.planned(), source) == first


def test_a_commit_of_other_bytes_is_refused_or_yields(root_uri: str, source: str) -> None:
    ledger = square_ledger(root_uri, source)
    unit = ledger.planned()[0]
    first = commit_unit(ledger, result := _result(ledger), parquet_shard(unit, result.table))
    other = [Shard(path=f"data/{unit.id}.parquet", data=b"other", rows=5)]
    assert commit_unit(ledger, result, other) == first
    assert ledger.storage.sha256(first.outputs[0].path) == first.outputs[0].sha256
    with pytest.raises(LedgerError, match="results vary between runs"):
        commit_unit(ledger, result, [Shard(path=f"data/{unit.id}.tar", data=b"new", rows=5)])


def test_leftovers_of_a_killed_attempt_are_replaced(root_uri: str, source: str) -> None:
    ledger = square_ledger(root_uri, source)
    unit = ledger.planned()[0]
    ledger.storage.write(f"data/{unit.id}.parquet", b"half of an older program's output")
    record = commit_unit(ledger, result := _result(ledger), parquet_shard(unit, result.table))
    assert ledger.storage.sha256(record.outputs[0].path) == record.outputs[0].sha256


def test_a_lost_row_is_a_fault_of_the_worker(root_uri: str, source: str) -> None:
    ledger = square_ledger(root_uri, source)
    with pytest.raises(LedgerError, match=r"1 rows with neither a result nor a dead letter, such as 'row-4'"):
        commit_unit(ledger, _result(ledger, table=_result(ledger).table.slice(0, 4)), [])
    with pytest.raises(LedgerError, match=r"no such input row, such as 'row-4'"):
        commit_unit(ledger, _result(ledger, row_ids=pa.array([f"row-{n}" for n in range(4)])), [])


def test_shards_carry_their_units_name(root_uri: str, source: str) -> None:
    ledger = square_ledger(root_uri, source)
    with pytest.raises(LedgerError, match="must be named data/00000"):
        commit_unit(ledger, _result(ledger), [Shard(path="data/x.parquet", data=b"", rows=5)])


def test_shards_may_be_named_by_their_units_position(root_uri: str, source: str) -> None:
    ledger = square_ledger(root_uri, source)
    (shard,) = parquet_shard(ledger.planned()[0], _result(ledger).table)
    shards = [
        replace(shard, path="data/00000.parquet"),
        Shard(path="data/00000_stats.json", data=b"{}", rows=0),
    ]
    assert len(commit_unit(ledger, _result(ledger), shards).outputs) == 2
    with pytest.raises(LedgerError, match="must be named"):
        commit_unit(ledger, _result(ledger), [replace(shard, path="data/00001.parquet")])


def test_a_unit_of_dead_letters_alone_has_no_shard(root_uri: str, tmp_path: Path) -> None:
    source = write_input(tmp_path / "bad", negative=tuple(range(5, 10)))
    ledger = square_ledger(root_uri, source)
    commits = commit_inline(ledger, ledger.planned(), source)
    record = commits[ledger.planned()[1].id]
    assert (record.rows_done, record.rows_failed, record.outputs) == (0, 5, ())
    write_manifest(ledger)
    assert verify(root_uri).problems == []


def test_ids_may_be_numbers(tmp_path: Path, source: str) -> None:
    ledger = square_ledger(str(tmp_path / "out"), source)
    names = [str(n) for n in range(5)]
    table = _result(ledger).table.set_column(0, "name", pa.array(range(5)))
    result = _result(ledger, table=table, row_ids=pa.array(names))
    assert commit_unit(ledger, result, []).rows_done == 5
