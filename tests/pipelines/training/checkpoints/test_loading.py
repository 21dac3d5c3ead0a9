"""Checkpoints are checked before they are read, and run no code."""

from __future__ import annotations

import os
import pickle
import re
from pathlib import Path

import pytest
import torch

from pipelines.storage.local import LocalStorage
from pipelines.training.checkpoints import CheckpointStore, CheckpointStoreError
from pipelines.training.checkpoints.loading import fetch_checkpoint
from pipelines.training.checkpoints.reading import TensorReader
from tests.pipelines.training.checkpoints.toys import ToyTraining, only_worker


@pytest.fixture
def store(tmp_path: Path) -> CheckpointStore:
    """One checkpoint, of step 1."""
    storage = LocalStorage(str(tmp_path / "stage"))
    with only_worker(storage) as checkpointer:
        checkpointer.save(step=1, state=ToyTraining(seed=1).state())
    return CheckpointStore(storage)


def test_a_file_that_was_changed_is_refused_by_its_name(store: CheckpointStore) -> None:
    path = store.record(1).files[-1].path
    data = bytearray(store.storage.read(path))
    data[len(data) // 2] ^= 1
    store.storage.write(path, bytes(data))
    with (
        only_worker(store.storage) as checkpointer,
        pytest.raises(CheckpointStoreError, match=f"{re.escape(path)}: its SHA-256 is .* changed or damaged"),
    ):
        checkpointer.load(step=1, state=ToyTraining(seed=2).state())


def test_a_file_that_is_missing_is_named(store: CheckpointStore) -> None:
    path = store.record(1).files[0].path
    store.storage.delete(path)
    with (
        only_worker(store.storage) as checkpointer,
        pytest.raises(CheckpointStoreError, match=f"{re.escape(path)}: this file .* is missing"),
    ):
        checkpointer.load(step=1, state=ToyTraining(seed=2).state())


def test_a_model_of_another_shape_is_refused(store: CheckpointStore) -> None:
    state = ToyTraining(seed=2).state()
    state["model"]["transformer.1.bias"] = torch.zeros(2)
    with (
        only_worker(store.storage) as checkpointer,
        pytest.raises(CheckpointStoreError, match=r"step-00000001.json: .*model.transformer.1.bias"),
    ):
        checkpointer.load(step=1, state=state)


def test_a_tensor_that_is_not_in_the_checkpoint_is_named(store: CheckpointStore) -> None:
    state = ToyTraining(seed=2).state()
    state["model"]["transformer.2.bias"] = torch.zeros(2)
    with (
        only_worker(store.storage) as checkpointer,
        pytest.raises(CheckpointStoreError, match=r"Missing key .* model.transformer.2.bias"),
    ):
        checkpointer.load(step=1, state=state)


def test_a_node_fetches_a_checkpoint_once_and_keeps_the_last_one(
    store: CheckpointStore, tmp_path: Path
) -> None:
    first = fetch_checkpoint(store.storage, store.record(1))
    before = {file.name: file.stat().st_mtime_ns for file in first.iterdir()}
    assert fetch_checkpoint(store.storage, store.record(1)) == first
    assert {file.name: file.stat().st_mtime_ns for file in first.iterdir()} == before
    with only_worker(store.storage) as checkpointer:
        checkpointer.save(step=2, state=ToyTraining(seed=2).state())
    second = fetch_checkpoint(store.storage, store.record(2))
    assert second.is_dir()
    assert not first.exists()


class _Malicious:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.marker}",)


def test_a_list_of_tensors_runs_no_code(tmp_path: Path) -> None:
    (tmp_path / ".metadata").write_bytes(pickle.dumps(_Malicious(tmp_path / "ran")))
    with pytest.raises(pickle.UnpicklingError, match=r"posix\.system"):
        TensorReader(tmp_path).read_metadata()
    assert not (tmp_path / "ran").exists()
