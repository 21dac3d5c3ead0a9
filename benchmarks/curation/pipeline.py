"""The work of `bare_loop` by the pipeline, `python -m benchmarks.curation.pipeline --images DIR --out DIR`.

Scores (decoding, SHA-256, perceptual hash, resizing, encoding, writing), near-duplicates, selection by size
and aspect, and the training set. Prints JSON as its last line.
"""

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.curation.corpus import MAX_ASPECT, MIN_SIDE
from benchmarks.engine.process import peak_mib
from jobs.ray_session import connect
from pipelines.config import build_config
from pipelines.curation.passes import Curation
from pipelines.curation.settings import CurateConfig
from pipelines.inputs import find_parquet
from pipelines.ledger import Ledger
from pipelines.manifest import read_entries
from pipelines.storage import open_storage

RULES = [
    {"rule": "range", "column": "min_side", "min": MIN_SIDE},
    {"rule": "range", "column": "aspect", "min": 1 / MAX_ASPECT, "max": MAX_ASPECT},
    {"rule": "duplicates", "keep": "min_side"},
]


def configured(images: Path, out: Path, side: int, quality: int, unit_rows: int) -> CurateConfig:
    """The work of `bare_loop`, as a configuration."""
    resized = {"resize": {"mode": "keep_ratio", "size": side}, "format": "jpeg", "quality": quality}
    score = {"scorers": [{"kind": "phash"}], "keep": "resized", "images": resized, "unit_rows": unit_rows}
    values = {"input": str(images), "output": str(out), "score": score, "recipe": {"rules": RULES}}
    return build_config(CurateConfig, values, [], "benchmark")


def run(
    images: Path, out: Path, *, side: int = 256, quality: int = 95, unit_rows: int = 128
) -> dict[str, object]:
    """Curate a folder of JPEGs; gives what `bare_loop` gives, with keys of images by their names."""
    start = time.monotonic()
    seconds: dict[str, float] = {}

    @contextmanager
    def measured(name: str) -> Iterator[None]:
        began = time.monotonic()
        yield
        seconds[name] = round(time.monotonic() - began, 2)

    curation = Curation(configured(images, out, side, quality, unit_rows))
    with measured("ray"):
        connect()
    with measured("plan"):
        scoring = curation.scoring
    with measured("score"):
        summary = scoring.open().run()
    with measured("dedup"):
        found = curation.find_duplicates()
    with measured("select"):
        funnel = curation.select()
    with measured("export"):
        curation.export()
    end, peak = time.monotonic(), peak_mib()  # before what the comparison itself takes
    ledger = Ledger.load(curation.scores_uri)
    commits = sorted(ledger.committed(ledger.planned()).values(), key=lambda commit: commit.committed_at)
    span = commits[-1].committed_at - commits[0].committed_at
    later = sum(commit.rows_in for commit in commits[1:])
    return {
        "images": summary.rows,
        "failed": sorted(_failed(curation.scores_uri)),
        "pairs": found.pairs,
        "found": {kind: _pairs(curation, kind) for kind in found.pairs},
        "kept": funnel.kept,
        "steady_images_per_s": round(later / span, 1),
        "passes_images_per_s": round(summary.rows / (end - start - seconds["ray"]), 1),
        "seconds": seconds | {"all": round(end - start, 2)},
        "driver_peak_mib": peak,
    }


def _rows(uri: str) -> pa.Table:
    found = find_parquet(uri)
    columns = ["row_id", "key"]
    return pa.concat_tables(
        pq.read_table(pa.BufferReader(found.storage.read(item.path)), columns=columns)
        for item in found.objects
    )


def _pairs(curation: Curation, kind: str) -> list[tuple[str, str]]:
    """The pairs of a kind, by the images' keys."""
    rows = _rows(curation.scores_uri)
    keys = dict(zip(rows["row_id"].to_pylist(), rows["key"].to_pylist(), strict=True))
    storage = open_storage(curation.duplicates_uri)
    tables = [pq.read_table(pa.BufferReader(storage.read(entry.path))) for entry in read_entries(storage)]
    pairs = [row for table in tables for row in table.to_pylist() if row["kind"] == kind]
    return [(keys[row["a"]], keys[row["b"]]) for row in pairs]


def _failed(scores_uri: str) -> list[str]:
    """The keys of dead letters: the names of the files, by their places in the listing."""
    storage = open_storage(scores_uri)
    listing = _listed(scores_uri)
    letters = [pq.read_table(pa.BufferReader(storage.read(e.path))) for e in read_entries(storage, "failed")]
    return [Path(listing[row["row"]]).stem for table in letters for row in table.to_pylist()]


def _listed(scores_uri: str) -> list[str]:
    """The files of the input, in order."""
    storage = open_storage(scores_uri)
    (path,) = [entry.path for entry in storage.list(".index/listings/")]
    names: list[str] = pq.read_table(pa.BufferReader(storage.read(path)))["path"].to_pylist()
    return names


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the pipeline and print what it did."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--unit-rows", type=int, default=128)
    given = parser.parse_args(arguments)
    print(json.dumps(run(given.images, given.out, unit_rows=given.unit_rows)))


if __name__ == "__main__":
    main()
