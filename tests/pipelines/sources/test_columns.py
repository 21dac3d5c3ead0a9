"""The columns of published data sets are found by their names."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from pipelines.sources import ColumnNames, SourceError
from pipelines.sources.columns import find_roles

TEXT, LARGE, BYTES, INT, FLOAT = pa.string(), pa.large_string(), pa.binary(), pa.int64(), pa.float64()
STRUCT = pa.struct([("bytes", BYTES), ("path", TEXT)])
LAION = {
    "URL": TEXT,
    "TEXT": TEXT,
    "WIDTH": INT,
    "HEIGHT": INT,
    "similarity": FLOAT,
    "hash": INT,
    "punsafe": FLOAT,
    "pwatermark": FLOAT,
    "AESTHETIC_SCORE": FLOAT,
}
COYO = {"id": INT, "url": TEXT, "text": TEXT, "clip_similarity_vitb32": FLOAT, "watermark_score": FLOAT}
DATACOMP = {"uid": TEXT, "url": TEXT, "text": TEXT, "sha256": TEXT, "clip_b32_similarity_score": FLOAT}
LAION_COCO = {"URL": TEXT, "TEXT": TEXT, "top_caption": TEXT, "all_captions": pa.list_(TEXT)}
IMG2DATASET = {"url": TEXT, "key": TEXT, "caption": TEXT, "status": TEXT, "sha256": TEXT, "jpg": BYTES}
GENERATED = {"sample_id": TEXT, "prompt_id": TEXT, "prompt": TEXT, "seed": INT, "image": STRUCT}
DIFFUSION_DB = {"image_name": TEXT, "prompt": TEXT, "part_id": INT, "seed": INT}
HUGGING_FACE = {"image": STRUCT, "text": TEXT}


@pytest.mark.parametrize(
    ("columns", "roles"),
    [
        (LAION, {"image": "URL", "kind": "url", "caption": "TEXT"}),
        (COYO, {"image": "url", "kind": "url", "caption": "text", "key": "id"}),
        (DATACOMP, {"image": "url", "kind": "url", "caption": "text", "uid": "uid", "sha256": "sha256"}),
        (LAION_COCO, {"image": "URL", "kind": "url", "caption": "top_caption"}),
        (
            IMG2DATASET,
            {"image": "jpg", "kind": "bytes", "caption": "caption", "key": "key", "sha256": "sha256"},
        ),
        (
            GENERATED,
            {"image": "image", "kind": "struct", "caption": "prompt", "uid": "sample_id", "key": "sample_id"},
        ),
        (DIFFUSION_DB, {"image": "image_name", "kind": "path", "caption": "prompt"}),
        (HUGGING_FACE, {"image": "image", "kind": "struct", "caption": "text"}),
        ({"image": TEXT, "Caption": LARGE}, {"image": "image", "kind": "path", "caption": "Caption"}),
        ({"URL": TEXT, "url": TEXT}, {"image": "url", "kind": "url"}),
        ({"image": INT, "url": TEXT, "caption": INT}, {"image": "url", "kind": "url"}),
        ({"image": TEXT, "url": TEXT}, {"image": "image", "kind": "path"}),
    ],
)
def test_columns_are_found_by_name_and_type(columns: dict[str, pa.DataType], roles: dict[str, Any]) -> None:
    found = find_roles(pa.schema(columns), ColumnNames(), "t.parquet")
    expected = {"caption": None, "uid": None, "key": None, "sha256": None, "md5": None} | roles
    assert vars(found) == expected


def test_all_but_image_caption_and_key_passes_through() -> None:
    found = find_roles(pa.schema(IMG2DATASET | {"uid": TEXT}), ColumnNames(), "t.parquet")
    assert [name for name in [*IMG2DATASET, "uid"] if found.passes_through(name)] == [
        "url",
        "status",
        "sha256",
        "uid",
    ]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ({"image": "none"}, "no column 'none', which source.columns.image names; columns are url, n"),
        ({"image": "n"}, "column 'n' is of type double; source.columns.image must name another"),
        ({"caption": "n"}, "column 'n' is of type double; source.columns.caption must name another"),
        ({"key": "n"}, "column 'n' is of type double; source.columns.key must name another"),
        ({"url": "n"}, "column 'n' is of type double; source.columns.url must name another"),
    ],
)
def test_names_that_are_of_no_use_are_refused(names: dict[str, str], message: str) -> None:
    with pytest.raises(SourceError, match=message):
        find_roles(pa.schema({"url": TEXT, "n": FLOAT}), ColumnNames.model_validate(names), "t.parquet")
