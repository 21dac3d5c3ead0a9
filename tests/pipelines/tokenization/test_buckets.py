"""The sizes that images are cut to."""

import pytest

from pipelines.tokenization.buckets import Bucket, make_buckets, nearest_bucket


def test_squares_alone() -> None:
    assert make_buckets(512, 1.0, 32) == [Bucket(height=512, width=512)]


def test_buckets_have_about_one_area_and_all_aspects() -> None:
    found = make_buckets(512, 2.0, 32)
    assert all(b.height % 32 == b.width % 32 == 0 for b in found)
    assert all(0.85 * 512**2 <= b.height * b.width <= 512**2 for b in found)
    assert min(b.aspect for b in found) < 0.6
    assert max(b.aspect for b in found) > 1.7
    assert {Bucket(height=b.width, width=b.height) for b in found} == set(found)


def test_a_resolution_that_the_model_cannot_have_is_refused() -> None:
    with pytest.raises(ValueError, match=r"resolution 500 is no multiple of 32.*512 is the nearest"):
        make_buckets(500, 1.0, 32)


def test_an_image_goes_to_the_bucket_of_its_aspect() -> None:
    found = make_buckets(512, 2.0, 32)
    assert nearest_bucket(found, 3000, 3000) == Bucket(height=512, width=512)
    wide = nearest_bucket(found, 1600, 900)
    assert wide.aspect == pytest.approx(16 / 9, rel=0.1)
    assert nearest_bucket(found, 900, 1600) == Bucket(height=wide.width, width=wide.height)
