"""The configuration of `generate`, and what it becomes once the model's own settings are known."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, PositiveFloat, PositiveInt, ValidationInfo, field_validator

from meissonic import SamplerConfig
from meissonic.model_folder import read_generation_config
from pipelines.best_of import BestOf, check_best_of
from pipelines.cards.settings import CardSettings
from pipelines.config import Config, Operational, Resources
from pipelines.images import ImageFormat, RowImages
from pipelines.scorers.settings import Scorers, scorer_fields

MAX_IMAGES = 10_000
"""Of a prompt."""
Dtype = Literal["float32", "bfloat16", "float16"]
Images = Literal["parquet", "webdataset", "files"]


class SamplerSettings(Config):
    """Sampler settings for rows that name none; null stands for the model's own.

    Attributes:
        preset: `fast`: a quarter of the model's own steps in Halton order, see docs/sampling.md; what else is
            set here wins.
        num_steps: Sampling steps.
        guidance_scale: Classifier-free guidance; at 1 or below there is none, at half the cost.
        temperature: Weight of the confidence noise at the first step and at the last.
        softmax_temperature: Divides the logits before a code is drawn.
        masking_schedule: How fast positions are decided.
        unmasking: Which positions are decided first: `confidence`, as released; approximate are `halton`, in
            a fixed order that spreads over the image, and `threshold`, which also decides all at once that
            are sure enough, and so leaves steps out.
        confidence_threshold: Least probability of what `threshold` decides at once.
        guidance_interval: Which part of the steps is guided, from and to, in [0, 1]; approximate if not all.
        reuse_interval: Approximate above 1: the middle blocks run every so many steps.
    """

    preset: Literal["fast"] | None = None
    num_steps: PositiveInt | None = None
    guidance_scale: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    temperature: tuple[float, float] | None = None
    softmax_temperature: PositiveFloat | None = None
    masking_schedule: Literal["cosine", "linear"] | None = None
    unmasking: Literal["confidence", "halton", "threshold"] | None = None
    confidence_threshold: float | None = Field(default=None, gt=0, le=1)
    guidance_interval: tuple[float, float] | None = None
    reuse_interval: PositiveInt | None = None

    @field_validator("guidance_interval")
    @classmethod
    def _is_an_interval(cls, interval: tuple[float, float] | None) -> tuple[float, float] | None:
        if interval is not None and not 0 <= interval[0] <= interval[1] <= 1:
            raise ValueError("must be two numbers, 0 <= from <= to <= 1")
        return interval


class GenerateConfig(Config):
    """Images for a prompt table.

    Attributes:
        prompts: Parquet file, or folder of them, local or s3://.
        model: Model folder: local, s3:// or hf://owner/name.
        output: Folder of the run, local or s3://.
        model_id: The model's name in the output; null for its URI without the scheme.
        unit_rows: Prompts a unit: what is lost and done again when a worker dies.
        batch_size: Images a batch. It can change the last bits of an image, as can the next two; of a score,
            too.
        dtype: Of the model's weights.
        compile: Compile the model and, on a GPU, replay captured graphs: minutes at a worker's start, for
            images of few sizes. Needs a C++ compiler there. It can change the last bits of an image.
        resources: The workers. `threads_per_actor` can change the last bits of an image, and so can a GPU in
            the place of a CPU; how many there are changes nothing.
        width: Pixels, for rows that name none; null for the model's own.
        height: The same.
        sampler: For rows that name no settings.
        num_images: Images a prompt, for rows that name no number.
        score: How good an image is asked for, by rows that do not say: in the units of the scores that the
            model was trained with, which its `generation_config.json` maps to the fifth micro-condition; of a
            model without such a mapping the micro-condition itself. Null for the model's own default.
        max_side: Pixels of the longest side that a row may ask for.
        seed: With the prompt's id it makes the seed of rows that have none.
        images: Images in the Parquet shards, in a WebDataset tar beside each, or as files.
        image_format: Of the images.
        image_quality: Of jpeg and webp, 1 to 100.
        tokens: Whether to keep the token grids.
        scorers: Scores to add, each by its kind; see `pipelines.scorers.settings`.
        scorer_dtype: Of the weights of the scorers' models.
        best_of: Which of a prompt's images to keep, by a score; null keeps all.
        row_images: What the `image` and `mask` of a row may name, and how large these may be. `max_bytes`,
            `max_pixels` and `max_redirects` decide which rows fail; its others are of the place it runs in.
        unit_timeout_s: Seconds that a worker may take for a unit; then its rows are run apart, and one that
            hangs becomes a dead letter.
        max_failure_rate: The job stops when more than this part of the rows fails.
        failure_rate_rows: Rows to see before it does.
        card: What the dataset card says of licence and origin.
    """

    prompts: Annotated[str, Operational()]
    model: Annotated[str, Operational()]
    output: Annotated[str, Operational()]
    model_id: str | None = None
    unit_rows: PositiveInt = 64
    batch_size: PositiveInt = 8
    dtype: Dtype = "float32"
    compile: bool = False
    resources: Resources = Resources(num_gpus="auto", num_cpus=0.5, threads_per_actor=1)
    width: PositiveInt | None = None
    height: PositiveInt | None = None
    sampler: SamplerSettings = SamplerSettings()
    num_images: int = Field(default=1, ge=1, le=MAX_IMAGES)
    score: float | None = Field(default=None, allow_inf_nan=False)
    max_side: int = Field(default=4096, ge=1, le=16_383)
    seed: int = 0
    images: Images = "parquet"
    image_format: ImageFormat = "png"
    image_quality: int = Field(default=95, ge=1, le=100)
    tokens: bool = True
    scorers: Scorers = ()
    scorer_dtype: Dtype = "float32"
    best_of: BestOf | None = None
    row_images: RowImages = RowImages()
    unit_timeout_s: Annotated[float, Operational()] = Field(default=3600.0, gt=0)
    max_failure_rate: Annotated[float, Operational()] = Field(default=0.5, ge=0, le=1)
    failure_rate_rows: Annotated[int, Operational()] = Field(default=200, ge=1)
    card: Annotated[CardSettings, Operational()] = CardSettings()

    @field_validator("best_of")
    @classmethod
    def _scores_are_there(cls, best_of: BestOf | None, info: ValidationInfo) -> BestOf | None:
        # a field that is not valid itself is missing here, and named in an error of its own
        if best_of is not None and {"scorers", "tokens"} <= info.data.keys():
            check_best_of(best_of, scorer_fields(info.data["scorers"]), info.data["tokens"])
        return best_of


def with_own(settings: SamplerSettings, own: SamplerConfig) -> SamplerSettings:
    """The settings with their nulls filled from a model's own."""
    given = {name: value for name, value in settings.model_dump().items() if value is not None}
    return SamplerSettings(**(own if settings.preset is None else own.fast()).to_json() | given)


def with_model_settings(config: GenerateConfig, folder: Path, name: str) -> GenerateConfig:
    """The config with its nulls filled from the model in `folder`."""
    own = read_generation_config(folder)
    changes: dict[str, Any] = {
        "sampler": with_own(config.sampler, own.sampler),
        "width": config.width or own.width,
        "height": config.height or own.height,
        "model_id": config.model_id or name,
    }
    return config.model_copy(update=changes)


def sampler_config(settings: SamplerSettings, row: dict[str, Any]) -> SamplerConfig:
    """The settings of one row: its own, else the job's, which have no nulls left but the schedule's.

    Raises:
        ValueError: One is out of range.
    """
    values = settings.model_dump(exclude={"preset"})
    for name in ("num_steps", "guidance_scale"):
        if row[name] is not None:
            values[name] = row[name]
    if row["temperature"] is not None:
        values["temperature"] = (row["temperature"], values["temperature"][1])
    return SamplerConfig(**values)
