"""Pixels of any sizes -> a model's input: scaled, cut, normalised, all on the model's device.

What open_clip and torchvision do with Pillow. Values are rounded to levels of 255 after each direction, as
there; some are a level off, the more where a version of Pillow scales columns before rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
import torch
import torchvision.transforms.functional as F
from numpy.typing import NDArray
from open_clip.transform import center_crop_or_pad
from torch import Tensor
from torchvision.transforms import InterpolationMode

ResizeMode = Literal["shortest", "longest", "squash"]


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """How a model wants its images.

    Attributes:
        height: Pixels.
        width: Pixels.
        mean: Of each channel, in [0, 1].
        std: Of each channel.
        interpolation: Antialiased in both cases.
        resize_mode: `shortest`: the shorter side fits, the longer is cut; `longest`: the longer side fits,
            the shorter is filled up; `squash`: both fit, and proportions change.
        fill_color: Level of 255 that fills.
    """

    height: int
    width: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: Literal["bicubic", "bilinear"] = "bicubic"
    resize_mode: ResizeMode = "shortest"
    fill_color: int = 0

    @classmethod
    def from_open_clip(cls, config: dict[str, Any]) -> Self:
        """From `open_clip.get_model_preprocess_cfg`; "random" interpolation is bicubic there, too."""
        size = config["size"]
        height, width = (size, size) if isinstance(size, int) else size
        return cls(
            height=height,
            width=width,
            mean=_channels(config["mean"]),
            std=_channels(config["std"]),
            interpolation="bilinear" if config["interpolation"] == "bilinear" else "bicubic",
            resize_mode=config["resize_mode"],
            fill_color=config["fill_color"],
        )

    @property
    def min_side(self) -> int:
        """Pixels of an image's shorter side from which nothing is enlarged."""
        return max(self.height, self.width)

    def __call__(self, images: Sequence[NDArray[np.uint8]], device: torch.device) -> Tensor:
        """Images uint8 [H, W, 3] -> float32 [B, 3, height, width] on `device`, equal sizes together."""
        groups: dict[tuple[int, ...], list[int]] = {}
        for index, image in enumerate(images):
            groups.setdefault(image.shape, []).append(index)
        out = torch.empty(len(images), 3, self.height, self.width, device=device)
        for indices in groups.values():
            levels = torch.from_numpy(np.stack([images[index] for index in indices])).to(device)
            pixels = self._fitted(levels.permute(0, 3, 1, 2).contiguous()).float().div(255)
            out[torch.tensor(indices, device=device)] = F.normalize(pixels, list(self.mean), list(self.std))
        return out

    def _fitted(self, images: Tensor) -> Tensor:
        """uint8 [B, 3, H, W] -> uint8 [B, 3, height, width]."""
        height, width = self._scaled(images.shape[2], images.shape[3])
        mode = InterpolationMode(self.interpolation)
        # torchvision computes in float32, clamps and rounds
        wide = F.resize(images, [images.shape[2], width], mode, antialias=True)
        resized = F.resize(wide, [height, width], mode, antialias=True)
        return center_crop_or_pad(resized, [self.height, self.width], fill=self.fill_color)

    def _scaled(self, height: int, width: int) -> tuple[int, int]:
        """The size to which an image is scaled before it is cut or filled, rounded as torchvision does."""
        if self.resize_mode == "squash":
            return self.height, self.width
        if self.resize_mode == "shortest" and self.height == self.width:
            longer = int(self.height * max(height, width) / min(height, width))
            return (self.height, longer) if height <= width else (longer, self.width)
        ratios = (height / self.height, width / self.width)
        ratio = min(ratios) if self.resize_mode == "shortest" else max(ratios)
        return max(round(height / ratio), 1), max(round(width / ratio), 1)


def _channels(value: float | Sequence[float]) -> tuple[float, ...]:
    return tuple(value) if isinstance(value, Sequence) else (value,) * 3
