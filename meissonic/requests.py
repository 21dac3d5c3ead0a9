"""What to sample: one image a request, and which of them can share a batch."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING

from meissonic.config import MaskingSchedule, SamplerConfig, Unmasking

if TYPE_CHECKING:
    from torch import Tensor

    from meissonic.checkpoint import Meissonic

MAX_SEED = 2**63 - 1
DEFAULT_SCORE = 6.0
"""Aesthetic score that the released pipeline asks for."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class SampleRequest:
    """One image to make.

    Text alone: text-to-image. With `image`: image-to-image by `strength`, or with `mask` in- and outpainting.
    """

    prompt: str
    seed: int
    width: int
    height: int
    config: SamplerConfig = dataclasses.field(default_factory=SamplerConfig)
    negative_prompt: str = ""
    score: float = DEFAULT_SCORE
    """The last micro-condition."""
    image: Tensor | None = None
    """Start image [3, height, width] in [0, 1]."""
    mask: Tensor | None = None
    """bool [height / factor, width / factor]: true tokens are made anew, the others kept."""
    strength: float = 1.0
    """Image-to-image: the fraction of the steps that are run, in (0, 1]."""

    @property
    def start_step(self) -> int:
        """The first step that is run."""
        if self.image is None or self.mask is not None:
            return 0
        return self.config.num_steps - int(self.config.num_steps * self.strength)


@dataclasses.dataclass(frozen=True, kw_only=True)
class BatchShape:
    """What the samples of one batch share."""

    height: int
    width: int
    num_steps: int
    start_step: int
    guided: bool
    masking_schedule: MaskingSchedule
    unmasking: Unmasking
    guidance_interval: tuple[float, float]
    reuse_interval: int
    from_image: bool

    def is_guided(self, step: int) -> bool:
        """Whether a step has an unconditional half."""
        low, high = self.guidance_interval
        return self.guided and low <= step / self.num_steps < high


class RequestError(ValueError):
    """A request that cannot be sampled; the message says which value and what would do."""


def check_request(model: Meissonic, request: SampleRequest) -> None:
    """Raise `RequestError` before any compute if `request` cannot be sampled with `model`."""
    factor = model.vq.config.factor * (2 if model.transformer.config.downsample else 1)
    for side in ("width", "height"):
        size = getattr(request, side)
        if size < factor or size % factor:
            raise RequestError(f"{side} is {size}; it must be a positive multiple of {factor} for this model")
    if not 0 <= request.seed <= MAX_SEED:
        raise RequestError(f"seed is {request.seed}; it must be in [0, 2^63)")
    if not math.isfinite(request.score):
        raise RequestError(f"score is {request.score}; it must be finite")
    if request.image is None:
        if request.mask is not None:
            raise RequestError("mask without an image; give the image whose unmasked part is kept")
        return
    if request.config.unmasking == "threshold":
        raise RequestError("unmasking is 'threshold', which needs to begin with no image; choose another")
    if request.image.shape != (3, request.height, request.width):
        raise RequestError(
            f"image is {tuple(request.image.shape)}, should be (3, {request.height}, {request.width})"
        )
    if request.mask is not None:
        grid = (request.height // model.vq.config.factor, request.width // model.vq.config.factor)
        if request.mask.shape != grid:
            raise RequestError(f"mask is {tuple(request.mask.shape)}, should be the token grid {grid}")
        if not request.mask.any():
            raise RequestError("mask marks nothing to be made anew")
    elif not 0 < request.strength <= 1 or int(request.config.num_steps * request.strength) < 1:
        raise RequestError(
            f"strength is {request.strength} of {request.config.num_steps} steps; "
            "it must be in (0, 1] and leave a step"
        )


def batch_shape(model: Meissonic, request: SampleRequest) -> BatchShape:
    """Requests with the same answer can share a batch."""
    return BatchShape(
        height=request.height,
        width=request.width,
        num_steps=request.config.num_steps,
        start_step=request.start_step,
        guided=request.config.guided,
        masking_schedule=request.config.masking_schedule or model.scheduler.masking_schedule,
        unmasking=request.config.unmasking,
        guidance_interval=request.config.guidance_interval,
        reuse_interval=request.config.reuse_interval,
        from_image=request.image is not None,
    )
