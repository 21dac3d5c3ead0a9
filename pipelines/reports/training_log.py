"""What the folder of a training's stage tells: settings, the log as curves, starts, checkpoints."""

from __future__ import annotations

import math
import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from pipelines.json_files import parse_json
from pipelines.ledger import RUN_PATH
from pipelines.storage import Storage, StoredObject, open_storage
from pipelines.training.job import FORMAT, STAGES, stage_uri
from pipelines.training.logs import LOG, SAMPLES, read_log
from pipelines.training.skips import SKIPS
from pipelines.training.starts import Start, read_starts

LAST_STEPS = 100
"""Steps whose mean loss is told as the newest."""
_POINTS = 300
_RUN = re.compile(rf"{STAGES}/([^/]+)/{re.escape(RUN_PATH)}")
_CHECKPOINT = re.compile(r"checkpoints/step-(\d{8,})(\.json|/.+)")
_PICTURE = re.compile(rf"{SAMPLES}(\d+)\.png")


class Curve:
    """A measure over steps, thinned while it is read: a point stands for `width` steps at most."""

    def __init__(self, width: int) -> None:
        self.width = width
        self._points: dict[int, list[float]] = {}  # number, sum of steps, sum of values, largest

    def add(self, step: float, value: float) -> None:
        """Take in a value; one that is not finite has no place on a chart."""
        if not math.isfinite(value):
            return
        number = int(step - 1) // self.width
        point = self._points.get(number)
        if point is None:
            point = self._points[number] = [0, 0.0, 0.0, -math.inf]
        point[0] += 1
        point[1] += step
        point[2] += value
        if value > point[3]:
            point[3] = value

    def means(self) -> list[tuple[float, float]]:
        """Mean step and mean value of each point."""
        return [(steps / count, values / count) for count, steps, values, _ in self._points.values()]

    def largest(self) -> list[tuple[float, float]]:
        """Mean step and largest value of each point."""
        return [(steps / count, most) for count, steps, _, most in self._points.values()]


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A complete checkpoint.

    Attributes:
        step: Steps that were done.
        size_bytes: Of its files.
        written_at: Unix time, in seconds.
    """

    step: int
    size_bytes: int
    written_at: float


@dataclass(kw_only=True)
class StageRecord:
    """A stage, as far as it is.

    Attributes:
        name: Of its folder.
        storage: That folder.
        run: Its run.json.
        offset: Steps of the stages before it.
        begun_at: Unix time of its run.json, in seconds.
        written_at: Of the newest part of its log, else of run.json.
        starts: Of its workers; none where the code that ran did not record them.
        checkpoints: By step.
        pictures: Paths of sheets of samples, by step.
        skips: Batches that were left out, as the run recorded them.
        steps: Steps that are done, as far as the log tells.
        epoch: Of the newest step's samples, from 1; 0 where none is done.
        seconds: That the steps took, without validation and checkpoints.
        means: Of samples_per_s, tokens_per_s, utilisation and data_wait, over those seconds.
        last_losses: Of the newest steps.
        held_out: Newest held-out loss by masking rate.
        prompts: Of the sheets of samples.
        curves: By kind and name, such as ("step", "loss"); steps are counted over all stages.
    """

    name: str
    storage: Storage
    run: dict[str, Any]
    offset: int
    begun_at: float
    written_at: float
    starts: list[Start]
    checkpoints: list[Checkpoint]
    pictures: dict[int, str]
    skips: list[dict[str, Any]]
    steps: int = 0
    epoch: int = 0
    seconds: float = 0.0
    means: dict[str, float] = field(default_factory=dict)
    last_losses: deque[float] = field(default_factory=lambda: deque(maxlen=LAST_STEPS))
    held_out: dict[str, float] = field(default_factory=dict)
    prompts: list[str] = field(default_factory=list)
    curves: dict[tuple[str, str], Curve] = field(default_factory=dict)

    @property
    def settings(self) -> dict[str, Any]:
        """What run.json says of the stage."""
        return self.run["config"]["stage"]

    @property
    def num_steps(self) -> int:
        """Steps in all."""
        return self.settings["num_steps"]


def read_stages(output: str) -> list[StageRecord]:
    """The stages of a training, each after the one that it started from, with their logs read.

    Raises:
        StorageError: A file is not what a training writes.
    """
    runs = _runs(open_storage(output))
    total = sum(run["config"]["stage"]["num_steps"] for run, _ in runs.values())
    stages: list[StageRecord] = []
    for name, (run, begun_at) in runs.items():
        offset = sum(stage.num_steps for stage in stages)
        stage = _stage(output, name, run, begun_at, offset)
        _read_log(stage, max(1, -(-total // _POINTS)))
        stages.append(stage)
    return stages


def _runs(output: Storage) -> dict[str, tuple[dict[str, Any], float]]:
    """Each stage's run.json and when it was written, by name and in order."""
    found: dict[str, tuple[dict[str, Any], float]] = {}
    for entry in output.list(f"{STAGES}/"):
        if match := _RUN.fullmatch(entry.path):
            run = parse_json(output.read(entry.path), output.uri_of(entry.path))
            if run.get("format") == FORMAT:
                found[match[1]] = run, entry.modified_at
    before = {name: (run["config"].get("start") or {}).get("stage") for name, (run, _) in found.items()}

    def position(name: str) -> int:
        number, earlier = 0, before.get(name)
        while earlier is not None and number < len(before):  # in damaged files they may name each other
            number, earlier = number + 1, before.get(earlier)
        return number

    return {name: found[name] for name in sorted(found, key=lambda name: (position(name), found[name][1]))}


