"""Leftovers are deleted, named objects never."""

import time
import uuid
from pathlib import Path

import pytest

from pipelines.commit import commit_path
from pipelines.errors import LedgerError
from pipelines.garbage import DEFAULT_AGE_S, collect_garbage, find_garbage
from pipelines.ledger import Ledger
from pipelines.verify import verify
from tests.pipelines.toys import commit_inline, finish_inline, square_ledger, write_input

LEFTOVERS = [
    "data/00000000-dead.parquet",
    "failed/00000000-dead.parquet",
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
    collected = collect_garbage(root_uri, older_than_s=0).objects
    assert sorted(entry.path for entry in collected) == sorted(LEFTOVERS)
    assert find_garbage(root_uri, older_than_s=0).objects == []
    assert ledger.storage.exists("README.md")
    assert verify(root_uri).problems == []


def test_young_objects_are_left_for_the_job_that_writes_them(root_uri: str, source: str) -> None:
    _leave(finish_inline(root_uri, source))
    assert find_garbage(root_uri).objects == []


def test_what_a_killed_attempt_left_of_an_unfinished_unit_is_kept(root_uri: str, source: str) -> None:
    """The job may take it over at this instant."""
    ledger = square_ledger(root_uri, source)
    units = ledger.planned()[:2]
    commit_inline(ledger, units, source)
    ledger.storage.delete(commit_path(units[0].id))
    ledger.storage.write(f"data/{units[0].id}.tar", b"left")
    ledger.storage.write(f"data/{units[1].id}.tar", b"left")
    assert [entry.path for entry in collect_garbage(root_uri, older_than_s=0).objects] == [
        f"data/{units[1].id}.tar"
    ]
    commit_inline(ledger, units, source)
    assert find_garbage(root_uri, older_than_s=0).objects[0].path == f"data/{units[0].id}.tar"


def test_a_damaged_record_stops_the_collection(root_uri: str, source: str) -> None:
    ledger = finish_inline(root_uri, source)
    ledger.storage.write(commit_path(ledger.planned()[0].id), b"{}")
    with pytest.raises(LedgerError, match="not a commit record"):
        collect_garbage(root_uri, older_than_s=0)


def test_a_wrong_clock_of_the_machine_that_collects_does_no_harm(
    tmp_path: Path, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _leave(finish_inline(str(tmp_path / "out"), source))
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 3 * DEFAULT_AGE_S)
    assert collect_garbage(str(tmp_path / "out")).objects == []


@pytest.mark.s3
@pytest.mark.usefixtures("s3_server")
def test_unfinished_uploads_are_aborted(source: str) -> None:
    ledger = finish_inline(f"s3://bucket/{uuid.uuid4().hex}", source)
    ledger.storage._call("create_multipart_upload", "data/big")  # type: ignore[attr-defined]
    (upload,) = collect_garbage(ledger.storage.uri, older_than_s=0).uploads
    assert upload.path == "data/big"
    assert find_garbage(ledger.storage.uri, older_than_s=0).uploads == []
