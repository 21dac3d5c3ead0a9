"""The configuration of `tokenize`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, PositiveInt, model_validator

from meissonic.config import ScoreCondition
from pipelines.cards.settings import CardSettings
from pipelines.config import Config, Operational, Resources
from pipelines.decoding import DecodeLimits
from pipelines.sources import SourceSettings

KNOWN_SCORES: dict[str, dict[str, float]] = {
    # the released model was trained and is asked on this scale
    "aesthetic_laion_v2": {
        "low": 1.0,
        "high": 10.0,
        "condition_low": 1.0,
        "condition_high": 10.0,
        "default": 6.0,
    },
    "hps_v2_1": {"low": 0.15, "high": 0.35, "condition_low": 1.0, "condition_high": 10.0, "default": 0.28},
}
"""Mappings of the scores that are known, by column."""


class ScoreConditionSettings(Config):
    """Which score becomes the fifth micro-condition, and how: by a line, level outside of its ends.

    The columns `aesthetic_laion_v2` and `hps_v2_1` have mappings of their own, which the values given change.

    Attributes:
        column: Of the input.
        low: A value of it, which becomes `condition_low`.
        high: Another, which becomes `condition_high`.
        condition_low: See there.
        condition_high: See there.
        default: Stands for images that have none.
    """

    column: str
    low: float
    high: float
    condition_low: float = 1.0
    condition_high: float = 10.0
    default: float

    @model_validator(mode="before")
    @classmethod
    def _with_known(cls, values: Any) -> Any:
        if isinstance(values, dict):
            return KNOWN_SCORES.get(str(values.get("column")), {}) | values
        return values

    @model_validator(mode="after")
    def _can_be_inverted(self) -> ScoreConditionSettings:
        self.condition()
        return self

    def condition(self) -> ScoreCondition:
        """The mapping."""
        return ScoreCondition(**self.model_dump())


class TokenizeConfig(Config):
    """A token store for the images of a dataset.

    Attributes:
        input: A training set made by `curate`, or whatever else `curate` reads.
        output: Folder of the token store, local or s3://.
        model: Model folder of the released layout, of which the VQ model is read.
        source: What the input is, and within which limits it is read.
        decode: How large an image may be.
        resolution: Pixels: a bucket has about its square. A multiple of twice the VQ model's factor.
        max_aspect: Longer side over shorter of the widest and the highest bucket; 1 for squares alone.
        crops_per_image: Crops of each image. The first is its middle; the others are cut at random places,
            the same in every run.
        min_crop: The least part of the longest possible side that a random crop shows.
        enlarge: Whether images too small for their bucket are scaled up; else they become dead letters.
        score: The score that becomes the fifth micro-condition; null for `default_score` in all rows.
        default_score: The fifth micro-condition without a score; the released model asks for 6.
        captions: Column of alternative captions, a list of texts; null for none.
        validation_share: Part of the images, by a hash of their bytes, that is held out.
        unit_rows: Images a unit: what is done again when a worker dies.
        batch_size: Crops a batch. It can change codes of crops that lie between two, as can the next.
        compile: Compile the VQ encoder, for each bucket; on a GPU some minutes once, and then faster by half.
        dtype: Of the VQ encoder; the nearest code is searched in float32.
        croppers: The workers that decode and crop, without GPU.
        encoders: The workers that hold the VQ model.
        unit_timeout_s: Seconds that a worker may take for a unit.
        max_failure_rate: The job stops when more than this part of the images fails.
        failure_rate_rows: Images to see before it does.
        card: What the dataset card says of licence and origin.
    """

    input: Annotated[str, Operational()]
    output: Annotated[str, Operational()]
    model: Annotated[str, Operational()]
    source: SourceSettings = SourceSettings()
    decode: DecodeLimits = DecodeLimits()
    resolution: PositiveInt = 512
    max_aspect: float = Field(default=2.0, ge=1, le=8)
    crops_per_image: int = Field(default=1, ge=1, le=1000)
    min_crop: float = Field(default=0.8, gt=0, le=1)
    enlarge: bool = False
    score: ScoreConditionSettings | None = None
    default_score: float = Field(default=6.0, allow_inf_nan=False)
    captions: str | None = None
    validation_share: float = Field(default=0.0, ge=0, lt=1)
    unit_rows: PositiveInt = 64
    batch_size: PositiveInt = 16
    compile: bool = False
    dtype: Literal["float32", "bfloat16"] = "float32"
    croppers: Resources = Resources(num_cpus=0.5, threads_per_actor=1)
    encoders: Resources = Resources(num_gpus="auto", num_cpus=0.5, threads_per_actor=1)
    unit_timeout_s: Annotated[float, Operational()] = Field(default=3600.0, gt=0)
    max_failure_rate: Annotated[float, Operational()] = Field(default=0.5, ge=0, le=1)
    failure_rate_rows: Annotated[int, Operational()] = Field(default=1000, ge=1)
    card: Annotated[CardSettings, Operational()] = CardSettings()
