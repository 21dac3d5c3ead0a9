"""Parquet tables of images, of paths and URIs, or of URLs; datasets of this project in all their packings."""

from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
import ray

from pipelines.arrow_types import is_text
from pipelines.inputs import ParquetInput, open_parquet, read_unit
from pipelines.manifest import read_entries
from pipelines.plan import InputObject, Unit
from pipelines.sources.columns import ImageKind, Roles, find_roles
from pipelines.sources.interface import CaptionError, ImageSource, MetadataError, RowError
from pipelines.sources.pacing import shared_pacer
from pipelines.sources.places import ImagePlaces, NamedImage, member_path
from pipelines.sources.rows import Row, rows_table
from pipelines.sources.settings import SourceSettings
from pipelines.sources.sidecars import check_caption
from pipelines.sources.unified import as_type, texts, unified_fields
from pipelines.storage import Storage
from schemas.images import passed_through

_THREADS = 16


@dataclass(frozen=True, kw_only=True)
class ParquetReader:
    """Reads units of Parquet objects.

    Attributes:
        storage: Where they are.
        index_uri: The folder of tar indexes.
        settings: What to read.
        has_tars: Whether each may have a tar beside it that its rows name members of.
        renamed: Columns that pass through, by their name in the files.
        fetches: Whether images on the web are fetched; else each is a fault.
    """

    storage: Storage
    index_uri: str
    settings: SourceSettings
    has_tars: bool
    renamed: dict[str, pa.Field]
    fetches: bool = True

    def __call__(self, unit: Unit) -> pa.Table:
        """The unit's rows."""
        table = read_unit(self.storage, unit)
        where = self.storage.uri_of(unit.path)
        roles = find_roles(table.schema, self.settings.columns, where, self.has_tars)
        rows = [Row() for _ in range(table.num_rows)]
        extra = [self._extra(table, roles, name, rows) for name in self.renamed]
        self._name(table, roles, rows)
        self._fill(unit, table, roles, rows)
        result = rows_table(unit, rows)
        for target, column in zip(self.renamed.values(), extra, strict=True):
            result = result.append_column(target, column)
        return result

    def _extra(self, table: pa.Table, roles: Roles, name: str, rows: list[Row]) -> pa.ChunkedArray:
        """A column that passes through, in the type that it has in the output."""
        kind = self.renamed[name].type
        if name not in table.column_names or not roles.passes_through(name):
            return pa.chunked_array([pa.nulls(table.num_rows, kind)])
        column = table[name]
        if is_text(column.type):
            values = _checked_texts(table, name, rows, MetadataError)
            column = pa.chunked_array([pa.array(values, pa.string())])
        return as_type(column, kind)

    def _name(self, table: pa.Table, roles: Roles, rows: list[Row]) -> None:
        """Fill captions, ids and names."""
        if roles.caption is not None:
            captions = _checked_texts(table, roles.caption, rows, CaptionError, "caption")
            for row, caption in zip(rows, captions, strict=True):
                try:
                    if caption is not None:
                        check_caption(caption, self.settings.max_caption_bytes)
                        row.caption = caption
                except CaptionError as error:
                    row.fail(error)
        if roles.uid is not None:
            for row, uid in zip(rows, _checked_texts(table, roles.uid, rows, MetadataError), strict=True):
                row.uid = uid
        if roles.key is not None:
            for row, key in zip(rows, _checked_texts(table, roles.key, rows, MetadataError), strict=True):
                row.key = key

    def _fill(self, unit: Unit, table: pa.Table, roles: Roles, rows: list[Row]) -> None:
        """Fill the images."""
        datas: list[bytes | None] = [None] * len(rows)
        paths: list[str | None] = [None] * len(rows)
        if roles.kind == "bytes":
            datas = table[roles.image].to_pylist()
        elif roles.kind == "struct":
            column = table[roles.image].combine_chunks()
            names = [f.name for f in column.type]
            if "bytes" in names:
                datas = pc.struct_field(column, "bytes").to_pylist()
            if "path" in names:
                parts = pa.table({"path": pc.struct_field(column, "path")})
                paths = _checked_texts(parts, "path", rows, MetadataError, "the image's path")
        else:
            paths = _checked_texts(table, roles.image, rows, MetadataError)
        if roles.kind == "member":
            paths = [None if key is None else member_path(unit, key) for key in paths]
        hashes = _hashes(table, roles) if self.settings.fetch.verify_hashes else [{}] * len(rows)
        images = [
            NamedImage(row=row, data=data, path=path, digests=digests)
            for row, data, path, digests in zip(rows, datas, paths, hashes, strict=True)
        ]
        places = ImagePlaces(
            storage=self.storage,
            index_uri=self.index_uri,
            settings=self.settings,
            has_tars=self.has_tars,
            fetches=self.fetches,
        )
        places.fill(unit, images)


def _checked_texts(
    table: pa.Table, name: str, rows: Sequence[Row], error: type[RowError], what: str | None = None
) -> list[str | None]:
    """A column's values as text; what is not UTF-8 is None, and the fault of its row."""
    if not is_text(table.schema.field(name).type):
        return [None if value is None else str(value) for value in table[name].to_pylist()]
    values, wrong = texts(table[name])
    for number in wrong:
        rows[number].fail(error(f"{what or f'column {name}'} is not UTF-8"))
    return values


def _hashes(table: pa.Table, roles: Roles) -> list[dict[str, str]]:
    """The hashes that the table tells of each image, by their algorithm."""
    hashes: list[dict[str, str]] = [{} for _ in range(table.num_rows)]
    for algorithm, name in (("sha256", roles.sha256), ("md5", roles.md5)):
        if name is not None:
            for row, value in zip(hashes, texts(table[name])[0], strict=True):
                if value:
                    row[algorithm] = value.lower()
    return hashes


def open_parquet_source(
    found: ParquetInput,
    index_uri: str,
    settings: SourceSettings,
    taken: Collection[str],
    is_dataset: bool = False,
) -> ImageSource:
    """The source of some Parquet objects.

    Args:
        found: The objects.
        index_uri: The folder of tar indexes.
        settings: What to read.
        taken: Names that its columns must not have.
        is_dataset: Whether they are a dataset of this project, whose shards have one schema.

    Raises:
        SourceError: One of them has no images.
    """
    storage = found.storage
    objects = [item for item in found.objects if item.rows]
    has_tars = is_dataset and any(entry.path.endswith(".tar") for entry in read_entries(storage))
    shown = objects[:1] if is_dataset else objects

    def shape(item: InputObject) -> tuple[ImageKind, list[pa.Field]]:
        with storage.open(item.path) as stream:
            schema = open_parquet(stream, storage.uri_of(item.path)).schema_arrow
        roles = find_roles(schema, settings.columns, storage.uri_of(item.path), has_tars)
        return roles.kind, [f for f in schema if roles.passes_through(f.name)]

    with ThreadPoolExecutor(_THREADS) as pool:
        shapes = list(pool.map(shape, shown))
    if ray.is_initialized() and any(kind != "bytes" for kind, _ in shapes):
        # made by the driver: it ends with the process that made it
        shared_pacer(settings.fetch.requests_per_second_per_host, settings.fetch.burst)
    renamed = passed_through(unified_fields(fields for _, fields in shapes), taken)
    reader = ParquetReader(
        storage=storage, index_uri=index_uri, settings=settings, has_tars=has_tars, renamed=renamed
    )
    return ImageSource(objects=found.objects, passed_through=list(renamed.values()), reader=reader)
