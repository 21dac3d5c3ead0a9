"""Curate images with planted defects, and tell which rule found which: `python -m examples.shapes.curate`.

Ends with the same scores selected by another recipe, and how long that took.
"""

import shutil
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from examples.shapes.chain import run_passes
from examples.shapes.defects import SHARD_ROWS, collection, confusion_table, write_collection
from pipelines.config import load_config
from pipelines.curation.passes import Curation
from pipelines.curation.settings import CurateConfig
from pipelines.reports.writing import write_report

FOLDER = Path("out/curate")
CONFIG = "examples/shapes/curate.yaml"
STRICTER = ["name=stricter", "recipe.rules.7.min=0.65"]


def main(seed: int = 0) -> None:
    """Make the collection, curate it, and compare decisions with what was planted."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    samples = collection(seed=seed)
    write_collection(FOLDER / "raw", samples)
    places = [f"input={FOLDER / 'raw' / 'images'}", f"output={FOLDER / 'out'}"]
    curation = Curation(load_config(CurateConfig, CONFIG, places))
    run_passes(curation)
    print(confusion_table(decisions(curation, [s.key for s in samples]), {s.key: s.defect for s in samples}))

    other = Curation(load_config(CurateConfig, CONFIG, [*places, *STRICTER]))
    began = time.monotonic()
    funnel = other.select()
    print(f"another recipe keeps {funnel.kept} of {funnel.rows}, after {time.monotonic() - began:.1f} s")
    print(f"the training set: {curation.dataset_uri}\nreport: {write_report(str(FOLDER / 'out'))}")


def decisions(curation: Curation, keys: list[str]) -> list[dict[str, Any]]:
    """The selection's decisions with the images' keys, which dead letters have none of: by their places."""
    rows = []
    for path in sorted(Path(curation.selection_uri, "decisions").iterdir()):
        for row in pq.read_table(path).to_pylist():
            number = int(Path(row["source_path"]).stem) * SHARD_ROWS + row["source_row"]
            rows.append(row | {"key": keys[number]})
    return rows


if __name__ == "__main__":
    main()
