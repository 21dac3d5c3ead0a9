"""A checkpoint of one number of workers and one way of sharding is read by any other, bit by bit."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing

from pipelines.storage.local import LocalStorage
from pipelines.training.checkpoints import CheckpointStore
from pipelines.training.state import restore_state
from tests.pipelines.training.checkpoints.toys import ToyTraining, assert_same, only_worker
from tests.pipelines.training.checkpoints.two_workers import WRAPPERS, work


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which one worker, and then two workers, have done their part."""
    root = tmp_path_factory.mktemp("two")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEISSONIC_CACHE", str(root / "cache"))
        single = ToyTraining(seed=1)
        single.train(2)
        with only_worker(LocalStorage(str(root / "single"))) as checkpointer:
            checkpointer.save(step=2, state=single.state())
        torch.save(single.whole_state(), root / "saved-single.pt")
    torch.multiprocessing.spawn(work, (root,), nprocs=2)
    return root


@pytest.mark.slow
@pytest.mark.parametrize("name", WRAPPERS)
def test_one_worker_reads_what_two_have_saved(root: Path, name: str) -> None:
    training = ToyTraining(seed=4)
    state = training.state()
    with only_worker(LocalStorage(str(root / name))) as checkpointer:
        checkpointer.load(step=2, state=state)
    restore_state(training.module, training.optimizer, training.average, state)
    assert_same(training.whole_state(), torch.load(root / f"saved-{name}.pt"))


@pytest.mark.slow
@pytest.mark.parametrize("name", WRAPPERS)
def test_two_workers_read_what_one_has_saved(root: Path, name: str) -> None:
    assert_same(torch.load(root / f"loaded-{name}.pt"), torch.load(root / "saved-single.pt"))


@pytest.mark.slow
def test_both_workers_write_a_part(root: Path) -> None:
    for name in WRAPPERS:
        record = CheckpointStore(LocalStorage(str(root / name))).record(2)
        assert record.world_size == 2
        files = [entry.path.rpartition("/")[2] for entry in record.files]
        assert files == [".metadata", "__0_0.distcp", "__1_0.distcp"]
    sizes = [entry.size for entry in record.files[1:]]
    assert max(sizes) < 2 * min(sizes)


@pytest.mark.slow
def test_all_workers_hear_of_the_failure_of_one_and_nothing_is_complete(root: Path) -> None:
    errors = [json.loads((root / f"errors-{rank}.json").read_text()) for rank in (0, 1)]
    assert errors[0][0] == "RuntimeError: worker 1: before a write"
    assert errors[1][0] == "Killed: before a write"
    assert all("no such checkpoint" in error[1] for error in errors)
    assert CheckpointStore(LocalStorage(str(root / "failed"))).newest() is None


def test_a_group_of_one_worker_saves_and_loads(tmp_path: Path) -> None:
    store = dist.FileStore(str(tmp_path / "rendezvous"), 1)
    dist.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        training, other = ToyTraining(seed=1), ToyTraining(seed=2)
        state = other.state()
        with only_worker(LocalStorage(str(tmp_path / "stage"))) as checkpointer:
            checkpointer.save(step=2, state=training.state())
            checkpointer.load(step=2, state=state)
        restore_state(other.module, other.optimizer, other.average, state)
        assert_same(other.whole_state(), training.whole_state())
    finally:
        dist.destroy_process_group()
