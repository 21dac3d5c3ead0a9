"""What an input is, is told by what is there."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pytest

from pipelines.archives import ArchiveLimits, read_members
from pipelines.generation_config import Images
from pipelines.inputs import find_parquet
from pipelines.ledger import Ledger, RunSpec
from pipelines.packing import PackImages
from pipelines.plan import PlanError, Unit, plan_units
from pipelines.records import Records
from pipelines.shards import Shard, parquet_bytes
from pipelines.sources import SourceError, SourceSettings, opening
from pipelines.storage import child, open_storage
from pipelines.unit_result import UnitResult, commit_unit
from schemas.failed import FAILED
from schemas.generations import GENERATIONS
from tests.pipelines.sources.toys import faults, opened, put, read_all, tar_of

IMAGES = SourceSettings(kind="folder")
TABLE = parquet_bytes(pa.table({"jpg": [b"x"], "caption": ["text"]}))


def test_images_beside_tables_are_ambiguous(tmp_path: Path) -> None:
    put(str(tmp_path), {"a.parquet": TABLE, "b.jpg": b"1", "c.jpg": b"2"})
    with pytest.raises(SourceError, match=r"holds 'a\.parquet' and 'c\.jpg'.*set source\.kind"):
        opened(str(tmp_path))
    assert len(read_all(str(tmp_path), IMAGES)) == 2
    assert len(read_all(str(tmp_path), SourceSettings(kind="parquet"))) == 1


def test_other_data_far_down_a_listing_is_not_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening, "PEEKED_ENTRIES", 3)
    put(str(tmp_path), {f"{number}.jpg": b"x" for number in range(5)} | {"z.tar": tar_of({"a.jpg": b"x"})})
    with pytest.raises(SourceError, match=r"holds 'z\.tar'"):
        opened(str(tmp_path))
    assert len(read_all(str(tmp_path), IMAGES)) == 5
    assert len(read_all(str(tmp_path), SourceSettings(kind="webdataset"))) == 1


@pytest.mark.parametrize("kind", ["auto", "webdataset", "parquet", "folder"])
def test_an_input_without_images_is_refused(
    tmp_path: Path, kind: Literal["auto", "webdataset", "parquet", "folder"]
) -> None:
    put(str(tmp_path), {"notes.txt": b"", "a.tar.gz": b""})
    with pytest.raises((SourceError, PlanError), match="name a folder that holds some"):
        opened(str(tmp_path), SourceSettings(kind=kind))


def dataset(
    root_uri: str, images: Images, pack: Callable[[Unit, pa.Table], list[Shard]] | None = None
) -> None:
    """A dataset as the generate job makes it: two units of three rows."""
    put(root_uri, {"p.parquet": parquet_bytes(pa.table({"n": range(6)}))}, "prompts")
    uri = child(root_uri, "in")
    plan = plan_units(find_parquet(child(root_uri, "prompts")).objects, 3, "c")
    spec = RunSpec(job="generate", config={}, row_id="prompt_id", unique_id="sample_id")
    ledger = Ledger.open(uri, spec, plan)
    schema = GENERATIONS
    for unit in plan:
        rows = [generated(number) for number in unit.row_numbers]
        table = pa.Table.from_pylist(rows, schema=schema)
        result = UnitResult(
            unit=unit,
            row_ids=table["prompt_id"].combine_chunks(),
            table=table,
            failed=FAILED.empty_table(),
            attempts=1,
            started_at=0.0,
            seconds={},
            events={},
        )
        commit_unit(ledger, result, (pack or PackImages(images=images))(unit, table))
    ledger.write_manifest(Records(ledger.storage, plan))


def generated(number: int) -> dict[str, Any]:
    sample_id = hashlib.sha256(b"%d" % number).hexdigest()[:32]
    texts = dict.fromkeys(("negative_prompt", "masking_schedule", "model_id", "model_digest"), "x")
    numbers = dict.fromkeys(("sample_index", "seed", "width", "height", "num_steps"), number)
    settings = ("guidance_scale", "temperature", "temperature_end", "softmax_temperature", "score")
    numbers |= dict.fromkeys(settings, 1)
    return {
        **texts,
        **numbers,
        "sample_id": sample_id,
        "prompt_id": f"p{number}",
        "prompt": f"prompt {number}",
        "image": {"bytes": b"image %d" % number, "path": f"{sample_id}.png"},
    }


@pytest.mark.parametrize("images", ["parquet", "webdataset", "files"])
def test_generated_datasets_are_read_in_all_packings(root_uri: str, images: Images) -> None:
    dataset(root_uri, images)
    open_storage(child(root_uri, "in")).write("data/leftover.parquet", b"never named")
    rows = read_all(root_uri, unit_rows=2)
    assert faults(rows) == [None] * 6
    assert [row["encoded"] for row in rows] == [b"image %d" % number for number in range(6)]
    assert [row["caption"] for row in rows] == [f"prompt {number}" for number in range(6)]
    assert [row["key"] for row in rows] == [row["uid"] for row in rows]
    assert [row["seed"] for row in rows] == list(range(6))
    assert rows[3]["uid"] == generated(3)["sample_id"]


def test_an_image_that_its_tar_lacks_is_a_fault(tmp_path: Path) -> None:
    dataset(str(tmp_path), "webdataset")
    tar = next((tmp_path / "in" / "data").glob("00000000-*.tar"))
    name = f"{generated(1)['sample_id']}.png"
    members = {member.name: member.data for member in read_members(tar.open("rb"), ArchiveLimits())}
    del members[name]
    tar.write_bytes(tar_of(members))
    found = faults(read_all(str(tmp_path)))
    assert [fault is None for fault in found] == [True, False, True, True, True, True]
    assert found[1] == f"read, SampleError: {tar.name}/{name}: the tar has no such image"


def test_training_sets_packed_as_webdataset_are_read_with_their_columns(root_uri: str) -> None:
    dataset(root_uri, "webdataset", lambda unit, table: exported(unit))
    rows = read_all(root_uri, unit_rows=2)
    assert faults(rows) == [None] * 6
    assert [row["key"] for row in rows] == [f"{number:09d}" for number in range(6)]
    assert [row["encoded"] for row in rows] == [b"image %d" % number for number in range(6)]
    assert [row["image_path"] for row in rows][4] == "00001.tar/000000004.jpg"
    assert [row["aesthetic"] for row in rows] == [float(number) for number in range(6)]


def exported(unit: Unit) -> list[Shard]:
    """A shard without images in its table, and the tar beside it."""
    keys = [f"{number:09d}" for number in unit.row_numbers]
    facts = {"key": keys, "sample_id": keys, "aesthetic": [float(number) for number in unit.row_numbers]}
    files = {f"{key}.jpg": b"image %d" % number for key, number in zip(keys, unit.row_numbers, strict=True)}
    return [
        Shard(path=f"data/{unit.shard_name}.parquet", data=parquet_bytes(pa.table(facts)), rows=3),
        Shard(path=f"data/{unit.shard_name}.tar", data=tar_of(files), rows=3),
    ]


def test_members_of_tars_are_read_for_our_own_datasets_alone(tmp_path: Path) -> None:
    table = parquet_bytes(pa.table({"image": ["t.tar/a.jpg"]}))
    put(str(tmp_path), {"t.parquet": table, "t.tar": tar_of({"a.jpg": b"x"})})
    row = read_all(str(tmp_path), SourceSettings(kind="parquet"))[0]
    assert (row["encoded"], row["fault_type"]) == (None, "ImageError")


def test_manifests_of_other_programs_mean_nothing(tmp_path: Path) -> None:
    others = {"manifest.json": b'{"format": 3}', "run.json": b"not JSON"}
    put(str(tmp_path), {"a.jpg": b"x"} | others)
    assert len(read_all(str(tmp_path))) == 1
    put(str(tmp_path), {"t.parquet": TABLE} | others, "tables")
    assert len(read_all(str(tmp_path), name="tables/t.parquet")) == 1


def test_an_unfinished_run_is_no_input(tmp_path: Path) -> None:
    dataset(str(tmp_path), "parquet")
    (tmp_path / "in" / "manifest.json").unlink()
    with pytest.raises(PlanError, match="has not finished"):
        opened(str(tmp_path))
