"""Saving while the training goes on, and what a death at any write leaves."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from pipelines.storage import open_storage
from pipelines.storage.local import LocalStorage
from pipelines.training.checkpoints import CheckpointStore
from pipelines.training.checkpoints.staging import StagingFolder, own_share
from pipelines.training.settings import CheckpointSettings
from pipelines.training.state import restore_state
from tests.pipelines.training.checkpoints.toys import (
    DyingStorage,
    Killed,
    ToyTraining,
    WaitingStorage,
    assert_same,
    only_worker,
)

NUM_WRITES = 3
"""The tensors, their list, the record."""


@pytest.fixture
def stage(tmp_path: Path) -> str:
    return str(tmp_path / "stage")


def test_a_training_goes_on_as_if_it_had_not_stopped(root_uri: str) -> None:
    first = ToyTraining(seed=1)
    first.train(2)
    with only_worker(open_storage(root_uri)) as checkpointer:
        checkpointer.save(step=2, state=first.state())
    first.train(3)

    again = ToyTraining(seed=2)
    state = again.state()
    with only_worker(open_storage(root_uri)) as checkpointer:
        checkpointer.load(step=2, state=state)
    restore_state(again.module, again.optimizer, again.average, state)
    again.train(3)
    assert_same(again.whole_state(), first.whole_state())


def test_the_training_goes_on_while_files_are_sent(stage: str) -> None:
    storage = WaitingStorage(stage)
    training = ToyTraining(seed=1)
    training.train(1)
    saved = training.whole_state()
    with only_worker(storage) as checkpointer:
        checkpointer.save(step=1, state=training.state())
        training.train(3)
        assert CheckpointStore(storage).newest() is None
        storage.may_write.set()
        checkpointer.wait()
        assert CheckpointStore(storage).newest() == 1
        state = ToyTraining(seed=2)
        loaded = state.state()
        checkpointer.load(step=1, state=loaded)
    restore_state(state.module, state.optimizer, state.average, loaded)
    assert_same(state.whole_state(), saved)


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("num_writes", range(NUM_WRITES))
def test_a_save_that_dies_leaves_the_earlier_checkpoint_as_the_newest(
    stage: str, num_writes: int, moment: str
) -> None:
    training = ToyTraining(seed=1)
    with only_worker(LocalStorage(stage)) as checkpointer:
        checkpointer.save(step=1, state=training.state())
    store = CheckpointStore(LocalStorage(stage))
    dying = only_worker(DyingStorage(stage, num_writes, moment))
    dying.save(step=2, state=training.state())
    with pytest.raises(Killed):
        dying.close()
    is_complete = (num_writes, moment) == (NUM_WRITES - 1, "after")
    assert store.newest() == (2 if is_complete else 1)

    training.train(1)
    with only_worker(LocalStorage(stage)) as checkpointer:
        checkpointer.save(step=3, state=training.state())
        checkpointer.wait()
        loaded = ToyTraining(seed=2).state()
        for step in store.steps():
            checkpointer.load(step=step, state=loaded)
    store.collect(keep_last=5)
    assert store.steps() == ([1, 2, 3] if is_complete else [1, 3])
    num_objects = sum(1 for _ in store.storage.list("checkpoints/"))
    assert num_objects == NUM_WRITES * len(store.steps())


def test_a_failure_is_told_at_the_next_save(stage: str) -> None:
    training = ToyTraining(seed=1)
    checkpointer = only_worker(DyingStorage(stage, 0, "before"))
    checkpointer.save(step=1, state=training.state())
    with pytest.raises(Killed):
        checkpointer.save(step=2, state=training.state())
    checkpointer.close()


def test_the_error_that_ends_a_training_is_not_hidden_by_that_of_a_save(
    stage: str, caplog: pytest.LogCaptureFixture
) -> None:
    def train() -> None:
        with only_worker(DyingStorage(stage, 0, "before")) as checkpointer:
            checkpointer.save(step=1, state=ToyTraining(seed=1).state())
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        train()
    assert "a checkpoint was not saved" in caplog.text


def test_two_attempts_at_a_step_do_not_touch_each_other(stage: str) -> None:
    trainings = [ToyTraining(seed=seed) for seed in (1, 2)]
    expected = trainings[0].whole_state()
    for training in trainings:
        with only_worker(LocalStorage(stage)) as checkpointer:
            checkpointer.save(step=5, state=training.state())
    loaded = ToyTraining(seed=3)
    state = loaded.state()
    with only_worker(LocalStorage(stage)) as checkpointer:
        checkpointer.load(step=5, state=state)
    restore_state(loaded.module, loaded.optimizer, loaded.average, state)
    assert_same(loaded.whole_state(), expected)


def test_old_checkpoints_go_as_the_settings_say(stage: str) -> None:
    training = ToyTraining(seed=1)
    keep = CheckpointSettings(keep_last=1, keep_every=2)
    with only_worker(LocalStorage(stage), keep=keep) as checkpointer:
        for step in (1, 2, 3, 4, 5):
            checkpointer.save(step=step, state=training.state())
    assert CheckpointStore(LocalStorage(stage)).steps() == [2, 4, 5]


def test_nothing_stays_on_the_nodes_disk(stage: str, cache: Path) -> None:
    with only_worker(LocalStorage(stage)) as checkpointer:
        checkpointer.save(step=1, state=ToyTraining(seed=1).state())
    assert [path.name for path in (cache / "staging").iterdir()] == ["lock"]


def test_what_a_killed_process_left_on_the_disk_goes_and_what_is_in_use_stays(cache: Path) -> None:
    left = cache / "staging" / "left"
    left.mkdir(parents=True)
    (left / "files").write_bytes(b"much")
    used = StagingFolder()
    path = used.fresh()
    other = StagingFolder()
    assert not left.exists()
    assert path.is_dir()
    other.close()
    used.close()


def test_ranks_share_the_tensors_that_all_hold_whole() -> None:
    state = {"model": {str(i): torch.zeros(i + 1) for i in range(9)}, "optimizer": {}, "count": 3}
    shares = [own_share(state, rank, 4) for rank in range(4)]
    names = [name for share in shares for name in share["model"]]
    assert sorted(names) == sorted(state["model"])
    sizes = [sum(tensor.numel() for tensor in share["model"].values()) for share in shares]
    assert max(sizes) - min(sizes) <= 9
    assert all(share["count"] == 3 for share in shares)
