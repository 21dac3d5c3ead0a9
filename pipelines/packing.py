"""How generated images become objects: Parquet, alone or beside a WebDataset tar or image files."""

from __future__ import annotations

import io
import json
import math
import tarfile
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.generation_config import Images
from pipelines.plan import Unit
from pipelines.shards import Shard, parquet_shard
from schemas.generations import GENERATIONS

NOT_IN_JSON = ("image", "tokens")


@dataclass(frozen=True, kw_only=True)
class PackImages:
    """Encodes a unit's rows of GENERATIONS.

    Attributes:
        images: Where the encoded images go. In `webdataset` and `files` the Parquet rows keep their paths
            within `data/`, and no bytes.
    """

    images: Images

    def __call__(self, unit: Unit, table: pa.Table) -> list[Shard]:
        """All objects of the unit, the Parquet shard first."""
        if self.images == "parquet":
            return parquet_shard(unit, table)
        column = table["image"].combine_chunks()
        names, encoded = (pc.struct_field(column, name).to_pylist() for name in ("path", "bytes"))
        if self.images == "webdataset":
            folder = f"{unit.id}.tar"
            shards = [
                Shard(path=f"data/{folder}", data=tar_bytes(table, names, encoded), rows=table.num_rows)
            ]
        else:
            folder = unit.id
            shards = [
                Shard(path=f"data/{folder}/{name}", data=data, rows=1)
                for name, data in zip(names, encoded, strict=True)
            ]
        paths = pa.array([{"bytes": None, "path": f"{folder}/{name}"} for name in names], column.type)
        index = table.schema.get_field_index("image")
        # without bytes the rows must not claim to be images
        index_table = table.set_column(index, table.schema.field(index), paths).replace_schema_metadata(None)
        return parquet_shard(unit, index_table) + shards


def tar_bytes(table: pa.Table, names: list[str], encoded: list[bytes]) -> bytes:
    """A WebDataset shard: image, `.txt` with the prompt and `.json` with the other columns of each sample."""
    facts = table.drop_columns([name for name in NOT_IN_JSON if name in table.column_names]).to_pylist()
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, data, row in zip(names, encoded, facts, strict=True):
            key = row[GENERATIONS.names[0]]
            about = json.dumps(_json_row(row), sort_keys=True, ensure_ascii=False, allow_nan=False).encode()
            for member, content in (
                (name, data),
                (f"{key}.txt", row["prompt"].encode()),
                (f"{key}.json", about),
            ):
                info = tarfile.TarInfo(member)  # its times and owners are zero: equal rows give equal bytes
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def _json_row(value: Any) -> Any:
    """JSON values: columns that pass through may hold dates, decimals, bytes or NaN, which JSON has not."""
    if isinstance(value, dict):
        return {str(key): _json_row(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_json_row(item) for item in value]
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, str | int) else str(value)
