"""The log of a training: lines, pictures, TensorBoard."""

from pathlib import Path

import numpy as np
from PIL import Image
from tensorboardX.proto.event_pb2 import Event

from pipelines.storage import open_storage
from pipelines.training.logs import TrainingLog, read_log
from pipelines.training.settings import LoggingSettings
from pipelines.training.trackers import open_trackers


def test_lines_are_read_back_in_order(tmp_path: Path) -> None:
    log = TrainingLog(open_storage(str(tmp_path)), 0, [])
    log.write("step", 1, {"loss": 5.0})
    log.cut(1)
    log.write("step", 2, {"loss": 4.0})
    log.close()
    assert [(line["step"], line["loss"]) for line in read_log(str(tmp_path))] == [(1, 5.0), (2, 4.0)]


def test_a_run_that_goes_on_drops_what_was_past_its_checkpoint(tmp_path: Path) -> None:
    storage = open_storage(str(tmp_path))
    killed = TrainingLog(storage, 0, [])
    for step in range(1, 6):
        killed.write("step", step, {"run": 1})
        if step in (2, 4):
            killed.cut(step)
    killed.close()
    log = TrainingLog(storage, 2, [])
    log.write("step", 3, {"run": 2})
    log.close()
    assert [(line["step"], line["run"]) for line in read_log(str(tmp_path))] == [(1, 1), (2, 1), (3, 2)]


def test_tensorboard_shows_numbers_and_samples(tmp_path: Path) -> None:
    storage = open_storage(str(tmp_path))
    trackers = open_trackers(LoggingSettings(), storage, 0, "run", {})
    log = TrainingLog(storage, 0, trackers)
    log.write("validation", 10, {"loss": {"0.5": 3.25}})
    log.picture(10, np.zeros((8, 8, 3), np.uint8))
    log.close()
    (file,) = (tmp_path / "tensorboard").iterdir()
    found = {value.tag: value for event in events(file) for value in event.summary.value}
    assert found["validation/loss/0.5"].simple_value == 3.25
    assert found["samples"].image.width == 8
    with Image.open(tmp_path / "samples" / "00000010.png") as picture:
        assert picture.size == (8, 8)


def events(file: Path) -> list[Event]:
    """The records of an event file: length, checksum, bytes, checksum."""
    data, found = file.read_bytes(), []
    while data:
        size = int.from_bytes(data[:8], "little")
        found.append(Event.FromString(data[12 : 12 + size]))
        data = data[16 + size :]
    return found
