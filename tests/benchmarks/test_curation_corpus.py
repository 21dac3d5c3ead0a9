"""The curation corpus at toy size: what is planted is there; the baseline and the judges say what is so."""

import hashlib
import io
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from benchmarks.curation import bare_loop
from benchmarks.curation.corpus import (
    EDITS,
    FAULTS,
    MAX_ASPECT,
    MIN_SIDE,
    TRUTH,
    Planned,
    make_group,
    plan,
    write_corpus,
)
from benchmarks.curation.near_duplicates import judge_faults, judge_pairs, measure_hash
from pipelines.archives import ArchiveLimits, read_samples
from pipelines.decoding import DecodeError, DecodeLimits, decode

COUNT = 70


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    write_corpus(folder, count=COUNT, seed=3, num_processes=1)
    return folder


@pytest.fixture(scope="module")
def truth(corpus: Path) -> pa.Table:
    return pq.read_table(corpus / "truth.parquet")


@pytest.fixture(scope="module")
def loop(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> bare_loop.LoopResult:
    return bare_loop.run(corpus / "images", tmp_path_factory.mktemp("out"))


def image(corpus: Path, key: str) -> bytes:
    return (corpus / "images" / f"{key}.jpg").read_bytes()


def test_the_truth_names_every_image_and_its_share_of_each_kind(corpus: Path, truth: pa.Table) -> None:
    keys = [f"{number:06d}" for number in range(COUNT)]
    assert truth.schema == TRUTH
    assert truth["key"].to_pylist() == keys
    assert sorted(path.stem for path in (corpus / "images").iterdir()) == keys
    assert Counter(truth["kind"].to_pylist()) == {
        "original": 57,
        "near": 8,
        "exact": 2,
        "corrupt": 1,
        "too small": 1,
        "too long": 1,
    }


def test_images_are_what_the_truth_says(corpus: Path, truth: pa.Table) -> None:
    for row in truth.to_pylist():
        data = image(corpus, row["key"])
        assert len(data) == row["size_bytes"]
        if row["kind"] == "corrupt":
            with pytest.raises(DecodeError):
                decode(data, DecodeLimits())
            continue
        width, height = Image.open(io.BytesIO(data)).size
        assert (min(width, height) < MIN_SIDE) == (row["kind"] == "too small")
        if row["kind"] != "too small":
            assert (max(width, height) > MAX_ASPECT * min(width, height)) == (row["kind"] == "too long")
        if row["of"] is not None:
            assert (data == image(corpus, row["of"])) == (row["kind"] == "exact")


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_makes_an_image_that_cannot_be_decoded(fault: str) -> None:
    ((_, data),) = make_group([Planned(key="000005", kind="corrupt", edit=fault)], seed=0)
    with pytest.raises(DecodeError):
        decode(data, DecodeLimits())


def test_each_edit_changes_what_it_is_called_for() -> None:
    group = [Planned(key="000000", kind="original")]
    group += [Planned(key=f"{n:06d}", kind="near", of="000000", edit=edit) for n, edit in enumerate(EDITS, 1)]
    made = {planned.edit: Image.open(io.BytesIO(data)).size for planned, data in make_group(group, seed=0)}
    width, height = made[None]
    assert made["reencoded"] == (width, height)
    assert made["resized"] != (width, height)
    cropped = made["cropped"]
    assert 0.96 * width <= cropped[0] < width
    assert 0.96 * height <= cropped[1] < height


def test_a_plan_uses_each_key_once_and_depends_on_its_seed() -> None:
    planned = [one for group in plan(400, seed=1) for one in group]
    assert sorted(one.key for one in planned) == [f"{number:06d}" for number in range(400)]
    assert plan(400, seed=1) == plan(400, seed=1)
    assert plan(400, seed=1) != plan(400, seed=2)


def test_more_processes_and_other_formats_give_the_same_images(
    corpus: Path, truth: pa.Table, tmp_path: Path
) -> None:
    again = write_corpus(tmp_path, count=COUNT, seed=3, formats=["parquet"], num_processes=2)
    assert again.equals(truth)
    assert not (tmp_path / "images").exists()
    (shard,) = (tmp_path / "parquet").iterdir()
    assert shard.read_bytes() == (corpus / "parquet" / shard.name).read_bytes()
    table = pq.read_table(shard)
    for key, encoded in zip(table["key"].to_pylist(), table["image"].to_pylist(), strict=True):
        assert encoded["bytes"] == image(corpus, key)


def test_tars_hold_a_picture_a_caption_and_facts_of_each_image(corpus: Path, truth: pa.Table) -> None:
    with (corpus / "tars/00000.tar").open("rb") as stream:
        samples = read_samples(stream, ArchiveLimits())
    assert samples == {key: {"jpg", "txt", "json"} for key in truth["key"].to_pylist()}


def test_the_bare_loop_accounts_for_every_file(
    corpus: Path, truth: pa.Table, loop: bare_loop.LoopResult
) -> None:
    kinds = dict(zip(truth["key"].to_pylist(), truth["kind"].to_pylist(), strict=True))
    assert [row.key for row in loop.rows] == sorted(kinds)
    for row in loop.rows:
        assert row.sha256 == hashlib.sha256(image(corpus, row.key)).hexdigest()
        if kinds[row.key] in ("too small", "too long"):
            assert row.status == "filtered"
        elif kinds[row.key] == "corrupt":
            assert row.status.endswith("Error")
        else:
            assert row.status == "ok"
    assert loop.steady_images_per_s > 0
    assert loop.end_to_end_images_per_s == pytest.approx(COUNT / loop.seconds)


def test_the_bare_loop_writes_images_of_the_size_asked_for(corpus: Path, tmp_path: Path) -> None:
    result = bare_loop.run(corpus / "images", tmp_path, side=200, num_processes=1)
    ok = [row.key for row in result.rows if row.status == "ok"]
    assert sorted(path.stem for path in tmp_path.iterdir()) == ok
    assert {min(Image.open(path).size) for path in tmp_path.iterdir()} == {200}


def test_the_bare_loop_finds_planted_duplicates(truth: pa.Table, loop: bare_loop.LoopResult) -> None:
    exact = judge_pairs(loop.exact, truth, "exact")
    near = judge_pairs(loop.near, truth, "near")
    assert (exact["precision"], exact["recall"]) == (1.0, 1.0)
    assert near["precision"] == 1.0
    assert near["recall"] >= 0.75
    faults = judge_faults([row.key for row in loop.rows if row.status.endswith("Error")], truth)
    assert (faults["recorded"], faults["missing"], faults["not_corrupt"]) == (1, [], [])


def test_unrelated_images_differ_in_half_of_their_bits(corpus: Path) -> None:
    measured = measure_hash(corpus, max_hamming=6)
    assert measured["unrelated_distances"]["mean"] == pytest.approx(32, abs=1.5)
    assert measured["unrelated_distances"]["least"] > 6
    assert measured["recall_by_edit"]["reencoded"] == 1.0


def test_near_pairs_are_those_within_the_distance() -> None:
    hashes = np.array([0, 0b111, 0xFFFF, 0b1], np.uint64)
    assert bare_loop.near_pairs(hashes, 2) == [(0, 3), (1, 3)]
    assert bare_loop.near_pairs(hashes, 3) == [(0, 1), (0, 3), (1, 3)]
    assert bare_loop.near_pairs(np.zeros(0, np.uint64), 6) == []


def rows(*texts: str) -> pa.Table:
    """A truth of "key kind [of [edit]]" lines."""
    split = [(*text.split(), None, None)[:4] for text in texts]
    columns = ("key", "kind", "of", "edit")
    return pa.Table.from_pylist([dict(zip(columns, row, strict=True), size_bytes=1) for row in split], TRUTH)


def test_pairs_are_judged_through_chains_and_by_edit() -> None:
    truth = rows(
        "a original",
        "b near a cropped",
        "c near a resized",
        "d near a resized",
        "e original",
        "f exact e",
    )
    judged = judge_pairs([("a", "b"), ("b", "c"), ("d", "e")], truth, "near")
    assert (judged["pairs"], judged["right_pairs"], judged["precision"]) == (3, 2, 0.6667)
    assert (judged["planted"], judged["found"], judged["recall"]) == (3, 2, 0.6667)
    assert judged["recall_by_edit"] == {"cropped": 1.0, "resized": 0.5}
    nothing = judge_pairs([], truth, "exact")
    assert (nothing["precision"], nothing["recall"]) == (None, 0.0)


def test_faults_that_are_missing_too_many_or_recorded_twice_are_told() -> None:
    truth = rows("a original", "b corrupt", "c corrupt")
    assert judge_faults(["a", "b", "b"], truth) == {
        "planted": 2,
        "recorded": 1,
        "missing": ["c"],
        "not_corrupt": ["a"],
        "repeated": 1,
    }
