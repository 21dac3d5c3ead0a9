"""Units run through Ray Data: whole, once each, and with every fault on record."""

from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.budget import ClusterTooSmallError
from pipelines.commit import read_commit
from pipelines.config import Resources
from pipelines.inputs import find_parquet
from pipelines.ledger import Ledger
from pipelines.manifest import read_entries
from pipelines.tally import Progress
from pipelines.unit_job import Stage
from pipelines.units import FailureRateError, JobFailedError, run_units
from pipelines.verify import verify
from pipelines.worker import Worker
from tests.pipelines.toys import (
    ONE_CPU,
    Deadly,
    DeadlyToBuild,
    Expand,
    Faulty,
    Forgiving,
    Halve,
    Lossy,
    Poisoned,
    Square,
    Unloadable,
    once_committed,
    square_job,
    square_ledger,
    write_input,
)

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("local_ray")]


@pytest.fixture
def source(tmp_path: Path) -> str:
    return write_input(tmp_path / "in")


def _dead_letters(ledger: Ledger) -> list[dict[str, object]]:
    paths = [entry.path for entry in read_entries(ledger.storage, "failed")]
    tables = [pq.read_table(pa.BufferReader(ledger.storage.read(path))) for path in paths]
    return [row for table in tables for row in table.to_pylist()]


def test_a_run_processes_every_row_once_and_a_second_run_none(
    root_uri: str, source: str, tmp_path: Path
) -> None:
    ledger, log = square_ledger(root_uri, source), tmp_path / "log"
    job = square_job(source, Square, log=str(log))
    seen: list[Progress] = []
    summary = run_units(job, ledger, seen.append)
    assert (summary.rows, summary.rows_done, summary.rows_failed, summary.units_run) == (40, 40, 0, 8)
    assert Counter(log.read_text().split()) == Counter(f"row-{n}" for n in range(40))
    assert verify(root_uri).problems == []
    found = find_parquet(root_uri)
    tables = [pq.read_table(pa.BufferReader(found.storage.read(o.path))) for o in found.objects]
    assert pa.concat_tables(tables)["square"].to_pylist() == [n * n for n in range(40)]
    assert (seen[-1].rows_done, seen[-1].rows_left, seen[-1].units_done) == (40, 0, 8)
    assert set(summary.seconds) == {"read", "square", "process", "pack", "write"}

    manifest = ledger.storage.read("manifest.json")
    again = run_units(job, square_ledger(root_uri, source))
    assert (again.units_run, again.rows_run, again.rows_done) == (0, 0, 40)
    assert len(log.read_text().split()) == 40
    assert ledger.storage.read("manifest.json") == manifest


def test_units_stay_whole_and_each_worker_has_its_own_gpu(source: str, tmp_path: Path) -> None:
    ledger = square_ledger(str(tmp_path / "out"), source)
    resources = Resources(num_gpus=1, num_cpus=0, threads_per_actor=3)
    summary = run_units(square_job(source, Expand, resources=resources), ledger, wave_units=6)
    assert (summary.rows_done, summary.rows_out) == (40, 120)
    table = pa.concat_tables(
        pq.read_table(tmp_path / "out" / entry.path) for entry in read_entries(ledger.storage, "data")
    )
    assert set(table["gpu"].to_pylist()) == {"0", "1"}
    assert set(table["threads"].to_pylist()) == {"3"}
    assert set(table["rows"].to_pylist()) == {"5"}
    assert verify(str(tmp_path / "out")).problems == []


def test_a_bad_row_becomes_a_dead_letter_and_can_be_retried(tmp_path: Path) -> None:
    source = write_input(tmp_path / "in", negative=(7, 8, 33))
    ledger = square_ledger(str(tmp_path / "out"), source)
    summary = run_units(square_job(source, Square), ledger)
    assert (summary.rows_done, summary.rows_failed, summary.failures) == (37, 3, {"square: ValueError": 3})
    assert _dead_letters(ledger)[2] == {
        "row_id": "row-33",
        "stage": "square",
        "error_type": "ValueError",
        "message": "negative",
        "path": "part-1.parquet",
        "row": 13,
    }

    # The cause is corrected for one row of two units: the plan still names the same input bytes.
    retries = ledger.plan_retries()
    assert [unit.num_rows for unit in retries] == [2, 1]

    seen: list[Progress] = []
    summary = run_units(square_job(source, Forgiving), ledger, seen.append)
    assert (summary.rows, summary.rows_done, summary.rows_failed, summary.rows_run) == (40, 38, 2, 3)
    assert (seen[-1].rows_done, seen[-1].rows_failed) == (38, 2)
    assert {letter["row_id"] for letter in _dead_letters(ledger)} == {"row-7", "row-8"}
    assert verify(str(tmp_path / "out")).problems == []


@pytest.mark.reliability
def test_a_row_that_kills_its_worker_is_isolated(source: str, tmp_path: Path) -> None:
    ledger = square_ledger(str(tmp_path / "out"), source)
    summary = run_units(square_job(source, Deadly, deadly=[13]), ledger)
    assert (summary.rows_done, summary.rows_failed) == (39, 1)
    (letter,) = _dead_letters(ledger)
    assert (letter["row_id"], letter["stage"], letter["error_type"]) == ("row-13", "worker", "WorkerCrashed")
    unit = next(unit for unit in ledger.planned() if unit.row_start == 10)
    assert read_commit(ledger.storage, unit.id).attempts >= 4
    assert verify(str(tmp_path / "out")).problems == []


