"""When workers started on a stage, and how: an object for each start.

starts/00000500-1764115200.json   the step that they went on from, and the second in which they did
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import PurePosixPath

from pipelines.json_files import parse_json
from pipelines.storage import Storage
from schemas.manifest import json_bytes

STARTS = "starts/"


@dataclass(frozen=True, kw_only=True)
class Start:
    """One start of all workers.

    Attributes:
        step: Steps that were done before.
        started_at: Unix time, in whole seconds.
        num_workers: Workers.
        parallel: `ddp` or `fsdp`.
        device: What a worker computes on, such as "cpu" or a GPU's name.
        code_version: Of the code that ran.
    """

    step: int
    started_at: int
    num_workers: int
    parallel: str
    device: str
    code_version: str


def write_start(
    storage: Storage, *, step: int, num_workers: int, parallel: str, device: str, code_version: str
) -> None:
    """Record that workers start now."""
    start = Start(
        step=step,
        started_at=int(time.time()),
        num_workers=num_workers,
        parallel=parallel,
        device=device,
        code_version=code_version,
    )
    storage.write(f"{STARTS}{step:08d}-{start.started_at}.json", json_bytes(asdict(start)))


def read_starts(storage: Storage) -> Iterator[Start]:
    """All of a stage, in the order in which they were made."""
    paths = [entry.path for entry in storage.list(STARTS)]
    for path in sorted(paths, key=lambda path: int(PurePosixPath(path).stem.rpartition("-")[2])):
        yield Start(**parse_json(storage.read(path), storage.uri_of(path)))
