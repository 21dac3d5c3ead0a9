"""Starts of workers."""

from pathlib import Path

import pytest

from pipelines.storage import open_storage
from pipelines.training import starts
from pipelines.training.starts import read_starts, write_start


def test_every_start_is_on_record_in_the_order_in_which_they_were_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = open_storage(str(tmp_path))
    for seconds, step, num_workers in ((100.4, 0, 1), (250.0, 500, 2), (300.0, 0, 4)):
        monkeypatch.setattr(starts.time, "time", lambda seconds=seconds: seconds)
        write_start(
            storage, step=step, num_workers=num_workers, parallel="ddp", device="cpu", code_version="git:a"
        )
    found = [(start.started_at, start.step, start.num_workers) for start in read_starts(storage)]
    assert found == [(100, 0, 1), (250, 500, 2), (300, 0, 4)]
