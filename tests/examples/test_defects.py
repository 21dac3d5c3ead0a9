"""The collection with planted defects: each can be told by one measure, and from clean images."""

import io
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from numpy.typing import NDArray

from examples.shapes.defects import (
    CLEAN,
    DEFECTS,
    DUPLICATES,
    MIN_DISTANCE,
    Sample,
    collection,
    confusion_table,
    write_collection,
)
from pipelines.archives import ArchiveLimits, read_members
from pipelines.decoding import DecodeError, DecodeLimits, decode
from pipelines.scorers.interface import ImageBatch
from pipelines.scorers.open_clip_models import load_folder
from pipelines.scorers.phash import hamming, perceptual_hashes
from pipelines.scorers.quality import Quality

CLEAN_COUNT, EACH = 40, 3
NEAR = 6
CLIP = Path("examples/shapes/model/clip")
CORRUPT = ("truncated", "empty", "not an image")


@pytest.fixture(scope="module")
def samples() -> list[Sample]:
    return collection(num_clean=CLEAN_COUNT, num_each=EACH)


@pytest.fixture(scope="module")
def pixels(samples: list[Sample]) -> dict[str, NDArray[np.uint8]]:
    """Of what can be decoded, by key."""
    decoded = {}
    for sample in samples:
        if sample.defect not in CORRUPT:
            decoded[sample.key] = decode(sample.data, DecodeLimits(), None).pixels
    return decoded


def test_every_defect_is_planted_as_often_as_asked_for(samples: list[Sample]) -> None:
    assert Counter(sample.defect for sample in samples) == {CLEAN: CLEAN_COUNT} | dict.fromkeys(DEFECTS, EACH)
    keys = [sample.key for sample in samples]
    assert keys == sorted(set(keys))


def test_corrupt_files_cannot_be_decoded(samples: list[Sample]) -> None:
    for sample in samples:
        if sample.defect in CORRUPT:
            with pytest.raises(DecodeError):
                decode(sample.data, DecodeLimits(), None)


@pytest.mark.parametrize(
    ("defect", "measure", "lower", "upper"),
    [
        ("blurred", "sharpness_laplacian", None, 20.0),
        ("noisy", "noise_immerkaer", 10.0, None),
        ("over-compressed", "blockiness_wang", 2.7, None),
        ("letterboxed", "border_fraction", 0.1, None),
        ("over-exposed", "exposure_clipped", 0.5, None),
    ],
)
def test_a_measure_tells_the_defect_from_clean_images_and_their_duplicates(
    samples: list[Sample],
    pixels: dict[str, NDArray[np.uint8]],
    defect: str,
    measure: str,
    lower: float | None,
    upper: float | None,
) -> None:
    judged = [sample for sample in samples if sample.defect in (CLEAN, *DUPLICATES, "wrong caption", defect)]
    batch = ImageBatch(pixels=[pixels[one.key] for one in judged], captions=[None] * len(judged))
    values = Quality().score(batch)[measure].to_pylist()
    caught = {
        sample.key
        for sample, value in zip(judged, values, strict=True)
        if (lower is not None and value > lower) or (upper is not None and value < upper)
    }
    assert caught == {sample.key for sample in samples if sample.defect == defect}


def test_only_the_too_small_are_too_small(
    samples: list[Sample], pixels: dict[str, NDArray[np.uint8]]
) -> None:
    small = {key for key, one in pixels.items() if min(one.shape[:2]) < 128}
    assert small == {sample.key for sample in samples if sample.defect == "too small"}


def test_near_duplicates_and_nothing_else_are_near_a_clean_image(
    samples: list[Sample], pixels: dict[str, NDArray[np.uint8]]
) -> None:
    by_key = {sample.key: sample for sample in samples}
    hashes = dict(zip(pixels, perceptual_hashes(list(pixels.values())), strict=True))
    for key, found in hashes.items():
        near = {other for other in hashes if other != key and hamming(hashes[other], found) <= NEAR}
        same = by_key[key].of or key
        if by_key[key].defect in (CLEAN, *DUPLICATES):
            assert near == {other for other in hashes if (by_key[other].of or other) == same} - {key}


