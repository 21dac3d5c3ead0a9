"""Batches that are left out."""

from itertools import islice
from pathlib import Path

from pipelines.storage import open_storage
from pipelines.training.skips import NotFiniteError, data_indices, read_skips, write_skip


def test_every_step_has_the_next_batch_that_is_not_left_out() -> None:
    assert list(islice(data_indices(0, {1, 2}), 4)) == [0, 3, 4, 5]


def test_a_restart_sees_the_batches_that_the_first_run_would_have() -> None:
    whole = list(islice(data_indices(0, {1, 5}), 10))
    assert list(islice(data_indices(4, {1, 5}), 6)) == whole[4:]


def test_what_is_left_out_is_on_record(tmp_path: Path) -> None:
    storage = open_storage(str(tmp_path))
    fault = NotFiniteError(step=3, index=4, loss=float("nan"), grad_norm=float("inf"))
    write_skip(storage, fault)
    write_skip(storage, fault)
    assert read_skips(storage) == {4}
    assert '"loss":"nan"' in storage.read("skips/0000000004.json").decode().replace(" ", "")
