"""How a dataset is read: programs that run as they stand in its folder, each of which prints the rows."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Literal

Layout = Literal["parquet", "webdataset", "files", "table"]
"""Images in the Parquet shards; in a tar beside each; as files; or none."""
DATA_FILES: dict[Layout, str] = {
    "parquet": "data/*.parquet",
    "webdataset": "data/*.tar",
    "files": "data/*.parquet",
    "table": "data/*.parquet",
}
"""What Hugging Face datasets load."""


@dataclass(frozen=True, kw_only=True)
class Snippet:
    """One way to read a dataset.

    Attributes:
        library: What it is read with, and for what.
        code: Python; prints the number of rows or samples.
    """

    library: str
    code: str


_DATASETS = Snippet(
    library='Hugging Face datasets, where `rows[0]["image"]` is a PIL image',
    code="""\
from datasets import load_dataset

rows = load_dataset("parquet", data_files="data/*.parquet", split="train")
print(len(rows))""",
)
_DATASETS_OF_TARS = Snippet(
    library="Hugging Face datasets",
    code="""\
from datasets import load_dataset

rows = load_dataset("webdataset", data_files="data/*.tar", split="train")
print(len(rows))""",
)
_WEBDATASET = Snippet(
    library="webdataset, whose samples have a PIL image, the text as `txt`, and the other columns as `json`",
    code="""\
from glob import glob

import webdataset

samples = webdataset.WebDataset(sorted(glob("data/*.tar")), shardshuffle=False).decode("pil")
print(sum(1 for sample in samples))""",
)
_FILES = Snippet(
    library="Images, each by its row's path",
    code="""\
import duckdb
from PIL import Image

paths = duckdb.sql("SELECT image.path FROM 'data/*.parquet' WHERE image IS NOT NULL").fetchall()
sizes = [Image.open(f"data/{path}").size for (path,) in paths]
print(len(sizes))""",
)
_IMAGES: dict[Layout, tuple[Snippet, ...]] = {
    "parquet": (_DATASETS,),
    "webdataset": (_WEBDATASET, _DATASETS_OF_TARS),
    "files": (_FILES,),
    "table": (),
}


def snippets(layout: Layout, columns: tuple[str, ...]) -> list[Snippet]:
    """Ways to read images, then ways to read some columns without them.

    Args:
        layout: Where the images are.
        columns: Names of two or three columns, as SQL and Python write them.
    """
    pandas = Snippet(
        library="pandas, by the manifest",
        code=f"""\
import json
from pathlib import Path

from pyarrow.dataset import dataset

manifest = json.loads(Path("manifest.json").read_text())
parts = [json.loads(Path(part["path"]).read_text()) for part in manifest.get("parts", [])] or [manifest]
paths = [item["path"] for part in parts for item in part["objects"] if item["path"].endswith(".parquet")]
frame = dataset(paths).to_table(columns={json.dumps(columns)}).to_pandas()
print(len(frame))""",
    )
    query = f"SELECT {', '.join(columns)} FROM 'data/*.parquet'"  # noqa: S608 - the names are ours
    duckdb = Snippet(
        library="DuckDB",
        code=f"""\
import duckdb

rows = duckdb.sql("{query}").fetchall()
print(len(rows))""",
    )
    return [*_IMAGES[layout], pandas, duckdb]
