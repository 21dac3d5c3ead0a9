"""How generated images become objects: Parquet, alone or beside a WebDataset tar or image files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.generation_config import Images
from pipelines.plan import Unit
from pipelines.scorers.settings import EMBEDDING
from pipelines.shards import Shard, parquet_shard
from pipelines.webdataset import json_member, tar_bytes
from schemas.generations import GENERATIONS, TOKENS


@dataclass(frozen=True, kw_only=True)
class PackImages:
    """Encodes a unit's rows of GENERATIONS.

    Attributes:
        images: Where the encoded images go. In `webdataset` and `files` the Parquet rows keep their paths
            within `data/`, and no bytes.
    """

    images: Images

    def __call__(self, unit: Unit, table: pa.Table) -> list[Shard]:
        """All objects of the unit, the Parquet shard first; a row without an image is in that alone."""
        if self.images == "parquet":
            return parquet_shard(unit, table)
        column = table["image"].combine_chunks()
        shown = table.filter(column.is_valid())
        names, encoded = (pc.struct_field(column.drop_null(), name).to_pylist() for name in ("path", "bytes"))
        if self.images == "webdataset":
            folder = f"{unit.id}.tar"
            shards = [
                Shard(
                    path=f"data/{folder}",
                    data=tar_bytes(_members(shown, names, encoded)),
                    rows=shown.num_rows,
                )
            ]
        else:
            folder = unit.id
            shards = [
                Shard(path=f"data/{folder}/{name}", data=data, rows=1)
                for name, data in zip(names, encoded, strict=True)
            ]
        left = iter(names)
        paths = pa.array(
            [
                {"bytes": None, "path": f"{folder}/{next(left)}"} if is_there else None
                for is_there in column.is_valid().to_pylist()
            ],
            column.type,
        )
        index = table.schema.get_field_index("image")
        # without bytes the rows must not claim to be images
        index_table = table.set_column(index, table.schema.field(index), paths).replace_schema_metadata(None)
        return parquet_shard(unit, index_table) + shards


def _members(table: pa.Table, names: list[str], encoded: list[bytes]) -> Iterator[tuple[str, bytes]]:
    """Image, `.txt` with the prompt and `.json` with the other columns of each sample."""
    facts = table.select([f.name for f in table.schema if not is_large(f)]).to_pylist()
    for name, data, row in zip(names, encoded, facts, strict=True):
        key = row[GENERATIONS.names[0]]
        yield name, data
        yield f"{key}.txt", row["prompt"].encode()
        yield f"{key}.json", json_member(row)


def is_large(field: pa.Field) -> bool:
    """Whether a column is only in Parquet: images, token grids and embeddings are of no use as text."""
    return field.name == "image" or field.type in (EMBEDDING, TOKENS.type)
