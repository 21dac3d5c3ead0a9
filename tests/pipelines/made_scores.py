"""Small datasets of scores and of pairs, written by hand: Parquet files and a manifest."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipelines.shards import parquet_bytes
from pipelines.storage import open_storage
from schemas.duplicates import PAIRS
from schemas.failed import FAILED
from schemas.images import IMAGE_FACTS
from schemas.manifest import FORMAT, ObjectEntry, json_bytes


def write_scores(
    folder: Path, columns: Mapping[str, Sequence[Any] | pa.Array], failed: int = 0, files: int = 1
) -> str:
    """Scores of images `r0`, `r1`, … with these columns besides the facts, which these may replace."""
    count = len(next(iter(columns.values())))
    facts: dict[str, Any] = {
        "row_id": [f"r{n}" for n in range(count)],
        "source_path": ["a.tar"] * count,
        "source_row": list(range(count)),
        "key": [f"k{n}" for n in range(count)],
        "uid": [f"{n * 7919 % 1000:032x}" for n in range(count)],
        "image_id": [f"{n:064x}" for n in range(count)],
        "caption": [f"caption {n}" for n in range(count)],
        "format": ["jpeg"] * count,
        "mode": ["RGB"] * count,
        **{name: [100] * count for name in ("width", "height", "min_side", "size_bytes", "num_frames")},
        **{name: [1.0] * count for name in ("aspect", "bytes_per_pixel")},
        "has_alpha": [False] * count,
    }
    values = facts | dict(columns)
    arrays = {f.name: pa.array(values[f.name], f.type) for f in IMAGE_FACTS if f.name in values}
    arrays |= {name: pa.array(v) for name, v in columns.items() if name not in arrays}
    table = pa.table(arrays)
    size = -(-count // files)
    tables = [table.slice(start, size) for start in range(0, count, size)]
    letters = pa.table(
        {
            "row_id": [f"bad{n}" for n in range(failed)],
            "stage": ["decode"] * failed,
            "error_type": ["CorruptImageError"] * failed,
            "message": ["broken"] * failed,
            "path": ["a.tar"] * failed,
            "row": list(range(count, count + failed)),
        },
        schema=FAILED,
    )
    return write_dataset(folder, tables, [letters] if failed else [])


def write_pairs(
    folder: Path, pairs: Sequence[tuple[str, str, str, float] | tuple[str, str, str, float, str]]
) -> str:
    """Pairs: kind, a, b, distance, and the other dataset where b is there."""
    rows = [
        {"kind": p[0], "a": p[1], "b": p[2], "distance": p[3], "against": p[4] if len(p) == 5 else None}
        for p in pairs
    ]
    return write_dataset(folder, [pa.Table.from_pylist(rows, schema=PAIRS)])


def write_dataset(folder: Path, tables: Sequence[pa.Table], failed: Sequence[pa.Table] = ()) -> str:
    storage = open_storage(str(folder))
    entries: dict[str, list[dict[str, Any]]] = {"data": [], "failed": []}
    for kind, parts in (("data", tables), ("failed", failed)):
        for number, part in enumerate(parts):
            path, data = f"{kind}/{number}.parquet", parquet_bytes(part)
            storage.write(path, data)
            entries[kind].append(ObjectEntry.of(path, data, part.num_rows).to_json())
    manifest = {
        "format": FORMAT,
        "job": "made",
        "objects": entries["data"],
        "failed": {"objects": entries["failed"]},
    }
    storage.write("manifest.json", json_bytes(manifest))
    return str(folder)
