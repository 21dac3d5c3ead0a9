"""Curation as a whole: every row of the input is decided, and the training set is what the recipe says."""

import io
import json
import tarfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipelines.config import build_config
from pipelines.curation.passes import Curation
from pipelines.curation.scoring import open_scoring_retry, plan_scoring
from pipelines.curation.settings import CurateConfig, ScoreConfig
from pipelines.errors import LedgerError
from pipelines.inputs import find_parquet
from pipelines.manifest import read_entries
from pipelines.storage import child, open_storage
from pipelines.verify import verify
from tests.corpora.broken import everything
from tests.pipelines.curation.pictures import encoded, picture, write_folder

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("local_ray")]
FEW_PROCESSES = ["score.decoders.num_actors=1"]
RULES = [
    {"rule": "range", "name": "small", "column": "min_side", "min": 60},
    {"rule": "duplicates", "name": "copies", "keep": "size_bytes"},
]


def configured(source: str, output: str, **values: Any) -> CurateConfig:
    given = {"input": source, "output": output, "recipe": {"rules": RULES}} | values
    return build_config(CurateConfig, given, FEW_PROCESSES, "test")


def table_of(uri: str) -> pa.Table:
    found = find_parquet(uri)
    tables = [pq.read_table(pa.BufferReader(found.storage.read(item.path))) for item in found.objects]
    return pa.concat_tables(tables)


def write_source(folder: Path) -> str:
    """Ten pictures, a copy, a smaller copy, a small one, and one that is cut off."""
    names = write_folder(folder, 10, 120, 90)
    (folder / "copy.jpg").write_bytes((folder / f"{names[3]}.jpg").read_bytes())
    smaller = Image.fromarray(picture(5, 120, 90)).resize((108, 81))
    (folder / "smaller.jpg").write_bytes(encoded(np.asarray(smaller)))
    (folder / "tiny.png").write_bytes(encoded(picture(77, 40, 40), "png"))
    (folder / "cut.jpg").write_bytes((folder / f"{names[4]}.jpg").read_bytes()[:700])
    return str(folder)


@pytest.mark.slow
def test_a_folder_becomes_a_training_set_and_another_recipe_another(tmp_path: Path) -> None:
    source, output = write_source(tmp_path / "in"), str(tmp_path / "out")
    curation = Curation(configured(source, output, score={"unit_rows": 4}))
    assert (curation.score().rows_done, curation.find_duplicates().pairs) == (13, {"exact": 1, "near": 2})
    funnel = curation.select()
    assert funnel.failed == {"decode: TruncatedImageError": 1}
    assert [(step.name, step.dropped) for step in funnel.steps] == [("small", 1), ("copies", 2)]
    exported = curation.export()
    assert exported is not None
    assert exported.rows_out == funnel.kept == 10
    for uri in (curation.scores_uri, curation.dataset_uri):
        assert verify(uri).problems == []
    rows = table_of(curation.dataset_uri)
    assert rows["original_key"].to_pylist() == [f"{n:03d}" for n in range(10)]
    assert rows["caption"].to_pylist() == [f"picture number {n}" for n in range(10)]
    card = (tmp_path / "out" / "datasets" / "default" / "README.md").read_text()
    assert "| copies | 2 | 10 |" in card

    manifest = (tmp_path / "out" / "datasets" / "default" / "manifest.json").read_bytes()
    again = Curation(configured(source, output, score={"unit_rows": 4}))
    assert again.score().units_run == 0
    again.find_duplicates(), again.select()
    summary = again.export()
    assert summary is not None
    assert summary.units_run == 0
    assert (tmp_path / "out" / "datasets" / "default" / "manifest.json").read_bytes() == manifest

    strict = [{"rule": "expression", "where": "key <= '004'"}]
    other = {"recipe": {"rules": strict}, "score": {"unit_rows": 4}}
    clash = Curation(configured(source, output, **other))
    assert clash.select().kept == 5
    with pytest.raises(LedgerError, match="begun with another configuration"):
        clash.export()
    apart = Curation(configured(source, output, name="strict", **other))
    apart.select()
    summary = apart.export()
    assert summary is not None
    assert summary.rows_out == 5


