"""Write and read a dataset's `manifest.json`."""

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, Literal

from pipelines.commit import Commit
from pipelines.json_files import parse_json
from pipelines.plan import unit_key
from pipelines.storage import Storage, StorageError
from schemas.manifest import FORMAT, PART_OBJECTS, ObjectEntry, Section, json_bytes

MANIFEST_PATH = "manifest.json"


def manifest_files(
    facts: dict[str, Any], commits: Iterable[Commit], part_objects: int = PART_OBJECTS
) -> Iterator[tuple[str, bytes]]:
    """The manifest as files, path and bytes, made while the records are read; `manifest.json` is last.

    Args:
        facts: Values for the manifest's own keys, such as the job's name.
        commits: The records of all units of the plan and its retries, by position and round. Of the dead
            letters of a position the last round's count.
        part_objects: Objects to name before they are split into parts.
    """
    data, failed = Section("objects", part_objects), Section("failed", part_objects)
    totals = Counter(units=0, rows_in=0, rows_done=0, rows_failed=0, rows_out=0)
    for attempts in by_position(commits):
        for commit in attempts:
            totals.update(rows_done=commit.rows_done, rows_out=commit.rows_out)
            yield from filter(None, map(data.add, commit.outputs))
        newest = attempts[-1]
        totals.update(units=1, rows_in=attempts[0].rows_in, rows_failed=newest.rows_failed)
        if newest.failed is not None and (part := failed.add(newest.failed)):
            yield part
    (data_section, data_part), (failed_section, failed_part) = data.end(), failed.end()
    yield from filter(None, (data_part, failed_part))
    manifest = {"format": FORMAT, "failed": failed_section} | data_section | facts | totals
    yield MANIFEST_PATH, json_bytes(manifest)


def by_position(commits: Iterable[Commit]) -> Iterator[list[Commit]]:
    """The records of each position: the plan's unit, then its retries."""
    for _, group in itertools.groupby(commits, key=lambda commit: unit_key(commit.unit)[0]):
        yield list(group)


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
