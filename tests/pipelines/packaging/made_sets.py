"""Small generated sets as `generate` writes them, packaged without a cluster."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipelines.config import load_config
from pipelines.ledger import Ledger
from pipelines.manifest import read_entries
from pipelines.packaging import PackageConfig, PackagingPlan, plan_packaging
from pipelines.storage import open_storage
from tests.pipelines.made_generations import MadeGenerations, image
from tests.pipelines.toys import commit_rows, write_manifest

COUNT = 10
LOSER = 5
"""The row that `best_of` left without an image."""


def write_set(
    folder: Path, images: Any = "parquet", *, finished: bool = True, job: str = "generate", count: int = COUNT
) -> str:
    """A set of so many rows with embeddings and a column `key`, or the first unit of it."""
    columns = {
        "key": [f"theirs {n}" for n in range(count)],
        "image": [None if n == LOSER else image(n) for n in range(count)],
    }
    prompts = [f"prompt {n}" for n in range(count)]
    made = MadeGenerations(str(folder), prompts, images=images, embedding=True, columns=columns, job=job)
    return made.commit(None if finished else made.units[:1]).uri


def planned(source: str, output: Path | str, *changes: str) -> PackagingPlan:
    return plan_packaging(load_config(PackageConfig, None, [f"input={source}", f"output={output}", *changes]))


def package(source: str, output: Path | str, *changes: str) -> Ledger:
    """What `run` makes, but for the card, computed here."""
    plan = planned(source, output, *changes)
    ledger, job = plan.open().ledger, plan.unit_job()
    (stage,) = job.stages
    for unit in ledger.planned():
        rows = job.read(unit)
        result = stage.worker(**stage.worker_args).process(rows)
        ids = rows["sample_id"].to_pylist()
        commit_rows(ledger, unit, ids, result.table, result.failed, pack=job.pack)
    write_manifest(ledger)
    return ledger


def data_of(folder: Path) -> dict[str, bytes]:
    """The data objects of a set, by path."""
    storage = open_storage(str(folder))
    return {entry.path: storage.read(entry.path) for entry in read_entries(storage)}
