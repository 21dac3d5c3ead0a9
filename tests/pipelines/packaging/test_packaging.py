"""A generated set becomes what other programs load; what is missing is on record."""

from __future__ import annotations

import io
import json
from pathlib import Path

import datasets
import pyarrow.parquet as pq
import pytest
import webdataset
from PIL import Image

from pipelines.errors import LedgerError, RefusalError
from pipelines.inputs import read_unit
from pipelines.packaging import PackagingError, open_packaging_retry
from pipelines.plan import PlanError, plan_units
from pipelines.sources import SourceSettings, open_source
from pipelines.storage import StorageError, child, open_storage
from pipelines.verify import verify
from tests.pipelines.made_generations import SIDE, png
from tests.pipelines.packaging.made_sets import (
    COUNT,
    LOSER,
    data_of,
    package,
    planned,
    write_set,
)

SHOWN = [n for n in range(COUNT) if n != LOSER]
KINDS = pytest.mark.parametrize("images", ["parquet", "webdataset", "files"])


@KINDS
def test_hugging_face_datasets_show_the_images(images: str, tmp_path: Path) -> None:
    ledger = package(write_set(tmp_path / "run", images), tmp_path / "packed", "shard_rows=4")
    paths = list(data_of(tmp_path / "packed"))
    assert paths == [f"data/train-0000{n}-of-00003.parquet" for n in range(3)]
    files = [str(tmp_path / "packed" / path) for path in paths]
    cache = str(tmp_path / "cache")
    loaded = datasets.load_dataset("parquet", data_files=files, split="train", cache_dir=cache)
    assert loaded.column_names[:2] == ["image", "prompt"]
    assert loaded["prompt"][:] == [f"prompt {n}" for n in SHOWN]
    for row, number in zip(loaded, SHOWN, strict=True):
        assert row["image"].tobytes() == Image.open(io.BytesIO(png(number))).tobytes()
    assert not {"tokens", "clip_embedding"} & set(loaded.column_names)
    assert verify(ledger.storage.uri).problems == []


@KINDS
def test_webdataset_gives_image_text_and_facts(images: str, tmp_path: Path) -> None:
    output = tmp_path / "packed"
    package(write_set(tmp_path / "run", images), output, "format=webdataset", "shard_rows=5")
    assert list(data_of(output)) == [
        f"data/0000{n}{suffix}" for n in range(2) for suffix in (".parquet", ".tar", "_stats.json")
    ]
    tars = sorted(map(str, output.glob("data/*.tar")))
    samples = list(webdataset.WebDataset(tars, shardshuffle=False).decode("pil"))
    assert [sample["__key__"] for sample in samples][4:6] == ["000000004", "000010000"]
    for sample, number in zip(samples, SHOWN, strict=True):
        assert sample["png"].size == (SIDE, SIDE)
        assert sample["txt"] == f"prompt {number}"
        facts = {"width": SIDE, "height": SIDE, "seed": 1000 + number, "original_key": f"theirs {number}"}
        assert facts.items() <= sample["json"].items()
    assert json.loads((output / "data/00001_stats.json").read_text())["successes"] == 4
    assert verify(str(output)).problems == []


@pytest.mark.parametrize("form", ["huggingface", "webdataset"])
def test_bytes_do_not_depend_on_how_the_images_were_kept(form: str, tmp_path: Path) -> None:
    made = []
    for images in ("parquet", "webdataset", "files"):
        source = write_set(tmp_path / images, images)
        package(source, tmp_path / f"packed-{images}", f"format={form}", "keep_tokens=true")
        made.append(data_of(tmp_path / f"packed-{images}"))
    assert made[0] == made[1] == made[2]
    (shard,) = (data for path, data in made[0].items() if path.endswith(".parquet"))
    assert pq.read_table(io.BytesIO(shard))["tokens"].to_pylist() == [[[n, n]] for n in SHOWN]


@pytest.mark.parametrize("form", ["huggingface", "webdataset"])
def test_curation_and_tokenization_read_what_is_packaged(form: str, tmp_path: Path) -> None:
    ledger = package(write_set(tmp_path / "run"), tmp_path / "packed", f"format={form}")
    source = open_source(ledger.storage.uri, SourceSettings(), str(tmp_path / "index"), ())
    (item,) = source.objects
    (unit,) = plan_units([item], COUNT, "")
    rows = source.reader(unit)
    assert rows["caption"].to_pylist() == [f"prompt {n}" for n in SHOWN]
    assert rows["encoded"].to_pylist() == [png(n) for n in SHOWN]


def test_shards_are_cut_by_rows_and_about_by_bytes(tmp_path: Path) -> None:
    source = write_set(tmp_path / "run", "files")
    size = max(len(png(n)) for n in SHOWN)
    plan = planned(source, tmp_path / "packed", f"shard_bytes={3 * size}")
    assert [item.rows for item in plan.shards.objects] == [3, 3, 3]
    again = planned(source, tmp_path / "elsewhere", f"shard_bytes={3 * size}")
    assert again.run.units == plan.run.units