def write_odd_tars(folder: Path) -> tuple[str, Counter[str]]:
    """Every odd image in tars, and tars that are odd themselves; the rows expected, by their outcome."""
    expected: Counter[str] = Counter()
    folder.mkdir()

    def add(archive: tarfile.TarFile, name: str, data: bytes, **facts: Any) -> None:
        info = tarfile.TarInfo(name)
        info.size = len(data)
        for fact, value in facts.items():
            setattr(info, fact, value)
        archive.addfile(info, io.BytesIO(data))

    with tarfile.open(folder / "00000.tar", "w") as archive:
        for number, one in enumerate(everything()):
            add(archive, f"{number:04d}.{one.suffix}", one.data)
            add(archive, f"{number:04d}.txt", one.name.encode())
            expected["failed" if one.error else "scored"] += 1
    good = encoded(picture(0))
    with tarfile.open(folder / "00001.tar", "w") as archive:
        add(archive, "good.jpg", good)
        add(archive, "good.txt", b"fine")
        add(archive, "latin.jpg", good)
        add(archive, "latin.txt", "schön".encode("latin-1"))
        add(archive, "long.jpg", good)
        add(archive, "long.txt", b"x" * (3 << 20))
        add(archive, "twice.jpg", good)
        add(archive, "twice.jpg", good)
        add(archive, "nested.tar", (folder / "00000.tar").read_bytes()[:10240])
        add(archive, "../outside.jpg", good)
        add(archive, "link.jpg", b"", type=tarfile.SYMTYPE, linkname="/etc/passwd")
        add(archive, "lonely.json", b"{}")
    expected.update(scored=2, failed=7)
    whole = (folder / "00001.tar").read_bytes()
    (folder / "00002.tar").write_bytes(whole[:1536])
    (folder / "00003.tar").write_bytes(b"no tar at all" * 100)
    expected.update(scored=0, failed=2)
    return str(folder), expected


@pytest.mark.reliability
def test_nothing_disappears_however_broken_it_is(tmp_path: Path) -> None:
    source, expected = write_odd_tars(tmp_path / "in")
    score = {"unit_rows": 32, "max_failure_rate": 1.0}
    curation = Curation(configured(source, str(tmp_path / "out"), score=score, export=None))
    summary = curation.score()
    assert (summary.rows_done, summary.rows_failed) == (expected["scored"], expected["failed"])
    assert verify(curation.scores_uri).problems == []
    letters = [
        row
        for entry in read_entries(open_storage(curation.scores_uri), "failed")
        for row in pq.read_table(tmp_path / "out" / "scores" / entry.path).to_pylist()
    ]
    assert {row["stage"] for row in letters} == {"read", "decode"}
    assert all(row["message"] for row in letters)
    curation.find_duplicates()
    funnel = curation.select()
    assert funnel.rows == expected.total()
    assert curation.export() is None


@pytest.mark.parametrize(
    ("keep", "root_uri"),
    [
        pytest.param("resized", "s3", marks=[pytest.mark.s3, pytest.mark.reliability]),
        pytest.param("none", "s3", marks=[pytest.mark.s3, pytest.mark.reliability]),
        pytest.param("none", "ceph", marks=[pytest.mark.s3, pytest.mark.ceph, pytest.mark.reliability]),
        pytest.param("resized", "ceph", marks=[pytest.mark.s3, pytest.mark.ceph, pytest.mark.reliability]),
        pytest.param("none", "folder", marks=pytest.mark.reliability),
        pytest.param("resized", "folder", marks=pytest.mark.reliability),
    ],
    indirect=["root_uri"],
)
def test_curation_is_the_same_on_object_storage(tmp_path: Path, root_uri: str, keep: str) -> None:
    source = write_source(tmp_path / "in")
    images = {"resize": {"mode": "keep_ratio", "size": 48}, "format": "jpeg"}
    score = {"unit_rows": 5, "keep": keep} | ({"images": images} if keep == "resized" else {})
    export = {"format": "parquet"} | ({"images": images} if keep == "none" else {})
    here = Curation(configured(source, str(tmp_path / "out"), score=score, export=export))
    there = Curation(configured(source, child(root_uri, "out"), score=score, export=export))
    for curation in (here, there):
        curation.score(), curation.find_duplicates(), curation.select(), curation.export()
    manifests = [open_storage(c.dataset_uri).read("manifest.json") for c in (here, there)]
    assert json.loads(manifests[0])["objects"] == json.loads(manifests[1])["objects"]
    row = table_of(there.dataset_uri).to_pylist()[0]
    assert min(Image.open(io.BytesIO(row["image"]["bytes"])).size) == 48


@pytest.mark.reliability
def test_images_that_come_back_are_scored_by_a_retry(tmp_path: Path) -> None:
    source = tmp_path / "in"
    write_folder(source, 4)
    table = pa.table({"image_path": [f"{n:03d}.jpg" for n in range(4)] + ["late.jpg"]})
    pq.write_table(table, source / "table.parquet")
    values = {"input": str(source / "table.parquet"), "output": str(tmp_path / "out")}
    config = build_config(ScoreConfig, values, [], "test")
    assert plan_scoring(config).open().run().rows_failed == 1
    (source / "late.jpg").write_bytes(encoded(picture(50)))
    again = open_scoring_retry(str(tmp_path / "out")).run()
    assert (again.rows_done, again.rows_failed, again.rows_run) == (5, 0, 1)
    assert verify(str(tmp_path / "out")).problems == []
