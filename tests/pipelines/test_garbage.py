"""Leftovers are deleted, named objects never."""

from pathlib import Path

import pytest

from pipelines.commit import commit_path
from pipelines.errors import LedgerError
from pipelines.garbage import collect_garbage, find_garbage
from pipelines.ledger import Ledger
from pipelines.verify import verify
from tests.pipelines.toys import commit_inline, finish_inline, square_ledger, write_input

LEFTOVERS = [
    "data/00000000-dead.parquet",
    "failed/00000000-dead.parquet",
    "manifest/data-00009.json",
    ".tmp/abc",
]


@pytest.fixture
def source(tmp_path: Path) -> str:
    return write_input(tmp_path / "in", negative=(3,))


def _leave(ledger: Ledger) -> None:
    for path in [*LEFTOVERS, "README.md"]:
        ledger.storage.write(path, b"1")


def test_only_unnamed_objects_are_collected(root_uri: str, source: str) -> None:
    ledger = finish_inline(root_uri, source)
    _leave(ledger)
    assert sorted(entry.path for entry in collect_garbage(root_uri, older_than_s=0)) == sorted(LEFTOVERS)
    assert find_garbage(root_uri, older_than_s=0) == []
    assert ledger.storage.exists("README.md")
    assert verify(root_uri).problems == []


def test_young_objects_are_left_for_the_job_that_writes_them(root_uri: str, source: str) -> None:
    _leave(finish_inline(root_uri, source))
    assert find_garbage(root_uri) == []


def test_objects_of_units_without_a_commit_are_garbage(root_uri: str, source: str) -> None:
    ledger = square_ledger(root_uri, source)
    unit = ledger.planned()[0]
    commit_inline(ledger, [unit], source)
    ledger.storage.delete(commit_path(unit.id))
    assert {entry.path for entry in find_garbage(root_uri, older_than_s=0)} == {
        f"data/{unit.id}.parquet",
        f"failed/{unit.id}.parquet",
    }


def test_a_damaged_record_stops_the_collection(root_uri: str, source: str) -> None:
    ledger = finish_inline(root_uri, source)
    ledger.storage.write(commit_path(ledger.planned()[0].id), b"{}")
    with pytest.raises(LedgerError, match="not a commit record"):
        collect_garbage(root_uri, older_than_s=0)
