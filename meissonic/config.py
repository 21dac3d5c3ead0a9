"""Configurations of the parts of a model, as they stand in the JSON files of a released folder."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, Literal, Self

MaskingSchedule = Literal["cosine", "linear"]
Unmasking = Literal["confidence", "halton", "threshold"]
TEMPERATURE_END = 0.01
"""Where a temperature given as one number ends, as in the reference's scheduler."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class _FromJson:
    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """Take the fields this class knows from a released `config.json`; the files hold others, unused.

        Raises:
            ValueError: a field without a default is not there.
        """
        fields = dataclasses.fields(cls)
        missing_type = dataclasses.MISSING
        required = {f.name for f in fields if f.default is missing_type and f.default_factory is missing_type}
        if missing := sorted(required - values.keys()):
            raise ValueError(f"{cls.__name__}: missing {', '.join(missing)}")
        known = {f.name: values[f.name] for f in fields if f.name in values}
        return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in known.items()})

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON values."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in dataclasses.asdict(self).items()}


@dataclasses.dataclass(frozen=True, kw_only=True)
class TransformerConfig(_FromJson):
    """The multi-modal transformer. Defaults: the released 1024 px model."""

    num_layers: int = 14
    """Double-stream blocks: text and image have weights of their own."""
    num_single_layers: int = 28
    """Single-stream blocks on the joined sequence."""
    attention_head_dim: int = 128
    num_attention_heads: int = 8
    joint_attention_dim: int = 1024
    """Width of the text encoder's hidden states."""
    pooled_projection_dim: int = 1024
    axes_dims_rope: tuple[int, ...] = (16, 56, 56)
    """Rotary dimensions of the axes (text, row, column)."""
    vocab_size: int = 8256
    codebook_size: int = 8192
    downsample: bool = True
    """Feature compression: 2x2 tokens share a position inside the blocks."""
    upsample: bool = True

    def __post_init__(self) -> None:
        if sum(self.axes_dims_rope) != self.attention_head_dim or any(d % 2 for d in self.axes_dims_rope):
            raise ValueError(
                f"axes_dims_rope {self.axes_dims_rope} must be even and sum to attention_head_dim "
                f"{self.attention_head_dim}"
            )
        if self.pooled_projection_dim != self.width:
            raise ValueError(
                f"pooled_projection_dim {self.pooled_projection_dim} must equal "
                f"num_attention_heads x attention_head_dim = {self.width}"
            )
        if self.downsample != self.upsample:
            raise ValueError("downsample and upsample must be both true or both false")
        if self.codebook_size >= self.vocab_size:
            raise ValueError(
                f"vocab_size {self.vocab_size} leaves no mask token past the {self.codebook_size} codes"
            )

    @property
    def width(self) -> int:
        """Width of the residual stream."""
        return self.num_attention_heads * self.attention_head_dim


@dataclasses.dataclass(frozen=True, kw_only=True)
class VQConfig(_FromJson):
    """The VQ-GAN image tokenizer. Defaults: the released one."""

    in_channels: int = 3
    out_channels: int = 3
    block_out_channels: tuple[int, ...] = (128, 256, 256, 512, 768)
    layers_per_block: int = 2
    latent_channels: int = 64
    num_vq_embeddings: int = 8192
    norm_num_groups: int = 32

    @property
    def factor(self) -> int:
        """Pixels per token side."""
        return int(2 ** (len(self.block_out_channels) - 1))


