"""Copies of an image have nearly the same hash, and other images do not."""

from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy.fft import dctn

from pipelines.decoding import DecodeLimits, decode
from pipelines.scorers.interface import ImageBatch
from pipelines.scorers.phash import PHash, hamming, perceptual_hashes
from tests.corpora.broken import encoded, photograph

NEAR = 6
COUNT = 120


def soft_picture(seed: int) -> Image.Image:
    """1/f noise in three colours: what photographs have in common."""
    rng = np.random.default_rng(seed)
    height, width = 240, 320
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
    frequency[0, 0] = np.inf
    phases = rng.normal(size=(3, *frequency.shape, 2)) @ np.array([1, 1j])
    fields = np.fft.irfft2(phases / frequency**1.2, (height, width))
    mixed = np.einsum("cd,dhw->hwc", rng.uniform(0.2, 1, (3, 3)), fields)
    return Image.fromarray((128 + 45 * mixed / mixed.std()).clip(0, 255).astype(np.uint8))


@pytest.fixture(scope="module")
def pictures() -> list[Image.Image]:
    return [soft_picture(seed) for seed in range(COUNT)]


@pytest.fixture(scope="module")
def hashes(pictures: list[Image.Image]) -> NDArray[np.uint64]:
    return perceptual_hashes([np.asarray(picture) for picture in pictures])


def copies(picture: Image.Image, rng: np.random.Generator) -> dict[str, Image.Image]:
    """What a picture becomes on its way through the web."""
    width, height = picture.size
    left, right, top, bottom = (int(rng.uniform(0, 0.02) * side) for side in (width, width, height, height))
    scale = rng.uniform(0.5, 2)
    return {
        "encoded again": picture,
        "resized": picture.resize((round(width * scale), round(height * scale)), Image.Resampling.BICUBIC),
        "cropped": picture.crop((left, top, width - right, height - bottom)),
    }


def test_copies_are_near_and_others_are_not(pictures: list[Image.Image], hashes: NDArray[np.uint64]) -> None:
    rng, near, limits = np.random.default_rng(0), Counter[str](), DecodeLimits()
    for picture, own in zip(pictures, hashes, strict=True):
        for how, copy in copies(picture, rng).items():
            data = encoded(copy, "jpeg", quality=int(rng.integers(60, 96)))
            found = perceptual_hashes([decode(data, limits, PHash.min_side).pixels])
            near[how] += bool(hamming(found, own)[0] <= NEAR)
    assert near["encoded again"] == COUNT
    assert sum(near.values()) / (3 * COUNT) >= 0.95
    apart = hamming(hashes[:, None], hashes[None])[np.triu_indices(COUNT, 1)]
    assert (apart <= NEAR).mean() <= 0.01 / COUNT  # as one false pair to a hundred true ones


def test_the_hash_is_that_of_the_definition(pictures: list[Image.Image], hashes: NDArray[np.uint64]) -> None:
    for picture, found in zip(pictures, hashes, strict=True):
        luma = picture.convert("L").resize((32, 32), Image.Resampling.LANCZOS, reducing_gap=2.0)
        low = dctn(np.asarray(luma, np.float64), norm="ortho")[:8, :8].ravel()
        bits = low > np.median(low[1:])
        bits[0] = False
        assert int(found) == int("".join("1" if bit else "0" for bit in bits), 2)


def test_half_the_bits_but_the_first_are_set(hashes: NDArray[np.uint64]) -> None:
    assert set(np.bitwise_count(hashes).tolist()) == {31}
    assert (hashes >> np.uint64(63) == 0).all()


def test_scale_hardly_matters(pictures: list[Image.Image], hashes: NDArray[np.uint64]) -> None:
    small = perceptual_hashes([np.asarray(picture.reduce(3)) for picture in pictures])
    assert hamming(small, hashes).max() <= 4


def test_an_image_has_the_same_hash_in_any_batch(
    pictures: list[Image.Image], hashes: NDArray[np.uint64]
) -> None:
    for start in range(0, 20, 7):
        batch = [np.asarray(picture) for picture in pictures[start : start + 7]]
        assert np.array_equal(perceptual_hashes(batch), hashes[start : start + 7])


def test_even_images_hash_to_zero() -> None:
    even = [
        np.full((height, 80, 3), level, np.uint8) for level in (0, 7, 128, 255) for height in (1, 80, 333)
    ]
    assert perceptual_hashes(even).tolist() == [0] * len(even)


def test_brightness_does_not_matter() -> None:
    pixels = np.asarray(photograph()) // 2
    bright = (pixels + 90).astype(np.uint8)
    assert hamming(*perceptual_hashes([pixels, bright])) <= 2


def test_the_column_is_unsigned_and_has_the_name_asked_for() -> None:
    scorer = PHash("other")
    images = [np.asarray(photograph(seed=seed)) for seed in range(2)]
    column = scorer.score(ImageBatch(pixels=images, captions=[None, None]))["other"]
    assert list(scorer.fields) == [pa.field("other", pa.uint64())]
    assert column.type == pa.uint64()
    assert column.to_pylist() == perceptual_hashes(images).tolist()
    assert len(scorer.score(ImageBatch(pixels=[], captions=[]))["other"]) == 0


def test_hamming_counts_bits_and_broadcasts() -> None:
    values = np.array([0, 1, 3, 2**64 - 1], np.uint64)
    assert hamming(values, np.uint64(0)).tolist() == [0, 1, 2, 64]
    assert hamming(values[:, None], values[None]).shape == (4, 4)
