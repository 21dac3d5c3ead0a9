"""The configurations of `score` and `curate`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveInt, model_validator

from pipelines.cards.settings import CardSettings
from pipelines.config import Config, Operational, Resources
from pipelines.decoding import DecodeLimits
from pipelines.dedup.settings import DedupSettings
from pipelines.images import ImageFormat
from pipelines.resizing import ResizeSettings
from pipelines.scorers.settings import PHashSettings, QualitySettings, Scorers, needs_model
from pipelines.selection.recipe import Recipe
from pipelines.sources import SourceSettings

KeptImages = Literal["none", "original", "resized"]


class ImageSettings(Config):
    """How images are written.

    Attributes:
        resize: Their size; they are never enlarged.
        format: Null keeps the encoded bytes as they are, which goes with `resize.mode: no` alone.
        quality: Of jpeg and webp, 1 to 100.
    """

    resize: ResizeSettings = ResizeSettings()
    format: ImageFormat | None = None
    quality: int = Field(default=95, ge=1, le=100)

    @model_validator(mode="after")
    def _encoded_again(self) -> ImageSettings:
        if self.format is None and self.resize.mode != "no":
            raise ValueError("resized images are encoded again: set format to jpeg, webp or png")
        return self


class ScoreSettings(Config):
    """How images are decoded and scored.

    Attributes:
        source: What the input is, and within which limits it is read.
        decode: How large an image may be.
        scorers: Columns to add, in order. Those without weights run where images are decoded.
        keep: Images to store beside the scores: `none`; `original`, their encoded bytes; `resized`, as
            `images` says. What was fetched from the web has to be kept, or an export would fetch it again.
        images: Of `keep: resized`.
        unit_rows: Images a unit: what is done again when a worker dies.
        batch_size: Images a batch of a model. It can change the last bits of a score, as can `dtype`.
        model_side: Pixels of the shorter side that models are given at least, where an image has as many;
            they scale it down themselves. Larger images are decoded at a reduced scale.
        dtype: Of the models' weights.
        decoders: The workers that decode, without GPU.
        models: The workers that hold the models, where a scorer has one.
        unit_timeout_s: Seconds that a worker may take for a unit; then its rows are run apart, and one that
            hangs becomes a dead letter.
        max_failure_rate: The job stops when more than this part of the images cannot be read or decoded.
        failure_rate_rows: Images to see before it does.
    """

    source: SourceSettings = SourceSettings()
    decode: DecodeLimits = DecodeLimits()
    scorers: Scorers = (PHashSettings(kind="phash"), QualitySettings(kind="quality"))
    keep: KeptImages = "none"
    images: ImageSettings = ImageSettings()
    unit_rows: PositiveInt = 256
    batch_size: PositiveInt = 64
    model_side: PositiveInt = 448
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    decoders: Resources = Resources(num_cpus=0.5, threads_per_actor=1)
    models: Resources = Resources(num_gpus="auto", num_cpus=0.5, threads_per_actor=1)
    unit_timeout_s: Annotated[float, Operational()] = Field(default=3600.0, gt=0)
    max_failure_rate: Annotated[float, Operational()] = Field(default=0.5, ge=0, le=1)
    failure_rate_rows: Annotated[int, Operational()] = Field(default=1000, ge=1)

    @property
    def has_models(self) -> bool:
        """Whether a scorer has weights."""
        return any(map(needs_model, self.scorers))


class ScoreConfig(ScoreSettings):
    """Scores for the images of a dataset.

    Attributes:
        input: WebDataset tars, Parquet, a folder of images, a URL table, or a dataset of this project.
        output: Folder of the run, local or s3://.
        card: What the dataset card says of licence and origin.
    """

    input: Annotated[str, Operational()]
    output: Annotated[str, Operational()]
    card: Annotated[CardSettings, Operational()] = CardSettings()


class ExportSettings(Config):
    """The training set that a selection becomes.

    Attributes:
        format: `webdataset`: tars with a Parquet file and statistics beside each; `parquet`: images in them.
        images: How images are written; those that scoring has kept resized are taken as they are.
        shard_rows: Images a shard at most.
        shard_bytes: Of their encoded images before they are resized, at most.
        workers: The workers that encode.
        unit_timeout_s: Seconds that a worker may take for a shard.
    """

    format: Literal["webdataset", "parquet"] = "webdataset"
    images: ImageSettings = ImageSettings()
    shard_rows: int = Field(default=10_000, ge=1, le=10_000)
    shard_bytes: PositiveInt = 512 << 20
    workers: Resources = Resources(num_cpus=0.5, threads_per_actor=1)
    unit_timeout_s: Annotated[float, Operational()] = Field(default=3600.0, gt=0)


class CurateConfig(Config):
    """From raw images to a training set.

    Attributes:
        input: WebDataset tars, Parquet, a folder of images, a URL table, or a dataset of this project.
        output: Folder of everything that curation makes, local or s3://.
        name: Of the selection and its training set: another recipe is another name.
        score: How images are decoded and scored.
        dedup: Which duplicates are looked for.
        recipe: What decides which images stay: a file, or the rules themselves.
        export: The training set; null to stop after the selection.
        card: What the cards of the scores and of the training set say of licence and origin.
    """

    input: str
    output: str
    name: str = Field(default="default", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    score: ScoreSettings = ScoreSettings()
    dedup: DedupSettings = DedupSettings()
    recipe: str | Recipe
    export: ExportSettings | None = ExportSettings()
    card: Annotated[CardSettings, Operational()] = CardSettings()
