"""A unit is done if and only if its record exists; rollups only save requests."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipelines import records as module
from pipelines.commit import Commit, commit_path, read_commit
from pipelines.ledger import Ledger
from pipelines.records import ROLLUPS, Records, read_rollup
from pipelines.storage import Storage
from tests.pipelines.toys import commit_inline, finish_inline, square_ledger, write_input


@pytest.fixture(autouse=True)
def _three_units_a_rollup(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ROLLUP_UNITS", 3)
    monkeypatch.setattr(module, "LISTED_UNITS", 2)


@pytest.fixture
def source(tmp_path: Path) -> str:
    """Of eight units, two of them with dead letters."""
    return write_input(tmp_path / "in", negative=(3, 33))


@pytest.fixture
def ledger(root_uri: str, source: str) -> Ledger:
    return square_ledger(root_uri, source)


def _open(ledger: Ledger) -> Records:
    return Records(ledger.storage, ledger.planned())


def _rollups(ledger: Ledger) -> list[str]:
    return [entry.path[len(ROLLUPS) :] for entry in ledger.storage.list(ROLLUPS)]


def _forbid_reading_records(monkeypatch: pytest.MonkeyPatch) -> None:
    def read(storage: Storage, unit_id: str) -> Commit:
        raise AssertionError(f"read the record of {unit_id}")

    monkeypatch.setattr(module, "read_commit", read)


def test_a_rollup_is_written_when_all_of_its_units_are_done(ledger: Ledger, source: str) -> None:
    records = _open(ledger)
    commits = list(commit_inline(ledger, ledger.planned(), source).values())
    for number in (0, 7, 2, 3):
        records.add(commits[number])
    assert _rollups(ledger) == []
    records.add(commits[1])
    assert _rollups(ledger) == ["0000-000000.parquet"]
    for number in (4, 5, 6):
        records.add(commits[number])
    assert _rollups(ledger) == [f"0000-00000{block}.parquet" for block in range(3)]
    assert list(records.in_order()) == commits
    assert list(read_rollup(ledger.storage, f"{ROLLUPS}0000-000002.parquet").values()) == commits[6:]


def test_rollups_are_read_in_the_place_of_records(
    ledger: Ledger, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    commits = commit_inline(ledger, ledger.planned(), source)
    _open(ledger).roll_up()
    _forbid_reading_records(monkeypatch)
    assert list(_open(ledger).in_order()) == list(commits.values())
    with pytest.raises(AssertionError, match="read the record of 0000000"):
        list(Records(ledger.storage, ledger.planned(), rollups=False).in_order())


def test_rollups_may_be_deleted_at_any_time(ledger: Ledger, source: str) -> None:
    commits = commit_inline(ledger, ledger.planned(), source)
    _open(ledger).roll_up()
    records = _open(ledger)
    ledger.storage.delete(f"{ROLLUPS}0000-000001.parquet")
    assert list(records.in_order()) == list(commits.values())
    for name in _rollups(ledger):
        ledger.storage.delete(ROLLUPS + name)
    assert list(records.in_order()) == list(commits.values())
    assert list(_open(ledger).in_order()) == list(commits.values())


def test_the_rollups_that_a_killed_driver_did_not_write_are_made_up_for(ledger: Ledger, source: str) -> None:
    units = ledger.planned()
    earlier = commit_inline(ledger, [unit for unit in units if unit.position != 4], source)
    records = _open(ledger)
    assert records.pending().tolist() == [4]
    records.roll_up()
    assert _rollups(ledger) == ["0000-000000.parquet", "0000-000002.parquet"]
    (last,) = commit_inline(ledger, [units[4]], source).values()
    records.add(last)
    assert _rollups(ledger) == [f"0000-00000{block}.parquet" for block in range(3)]
    assert list(records.in_order()) == sorted([*earlier.values(), last], key=lambda commit: commit.unit)


def test_units_that_are_done_are_found_whatever_their_order_and_other_objects_ignored(
    ledger: Ledger, source: str
) -> None:
    units = ledger.planned()
    commit_inline(ledger, [units[6], units[1], units[2]], source)
    for name in ("00000000-000000000000", f"{units[3].id}-r1", "99999999-abc", "notes"):
        ledger.storage.write(commit_path(name), b"{}")
    records = _open(ledger)
    assert records.pending().tolist() == [0, 3, 4, 5, 7]
    assert [commit.unit for commit in records.in_order()] == [units[n].id for n in (1, 2, 6)]


def test_retry_rounds_are_merged_by_position(root_uri: str, source: str) -> None:
    ledger = finish_inline(root_uri, source)
    first = [unit.id for unit in ledger.planned()]
    for _ in range(2):
        commit_inline(ledger, ledger.plan_retries(), source)
    records = _open(ledger)
    records.roll_up()
    assert _rollups(ledger)[-2:] == ["0001-000000.parquet", "0002-000000.parquet"]
    expected = [[unit, f"{unit}-r1", f"{unit}-r2"] if n in (0, 6) else [unit] for n, unit in enumerate(first)]
    for opened in (records, _open(ledger)):
        assert [commit.unit for commit in opened.in_order()] == [unit for units in expected for unit in units]


def test_a_unit_whose_record_is_deleted_is_pending_again_and_its_rollup_made_anew(
    ledger: Ledger, source: str
) -> None:
    units = ledger.planned()
    before = commit_inline(ledger, units, source)
    _open(ledger).roll_up()
    ledger.storage.delete(commit_path(units[1].id))
    records = _open(ledger)
    assert records.pending().tolist() == [1]
    assert [commit.unit for commit in records.in_order()] == [unit.id for unit in units if unit.position != 1]
    records.roll_up()
    assert _rollups(ledger) == ["0000-000001.parquet", "0000-000002.parquet"]

    again = replace(before[units[1].id], host="another")
    ledger.storage.write(commit_path(again.unit), again.to_bytes())
    records.add(again)
    after = before | {again.unit: again}
    assert list(records.in_order()) == list(after.values())
    assert list(_open(ledger).in_order()) == list(after.values())
    assert read_rollup(ledger.storage, f"{ROLLUPS}0000-000000.parquet")[again.unit] == again


def test_a_new_record_counts_before_an_old_rollup(ledger: Ledger, source: str) -> None:
    before = commit_inline(ledger, ledger.planned(), source)
    _open(ledger).roll_up()
    unit = ledger.planned()[0].id
    ledger.storage.delete(commit_path(unit))
    records = _open(ledger)
    again = replace(before[unit], host="another")
    ledger.storage.write(commit_path(unit), again.to_bytes())
    records.add(again)
    assert next(records.in_order()) == again


def test_many_records_are_read_once_each(
    tmp_path: Path, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = square_ledger(str(tmp_path / "out"), source, unit_rows=1)
    monkeypatch.setattr(module, "ROLLUP_UNITS", 30)
    monkeypatch.setattr(module, "_THREADS", 4)
    commits = commit_inline(ledger, ledger.planned(), source)
    read: list[str] = []

    def counted(*arguments: Any) -> Commit:
        read.append(arguments[1])
        return read_commit(*arguments)

    monkeypatch.setattr(module, "read_commit", counted)
    assert list(_open(ledger).in_order()) == list(commits.values())
    assert sorted(read) == list(commits)


def test_a_record_of_another_plan_is_refused(ledger: Ledger, source: str) -> None:
    (commit,) = commit_inline(ledger, ledger.planned()[:1], source).values()
    with pytest.raises(ValueError, match="unit 00000000-0 is not in the plan"):
        _open(ledger).add(replace(commit, unit="00000000-0"))
