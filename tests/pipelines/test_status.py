"""The status of a run is read from its folder alone."""

from dataclasses import replace
from pathlib import Path

import pytest

from pipelines.errors import LedgerError
from pipelines.status import RunStatus, run_status, status_text
from tests.pipelines.toys import commit_inline, finish_inline, square_ledger, write_input


@pytest.fixture
def source(tmp_path: Path) -> str:
    return write_input(tmp_path / "in", negative=(3, 33))


def test_an_unfinished_run_tells_what_is_done_and_left(root_uri: str, source: str) -> None:
    ledger = square_ledger(root_uri, source)
    assert run_status(root_uri).idle_s is None
    commit_inline(ledger, ledger.planned()[:3], source)
    status = run_status(root_uri)
    assert (status.finished, status.units, status.units_done) == (False, 8, 3)
    assert (status.rows, status.rows_done, status.rows_failed, status.rows_left) == (40, 14, 1, 25)
    assert status.failures == {"square: ValueError": 1}
    assert status.bytes_out == sum(c.outputs[0].size for c in ledger.committed(ledger.planned()).values())
    assert list(status.hosts.values()) == [3]
    assert status.rows_per_s > 0
    assert status.idle_s is not None
    assert status.idle_s < 60


def test_a_finished_run_says_so_and_a_begun_retry_does_not(tmp_path: Path, source: str) -> None:
    output = str(tmp_path / "out")
    ledger = finish_inline(output, source)
    assert run_status(output).finished
    ledger.plan_retries()
    status = run_status(output)
    assert (status.finished, status.units, status.rows_left) == (False, 10, 2)


def test_people_read_it(tmp_path: Path, source: str) -> None:
    finish_inline(str(tmp_path / "out"), source)
    status = run_status(str(tmp_path / "out"))
    text = status_text(replace(status, events={"out of memory at 64x64, batch 4": 2}, hosts={"a": 5, "b": 3}))
    assert text.startswith(f"{tmp_path}/out: square, finished\n")
    for line in (
        "units  8 of 8 done, 0 begun again",
        "rows   38 done, 2 failed of 40 (100.0%)",
        "units by node: a 5, b 3",
        "noted  out of memory at 64x64, batch 4, 2 times",
        "failed 2 square: ValueError",
    ):
        assert line in text


def test_an_unfinished_run_shows_rate_and_time_left(tmp_path: Path, source: str) -> None:
    square_ledger(str(tmp_path / "out"), source)
    status: RunStatus = replace(run_status(str(tmp_path / "out")), rows_left=3000, rows_per_s=10.0)
    assert "10.0 rows/s of late, 5 min 0 s left" in status_text(status)


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match=r"no run\.json"):
        run_status(str(tmp_path))
