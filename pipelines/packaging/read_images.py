"""The rows of a shard with their images, whose bytes are compared with what the set's manifest records."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipelines.archives import ArchiveLimits, read_members
from pipelines.inputs import read_unit
from pipelines.packaging.settings import SetFormat
from pipelines.packaging.shard_plan import IMAGE
from pipelines.plan import Unit
from pipelines.shard_cuts import sample_keys
from pipelines.sources.faults import FAULT_NAMES
from pipelines.storage import ObjectMissingError, Storage, StorageError
from schemas.prompts import IMAGE as IMAGE_TYPE

_THREADS = 16
_ADDED = ("key", "caption")
"""Columns of WebDataset's table that a generated set need not have."""


class ObjectChangedError(StorageError):
    """An object of the set is not the one that its manifest names."""


@dataclass(frozen=True, kw_only=True)
class ReadPackagedRows:
    """Reads the rows of a shard with their images.

    Without the Parquet object that holds it a row is not known: the job stops where one is gone or changed.
    Where a tar or an image file is, its rows have a fault.

    Attributes:
        shard_plan: Where the places of each shard's images are.
        generated: The generated set.
        schema: The columns to read.
        format: Of the shards.
    """

    shard_plan: Storage
    generated: Storage
    schema: pa.Schema
    format: SetFormat

    def __call__(self, unit: Unit) -> pa.Table:
        """The rows as they are packaged, and why an image could not be read."""
        places = read_unit(self.shard_plan, unit)
        sources = places["source_path"]
        rows = pa.concat_tables(
            self._rows(places.filter(pc.equal(sources, path))) for path in pc.unique(sources).to_pylist()
        )
        return rows if self.format == "huggingface" else _keyed(rows, unit)

    def _rows(self, places: pa.Table) -> pa.Table:
        """Some rows of one object of the set."""
        source = places["source_path"][0].as_py()
        data = self._checked(source, places["source_sha256"][0].as_py())
        table = pq.read_table(pa.BufferReader(data), columns=self.schema.names)
        rows = table.take(places["source_row"]).cast(self.schema)
        image = rows[IMAGE].combine_chunks()
        encoded, paths = pc.struct_field(image, "bytes"), pc.struct_field(image, "path").to_pylist()
        names = [path.rpartition("/")[2] for path in paths]
        faults: list[StorageError | None] = [None] * len(names)
        if places["image_path"][0].as_py() != source:
            found = self._images(places, names)
            encoded = pa.array([None if isinstance(one, StorageError) else one for one in found], pa.binary())
            faults = [one if isinstance(one, StorageError) else None for one in found]
        images = pa.StructArray.from_arrays([encoded, pa.array(names, pa.string())], fields=list(IMAGE_TYPE))
        rows = rows.drop_columns([IMAGE]).add_column(0, IMAGE, images)
        values = [
            ["read" if fault else None for fault in faults],
            [fault and type(fault).__name__ for fault in faults],
            [fault and str(fault) for fault in faults],
        ]
        for name, column in zip(FAULT_NAMES, values, strict=True):
            rows = rows.append_column(name, pa.array(column, pa.string()))
        return rows

    def _images(self, places: pa.Table, names: Sequence[str]) -> list[bytes | StorageError]:
        """The images that are beside a Parquet object, or what is wrong with them."""
        paths, digests = places["image_path"].to_pylist(), places["image_sha256"].to_pylist()
        if not paths[0].endswith(".tar"):
            with ThreadPoolExecutor(_THREADS) as pool:
                return list(pool.map(self._found, paths, digests))
        tar = self._found(paths[0], digests[0])
        if isinstance(tar, StorageError):
            return [tar] * len(names)
        wanted = set(names)
        members = read_members(io.BytesIO(tar), ArchiveLimits())
        datas = {member.name: member.data for member in members if member.name in wanted}
        return [datas[name] for name in names]

    def _found(self, path: str, sha256: str) -> bytes | StorageError:
        try:
            return self._checked(path, sha256)
        except (ObjectMissingError, ObjectChangedError) as error:
            return error

    def _checked(self, path: str, sha256: str) -> bytes:
        """The bytes of an object of the set."""
        where = f"{self.generated.uri_of(path)}: of the generated set"
        try:
            data = self.generated.read(path)
        except ObjectMissingError as error:
            raise ObjectMissingError(f"{where}, and gone; restore it") from error
        if hashlib.sha256(data).hexdigest() != sha256:
            raise ObjectChangedError(f"{where}, and not what its manifest records; restore it")
        return data


def _keyed(rows: pa.Table, unit: Unit) -> pa.Table:
    """The rows with the key of their sample, by which the image is named, and a caption."""
    keys = sample_keys(unit)
    image = rows[IMAGE].combine_chunks()
    paths = pc.struct_field(image, "path").to_pylist()
    names = [f"{key}.{path.rpartition('.')[2]}" for key, path in zip(keys, paths, strict=True)]
    values = [pc.struct_field(image, "bytes"), pa.array(names, pa.string())]
    images = pa.StructArray.from_arrays(values, fields=list(IMAGE_TYPE))
    names = [f"original_{name}" if name in _ADDED else name for name in rows.column_names]
    rows = rows.rename_columns(names).set_column(rows.column_names.index(IMAGE), IMAGE, images)
    return rows.add_column(0, "key", pa.array(keys, pa.string())).add_column(1, "caption", rows["prompt"])
