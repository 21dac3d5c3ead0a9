"""A selection becomes shards with conventional names; what cannot be written is on record."""

import io
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipelines.archives import ArchiveLimits, read_members
from pipelines.curation.decode_worker import DecodeWorker
from pipelines.curation.export_plan import ExportError, write_shard_plan
from pipelines.curation.export_worker import ExportWorker
from pipelines.curation.settings import ExportSettings, ImageSettings, KeptImages, ScoreSettings
from pipelines.curation.shard_images import ReadImages
from pipelines.decoding import DecodeLimits
from pipelines.ledger import Ledger, RunSpec
from pipelines.plan import InputObject, Plan, Unit, plan_units
from pipelines.resizing import ResizeSettings
from pipelines.selection import Recipe, select
from pipelines.shard_cuts import ShardCuts
from pipelines.shards import Shard
from pipelines.storage import open_storage
from pipelines.webdataset_shards import PackShard
from tests.pipelines.curation.pictures import encoded, picture, source_rows
from tests.pipelines.made_scores import write_dataset

COUNT = 10
SMALL = ImageSettings(resize=ResizeSettings(mode="center_crop", size=32), format="webp")


class Exported:
    """Scores of ten pictures from one archive, a selection of all but the third, and their export."""

    def __init__(self, tmp_path: Path, kept: KeptImages = "none", **export: object) -> None:
        self.images = [encoded(picture(n)) for n in range(COUNT)]
        self.rows = source_rows(self.images, license=["cc0"] * COUNT)
        settings = ScoreSettings(keep=kept, images=SMALL if kept == "resized" else ImageSettings())
        scores = write_dataset(tmp_path / "scores", [DecodeWorker(settings).process(self.rows).table])
        units = plan_units([InputObject(path="a.tar", fingerprint="f", rows=COUNT)], COUNT, "")
        storage = open_storage(scores)
        self._describe_run(storage.uri, units)
        rule = {"rule": "expression", "where": "key <> 'k2'"}
        select(scores, None, Recipe.model_validate({"rules": [rule]}), str(tmp_path / "chosen"))
        self.settings = ExportSettings.model_validate(export)
        self.plan = open_storage(str(tmp_path / "plan"))
        self.scores, self.chosen, self.kept = scores, str(tmp_path / "chosen"), kept

    def _describe_run(self, uri: str, units: Plan) -> None:
        manifest = open_storage(uri).read("manifest.json")
        data = open_storage(uri).read("data/0.parquet")
        for path in ("manifest.json", "data/0.parquet"):
            open_storage(uri).delete(path)
        spec = RunSpec(job="score", config={}, row_id="row_id", unique_id="row_id")
        Ledger.open(uri, spec, units)
        open_storage(uri).write("data/0.parquet", data)
        open_storage(uri).write("manifest.json", manifest)

    def shards(self, rows: int = 10_000, size_bytes: int = 1 << 30) -> list[list[Shard]]:
        objects = write_shard_plan(
            self.scores, self.chosen, self.plan, ShardCuts(rows=rows, size_bytes=size_bytes)
        )
        read = ReadImages(
            shard_plan=self.plan,
            scores=open_storage(self.scores),
            kept=self.kept,
            read_source=self.read_source,
        )
        worker = ExportWorker(self.settings, DecodeLimits(), self.kept)
        pack = PackShard(format=self.settings.format)
        self.failed = []
        shards = []
        for unit in plan_units(objects, 10_000, ""):
            result = worker.process(read(unit))
            self.failed += result.failed
            shards.append(pack(unit, result.table))
        return shards

    def read_source(self, unit: Unit) -> pa.Table:
        return self.rows.take(list(unit.row_numbers))


def samples(tar: bytes) -> dict[str, bytes]:
    return {member.name: member.data for member in read_members(io.BytesIO(tar), ArchiveLimits())}


def test_shards_have_conventional_names_keys_and_members(tmp_path: Path) -> None:
    exported = Exported(tmp_path)
    first, second, third = exported.shards(rows=4)
    assert [shard.path for shard in first] == [
        "data/00000.parquet",
        "data/00000.tar",
        "data/00000_stats.json",
    ]
    members = samples(second[1].data)
    assert list(members)[:3] == ["000010000.jpg", "000010000.txt", "000010000.json"]
    assert members["000010000.jpg"] == exported.images[5]
    assert members["000010000.txt"] == b"caption 5"
    facts = json.loads(members["000010000.json"])
    assert [facts[name] for name in ("width", "height", "original_key", "license")] == [96, 64, "k5", "cc0"]
    assert len(samples(third[1].data)) == 3
    assert json.loads(third[2].data)["successes"] == 1


def test_shards_are_cut_by_bytes_too(tmp_path: Path) -> None:
    exported = Exported(tmp_path)
    largest = max(map(len, exported.images))
    counts = [shards[0].rows for shards in exported.shards(size_bytes=3 * largest)]
    assert sum(counts) == COUNT - 1
    assert max(counts) <= 4
    assert len(counts) >= 3


@pytest.mark.parametrize("kept", ["none", "original", "resized"])
def test_images_are_resized_once_wherever_they_come_from(tmp_path: Path, kept: KeptImages) -> None:
    images = {} if kept == "resized" else {"images": SMALL}
    exported = Exported(tmp_path, kept, format="parquet", **images)
    ((shard,),) = exported.shards()
    table = pq.read_table(pa.BufferReader(shard.data))
    row = table.to_pylist()[0]
    assert Image.open(io.BytesIO(row["image"]["bytes"])).size == (32, 32) == (row["width"], row["height"])
    assert (row["original_width"], row["original_height"]) == (96, 64)
    assert row["image"]["path"] == "000000000.webp"
    assert b"Image" in table.schema.metadata[b"huggingface"]


def test_an_image_that_changed_since_or_is_gone_is_a_dead_letter(tmp_path: Path) -> None:
    exported = Exported(tmp_path)
    images = [*exported.images]
    images[1] = encoded(picture(77))
    rows = source_rows(images, license=["cc0"] * COUNT)
    stage = pa.array(["fetch" if n == 4 else None for n in range(COUNT)])
    for name in ("fault_stage", "fault_type", "fault_message"):
        rows = rows.set_column(rows.schema.get_field_index(name), name, stage)
    exported.rows = rows
    ((_, tar, stats),) = exported.shards()
    assert [(letter.row, letter.error_type) for letter in exported.failed] == [
        (1, "ImageChangedError"),
        (3, "fetch"),
    ]
    assert "000000001.jpg" not in samples(tar.data)
    assert json.loads(stats.data)["failed_to_download"] == 2


def test_a_selection_that_keeps_nothing_or_is_of_other_scores_is_refused(tmp_path: Path) -> None:
    exported = Exported(tmp_path)
    nothing = Recipe.model_validate({"rules": [{"rule": "range", "column": "width", "min": 1e6}]})
    select(exported.scores, None, nothing, exported.chosen)
    with pytest.raises(ExportError, match="keeps no image"):
        exported.shards()
    other = Exported(tmp_path / "other")
    exported.chosen = other.chosen
    other.rows = other.rows.slice(1)
    write = DecodeWorker(ScoreSettings()).process(other.rows).table
    select(write_dataset(tmp_path / "fewer", [write]), None, Recipe(rules=()), exported.chosen)
    with pytest.raises(ExportError, match="select again"):
        exported.shards()