def _stage(output: str, name: str, run: dict[str, Any], begun_at: float, offset: int) -> StageRecord:
    storage = open_storage(stage_uri(output, name))
    skips = [
        parse_json(storage.read(entry.path), storage.uri_of(entry.path)) for entry in storage.list(SKIPS)
    ]
    pictures = (
        (match, entry.path) for entry in storage.list(SAMPLES) if (match := _PICTURE.fullmatch(entry.path))
    )
    return StageRecord(
        name=name,
        storage=storage,
        run=run,
        offset=offset,
        begun_at=begun_at,
        written_at=max([begun_at, *(entry.modified_at for entry in storage.list(LOG))]),
        starts=list(read_starts(storage)),
        checkpoints=list(_checkpoints(storage.list("checkpoints/"))),
        pictures={int(match[1]): path for match, path in pictures},
        skips=sorted(skips, key=lambda skip: (skip["step"], skip["index"])),
    )


def _checkpoints(entries: Iterator[StoredObject]) -> Iterator[Checkpoint]:
    sizes: dict[int, int] = {}
    written: dict[int, float] = {}
    for entry in entries:
        if match := _CHECKPOINT.fullmatch(entry.path):
            step = int(match[1])
            sizes[step] = sizes.get(step, 0) + entry.size_bytes
            if match[2] == ".json":
                written[step] = entry.modified_at
    for step in sorted(written):
        yield Checkpoint(step=step, size_bytes=sizes[step], written_at=written[step])


def _read_log(stage: StageRecord, width: int) -> None:
    batch_size, rated = stage.settings["batch_size"], 0
    weighted: dict[str, float] = {}
    for line in read_log(stage.storage.uri):
        kind, step = line.pop("kind"), line.pop("step")
        stage.steps = max(stage.steps, step)
        if kind == "step":
            stage.epoch = line["epoch"] + 1
            stage.last_losses.append(line["loss"])
            values = {name: line[name] for name in ("loss", "grad_norm", "learning_rate")}
        elif kind == "rate":
            seconds = (step - rated) * batch_size / max(line["samples_per_s"], 1e-9)
            rated, values = step, line
            stage.seconds += seconds
            for name, value in line.items():
                weighted[name] = weighted.get(name, 0.0) + value * seconds
        elif kind in ("validation", "masking_rate"):
            values = line["loss"]
            stage.held_out = values if kind == "validation" else stage.held_out
        else:
            stage.prompts, values = line.get("prompts", stage.prompts), {}
        for name, value in values.items():
            key = kind, name
            if key not in stage.curves:
                stage.curves[key] = Curve(width)
            stage.curves[key].add(stage.offset + step, value)
    stage.means = {name: value / stage.seconds for name, value in weighted.items() if stage.seconds}
