"""Preprocessing in torch: what open_clip and torchvision make of the same images with Pillow."""

from __future__ import annotations

from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from torchvision import transforms

from pipelines.scorers.preprocessing import Preprocessing
from pipelines.scorers.watermark import PREPROCESSING
from tests.pipelines.scorers.tiny_clip import natural

CPU = torch.device("cpu")
SIZES = [(300, 411), (411, 300), (224, 224), (64, 80), (1000, 333), (225, 226)]


def levels_apart(first: torch.Tensor, second: torch.Tensor, std: tuple[float, ...]) -> torch.Tensor:
    """By how many levels of 255 normalised pixels [3, H, W] differ."""
    return (first - second).abs() * torch.tensor(std)[:, None, None] * 255


def config(**changes: Any) -> dict[str, Any]:
    own = open_clip.transform.PreprocessCfg(**changes)
    return {name: getattr(own, name) for name in own.__dataclass_fields__}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"resize_mode": "longest"},
        {"resize_mode": "longest", "fill_color": 90},
        {"resize_mode": "squash", "interpolation": "bilinear"},
        {"size": (120, 200)},
        {"mean": 0.5, "std": 0.5, "size": 97},
    ],
)
@pytest.mark.parametrize("size", SIZES)
def test_is_what_open_clip_makes_to_a_level(changes: dict[str, Any], size: tuple[int, int]) -> None:
    image = natural(*size)
    reference = open_clip.transform.image_transform_v2(
        open_clip.transform.PreprocessCfg(**changes), is_train=False
    )(Image.fromarray(image))
    preprocessing = Preprocessing.from_open_clip(config(**changes))
    (ours,) = preprocessing([image], CPU)
    assert ours.shape == reference.shape
    apart = levels_apart(ours, reference, preprocessing.std)
    assert apart.max() < 2.01
    assert apart.mean() < 0.3
    if size[0] < size[1] and changes.get("interpolation") != "bilinear":
        assert apart.mean() < 0.015  # Pillow scales the rows of wide images first, as we do


def test_is_what_torchvision_makes_for_the_watermark_detector() -> None:
    image = natural(300, 411)
    reference = transforms.Compose(
        [
            transforms.Resize((256, 256)),
            transforms.ToTensor(),
            transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
        ]
    )(Image.fromarray(image))
    (ours,) = PREPROCESSING([image], CPU)
    assert levels_apart(ours, reference, PREPROCESSING.std).mean() < 0.01


def test_images_of_all_sizes_come_out_in_order_and_as_they_do_alone() -> None:
    preprocessing = Preprocessing.from_open_clip(config())
    images = [natural(*size, seed=seed) for seed, size in enumerate([*SIZES, *SIZES])]
    together = preprocessing(images, CPU)
    for image, prepared in zip(images, together, strict=True):
        assert torch.equal(preprocessing([image], CPU)[0], prepared)


def test_long_strips_keep_at_least_one_pixel() -> None:
    strip = np.full((1, 3000, 3), 200, np.uint8)
    (prepared,) = Preprocessing.from_open_clip(config(resize_mode="longest"))([strip], CPU)
    assert prepared.shape == (3, 224, 224)
    bright = prepared[0] > prepared[0].min()
    assert bright.any(1).nonzero().flatten().tolist() == [111]  # black above and below
