"""The verifier reads back what was drawn, and notices what was not."""

import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from examples.shapes.dataset import sample_scenes
from examples.shapes.drawing import draw
from examples.shapes.verify import check, read
from examples.shapes.world import COLORS, SHAPES, Scene, Thing, one_object_scenes, spoken

ONE = Scene(things=(Thing(shape="triangle", color="pink", size="large", place="left"),), background="gray")
TWO = Scene(
    things=(
        Thing(shape="circle", color="red", size="small", place="left"),
        Thing(shape="square", color="blue", size="small", place="right"),
    ),
    background="white",
)


def share_right(scenes: list[Scene], noise: float) -> float:
    rng = np.random.default_rng(0)
    images = [draw(scene, rng) + noise * rng.standard_normal((64, 64, 3)) for scene in scenes]
    pixels = [image.round().clip(0, 255).astype(np.uint8) for image in images]
    return float(np.mean([check(image, scene).right for image, scene in zip(pixels, scenes, strict=True)]))


@pytest.mark.parametrize("noise", [0.0, 12.0])
def test_all_one_object_scenes_are_read_back(noise: float) -> None:
    assert share_right(list(one_object_scenes()), noise) >= 0.99


@pytest.mark.parametrize("noise", [0.0, 12.0])
def test_two_object_scenes_are_read_back(noise: float) -> None:
    scenes = sample_scenes("train", 200, np.random.default_rng(1), two_object_share=1.0)
    scenes += sample_scenes("unseen", 200, np.random.default_rng(2), two_object_share=1.0)
    assert share_right(scenes, noise) >= 0.99


def test_scenes_are_read_back_after_jpeg() -> None:
    for scene in sample_scenes("train", 60, np.random.default_rng(3)):
        buffer = io.BytesIO()
        Image.fromarray(draw(scene)).save(buffer, format="JPEG", quality=85)
        assert check(np.asarray(Image.open(buffer)), spoken(scene)).right


def test_reading_returns_the_whole_scene() -> None:
    assert read(draw(ONE)) == ONE
    assert read(draw(TWO)) == TWO


@pytest.mark.parametrize("name", ["shape", "color", "size", "place"])
def test_a_wrong_attribute_is_named(name: str) -> None:
    other = {"shape": "cross", "color": "blue", "size": "small", "place": "right"}[name]
    shown = replace(ONE, things=(replace(ONE.things[0], **{name: other}),))
    verdict = check(draw(shown), ONE)
    wrong = [
        key for key in ("count", "shape", "color", "size", "place", "background") if not getattr(verdict, key)
    ]
    assert wrong == [name]
    assert not verdict.right


def test_a_wrong_background_is_named() -> None:
    verdict = check(draw(replace(ONE, background="black")), ONE)
    assert not verdict.background
    assert verdict.shape
    assert verdict.color


def test_swapped_colors_are_wrong() -> None:
    first, second = TWO.things
    swapped = replace(TWO, things=(replace(first, color="blue"), replace(second, color="red")))
    verdict = check(draw(swapped), TWO)
    assert not verdict.color
    assert verdict.shape


def test_a_missing_or_an_extra_shape_is_wrong() -> None:
    assert not check(draw(replace(TWO, things=TWO.things[:1])), TWO).count
    assert not check(draw(TWO), replace(TWO, things=TWO.things[:1])).count


def test_what_a_caption_leaves_unsaid_is_not_checked() -> None:
    for shape in SHAPES:
        for color in COLORS:
            shown = replace(ONE, things=(replace(ONE.things[0], shape=shape, color=color),))
            assert check(draw(shown), Scene(things=(Thing(place="left"),))).right


def test_noise_and_blank_images_show_nothing() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    assert not check(noise, ONE).right
    assert not check(np.full((64, 64, 3), 140, np.uint8), ONE).right


def test_a_smeared_shape_has_no_shape() -> None:
    pixels = draw(replace(ONE, things=()))
    rng = np.random.default_rng(0)
    pixels[20:44, 8:32][rng.random((24, 24)) < 0.6] = (245, 120, 190)
    assert not check(pixels, ONE).right


def test_another_image_size_is_refused() -> None:
    with pytest.raises(ValueError, match="64"):
        read(np.zeros((32, 32, 3), np.uint8))
