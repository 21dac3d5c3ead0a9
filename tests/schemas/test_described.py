"""Every column says what it holds, and what is said of columns does not make datasets differ."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from pydantic import TypeAdapter

from pipelines.scorers.settings import Scorers, scorer_fields
from pipelines.shards import parquet_bytes
from schemas.decisions import DECISIONS
from schemas.described import described, description, required
from schemas.duplicates import PAIRS
from schemas.failed import FAILED
from schemas.generations import generations_schema
from schemas.images import EXPORTED, IMAGE_FACTS, SOURCE_ROWS, passed_through
from schemas.prompts import PROMPTS
from schemas.tokens import tokens_schema
from schemas.units import PLAN

OTHERS = [pa.field("note", pa.string())]
SCORERS = [
    {"kind": "clip", "model": "hf://owner/clip@abc", "embedding": True},
    {"kind": "hps_v2_1", "model": "/secret/HPS_v2.1_compressed.pt"},
    {"kind": "aesthetic_laion_v2", "weights": "s3://bucket/a.pth"},
    {"kind": "nsfw_laion_vit_l_14", "weights": "b.safetensors"},
    {"kind": "watermark_laion", "weights": "s3://bucket/c.pt?endpoint=http://host"},
    {"kind": "phash"},
    {"kind": "quality"},
]


def fields_of_scorers() -> list[pa.Field]:
    return scorer_fields(TypeAdapter(Scorers).validate_python(SCORERS))


@pytest.mark.parametrize(
    "schema",
    [
        DECISIONS,
        PAIRS,
        FAILED,
        SOURCE_ROWS,
        IMAGE_FACTS,
        EXPORTED,
        PROMPTS,
        PLAN,
        tokens_schema((2, 3)),
        generations_schema(tokens=True, scores=fields_of_scorers(), ranks=True, passed_through=OTHERS),
        pa.schema(passed_through(OTHERS, ["note"]).values()),
    ],
)
def test_every_column_is_described(schema: pa.Schema) -> None:
    assert [field.name for field in schema if not description(field)] == []


def test_a_score_names_its_predictor_and_no_folder_of_the_machine() -> None:
    texts = {field.name: description(field) for field in fields_of_scorers()}
    assert texts["clip_vit_l_14"].startswith("CLIP score by clip@abc: cosine")
    assert "ViT-H-14 (HPS_v2.1_compressed.pt)" in texts["hps_v2_1"]
    assert "(c.pt)" in texts["watermark_laion"]
    assert "secret" not in "".join(texts.values())


def test_required_fields_are_never_null() -> None:
    assert not required("a", pa.int32(), "x").nullable
    assert described("a", pa.int32(), "x").nullable
    assert described("a", pa.int32(), "x").equals(pa.field("a", pa.int32()))


def test_shards_of_code_without_descriptions_are_one_dataset_with_new_ones(tmp_path: Path) -> None:
    new = pa.schema([required("row_id", pa.string(), "an id"), described("score", pa.float32(), "a score")])
    old = pa.schema([field.remove_metadata() for field in new])
    values = {"row_id": ["a", "b"], "score": [0.5, None]}
    for name, schema in (("0", old), ("1", new), ("2", old)):
        data = parquet_bytes(pa.table(values, schema=schema))
        (tmp_path / f"{name}.parquet").write_bytes(data)
    files = sorted(map(str, tmp_path.glob("*.parquet")))
    assert description(pq.read_schema(files[1]).field("score")) == "a score"
    assert pa.concat_tables(map(pq.read_table, files)).num_rows == 6
    assert ds.dataset(files).to_table().num_rows == len(pd.read_parquet(tmp_path)) == 6
    assert duckdb.sql(f"SELECT count(*) FROM '{tmp_path}/*.parquet'").fetchall() == [(6,)]
    import datasets

    rows = datasets.load_dataset("parquet", data_files=files, split="train", cache_dir=str(tmp_path / ".hf"))
    assert len(rows) == 6
