"""Prompt tables: what is accepted and coerced, what is refused with file, column and row."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines import prompts
from pipelines.plan import PlanError, plan_units
from pipelines.prompts import PromptTableError, open_prompts
from schemas.prompts import IMAGE, PROMPTS


def write(path: Path, columns: dict[str, Any]) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)
    return str(path)


def read_all(uri: str, unit_rows: int = 100) -> pa.Table:
    table = open_prompts(uri)
    return pa.concat_tables(table.read(unit) for unit in plan_units(table.objects, unit_rows, "digest"))


def test_a_column_of_prompts_is_enough(tmp_path: Path) -> None:
    rows = read_all(write(tmp_path / "p.parquet", {"prompt": ["a", "b"]}))
    assert rows.schema.names == PROMPTS.names
    assert rows["prompt"].to_pylist() == ["a", "b"]
    assert len(set(rows["prompt_id"].to_pylist())) == 2
    assert rows["seed"].to_pylist() == [None, None]


def test_other_columns_pass_through_with_their_types(tmp_path: Path) -> None:
    columns = {"prompt": ["a"], "tags": [["x", "y"]], "stars": pa.array([0.5], pa.float32())}
    rows = read_all(write(tmp_path / "p.parquet", columns))
    assert rows["tags"].to_pylist() == [["x", "y"]]
    assert rows["stars"].type == pa.float32()


def test_lossless_types_are_coerced(tmp_path: Path) -> None:
    columns = {
        "prompt": pa.array(["a", "b"]).dictionary_encode(),
        "prompt_id": pa.array([7, 8], pa.int16()),
        "seed": pa.array([3.0, None]),
        "width": pa.array([64, 128], pa.uint64()),
        "guidance_scale": pa.array([2, 3], pa.int32()),
        "negative_prompt": pa.array(["x", None], pa.large_string()),
        "image": ["a.png", None],
    }
    rows = read_all(write(tmp_path / "p.parquet", columns))
    assert rows.schema == PROMPTS.remove_metadata() or rows.schema.types == PROMPTS.types
    assert rows["prompt_id"].to_pylist() == ["7", "8"]
    assert rows["seed"].to_pylist() == [3, None]
    assert rows["guidance_scale"].to_pylist() == [2.0, 3.0]
    assert rows["image"].to_pylist() == [{"bytes": None, "path": "a.png"}, None]


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (pa.array([b"png", None], pa.large_binary()), [{"bytes": b"png", "path": None}, None]),
        (pa.array([{"bytes": b"png", "path": "x"}, None], IMAGE), [{"bytes": b"png", "path": "x"}, None]),
        (pa.array([{"path": "x"}, None]), [{"bytes": None, "path": "x"}, None]),
        (pa.nulls(2), [None, None]),
    ],
)
def test_images_come_as_bytes_paths_or_structs(tmp_path: Path, column: pa.Array, expected: list[Any]) -> None:
    rows = read_all(write(tmp_path / "p.parquet", {"prompt": ["a", "b"], "image": column}))
    assert rows["image"].to_pylist() == expected


@pytest.mark.parametrize(
    ("columns", "parts"),
    [
        ({"text": ["a"]}, ["no column 'prompt'", "text"]),
        ({"prompt": [1, 2]}, ["column 'prompt'", "int64", "row 0"]),
        ({"prompt": ["a", "b"], "seed": ["1", "2"]}, ["column 'seed'", "string", "row 0"]),
        ({"prompt": ["a", "b"], "seed": [1.0, 2.5]}, ["column 'seed'", "row 1", "2.5"]),
        ({"prompt": ["a", "b"], "width": [64, 2**40]}, ["column 'width'", "row 1", str(2**40)]),
        ({"prompt": ["a", "b"], "score": ["6", "high"]}, ["column 'score'", "string", "row 0"]),
        ({"prompt": ["a", "b"], "num_images": [True, False]}, ["column 'num_images'", "bool"]),
        ({"prompt": ["a", "b"], "image": [1, 2]}, ["column 'image'", "int64"]),
        ({"prompt": ["a", "b"], "prompt_id": ["x", "x"]}, ["column 'prompt_id'", "row 1", "'x'", "row 0"]),
        ({"prompt": ["a", "b"], "prompt_id": ["x", None]}, ["column 'prompt_id'", "row 1", "null"]),
    ],
)
def test_tables_that_cannot_be_run_are_refused(
    tmp_path: Path, columns: dict[str, Any], parts: list[str]
) -> None:
    uri = write(tmp_path / "p.parquet", columns)
    with pytest.raises(PromptTableError) as error:
        open_prompts(uri)
    for part in [*parts, "p.parquet"]:
        assert part in str(error.value)


def test_ids_must_be_unique_across_files(tmp_path: Path) -> None:
    write(tmp_path / "in" / "a.parquet", {"prompt": ["a"], "prompt_id": ["x"]})
    write(tmp_path / "in" / "b.parquet", {"prompt": ["b", "c"], "prompt_id": ["y", "x"]})
    with pytest.raises(PromptTableError, match=r"b\.parquet.*row 1.*'x'.*a\.parquet, row 0"):
        open_prompts(str(tmp_path / "in"))


def test_rows_are_numbered_within_their_file_however_they_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prompts, "_BATCH_ROWS", 4)
    ids: list[str | None] = [str(n) for n in range(30)]
    columns = {"prompt": ["p"] * 30, "seed": [float(n) for n in range(30)], "prompt_id": ids}
    path = tmp_path / "p.parquet"
    for wrong_id, message in ((None, "row 21: null"), ("5", "row 21: '5' is already the id of .*, row 5;")):
        pq.write_table(
            pa.table(columns | {"prompt_id": [*ids[:21], wrong_id, *ids[22:]]}), path, row_group_size=7
        )
        with pytest.raises(PromptTableError, match=message):
            open_prompts(str(path))
    wrong = columns | {"seed": [n / 2 if n == 25 else float(n) for n in range(30)]}
    pq.write_table(pa.table(wrong), path, row_group_size=7)
    with pytest.raises(PromptTableError, match=r"column 'seed', row 25: 12\.5"):
        open_prompts(str(path))


def test_rows_that_repeat_often_are_found_by_some_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prompts, "_COMPARED_IDS", 3)
    columns = {"prompt": ["p"] * 40, "prompt_id": [str(n % 20) for n in range(40)]}
    uri = write(tmp_path / "p.parquet", columns)
    with pytest.raises(
        PromptTableError, match=r"row (\d+): '\d+' is already the id of .*, row \d+; ids must"
    ):
        open_prompts(uri)


def test_ids_whose_hashes_are_equal_by_chance_are_no_repeats(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prompts, "hash_rows", lambda table: np.zeros(table.num_rows, np.uint64))
    write(tmp_path / "ids" / "p.parquet", {"prompt": ["a", "a"], "prompt_id": ["x", "y"]})
    assert read_all(str(tmp_path / "ids"))["prompt_id"].to_pylist() == ["x", "y"]
    write(tmp_path / "rows" / "p.parquet", {"prompt": ["a", "b", "a"]})
    assert open_prompts(str(tmp_path / "rows")).repeats == {"p.parquet": {2: 1}}


def test_files_must_have_the_same_columns(tmp_path: Path) -> None:
    write(tmp_path / "in" / "a.parquet", {"prompt": ["a"], "tag": ["x"]})
    write(tmp_path / "in" / "b.parquet", {"prompt": ["b"], "tag": [1]})
    with pytest.raises(PromptTableError, match=r"b\.parquet: columns differ.*tag string.*tag int64"):
        open_prompts(str(tmp_path / "in"))


def test_files_may_have_their_columns_in_any_order_and_nullability(tmp_path: Path) -> None:
    write(tmp_path / "in" / "a.parquet", {"prompt": ["a"], "tag": ["x"]})
    schema = pa.schema([pa.field("tag", pa.string()), pa.field("prompt", pa.string(), nullable=False)])
    pq.write_table(pa.table({"tag": ["y"], "prompt": ["b"]}, schema=schema), tmp_path / "in" / "b.parquet")
    assert read_all(str(tmp_path / "in"))["tag"].to_pylist() == ["x", "y"]


def test_a_folder_may_be_named_like_a_file(tmp_path: Path) -> None:
    write(tmp_path / "table.parquet" / "part-0.parquet", {"prompt": ["a"]})
    assert read_all(str(tmp_path / "table.parquet"))["prompt"].to_pylist() == ["a"]


def test_text_that_is_not_utf8_is_refused_with_its_row(tmp_path: Path) -> None:
    broken = pa.array([b"fine", b"\xff\xfe"], pa.binary()).view(pa.string())
    uri = write(tmp_path / "p.parquet", {"prompt": broken, "prompt_id": ["x", "y"]})
    with pytest.raises(PromptTableError, match=r"p\.parquet: column 'prompt', row 1: not UTF-8"):
        read_all(uri)


def test_a_place_without_parquet_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="no Parquet files"):
        open_prompts(str(tmp_path))


def test_ids_made_from_rows_do_not_depend_on_the_order_or_the_files(tmp_path: Path) -> None:
    one = read_all(write(tmp_path / "one.parquet", {"prompt": ["a", "b", "c"], "seed": [1, 2, 3]}))
    write(tmp_path / "in" / "1.parquet", {"prompt": ["c"], "seed": [3]})
    write(tmp_path / "in" / "2.parquet", {"prompt": ["b", "a"], "seed": [2, 1]})
    two = read_all(str(tmp_path / "in"), unit_rows=1)
    ids = [dict(zip(t["prompt"].to_pylist(), t["prompt_id"].to_pylist(), strict=True)) for t in (one, two)]
    assert ids[0] == ids[1]


def test_equal_rows_without_ids_get_different_ones(tmp_path: Path) -> None:
    write(tmp_path / "in" / "1.parquet", {"prompt": ["a", "b", "a"]})
    write(tmp_path / "in" / "2.parquet", {"prompt": ["a"]})
    ids = read_all(str(tmp_path / "in"), unit_rows=2)["prompt_id"].to_pylist()
    assert len(set(ids)) == 4
