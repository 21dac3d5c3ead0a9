"""Folders of images, each with its caption in a `.txt` and facts in a `.json` of the same stem beside it."""

import hashlib
from collections.abc import Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa

from pipelines.inputs import read_unit
from pipelines.plan import InputObject, Unit
from pipelines.shards import parquet_bytes
from pipelines.sources.interface import ImageSource, SampleError, SourceError
from pipelines.sources.rows import Row, check_unit_bytes, rows_table
from pipelines.sources.settings import SourceSettings
from pipelines.sources.sidecars import (
    IMAGE_SUFFIXES,
    caption_too_long,
    json_too_long,
    sidecar_fields,
    take_sidecars,
)
from pipelines.sources.tars import append_columns, fill_image
from pipelines.storage import ObjectMissingError, Storage, StoredObject, open_storage
from schemas.images import passed_through
from schemas.manifest import json_bytes

PIECE_ROWS = 100_000
_PARTS = ("", "text_", "json_")
LISTING = pa.schema(
    [
        pa.field(f"{part}{name}", kind)
        for part in _PARTS  # the image, its .txt and its .json, as far as there are some
        for name, kind in (("path", pa.string()), ("size", pa.int64()), ("modified_us", pa.int64()))
    ]
    + [pa.field("fault", pa.string())]  # of the image
)
"""Of a folder: one row an image. Times are of the last write, in microseconds."""
_FORMAT = "listing-1"
_FINGERPRINT = "listing:"
_THREADS = 16


@dataclass(kw_only=True)
class _Stem:
    """Files `STEM.suffix` of one folder while they are listed.

    Attributes:
        path: The stem with its folder.
        images: Those that are images.
        sidecars: `.txt` and `.json`, by suffix.
    """

    path: str
    images: list[StoredObject] = field(default_factory=list)
    sidecars: dict[str, StoredObject] = field(default_factory=dict)

    def rows(self) -> Iterator[dict[str, Any]]:
        text, about = self.sidecars.get("txt"), self.sidecars.get("json")
        for image in self.images:
            row: dict[str, Any] = {}
            for part, item in zip(_PARTS, (image, text, about), strict=True):
                if item is not None:
                    modified_us = round(item.modified_at * 1e6)
                    # names that are not UTF-8 have surrogates
                    row |= {f"{part}path": item.path.encode(errors="replace").decode()}
                    row |= {f"{part}size": item.size_bytes}
                    row |= {f"{part}modified_us": modified_us}
            if row["path"] != image.path:
                row["fault"] = f"{row['path']}: its name is not UTF-8"
            yield row


def listed_images(entries: Iterable[StoredObject]) -> Iterator[dict[str, Any]]:
    """Rows of LISTING for a listing sorted by path, in the order in which stems end.

    Between two files of a stem there are only files whose stems begin with it: so a few stems are in memory.
    """
    open_stems: list[_Stem] = []
    for entry in entries:
        while open_stems and not entry.path.startswith(f"{open_stems[-1].path}."):
            yield from open_stems.pop().rows()
        folder, slash, name = entry.path.rpartition("/")
        stem, _, suffix = name.rpartition(".")
        path, suffix = f"{folder}{slash}{stem}", suffix.lower()
        if not stem or (suffix not in IMAGE_SUFFIXES and suffix not in ("txt", "json")):
            continue
        if not open_stems or open_stems[-1].path != path:
            open_stems.append(_Stem(path=path))
        if suffix in IMAGE_SUFFIXES:
            open_stems[-1].images.append(entry)
        else:
            open_stems[-1].sidecars.setdefault(suffix, entry)
    while open_stems:
        yield from open_stems.pop().rows()


