"""Tell what an input of curation is, and open it."""

import contextlib
import itertools
import json
from collections.abc import Collection, Iterable, Iterator
from typing import Literal

from pipelines import ledger
from pipelines.inputs import find_parquet
from pipelines.ledger import RUN_PATH
from pipelines.manifest import MANIFEST_PATH
from pipelines.sources.folders import open_folder_source
from pipelines.sources.interface import ImageSource, SourceError
from pipelines.sources.parquet import open_parquet_source
from pipelines.sources.settings import SourceSettings
from pipelines.sources.sidecars import IMAGE_SUFFIXES
from pipelines.sources.tars import open_tar_source
from pipelines.storage import ObjectMissingError, Storage, StoredObject, open_storage, split_uri
from schemas import manifest
from schemas.images import SOURCE_ROWS

INDEX = ".index"
"""Folder of a run in which listings and indexes of its input are kept."""
Kind = Literal["webdataset", "parquet", "folder"]
PEEKED_ENTRIES = 10_000
"""Entries of a listing that tell what an input is."""


def open_source(uri: str, settings: SourceSettings, index_uri: str, taken: Collection[str]) -> ImageSource:
    """The images at a URI; makes the indexes of tars and the listings of folders that reading them takes.

    A dataset of this project is read by its manifest. Else it is told by what is there: tars, or Parquet
    files, or images. Tars go before Parquet files, which tools write beside them; where there are Parquet
    files and images, either could be meant, and the settings must tell.

    Args:
        uri: A folder, or one `.tar` or `.parquet` file.
        settings: What to read of it.
        index_uri: The folder of indexes and listings. They are named for what they are of: a second start
            finds those of the first.
        taken: Names that the source's own columns must not have, besides those of SOURCE_ROWS.

    Raises:
        SourceError: There are no images, or it cannot be told which.
        PlanError: It is the output of a run that has not finished, or has damaged Parquet files.
        StorageError: The input cannot be listed or read, or the index not written.
    """
    taken = {*taken, *SOURCE_ROWS.names}
    parent, name = split_uri(uri)
    if name.endswith(".tar") and parent.exists(name):
        return open_tar_source(parent, [name], index_uri, settings, taken)
    storage = open_storage(uri)
    if name.endswith(".parquet") and parent.exists(name):
        return open_parquet_source(find_parquet(uri), index_uri, settings, taken)
    if _is_dataset(storage):
        return open_parquet_source(find_parquet(uri), index_uri, settings, taken, is_dataset=True)
    entries = storage.list()
    first = list(itertools.islice(entries, PEEKED_ENTRIES))
    kind = _kind(storage, first) if settings.kind == "auto" else settings.kind
    if kind == "parquet":
        return open_parquet_source(find_parquet(uri), index_uri, settings, taken)
    entries = itertools.chain(first, entries)
    if kind == "webdataset":
        names = [entry.path for entry in entries if _kind_of(entry.path) == "webdataset"]
        if not names:
            raise SourceError(f"{uri}: no .tar files; name a folder that holds some, or another source.kind")
        return open_tar_source(storage, sorted(names), index_uri, settings, taken)
    strict = settings.kind == "auto"
    return open_folder_source(storage, _image_files(storage, entries, strict), index_uri, settings, taken)


def _is_dataset(storage: Storage) -> bool:
    """Whether a run of this project writes or wrote the folder; other programs have a `manifest.json` too."""
    for name in (MANIFEST_PATH, RUN_PATH):
        with contextlib.suppress(ObjectMissingError, ValueError):
            value = json.loads(storage.read(name))
            if isinstance(value, dict) and value.get("format") in (manifest.FORMAT, ledger.FORMAT):
                return True
    return False


def _kind(storage: Storage, entries: Iterable[StoredObject]) -> Kind:
    """What a folder is by its first entries."""
    kinds = {kind: entry.path for entry in entries if (kind := _kind_of(entry.path))}
    if "webdataset" in kinds:
        return "webdataset"
    if "parquet" in kinds and "folder" in kinds:
        raise SourceError(_ambiguous(storage, kinds["parquet"], kinds["folder"]))
    if not kinds:
        raise SourceError(
            f"{storage.uri}: no .tar or .parquet files and no images; name a folder that holds some "
            "(compressed tars must be unpacked)"
        )
    return "parquet" if "parquet" in kinds else "folder"


def _kind_of(path: str) -> Kind | None:
    """What a file's name makes it part of; hidden files are none, nor are tables whose names begin with _."""
    parts, suffix = path.split("/"), path.rpartition(".")[2].lower()
    if any(part.startswith(".") for part in parts):
        return None
    if suffix in IMAGE_SUFFIXES:
        return "folder"
    if any(part.startswith("_") for part in parts):
        return None
    kinds: dict[str, Kind] = {"tar": "webdataset", "parquet": "parquet"}
    return kinds.get(suffix)


def _image_files(storage: Storage, entries: Iterable[StoredObject], strict: bool) -> Iterator[StoredObject]:
    """All but hidden files; where the kind was guessed, data of another kind is not passed over."""
    for entry in entries:
        if any(part.startswith(".") for part in entry.path.split("/")):
            continue
        if strict and _kind_of(entry.path) in ("webdataset", "parquet"):
            raise SourceError(_ambiguous(storage, entry.path, "images"))
        yield entry


def _ambiguous(storage: Storage, one: str, other: str) -> str:
    return (
        f"{storage.uri}: holds '{one}' and '{other}': it is not clear which are the images; set "
        "source.kind to parquet, webdataset or folder, or name one of them"
    )