def test_row_groups_suit_the_viewer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.packaging.packing.GROUP_ROWS", 4)
    package(write_set(tmp_path / "run"), tmp_path / "packed")
    (shard,) = data_of(tmp_path / "packed").values()
    assert pq.ParquetFile(io.BytesIO(shard)).num_row_groups == 3


def test_a_condition_chooses_and_everything_left_out_is_counted(tmp_path: Path) -> None:
    source = write_set(tmp_path / "run", "webdataset")
    plan = planned(source, tmp_path / "packed", "where=clip >= 0.4 and prompt not like '%7'")
    assert (plan.shards.without_image, plan.shards.not_chosen) == (1, 5)
    ids = read_unit(open_storage(child(str(tmp_path / "packed"), ".shards")), plan.run.units[0])
    assert ids["sample_id"].to_pylist() == ["s4", "s6", "s8", "s9"]
    assert plan.run.spec.config["left_out"] == {"without_image": 1, "not_chosen": 5}


@pytest.mark.parametrize(
    ("where", "message"),
    [
        (
            "clipp > 0.5",
            r"no column 'clipp' in the generated set; did you mean 'clip'\? Columns are samp",
        ),
        ("clip >", "not an SQL expression"),
        ("random() > 0.5", "'random' differs from run to run"),
        ("prompt", "Could not convert"),
        ("clip > 2", "no image to package; 1 rows have none, and where leaves out 9: change where"),
    ],
)
def test_conditions_that_cannot_be_used_are_refused(where: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(PackagingError, match=message):
        planned(write_set(tmp_path / "run"), tmp_path / "packed", f"where={where}")


def test_what_is_no_finished_generated_set_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    inputs: list[tuple[str, type[RefusalError], str]] = [
        (str(tmp_path / "empty"), LedgerError, "no run.json; name the output folder of a job"),
        (write_set(tmp_path / "begun", finished=False), PlanError, "not finished; finish it first"),
        (
            write_set(tmp_path / "other", job="tokenize"),
            PackagingError,
            "a run of 'tokenize'; name",
        ),
    ]
    for source, error, message in inputs:
        with pytest.raises(error, match=message):
            planned(source, tmp_path / "packed")


@pytest.mark.parametrize(
    ("images", "harmed", "lost"), [("files", "*/s2.png", [2]), ("webdataset", "00000000-*.tar", [0, 1, 2, 3])]
)
@pytest.mark.parametrize("how", ["gone", "changed"])
def test_a_missing_image_is_a_dead_letter_and_a_retry_packages_it(
    images: str, harmed: str, lost: list[int], how: str, tmp_path: Path
) -> None:
    source = write_set(tmp_path / "run", images)
    (path,) = (tmp_path / "run" / "data").glob(harmed)
    before = path.read_bytes()
    path.unlink() if how == "gone" else path.write_bytes(before[:-1] + b"!")
    ledger = package(source, tmp_path / "packed")
    (letters,) = map(pq.read_table, (tmp_path / "packed" / "failed").glob("*.parquet"))
    assert letters["row_id"].to_pylist() == [f"s{n}" for n in lost]
    kind = "ObjectMissingError" if how == "gone" else "ObjectChangedError"
    assert set(letters["error_type"].to_pylist()) == {kind}
    assert verify(ledger.storage.uri).problems == []
    path.write_bytes(before)
    job = open_packaging_retry(ledger.storage.uri)
    (unit,) = (unit for unit in job.ledger.planned() if unit.round)
    rows = job.plan.unit_job().read(unit)
    assert [image["bytes"] for image in rows["image"].to_pylist()] == [png(n) for n in lost]


def test_a_changed_parquet_object_stops_the_job(tmp_path: Path) -> None:
    source = write_set(tmp_path / "run")
    plan = planned(source, tmp_path / "packed")
    path = sorted((tmp_path / "run" / "data").glob("*.parquet"))[1]
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    with pytest.raises(StorageError, match="not what its manifest records; restore it"):
        plan.unit_job().read(plan.run.units[0])


def test_an_object_of_a_killed_run_is_told_by_the_name_of_its_shard(tmp_path: Path) -> None:
    plan = planned(write_set(tmp_path / "run"), tmp_path / "packed", "shard_rows=4").run.units
    assert plan.index_of_output("data/train-00002-of-00003.parquet") == 2
    for other in ("train-00003-of-00003", "train-00002-r1-of-00003", "train-00002-of-3"):
        assert plan.index_of_output(f"data/{other}.parquet") is None


def test_a_folder_with_other_files_is_left_as_it_is(tmp_path: Path) -> None:
    source = write_set(tmp_path / "set")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "letter.txt").write_text("mine")
    with pytest.raises(LedgerError, match=r"letter\.txt"):
        planned(source, tmp_path / "other")
    assert [path.name for path in (tmp_path / "other").iterdir()] == ["letter.txt"]
    with pytest.raises(PackagingError, match="the same folder"):
        planned(source, source)
    assert not (tmp_path / "set" / ".shards").exists()
