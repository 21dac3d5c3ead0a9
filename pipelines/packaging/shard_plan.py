"""Which images of a generated set go into which shard: a pure function of the set and the configuration.

Of the set only ids, the images' paths and what `where` reads are looked at; sizes are those of the manifest.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipelines.errors import RefusalError
from pipelines.inputs import ParquetInput, find_parquet, open_parquet, schema_of
from pipelines.ledger import Ledger
from pipelines.manifest import MANIFEST_PATH, read_entries
from pipelines.packaging.settings import PackageConfig
from pipelines.packing import is_large
from pipelines.plan import InputObject
from pipelines.private_database import ORDINAL, numbered_batches, private_database, readable
from pipelines.selection.expressions import RecipeError, columns_in
from pipelines.selection.rules import check_expression
from pipelines.shard_cuts import ShardCuts, write_shards
from pipelines.storage import Storage
from schemas.manifest import ObjectEntry

GENERATE, SAMPLE_ID, IMAGE = "generate", "sample_id", "image"


class PackagingError(RefusalError):
    """A set that cannot be packaged as configured; the message says why."""


@dataclass(frozen=True, kw_only=True)
class GeneratedSet:
    """The output of a `generate` job.

    Attributes:
        found: Its Parquet objects.
        config: How it was made, as its `run.json` says.
        manifest_sha256: Of its manifest.
    """

    found: ParquetInput
    config: dict[str, Any]
    manifest_sha256: str

    def schema(self, *, tokens: bool) -> pa.Schema:
        """The columns to package: all, or all but token grids and embeddings."""
        schema = schema_of(self.found)
        fields = [field for field in schema if tokens or field.name == IMAGE or not is_large(field)]
        return pa.schema(fields)


@dataclass(frozen=True, kw_only=True)
class PlannedShards:
    """The shards of a set.

    Attributes:
        objects: For each a Parquet file that names its images.
        without_image: Rows that are left out for they have no image: what `best_of` did not keep.
        not_chosen: Rows with an image that `where` leaves out.
    """

    objects: list[InputObject]
    without_image: int
    not_chosen: int


def open_generated(uri: str) -> GeneratedSet:
    """The set that a finished `generate` job has written.

    Raises:
        LedgerError: There is no run in the folder.
        PackagingError: It is a run of another job.
        PlanError: It has not finished.
    """
    ledger = Ledger.load(uri)
    if ledger.spec.job != GENERATE:
        raise PackagingError(
            f"{uri}: a run of '{ledger.spec.job}'; name the output folder of a `generate` job "
            "(`curate` writes its training sets in these formats itself)"
        )
    found = find_parquet(uri)
    digest = found.storage.sha256(MANIFEST_PATH)
    return GeneratedSet(found=found, config=ledger.spec.config, manifest_sha256=digest)


def write_shard_plan(generated: GeneratedSet, config: PackageConfig, folder: Storage) -> PlannedShards:
    """Write which images go into each shard, in the order of the set.

    Raises:
        PackagingError: `where` is no condition over the set's columns, or no image is left.
    """
    chosen = None if config.where is None else _chosen(generated.found, config.input, config.where)
    places = _Places(generated, chosen)
    cuts = ShardCuts(rows=config.shard_rows, size_bytes=config.shard_bytes)
    objects = write_shards(iter(places), folder, cuts)
    if not objects:
        raise PackagingError(
            f"{config.input}: no image to package; {places.without_image:,} rows have none, and where leaves "
            f"out {places.not_chosen:,}: change where"
        )
    return PlannedShards(objects=objects, without_image=places.without_image, not_chosen=places.not_chosen)


def _chosen(found: ParquetInput, uri: str, where: str) -> NDArray[np.bool_]:
    """For each row of the set whether it fulfils the condition; null counts as no."""
    columns = readable(schema_of(found))
    try:
        used = columns_in("where", where, columns, "the generated set")
        with private_database() as connection:
            connection.register("incoming", numbered_batches(found, list(dict.fromkeys([SAMPLE_ID, *used]))))
            connection.execute("CREATE TABLE images AS SELECT * FROM incoming")
            check_expression(connection, "where", where, columns)
            condition = f"coalesce(CAST(({where}\n) AS BOOLEAN), false) AS chosen"
            rows = connection.table("images").project(f'"{ORDINAL}", {condition}').order(f'"{ORDINAL}"')
            return rows.fetchnumpy()["chosen"].astype(bool)
    except (RecipeError, duckdb.Error) as error:
        raise PackagingError(f"{uri}: {error}; change where") from error


class _Places:
    """Where the images to package are, object by object; counts what it leaves out."""

    def __init__(self, generated: GeneratedSet, chosen: NDArray[np.bool_] | None) -> None:
        self.without_image = self.not_chosen = 0
        self._generated, self._chosen = generated, chosen
        self._entries = {entry.path: entry for entry in read_entries(generated.found.storage)}

    def __iter__(self) -> Iterator[pa.Table]:
        """For each object its images: of which row, in which object, how large about."""
        storage, start = self._generated.found.storage, 0
        for item in self._generated.found.objects:
            with storage.open(item.path) as stream:
                file = open_parquet(stream, storage.uri_of(item.path))
                rows = file.read(columns=[SAMPLE_ID, f"{IMAGE}.path"]).combine_chunks()
            shown = rows[IMAGE].is_valid().to_numpy()
            chosen = shown if self._chosen is None else shown & self._chosen[start : start + len(shown)]
            self.without_image += int((~shown).sum())
            self.not_chosen += int((shown & ~chosen).sum())
            yield self._placed(item, rows, shown).filter(pa.array(chosen[shown]))
            start += len(shown)

    def _placed(self, item: InputObject, rows: pa.Table, shown: NDArray[np.bool_]) -> pa.Table:
        """All images of an object; one that shares an object with others has its part of the bytes."""
        numbers = pa.array(np.flatnonzero(shown))
        rows = rows.take(numbers)
        holders = _holders(self._generated.config["images"], item, rows[IMAGE].combine_chunks())
        encoded = holders.dictionary_encode()
        entries: list[ObjectEntry] = [self._entries[path] for path in encoded.dictionary.to_pylist()]
        shares = np.bincount(encoded.indices, minlength=len(entries))
        sizes = [-(-entry.size // int(share)) for entry, share in zip(entries, shares, strict=True)]
        digests = pa.array([entry.sha256 for entry in entries], pa.string())
        return pa.table(
            {
                SAMPLE_ID: rows[SAMPLE_ID],
                "source_path": pa.array([item.path] * len(numbers), pa.string()),
                "source_sha256": pa.array([self._entries[item.path].sha256] * len(numbers), pa.string()),
                "source_row": numbers,
                "image_path": holders,
                "image_sha256": digests.take(encoded.indices),
                "size_bytes": pa.array(sizes, pa.int64()).take(encoded.indices),
            }
        )


def _holders(images: str, item: InputObject, column: pa.StructArray) -> pa.StringArray:
    """The object that each image is in: the Parquet object, the tar beside it, or its own file."""
    if images == "files":
        folder, _, _ = item.path.rpartition("/")
        return pc.binary_join_element_wise(folder, pc.struct_field(column, "path"), "/")
    holder = item.path if images == "parquet" else f"{item.path.removesuffix('.parquet')}.tar"
    return pa.array([holder] * len(column), pa.string())
