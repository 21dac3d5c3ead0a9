"""What a run tells Prometheus, read from the metrics port of a real Ray."""

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import pyarrow as pa
import pytest

from pipelines import metrics
from pipelines.config import Resources
from pipelines.inputs import find_parquet, read_unit
from pipelines.ledger import Ledger
from pipelines.metrics import count_commit, show_training
from pipelines.plan import Unit
from pipelines.run_labels import RunLabels
from pipelines.units import run_units
from pipelines.verify import verify
from pipelines.worker import WorkerResult
from tests.pipelines.scraping import METRICS, Samples, scrape_until
from tests.pipelines.toys import Deadly, Square, commit_inline, square_job, square_ledger, write_input

pytestmark = [pytest.mark.ray, pytest.mark.reliability, pytest.mark.usefixtures("local_ray")]

DOCS = Path("docs/observability.md")


class Noting(Deadly):
    """Dies once with value 13, and notes for each unit that memory ran out."""

    def process(self, rows: pa.Table) -> WorkerResult:
        return replace(super().process(rows), events={"out of memory at 8x8, batch 4": 1})


def read_and_lose(ledger: Ledger, source: str, unit: Unit) -> pa.Table:
    """Read a unit; another driver commits each of the first file meanwhile."""
    rows = read_unit(find_parquet(source).storage, unit)
    if unit.path == "part-0.parquet":
        commit_inline(ledger, [unit], source)
    return rows


@dataclass(frozen=True, kw_only=True)
class Told:
    """Two runs and what was told of them."""

    samples: Samples
    ledger: Ledger
    labels: dict[str, str]
    other_labels: dict[str, str]


@pytest.fixture(scope="module")
def told(local_ray: None, tmp_path_factory: pytest.TempPathFactory) -> Told:
    """One run of 40 rows whose worker dies once; and one, on a GPU, that another driver overtakes."""
    folder = tmp_path_factory.mktemp("metrics")
    source = write_input(folder / "in", negative=(7, 8, 33))
    ledger = square_ledger(str(folder / "out"), source)
    run_units(square_job(source, Noting, deadly=[13], once=str(folder / "died")), ledger)

    other = square_ledger(str(folder / "other"), source)
    job = square_job(source, Square, resources=Resources(num_gpus=1, num_cpus=0, num_actors=1))
    run_units(replace(job, read=partial(read_and_lose, other, source)), other)

    show_training(RunLabels.of("train", str(folder / "train")), "one", dict.fromkeys(TRAINING_MEASURES, 1.0))
    labels, others = (
        {"job_name": "square", "run": RunLabels.of("square", str(folder / name)).run}
        for name in ("out", "other")
    )
    samples = scrape_until(
        lambda found: (
            found.total(metrics.UNITS.exported, **labels) >= 8
            and found.total(metrics.UNITS.exported, **others) >= 4
            and metrics.TRAINING[0].exported in found.names
            and metrics.ROWS_LEFT.exported in found.names
        )
    )
    return Told(samples=samples, ledger=ledger, labels=labels, other_labels=others)


TRAINING_MEASURES = [metric.name.removeprefix("meissonic_training_") for metric in metrics.TRAINING]


def test_counters_are_the_sums_of_the_commit_records(told: Told) -> None:
    commits = told.ledger.committed(told.ledger.planned()).values()
    expected = {
        metrics.UNITS: 8,
        metrics.ROWS_DONE: 37,
        metrics.ROWS_FAILED: 3,
        metrics.RESULTS: 37,
        metrics.BYTES_WRITTEN: sum(
            entry.size for c in commits for entry in (*c.outputs, c.failed) if entry is not None
        ),
        metrics.UNITS_AGAIN: 1,
    }
    found = {metric: told.samples.total(metric.exported, **told.labels) for metric in expected}
    assert found == expected
    assert told.samples.total(metrics.BYTES_READ.exported, **told.labels) > 0
    assert verify(told.ledger.storage.uri).problems == []


def test_failures_and_events_are_told_by_kind(told: Told) -> None:
    kinds = {"stage": "square", "error_type": "ValueError"}
    assert told.samples.total(metrics.FAILURES.exported, **told.labels, **kinds) == 3
    assert told.samples.total(metrics.EVENTS.exported, **told.labels, event="out of memory") == 8


def test_a_unit_that_another_driver_committed_is_not_counted(told: Told) -> None:
    assert told.samples.total(metrics.UNITS.exported, **told.other_labels) == 4
    assert told.samples.total(metrics.ROWS_DONE.exported, **told.other_labels) == 19


def test_each_unit_is_in_the_histogram_of_each_stage_once(told: Told) -> None:
    name = metrics.STAGE_SECONDS.exported
    for stage in ("read", "square", "process", "pack", "write"):
        assert told.samples.total(f"{name}_count", **told.labels, stage=stage) == 8
        buckets = told.samples.find(f"{name}_bucket", **told.labels, stage=stage)
        assert {float(b.labels["le"]) for b in buckets} == {*metrics.SECONDS, float("inf")}


def test_busy_and_idle_seconds_tell_whether_the_worker_has_a_gpu(told: Told) -> None:
    for labels, gpu in ((told.labels, "false"), (told.other_labels, "true")):
        for metric in (metrics.BUSY_SECONDS, metrics.IDLE_SECONDS, metrics.WORKER_STARTS):
            samples = told.samples.find(metric.exported, **labels)
            assert {(s.labels["stage"], s.labels["gpu"]) for s in samples} == {("worker", gpu)}
            assert sum(s.value for s in samples) > 0
    # what was killed within ten seconds of its start could not tell of it
    assert told.samples.total(metrics.WORKER_STARTS.exported, **told.labels) in (1, 2)


def test_every_metric_is_exported_with_its_labels_and_no_other(told: Told) -> None:
    unit_ids = {unit.id for unit in told.ledger.planned()}
    own = {"job_name", "run"}
    for metric in METRICS:
        name = metric.exported + ("_count" if metric is metrics.STAGE_SECONDS else "")
        samples = told.samples.find(name)
        assert samples, name
        for sample in samples:
            ours = {label for label in sample.labels if label.islower() and not label.startswith("otel_")}
            assert ours == own | set(metric.labels)
            assert unit_ids.isdisjoint(sample.labels.values())


def test_a_metric_that_cannot_be_told_fails_nothing(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(metric: object) -> None:
        raise RuntimeError("no agent")

    monkeypatch.setattr(metrics, "_instrument", broken)
    commit = next(iter(told.ledger.committed(told.ledger.planned()).values()))
    count_commit(RunLabels(job="square", run="r"), commit, bytes_read=1)


def test_the_documentation_names_every_metric() -> None:
    text = DOCS.read_text()
    assert [metric.exported for metric in METRICS if f"`{metric.exported}`" not in text] == []
