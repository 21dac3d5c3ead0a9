"""Compare two selections of one output folder: a page that shows what they keep differently.

OUTPUT/comparisons/A-B.html
"""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from pathlib import Path

import jinja2
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from PIL import Image

from pipelines.curation.export_plan import with_places
from pipelines.curation.layout import scores_uri, selection_uri
from pipelines.curation.scoring import opened_source
from pipelines.curation.shard_images import ENCODED, kept_images, source_images
from pipelines.decoding import DecodeError, DecodeLimits, decode
from pipelines.inputs import find_parquet
from pipelines.ledger import Ledger
from pipelines.selection.compare import Comparison, compare
from pipelines.storage import open_storage

COMPARISONS = "comparisons"
_THUMBNAIL = 160
_TEMPLATE = Path(__file__).with_name("comparison.html.j2")


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A sample as the page shows it.

    Attributes:
        caption: Its text.
        why: The rule that dropped it in the other selection, with value and threshold.
        thumbnail: A data URI; empty where the image cannot be had any more.
    """

    caption: str
    why: str
    thumbnail: str


def compare_selections(output: str, first: str, second: str) -> tuple[Comparison, str]:
    """Compare two selections by name; gives what was found, and the URI of the page that shows it.

    Raises:
        RefusalError: One is not there, or they are of different scores.
    """
    uris = [selection_uri(output, name) for name in (first, second)]
    found = compare(uris[0], uris[1], (first, second))
    samples = [[sample for _, sample in side.samples] for side in found.sides]
    images = _thumbnails(output, {sample.row_id for side in samples for sample in side})
    pictures = [
        [
            Picture(
                caption=images[sample.row_id][0],
                why=f"{sample.rule}: {sample.value} ({sample.threshold})",
                thumbnail=images[sample.row_id][1],
            )
            for sample in side
        ]
        for side in samples
    ]
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    template = environment.from_string(_TEMPLATE.read_text("utf-8"))
    page = template.render(
        found=found, sides=list(zip(found.sides, pictures, strict=True)), names=(first, second)
    )
    storage, path = open_storage(output), f"{COMPARISONS}/{first}-{second}.html"
    storage.write(path, page.encode())
    return found, storage.uri_of(path)


def _thumbnails(output: str, row_ids: set[str]) -> dict[str, tuple[str, str]]:
    """Caption and thumbnail of each row."""
    scores = find_parquet(scores_uri(output))
    ledger = Ledger.load(scores_uri(output))
    fingerprints = {unit.path: unit.fingerprint for unit in ledger.planned()}
    wanted = pa.array(sorted(row_ids), pa.string())
    read_source = None
    found: dict[str, tuple[str, str]] = {}
    for item in scores.objects:
        with scores.storage.open(item.path) as stream:
            rows = pq.read_table(stream, columns=["row_id", "caption", "source_path", "source_row"])
        rows = with_places(rows, item, fingerprints)
        rows = rows.filter(pc.is_in(rows["row_id"], value_set=wanted))
        if not rows.num_rows:
            continue
        if ledger.spec.config["keep"] != "none":
            images = kept_images(rows, scores.storage)
        else:
            read_source = read_source or opened_source(scores_uri(output)).reader
            images = source_images(rows, read_source)
        thumbnails = map(_thumbnail, images[ENCODED.name].to_pylist())
        captions = (caption or "" for caption in rows["caption"].to_pylist())
        found |= dict(zip(rows["row_id"].to_pylist(), zip(captions, thumbnails, strict=True), strict=True))
    return found


def _thumbnail(data: bytes | None) -> str:
    try:
        pixels = decode(data or b"", DecodeLimits(), _THUMBNAIL).pixels
    except DecodeError:  # the page is about decisions; that an image is gone since is no reason to have none
        return ""
    picture, buffer = Image.fromarray(pixels), io.BytesIO()
    picture.thumbnail((_THUMBNAIL, _THUMBNAIL))
    picture.save(buffer, "jpeg", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