@dataclass(frozen=True, kw_only=True)
class FolderReader:
    """Reads units of listings.

    Attributes:
        storage: Where the images are.
        index_storage: Where the listings are.
        settings: What to read.
        renamed: Columns that `.json` files make, by their name there.
    """

    storage: Storage
    index_storage: Storage
    settings: SourceSettings
    renamed: dict[str, pa.Field]

    def __call__(self, unit: Unit) -> pa.Table:
        """The unit's rows."""
        name = _listing_path(unit.fingerprint)
        # a listing is found by its content, and has no fingerprint to compare
        listing = read_unit(self.index_storage, replace(unit, path=name, fingerprint="listing")).to_pylist()
        sizes = [entry["size"] for entry in listing]
        images = sum(size for size in sizes if size <= self.settings.row_images.max_bytes)
        check_unit_bytes(unit, images, self.settings.max_unit_bytes)
        with ThreadPoolExecutor(_THREADS) as pool:
            read = list(pool.map(self._row, listing))
        table = rows_table(unit, [row for row, _ in read])
        return append_columns(table, [values for _, values in read], self.renamed)

    def _row(self, entry: dict[str, Any]) -> tuple[Row, dict[str, Any]]:
        settings, path = self.settings, entry["path"]
        row = Row(key=path.rpartition(".")[0], image_path=path)
        if entry["fault"] is not None:
            row.fail(SampleError(entry["fault"]))
            return row, {}
        try:
            data = self._file(entry, "", settings.row_images.max_bytes)
            fill_image(row, data or b"", entry["size"], path, settings)
            text = self._file(entry, "text_", settings.max_caption_bytes)
            about = self._file(entry, "json_", settings.max_json_bytes)
        except SampleError as error:
            row.fail(error)
            return row, {}
        values = take_sidecars(row, text, about, settings)
        if text is None and entry["text_path"] is not None:
            row.fail(caption_too_long(entry["text_size"], settings.max_caption_bytes))
        if about is None and entry["json_path"] is not None:
            row.fail(json_too_long(entry["json_size"], settings.max_json_bytes))
        return row, values

    def _file(self, entry: dict[str, Any], part: str, limit: int) -> bytes | None:
        """A file's bytes; None where there is none, or it is larger than the limit."""
        path, size = entry[f"{part}path"], entry[f"{part}size"]
        if path is None or size > limit:
            return None
        if not size:
            return b""
        try:
            data = self.storage.read(path)
        except ObjectMissingError as error:
            raise SampleError(f"{path}: gone since the folder was listed") from error
        if len(data) != size:
            raise SampleError(f"{path}: {len(data)} bytes, and {size} when the folder was listed")
        return data


def open_folder_source(
    storage: Storage,
    entries: Iterable[StoredObject],
    index_uri: str,
    settings: SourceSettings,
    taken: Collection[str],
) -> ImageSource:
    """The source of a folder's images; writes its listing in pieces.

    Args:
        storage: The folder.
        entries: What is in it, sorted by path.
        index_uri: Where the listing goes.
        settings: What to read.
        taken: Names that its columns must not have.
    """
    index_storage = open_storage(index_uri)
    renamed = passed_through(sidecar_fields(settings.json_columns), taken)
    reader = FolderReader(storage=storage, index_storage=index_storage, settings=settings, renamed=renamed)
    objects: list[InputObject] = []
    piece: list[dict[str, Any]] = []
    for row in listed_images(entries):
        piece.append(row)
        if len(piece) == PIECE_ROWS:
            objects.append(_written(index_storage, len(objects), piece))
            piece = []
    if piece:
        objects.append(_written(index_storage, len(objects), piece))
    if not objects:
        raise SourceError(f"{storage.uri}: no images; name a folder that holds some")
    return ImageSource(objects=objects, passed_through=list(renamed.values()), reader=reader)


def _written(index_storage: Storage, number: int, piece: list[dict[str, Any]]) -> InputObject:
    digest = hashlib.sha256(_FORMAT.encode())
    for row in piece:
        digest.update(json_bytes(row))
    fingerprint = f"{_FINGERPRINT}{digest.hexdigest()}"
    name = _listing_path(fingerprint)
    if not index_storage.exists(name):
        index_storage.write(name, parquet_bytes(pa.Table.from_pylist(piece, schema=LISTING)))
    return InputObject(path=f"listing-{number:05d}", fingerprint=fingerprint, rows=len(piece))


def _listing_path(fingerprint: str) -> str:
    return f"listings/{fingerprint.removeprefix(_FINGERPRINT)[:32]}.parquet"
