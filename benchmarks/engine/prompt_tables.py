"""Opening prompt tables: all rows are read, and those that equal others found."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.engine.process import Steps
from pipelines.prompts import open_prompts

_CHUNK_ROWS = 100_000


def set_up(folder: str, rows: int, file_rows: int, with_ids: bool, repeated: float) -> dict[str, Any]:
    """Write a table of prompts of some 80 letters, with ids of 32 letters or without.

    Args:
        folder: Where to.
        rows: How many.
        file_rows: Rows a file.
        with_ids: Whether there is a column of ids; they are distinct.
        repeated: Part of the rows that equal the first row.
    """
    Path(folder).mkdir(parents=True)
    size_bytes = 0
    for number, start in enumerate(range(0, rows, file_rows)):
        path = Path(folder, f"part-{number:05d}.parquet")
        stop = min(start + file_rows, rows)
        with pq.ParquetWriter(path, _table(0, 1, with_ids, 0).schema) as writer:
            for first in range(start, stop, _CHUNK_ROWS):
                writer.write_table(_table(first, min(first + _CHUNK_ROWS, stop), with_ids, repeated))
        size_bytes += path.stat().st_size
    return {"rows": rows, "bytes": size_bytes}


def measure(folder: str) -> dict[str, Any]:
    """Open a table as a job does."""
    steps = Steps()
    with steps("open_prompts"):
        table = open_prompts(folder)
    return {
        "rows": sum(item.rows for item in table.objects),
        "repeats": sum(map(len, table.repeats.values())),
    } | steps.to_json()


def _table(start: int, stop: int, with_ids: bool, repeated: float) -> pa.Table:
    numbers = np.arange(start, stop)
    numbers[np.random.default_rng(start).random(len(numbers)) < repeated] = 0
    texts = [f"a photograph of subject {n} in the manner of painter {n % 977}, at dusk" for n in numbers]
    columns: dict[str, Any] = {"prompt": texts, "seed": numbers % 1000}
    if with_ids:
        columns["prompt_id"] = [f"{n * 0x9E3779B97F4A7C15 % 2**128:032x}" for n in numbers.tolist()]
    return pa.table(columns)
