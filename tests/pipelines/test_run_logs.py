"""The log lines of a run name run, stage and unit, and say nothing of what rows contain."""

import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from pipelines.commit import Commit, read_commit
from pipelines.ledger import Ledger
from pipelines.run_labels import RunLabels
from pipelines.run_logs import RunLog
from schemas.failed import FAILED
from tests.pipelines.toys import commit_inline, square_ledger, write_input

KNOWN = {"job_name": "square", "run": "r-1", "stage": "worker"}


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> RunLog:
    caplog.set_level(logging.INFO, "pipelines.run_logs")
    return RunLog(labels=RunLabels(job="square", run="r-1"), stage="worker")


def lines(caplog: pytest.LogCaptureFixture) -> list[dict[str, object]]:
    """What Ray's JSON formatter would add to each line, and the message."""
    plain = set(vars(logging.makeLogRecord({}))) | {"message", "asctime"}
    return [
        {"message": record.getMessage()} | {k: v for k, v in vars(record).items() if k not in plain}
        for record in caplog.records
    ]


def a_commit(folder: Path) -> tuple[Ledger, Commit]:
    source = write_input(folder / "in", negative=(1, 2))
    ledger = square_ledger(str(folder / "out"), source)
    unit = ledger.planned()[0]
    commit_inline(ledger, [unit], source)
    return ledger, read_commit(ledger.storage, unit.id)


def dead_letters(count: int, message: str = "negative") -> pa.Table:
    rows = [
        {
            "row_id": f"row-{n}",
            "stage": "square",
            "error_type": "ValueError",
            "message": message,
            "path": "p",
            "row": n,
        }
        for n in range(count)
    ]
    return pa.Table.from_pylist(rows, schema=FAILED)


def test_a_unit_is_told_from_begin_to_commit(
    log: RunLog, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    _, commit = a_commit(tmp_path)
    log.unit_begun("u", 5, 1)
    log.unit_finished("u", 5, 2, 1.23456)
    log.unit_committed(commit, dead_letters(0))
    assert lines(caplog)[:2] == [
        {"message": "unit begun", "unit": "u", "rows": 5, "attempt": 1} | KNOWN,
        {"message": "unit finished", "unit": "u", "rows": 5, "rows_failed": 2, "seconds": 1.235} | KNOWN,
    ]
    assert lines(caplog)[2]["unit"] == commit.unit
    assert [record.levelname for record in caplog.records] == ["INFO"] * 3


def test_dead_letters_are_a_warning_a_kind_with_a_few_row_ids_and_no_message(
    log: RunLog, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    _, commit = a_commit(tmp_path)
    log.unit_committed(commit, dead_letters(50, message="prompt 'my secret' is too long"))
    told, _ = lines(caplog)
    assert caplog.records[0].levelname == "WARNING"
    assert (told["failed_in"], told["error_type"], told["rows_failed"]) == ("square", "ValueError", 50)
    assert told["row_ids"] == [f"row-{n}" for n in range(10)]
    assert "secret" not in caplog.text + str(lines(caplog))


def test_what_went_wrong_is_a_warning(log: RunLog, caplog: pytest.LogCaptureFixture) -> None:
    log.unit_begun("u", 5, 2)
    log.noted("u", {"out of memory at 8x8, batch 4": 2})
    try:
        raise KeyError("no such model")
    except KeyError:
        log.rows_raised("u", 0, 5)
        log.worker_not_built()
    assert [record.levelname for record in caplog.records] == ["WARNING"] * 3 + ["ERROR"]
    assert lines(caplog)[1] | KNOWN == lines(caplog)[1]
    assert caplog.text.count("KeyError: 'no such model'") == 2


DRIVER = """
import sys
import ray
from jobs.ray_session import connect
from pipelines.units import run_units
from tests.pipelines.toys import Square, square_job, square_ledger

connect()
ledger = square_ledger(sys.argv[2], sys.argv[1])
run_units(square_job(sys.argv[1], Square), ledger)
print(ray._private.worker.global_worker.node.get_logs_dir_path())
"""


@pytest.mark.reliability
@pytest.mark.ray
def test_a_jobs_workers_log_json_lines_and_its_terminal_stays_clean(tmp_path: Path) -> None:
    source, output = write_input(tmp_path / "in", negative=(7,)), tmp_path / "out"
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", DRIVER, source, str(output)],
        capture_output=True,
        text=True,
        env=environment,
        check=True,
    )
    # Ray itself says which level it was told to log at
    assert [line for line in done.stderr.splitlines() if "RAY_BACKEND_LOG_LEVEL" not in line] == []
    (logs,) = done.stdout.splitlines()
    told = []
    for file in Path(logs).glob("worker-*.err"):
        told += [json.loads(line) for line in file.read_text().splitlines() if line.startswith("{")]
    run = RunLabels.of("square", str(output)).run
    ours = [line for line in told if line.get("run") == run]
    for message, count in (
        ("unit begun", 8),
        ("unit finished", 8),
        ("unit committed", 8),
        ("worker built", 1),
    ):
        assert len([line for line in ours if line["message"] == message]) == count
    (letters,) = [line for line in ours if line["message"] == "dead letters"]
    assert (letters["levelname"], letters["row_ids"]) == ("WARNING", ["row-7"])
    for line in ours:
        assert {"asctime", "levelname", "job_id", "node_id", "worker_id", "task_id", "stage"} <= line.keys()
    one_unit = [line["message"] for line in ours if line.get("unit") == letters["unit"]]
    assert sorted(one_unit) == ["dead letters", "unit begun", "unit committed", "unit finished"]
