"""A run's cost follows from its plan and from the units that are done."""

from dataclasses import replace

import numpy as np
import pytest

from pipelines.commit import Commit
from pipelines.config import Resources
from pipelines.estimate import Estimate, estimate, estimate_text, rate_of, spread_sample
from pipelines.plan import InputObject, plan_units
from schemas.manifest import ObjectEntry

PLAN = plan_units([InputObject(path="a", fingerprint="f", rows=1000)], 10, "c")


def commit(position: int, seconds: dict[str, float], size: int) -> Commit:
    return Commit(
        unit=PLAN[position].id,
        rows_in=10,
        rows_done=10,
        rows_failed=0,
        rows_out=20,
        row_ids_sha256="",
        outputs=(ObjectEntry(path="data/x", rows=20, sha256="", size=size),),
        failed=None,
        failures={},
        seconds=seconds,
        events={},
        attempts=1,
        host="h",
        started_at=0.0,
        committed_at=0.0,
        code_version="",
    )


DONE = [commit(0, {"sample": 30.0, "read": 99.0}, 4000), commit(99, {"sample": 50.0, "write": 99.0}, 6000)]


def found(gpus: float, price: float | None) -> Estimate:
    done = np.zeros(100, bool)
    done[[0, 99]] = True
    resources = Resources(num_gpus=gpus)
    return estimate("out", PLAN, done, rate_of(DONE), object_sizes=[123], resources=resources, price=price)


def test_what_is_left_is_priced_by_the_gpu_hour() -> None:
    rate = rate_of(DONE)
    assert rate is not None
    assert (rate.rows, rate.worker_s_per_row, rate.bytes_per_row, rate.results_per_row) == (20, 4.0, 500, 2)
    assert rate.error == pytest.approx(0.25)  # of 3 and 5 seconds a row
    half = found(0.5, 2.0)
    assert (half.rows_left, half.units_left, half.output_bytes) == (980, 98, 500_000)
    assert half.worker_hours == pytest.approx(980 * 4 / 3600)
    assert half.gpu_hours == pytest.approx(490 * 4 / 3600)
    assert half.cost == pytest.approx(2 * 490 * 4 / 3600)
    on_cpu = found(0, 2.0)
    assert (on_cpu.gpu_hours, on_cpu.cost) == (0, pytest.approx(2 * 980 * 4 / 3600))


def test_people_read_it() -> None:
    text = estimate_text(found(1, 2.0), "prompts", "images", 16)
    for line in (
        "input  1,000 prompts in 1 objects, 123 bytes",
        "plan   100 units, 98 with 980 prompts not done",
        "rate   0.50 images/s a worker ± 25%, from 2 units of 20 prompts",
        "left   1.09 worker-hours, 1.09 GPU-hours",
        "time   4 min 5 s on 16 workers",
        "output 500,000 bytes in the end",
        "cost   2.18 for what is left",
    ):
        assert line in text


def test_without_units_that_are_done_the_rate_is_open() -> None:
    open_ = estimate(
        "out", PLAN, np.zeros(100, bool), rate_of([]), object_sizes=[1], resources=Resources(), price=2.0
    )
    assert (open_.rate, open_.gpu_hours, open_.cost) == (None, None, None)
    assert "--sample N runs N units" in estimate_text(open_, "prompts", "images", 16)


def test_one_unit_has_no_error() -> None:
    rate = rate_of([replace(DONE[0])])
    assert rate is not None
    assert rate.error is None


def test_samples_are_spread_over_what_is_left() -> None:
    pending = np.arange(100, 200)
    assert spread_sample(pending, 3).tolist() == [100, 150, 199]
    assert spread_sample(pending, 1).tolist() == [100]
    assert spread_sample(pending[:2], 5).tolist() == [100, 101]