@dataclasses.dataclass(frozen=True, kw_only=True)
class TextConfig(_FromJson):
    """The CLIP text tower. Defaults: ViT-H-14's."""

    vocab_size: int = 49408
    hidden_size: int = 1024
    intermediate_size: int = 4096
    num_hidden_layers: int = 24
    num_attention_heads: int = 16
    projection_dim: int = 1024
    max_position_embeddings: int = 77
    hidden_act: str = "gelu"
    layer_norm_eps: float = 1e-5
    eos_token_id: int = 2
    """2 stands for the old rule: pool at the position of the largest id."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class SchedulerConfig(_FromJson):
    """The released sampler settings."""

    mask_token_id: int = 8255
    masking_schedule: MaskingSchedule = "cosine"


@dataclasses.dataclass(frozen=True, kw_only=True)
class SamplerConfig(_FromJson):
    """How an image is sampled. Defaults: the released pipeline's.

    Raises:
        ValueError: a value outside its range.
    """

    num_steps: int = 48
    guidance_scale: float = 9.0
    """Classifier-free guidance; at 1 or below the unconditional half is not computed."""
    temperature: tuple[float, float] = (2.0, 0.0)
    """Weight of the Gumbel noise on the confidences, from the first step to the last."""
    softmax_temperature: float = 1.0
    """Divides the logits before a code is drawn."""
    masking_schedule: MaskingSchedule | None = None
    """None: the model's own."""
    unmasking: Unmasking = "confidence"
    """Which positions are decided first. Approximate: "halton", in the order of a Halton sequence, which
    spreads them over the image (Besnier et al., 2025, arXiv 2503.17076); "threshold", by confidence, and
    besides the schedule's all at once that are sure enough, so that steps are left out."""
    confidence_threshold: float = 0.9
    """Least probability of a code that "threshold" decides at once."""
    guidance_interval: tuple[float, float] = (0.0, 1.0)
    """Which part of the steps is guided. Approximate if not all (Kynkäänniemi et al., arXiv 2404.07724)."""
    reuse_interval: int = 1
    """Approximate above 1: the middle blocks run every so many steps; what they last added stands in."""

    def __post_init__(self) -> None:
        if not isinstance(self.num_steps, int) or self.num_steps < 1:
            raise ValueError(f"num_steps is {self.num_steps}; it must be a whole number, at least 1")
        if not math.isfinite(self.guidance_scale) or self.guidance_scale < 0:
            raise ValueError(f"guidance_scale is {self.guidance_scale}; it must be a finite number >= 0")
        if len(self.temperature) != 2 or not all(math.isfinite(t) and t >= 0 for t in self.temperature):
            raise ValueError(f"temperature is {self.temperature}; it must be two finite numbers >= 0")
        if not math.isfinite(self.softmax_temperature) or self.softmax_temperature <= 0:
            raise ValueError(
                f"softmax_temperature is {self.softmax_temperature}; it must be a finite number > 0"
            )
        if self.masking_schedule not in (None, "cosine", "linear"):
            raise ValueError(
                f"masking_schedule is {self.masking_schedule!r}; it must be 'cosine' or 'linear'"
            )

        if self.unmasking not in ("confidence", "halton", "threshold"):
            raise ValueError(
                f"unmasking is {self.unmasking!r}; it must be 'confidence', 'halton' or 'threshold'"
            )
        if not 0 < self.confidence_threshold <= 1:
            raise ValueError(f"confidence_threshold is {self.confidence_threshold}; it must be in (0, 1]")
        interval = self.guidance_interval
        if len(interval) != 2 or not 0 <= interval[0] <= interval[1] <= 1:
            raise ValueError(f"guidance_interval is {interval}; it must be two numbers, 0 <= from <= to <= 1")
        if not isinstance(self.reuse_interval, int) or self.reuse_interval < 1:
            raise ValueError(
                f"reuse_interval is {self.reuse_interval}; it must be a whole number, at least 1"
            )

    @property
    def approximations(self) -> dict[str, Any]:
        """What makes it another sampler than the released one, by field; empty for an exact one."""
        found: dict[str, Any] = {}
        if self.unmasking != "confidence":
            found["unmasking"] = self.unmasking
        if self.unmasking == "threshold":
            found["confidence_threshold"] = self.confidence_threshold
        if self.guided and self.guidance_interval != (0.0, 1.0):
            found["guidance_interval"] = list(self.guidance_interval)
        if self.reuse_interval != 1:
            found["reuse_interval"] = self.reuse_interval
        return found

    def fast(self) -> SamplerConfig:
        """A quarter of the steps in Halton order, drawn from sharper distributions.

        What lost nothing in a small world, see docs/sampling.md; untried on the released model.
        """
        return dataclasses.replace(
            self,
            num_steps=math.ceil(self.num_steps / 4),
            unmasking="halton",
            softmax_temperature=self.softmax_temperature / 2,
        )

    @property
    def guided(self) -> bool:
        """Whether the unconditional half is computed."""
        return self.guidance_scale > 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScoreCondition(_FromJson):
    """How an image's quality score became the fifth micro-condition in training.

    A line through (`low`, `condition_low`) and (`high`, `condition_high`), level outside of them. For scores
    that are better when lower, `low` is the larger one.

    Raises:
        ValueError: a number is not finite, or the line has no inverse.
    """

    column: str
    """Where the scores came from, such as "hps_v2_1"."""
    low: float
    """A score, as are `high` and `default`."""
    high: float
    condition_low: float
    condition_high: float
    default: float
    """Stands for an image without a score, and is asked for where a request names none."""

    def __post_init__(self) -> None:
        for name in ("low", "high", "condition_low", "condition_high", "default"):
            value = getattr(self, name)
            if not isinstance(value, int | float) or not math.isfinite(value):
                raise ValueError(f"score of {self.column!r}: {name} is {value!r}; it must be a finite number")
        if self.low == self.high or self.condition_low >= self.condition_high:
            raise ValueError(
                f"score of {self.column!r}: low {self.low} and high {self.high} must differ, and "
                f"condition_low {self.condition_low} be below condition_high {self.condition_high}"
            )

    def condition(self, value: float) -> float:
        """The micro-condition of a score."""
        fraction = _within_unit((value - self.low) / (self.high - self.low))
        return (1 - fraction) * self.condition_low + fraction * self.condition_high

    def value(self, condition: float) -> float:
        """The score, between `low` and `high`, of a micro-condition: the inverse of `condition`."""
        fraction = _within_unit((condition - self.condition_low) / (self.condition_high - self.condition_low))
        return (1 - fraction) * self.low + fraction * self.high


def _within_unit(fraction: float) -> float:
    return min(max(fraction, 0.0), 1.0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class GenerationConfig(_FromJson):
    """The size and settings that suit a model."""

    width: int
    """Pixels."""
    height: int
    sampler: SamplerConfig = dataclasses.field(default_factory=SamplerConfig)
    score: ScoreCondition | None = None
    """What the fifth micro-condition meant in training; None: an aesthetic score, as it is."""

    def to_json(self) -> dict[str, Any]:
        """One object: size and sampler settings side by side, the score's under `score`."""
        score = {} if self.score is None else {"score": self.score.to_json()}
        return self.sampler.to_json() | {"width": self.width, "height": self.height} | score
