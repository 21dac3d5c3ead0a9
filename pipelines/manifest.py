"""Write and read a dataset's `manifest.json`."""

import json
from collections.abc import Iterable
from typing import Any, Literal

from pipelines.storage import Storage, StorageError
from schemas.manifest import FORMAT, PART_OBJECTS, ObjectEntry, json_bytes, section

MANIFEST_PATH = "manifest.json"


def manifest_files(
    totals: dict[str, Any],
    data: Iterable[ObjectEntry],
    failed: Iterable[ObjectEntry],
    part_objects: int = PART_OBJECTS,
) -> dict[str, bytes]:
    """The manifest as files by path, `manifest.json` last; equal arguments give equal bytes.

    Args:
        totals: Values for the manifest's own keys, such as the job's name.
        data: The data objects, in the order that readers shall use.
        failed: The objects of dead letters.
        part_objects: Objects to name before they are split into parts.
    """
    data_section, data_parts = section("objects", data, part_objects)
    failed_section, failed_parts = section("failed", failed, part_objects)
    manifest = {"format": FORMAT, "failed": failed_section} | data_section | totals
    return data_parts | failed_parts | {MANIFEST_PATH: json_bytes(manifest)}


def read_manifest(storage: Storage) -> dict[str, Any]:
    """The JSON value of the dataset's `manifest.json`.

    Raises:
        StorageError: There is none, or it is not one of ours.
    """
    uri = storage.uri_of(MANIFEST_PATH)
    value = parse_json(storage.read(MANIFEST_PATH), uri)
    if value.get("format") != FORMAT:
        raise StorageError(
            f"{uri}: format is {value.get('format')!r}, not '{FORMAT}'; name a dataset of this project"
        )
    return value


def read_entries(storage: Storage, name: Literal["data", "failed"] = "data") -> list[ObjectEntry]:
    """All data objects, or those of dead letters; through the parts where there are some."""
    manifest = read_manifest(storage)
    part = manifest["failed"] if name == "failed" else manifest
    objects = part.get("objects")
    if objects is None:
        uris = [storage.uri_of(p["path"]) for p in part["parts"]]
        files = [parse_json(storage.read(p["path"]), uri) for p, uri in zip(part["parts"], uris, strict=True)]
        objects = [entry for file in files for entry in file["objects"]]
    return [ObjectEntry(**entry) for entry in objects]


def parse_json(data: bytes, uri: str) -> dict[str, Any]:
    """The JSON object in `data`; StorageError with the URI when there is none."""
    try:
        value = json.loads(data)
    except ValueError as error:
        raise StorageError(
            f"{uri}: not JSON ({error}); it was damaged or written by another program"
        ) from error
    if not isinstance(value, dict):
        raise StorageError(f"{uri}: not a JSON object; it was damaged or written by another program")
    return value
