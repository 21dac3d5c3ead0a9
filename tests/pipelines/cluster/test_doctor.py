"""A doctor runs the job's own stages on the cluster, and leaves nothing behind."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.cluster.check import Check
from pipelines.cluster.doctor import examine
from pipelines.cluster.row_checks import checks_of_trial
from pipelines.cluster.trial import Trial, try_rows
from pipelines.config import Config, Resources
from pipelines.generation_config import GenerateConfig
from pipelines.inputs import find_parquet
from pipelines.plan import plan_units
from pipelines.worker import Worker
from tests.pipelines.toys import ONE_CPU, Faulty, Square, Unloadable, square_job, write_input

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.usefixtures("local_ray")]


def trials(
    folder: Path, worker: type[Worker], resources: Resources = ONE_CPU, **source: object
) -> list[Trial]:
    """Of the squaring job's first rows."""
    uri = write_input(folder / "in", **source)  # type: ignore[arg-type]
    plan = plan_units(find_parquet(uri).objects, 10, "")
    return list(try_rows(square_job(uri, worker, resources=resources), plan[0]))


def wrong(found: list[Trial]) -> list[str]:
    return [check.found for trial in found for check in checks_of_trial(trial) if not check.is_ok]


def test_the_first_rows_go_through_every_stage(tmp_path: Path) -> None:
    found = trials(tmp_path, Square, negative=(2,))
    assert [trial.stage for trial in found] == ["read", "worker", "pack"]
    assert wrong(found) == []
    assert found[1].rows["square"].to_pylist() == [0, 1, 9]
    assert found[1].letters == ("square: ValueError: negative",)


def test_a_model_that_does_not_load_is_told(tmp_path: Path) -> None:
    (fault,) = wrong(trials(tmp_path, Unloadable))
    assert "FileNotFoundError: weights.safetensors is missing" in fault


def test_a_worker_that_raises_is_told(tmp_path: Path) -> None:
    (fault,) = wrong(trials(tmp_path, Faulty))
    assert "KeyError: 'no such model'" in fault


def test_rows_none_of_which_comes_through_are_told() -> None:
    trial = Trial(stage="worker", host="one", letters=("square: ValueError: negative",))
    (fault,) = wrong([trial])
    assert fault == "one: none of the first rows came through: square: ValueError: negative"


def test_a_gpu_that_torch_cannot_use_is_told(tmp_path: Path) -> None:
    one_gpu = Resources(num_actors=1, num_cpus=0, num_gpus=1)
    (fault,) = wrong(trials(tmp_path, Square, one_gpu))
    assert "torch finds none: install torch with CUDA" in fault


def generation(folder: Path, **changes: object) -> Config:
    pq.write_table(pa.table({"prompt": ["a red circle", "a blue square"]}), folder / "prompts.parquet")
    values = {
        "model": "examples/shapes/model",
        "prompts": f"{folder}/prompts.parquet",
        "output": f"{folder}/out",
    }
    few = {"sampler": {"num_steps": 2}, "batch_size": 2, "resources": {"num_gpus": 0, "num_cpus": 0.5}}
    return GenerateConfig.model_validate(values | few | changes)


def names(checks: list[Check]) -> list[tuple[str, bool]]:
    return [(check.name, check.is_ok) for check in checks]


@pytest.mark.reliability
def test_a_job_that_will_run_leaves_no_trace(tmp_path: Path) -> None:
    found = list(examine("generate", generation(tmp_path)))
    nodes = ["versions", "clocks", "disks", "storage"]
    job = ["input", "weights", "resources", "stage read", "stage worker", "stage pack", "object store"]
    assert names(found) == [(name, True) for name in [*nodes, *job]], found
    assert [path for path in (tmp_path / "out").rglob("*") if path.is_file()] == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"prompts": "missing.parquet"}, "missing.parquet"),
        ({"model": "missing-model"}, "missing-model: no such folder"),
        ({"resources": {"num_cpus": 9, "num_gpus": 0}}, "room for 0 such workers"),
        ({"output": "/dev/null/out"}, "/dev/null/out"),
    ],
)
def test_what_the_job_would_be_refused_with_is_told(
    tmp_path: Path, changes: dict[str, object], words: str
) -> None:
    checks = examine("generate", generation(tmp_path, **changes))
    fault = next(check for check in checks if not check.is_ok)
    assert words in fault.found