def test_different_clean_images_are_far_from_one_another(
    samples: list[Sample], pixels: dict[str, NDArray[np.uint8]]
) -> None:
    clean = perceptual_hashes([pixels[sample.key] for sample in samples if sample.defect == CLEAN])
    distances = hamming(clean[:, None], clean[None])[np.triu_indices(len(clean), 1)]
    assert distances.min() > NEAR
    assert distances.min() >= MIN_DISTANCE - 2  # compression moves a bit or two


def test_the_clean_one_of_two_duplicates_comes_first_and_is_no_smaller(
    samples: list[Sample], pixels: dict[str, NDArray[np.uint8]]
) -> None:
    by_key = {sample.key: sample for sample in samples}
    for copy in samples:
        if copy.defect in DUPLICATES:
            assert copy.of is not None
            assert by_key[copy.of].defect == CLEAN
            assert copy.of < copy.key
            assert copy.caption == by_key[copy.of].caption
            assert pixels[copy.key].size <= pixels[copy.of].size
            assert (copy.data == by_key[copy.of].data) == (copy.defect == "exact duplicate")


def test_the_worlds_clip_tells_wrong_captions(
    samples: list[Sample], pixels: dict[str, NDArray[np.uint8]]
) -> None:
    clip = load_folder(CLIP, str(CLIP), torch.device("cpu"), torch.float32)
    judged = [sample for sample in samples if sample.defect in (CLEAN, *DUPLICATES, "wrong caption")]
    images = clip.embed_images(clip.pixels([pixels[sample.key] for sample in judged]))
    texts = clip.embed_texts(clip.ids([sample.caption for sample in judged]))
    cosines = (images * texts).sum(dim=1).tolist()
    wrong = {sample.key for sample, cosine in zip(judged, cosines, strict=True) if cosine < 0.4}
    assert wrong == {sample.key for sample in samples if sample.defect == "wrong caption"}


def test_equal_seeds_give_equal_bytes(tmp_path: Path) -> None:
    few = [collection(num_clean=4, num_each=1, seed=seed) for seed in (1, 1, 2)]
    for number, samples in enumerate(few):
        write_collection(tmp_path / str(number), samples)
    first, again, other = ((tmp_path / str(n) / "images/00000.tar").read_bytes() for n in range(3))
    assert first == again
    assert first != other


def test_it_is_written_as_webdataset_with_its_truth(tmp_path: Path, samples: list[Sample]) -> None:
    write_collection(tmp_path, samples)
    (shard,) = (tmp_path / "images").iterdir()
    members = {one.name: one.data for one in read_members(io.BytesIO(shard.read_bytes()), ArchiveLimits())}
    assert len(members) == 3 * len(samples)
    for sample in samples:
        assert members[f"{sample.key}.jpg"] == sample.data
        assert members[f"{sample.key}.txt"].decode() == sample.caption
        assert json.loads(members[f"{sample.key}.json"])["background"] == sample.scene.background
    truth = pq.read_table(tmp_path / "truth.parquet").to_pylist()
    assert [(row["key"], row["defect"], row["of"]) for row in truth] == [
        (sample.key, sample.defect, sample.of) for sample in samples
    ]


def test_too_many_images_are_refused() -> None:
    with pytest.raises(ValueError, match="at most as many"):
        collection(num_clean=3, num_each=4)


def test_the_table_counts_each_defect_by_the_rule_that_dropped_it() -> None:
    truth = {"a": CLEAN, "b": CLEAN, "c": "blurred", "d": "blurred"}
    decisions = [
        {"key": "a", "kept": True, "rule": None},
        {"key": "b", "kept": False, "rule": "size"},
        {"key": "c", "kept": False, "rule": "sharpness"},
        {"key": "d", "kept": False, "rule": "sharpness"},
    ]
    assert confusion_table(decisions, truth).splitlines() == [
        "| planted | images | kept | sharpness | size |",
        "|---|--:|--:|--:|--:|",
        "| clean | 2 | 1 |  | 1 |",
        "| blurred | 2 |  | 2 |  |",
    ]


@pytest.mark.parametrize("keys", [["a"], ["a", "a"], ["a", "b", "c"], ["a", "b", "b"]])
def test_the_table_is_refused_unless_each_image_has_one_decision(keys: list[str]) -> None:
    with pytest.raises(ValueError, match="decisions on 2 images"):
        confusion_table([{"key": key, "kept": True} for key in keys], {"a": CLEAN, "b": CLEAN})