@pytest.mark.reliability
def test_rows_that_raise_exhaust_memory_or_hang_become_dead_letters(source: str, tmp_path: Path) -> None:
    ledger = square_ledger(str(tmp_path / "out"), source)
    seen: list[Progress] = []
    job = replace(square_job(source, Poisoned), unit_timeout_s=2.0)
    summary = run_units(job, ledger, seen.append)
    assert (summary.rows_done, summary.rows_failed) == (37, 3)
    letters = {letter["row_id"]: letter for letter in _dead_letters(ledger)}
    assert {row: letter["error_type"] for row, letter in letters.items()} == {
        "row-11": "KeyError",
        "row-22": "MemoryError",
        "row-33": "WorkerTimedOut",
    }
    assert letters["row-11"]["message"] == "'unforeseen in <object object at 0x…>'"
    assert "unit_timeout_s" in str(letters["row-33"]["message"])
    assert seen[-1].worker_deaths == 4  # the unit, a half, its half, the row
    assert verify(str(tmp_path / "out")).problems == []


def test_a_worker_that_dies_once_costs_nothing(source: str, tmp_path: Path) -> None:
    ledger = square_ledger(str(tmp_path / "out"), source)
    summary = run_units(square_job(source, Deadly, deadly=[13], once=str(tmp_path / "died")), ledger)
    assert (tmp_path / "died").exists()
    assert (summary.rows_done, summary.rows_failed) == (40, 0)


@pytest.mark.slow
def test_a_program_fault_stops_the_job_with_the_original_error(source: str, tmp_path: Path) -> None:
    ledger = square_ledger(str(tmp_path / "out"), source)
    with pytest.raises(JobFailedError, match=r"unit 0000000\d-.*part-\d\.parquet.*KeyError: 'no such model'"):
        run_units(square_job(source, Faulty), ledger)
    assert not (tmp_path / "out" / "manifest.json").exists()
    assert run_units(square_job(source, Square), ledger).rows_done == 40


@pytest.mark.slow
@pytest.mark.parametrize(
    ("worker", "message"),
    [
        (Unloadable, r"cannot be built: FileNotFoundError: weights\.safetensors is missing"),
        ("pipelines.no_module:Worker", "cannot be built: ModuleNotFoundError: No module named"),
        pytest.param(
            DeadlyToBuild,
            "process died 4 times while it was built; it may need more memory",
            marks=pytest.mark.reliability,
        ),
    ],
)
def test_a_worker_that_cannot_be_built_stops_the_job(
    source: str, tmp_path: Path, worker: type[Worker] | str, message: str
) -> None:
    ledger = square_ledger(str(tmp_path / "out"), source)
    with pytest.raises(JobFailedError, match=message):
        run_units(square_job(source, worker), ledger)


@pytest.mark.slow
def test_too_many_failures_stop_the_job(tmp_path: Path) -> None:
    source = write_input(tmp_path / "in", rows=400, negative=tuple(range(1, 400, 2)))
    ledger = square_ledger(str(tmp_path / "out"), source)
    job = replace(square_job(source, Square), max_failure_rate=0.1, failure_rate_rows=50)
    with pytest.raises(FailureRateError, match=r"rows failed, more than 10.0% \(\d+ square: ValueError\)"):
        run_units(job, ledger)
    assert len(ledger.committed(ledger.planned())) < 80


@pytest.mark.reliability
def test_results_are_committed_while_others_are_still_read(source: str, tmp_path: Path) -> None:
    source = write_input(tmp_path / "many", rows=200)
    ledger = square_ledger(str(tmp_path / "out"), source)
    job = square_job(source, Square, resources=Resources(num_actors=3))
    last = ledger.planned()[-1]
    summary = run_units(replace(job, read=partial(once_committed, job.read, ledger, last)), ledger)
    assert summary.rows_done == 200


def test_a_job_too_big_for_the_cluster_is_refused_at_once(source: str, tmp_path: Path) -> None:
    ledger = square_ledger(str(tmp_path / "out"), source)
    for resources in (Resources(num_actors=4), Resources(num_actors=3, num_gpus=1, num_cpus=0)):
        with pytest.raises(ClusterTooSmallError, match=r"the cluster has 4 CPUs and 2 GPUs"):
            run_units(square_job(source, Square, resources=resources), ledger)


@pytest.mark.reliability
def test_rows_that_fail_in_an_earlier_stage_do_not_reach_the_next(tmp_path: Path) -> None:
    source = write_input(tmp_path / "in", negative=(3, 4, 20, 21, 22, 23, 24))  # the last five are a unit
    ledger = square_ledger(str(tmp_path / "out"), source)
    job = square_job(source, Deadly, deadly=[7], once=str(tmp_path / "died"))
    summary = run_units(
        replace(job, stages=(Stage(worker=Halve, resources=ONE_CPU, name="halve"), *job.stages)), ledger
    )
    assert summary.failures == {"halve: ValueError": 7, "square: ValueError": 1}
    assert (summary.rows_done, summary.rows_failed) == (32, 8)
    assert {"halve.process", "square"} <= set(summary.seconds)
    assert verify(ledger.storage.uri).problems == []
    failed = [letter["row_id"] for letter in _dead_letters(ledger)]
    assert failed == [f"row-{n}" for n in (3, 4, 20, 21, 22, 23, 24, 28)]


@pytest.mark.slow
def test_a_stage_that_loses_a_row_stops_the_job(source: str, tmp_path: Path) -> None:
    job = square_job(source, Square)
    stage = Stage(worker=Lossy, resources=ONE_CPU, name="lossy")
    with pytest.raises(JobFailedError, match="stage 'lossy' gave 4 rows for 5 that did not fail"):
        run_units(replace(job, stages=(stage, *job.stages)), square_ledger(str(tmp_path / "out"), source))
