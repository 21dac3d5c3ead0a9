"""Images beside the Parquet shard: of all rows that have one."""

from __future__ import annotations

import io
import json
import tarfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.generation_config import Images
from pipelines.packing import PackImages
from pipelines.plan import Unit
from pipelines.scorers.settings import EMBEDDING
from schemas.prompts import IMAGE

UNIT = Unit(position=3, id="00000003-abc", path="p", fingerprint="f", row_start=0, row_stop=3)
TABLE = pa.table(
    {
        "sample_id": ["a", "b", "c"],
        "prompt": ["one", "two", "three"],
        "image": pa.array([{"bytes": b"A", "path": "a.png"}, None, {"bytes": b"C", "path": "c.png"}], IMAGE),
        "clip_embedding": pa.array([[0.5], [0.25], None], EMBEDDING),
        "kept": [True, False, True],
    }
)


@pytest.mark.parametrize("images", ["webdataset", "files"])
def test_rows_without_an_image_are_in_the_parquet_shard_alone(images: Images) -> None:
    index, *others = PackImages(images=images)(UNIT, TABLE)
    folder = f"{UNIT.id}.tar" if images == "webdataset" else UNIT.id
    rows = pq.read_table(pa.BufferReader(index.data))
    assert rows["image"].to_pylist() == [
        {"bytes": None, "path": f"{folder}/a.png"},
        None,
        {"bytes": None, "path": f"{folder}/c.png"},
    ]
    assert rows.drop_columns(["image"]).equals(TABLE.drop_columns(["image"]))
    if images == "files":
        assert [(shard.path, shard.data) for shard in others] == [
            (f"data/{folder}/a.png", b"A"),
            (f"data/{folder}/c.png", b"C"),
        ]
        return
    (shard,) = others
    assert shard.rows == 2
    with tarfile.open(fileobj=io.BytesIO(shard.data)) as archive:
        assert archive.getnames() == ["a.png", "a.txt", "a.json", "c.png", "c.txt", "c.json"]
        about = archive.extractfile("c.json")
        assert about is not None
        # embeddings are for Parquet: as text they are ten times as large
        assert json.load(about) == {"kept": True, "prompt": "three", "sample_id": "c"}
