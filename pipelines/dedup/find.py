"""Find the duplicates of a dataset of scores on Ray, and write them as pairs.

    OUTPUT/pairs/KIND-PART-NUMBER.parquet    of schema PAIRS
    OUTPUT/manifest.json                     last: without it there is nothing

Tasks read columns, and hand them to one another through Ray's object store; the driver sees counts. What is
written does not depend on how many workers there are: the parts of the work are cut by the data alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pipelines.config import differences, identity
from pipelines.dedup.columns import DedupError
from pipelines.dedup.search import OnSearch, Search
from pipelines.dedup.settings import DedupSettings
from pipelines.manifest import MANIFEST_PATH, read_manifest
from pipelines.storage import ObjectMissingError, Storage, open_storage
from schemas.manifest import FORMAT, ObjectEntry, Section, json_bytes


@dataclass(frozen=True, kw_only=True)
class DuplicatesSummary:
    """What was found.

    Attributes:
        output: URI of the pairs.
        images: Of the dataset.
        pairs: How many, by kind.
    """

    output: str
    images: int
    pairs: dict[str, int]


def search_request(scores_uri: str, settings: DedupSettings) -> dict[str, Any]:
    """What determines the pairs, as JSON values: the settings, and the SHA-256 of each dataset's manifest.

    Raises:
        DedupError: A dataset has no manifest.
    """
    return {
        "settings": identity(settings),
        "scores": _manifest_digest(scores_uri),
        "against": {uri: _manifest_digest(uri) for uri in settings.against},
    }


def find_duplicates(
    scores_uri: str, output_uri: str, settings: DedupSettings, on_progress: OnSearch | None = None
) -> DuplicatesSummary:
    """Find all duplicates, unless that is done already. Needs a connected Ray.

    A search that was killed starts again from the beginning.

    Args:
        scores_uri: A dataset of scores.
        output_uri: Where the pairs go.
        settings: What to look for.
        on_progress: Called with the kind of duplicates, and how many of how many steps are done.

    Raises:
        DedupError: A dataset lacks a column that is needed; or the output holds the pairs of other scores or
            other settings.
    """
    output = open_storage(output_uri)
    request = search_request(scores_uri, settings)
    if output.exists(MANIFEST_PATH):
        manifest = _finished(output, request)
        return DuplicatesSummary(output=output_uri, images=manifest["rows_in"], pairs=manifest["pairs"])
    search = Search.open(scores_uri, settings, output, on_progress)
    entries: dict[str, list[ObjectEntry]] = {}
    if settings.exact:
        entries["exact"] = search.exact()
    if settings.near is not None:
        entries["near"] = search.near(settings.near)
    if settings.semantic is not None:
        entries["semantic"] = search.semantic(settings.semantic)
    section = Section("objects")
    for entry in (entry for kind in entries.values() for entry in kind):
        if part := section.add(entry):
            output.write(*part)
    objects, last_part = section.end()
    if last_part is not None:
        output.write(*last_part)
    pairs = {kind: sum(entry.rows for entry in found) for kind, found in entries.items()}
    counts = {"rows_in": search.num_rows, "rows_out": sum(pairs.values()), "pairs": pairs}
    manifest = {"format": FORMAT, "job": "dedup", "failed": {"objects": []}} | objects | request | counts
    output.write(MANIFEST_PATH, json_bytes(manifest))
    return DuplicatesSummary(output=output_uri, images=search.num_rows, pairs=pairs)


def _finished(output: Storage, request: dict[str, Any]) -> dict[str, Any]:
    """The manifest of the same search."""
    manifest = read_manifest(output)
    if lines := differences({name: manifest.get(name) for name in request}, request):
        raise DedupError(
            f"{output.uri}: holds the duplicates of another search:\n"
            + "\n".join(f"  {line}" for line in lines)
            + "\nuse the same again, or another output folder"
        )
    return manifest


def _manifest_digest(uri: str) -> str:
    try:
        return open_storage(uri).sha256(MANIFEST_PATH)
    except ObjectMissingError as error:
        raise DedupError(
            f"{uri}: no manifest.json; name a dataset of scores, and finish its run if it has not"
        ) from error
