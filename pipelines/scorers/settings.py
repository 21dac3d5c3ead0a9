"""Which scorers a job runs, and the columns that they add; nothing here loads a model.

scorers:
  - kind: clip
    model: hf://timm/vit_large_patch14_clip_224.openai
    embedding: true
  - kind: aesthetic_laion_v2
    weights: s3://bucket/weights/sac+logos+ava1-l14-linearMSE.pth
    sha256: 21dd590f3ccdc646f0d53120778b296013b096a035a2718c9cb0d511bff0f1e0
"""

from __future__ import annotations

import abc
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Annotated, Literal

import pyarrow as pa
from pydantic import AfterValidator, Field, model_validator
from typing_extensions import override

from pipelines.config import Config
from pipelines.scorers.quality import Quality
from pipelines.storage import without_options
from schemas.described import described

WEIGHT_SUFFIXES = (".safetensors", ".pt", ".pth", ".bin", ".ckpt")
"""A URI that ends so names a file of weights, any other a folder."""
EMBEDDING = pa.list_(pa.float16())

ColumnName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class _Named(Config, abc.ABC):
    """A scorer with one score.

    Attributes:
        name: Of its column.
    """

    name: ColumnName

    @property
    @abc.abstractmethod
    def description(self) -> str:
        """Of the score: predictor, backbone and version, range, unit, and what null means."""

    def fields(self) -> list[pa.Field]:
        """The column."""
        return [described(self.name, pa.float32(), self.description)]


class ClipSettings(_Named):
    """Cosine of the CLIP embeddings of image and caption; null where there is no caption.

    Any model of open_clip, as a folder in its form or as a file of weights whose tensors have its names.

    Attributes:
        kind: `clip`.
        name: Of the column, and what heads name it by.
        model: A folder with `open_clip_config.json` and the weights, or a file of weights, `.safetensors` or
            a state dict saved by torch: local, s3:// or hf://. OpenAI's own `.pt` files are TorchScript
            archives, which are programs, and are refused; hf://timm/vit_large_patch14_clip_224.openai has the
            same weights.
        architecture: With a file, open_clip's name of what the weights are for: `ViT-L-14-quickgelu` for
            those of OpenAI, `ViT-L-14` for those of LAION. A folder says it itself.
        sha256: Of the file; of a folder the digest that a job's `run.json` shows. Null takes what is there.
        embedding: Whether to add the column `NAME_embedding`, the image's embedding of length one.
    """

    kind: Literal["clip"]
    name: ColumnName = "clip_vit_l_14"
    model: str
    architecture: str | None = None
    sha256: Sha256 | None = None
    embedding: bool = False

    @model_validator(mode="after")
    def _architecture_of_a_file(self) -> ClipSettings:
        if is_file(self.model) and self.architecture is None:
            raise ValueError(f"'{self.model}' is a file of weights; name open_clip's model in `architecture`")
        if self.architecture is not None and not is_file(self.model):
            raise ValueError(
                f"'{self.model}' is a folder, whose open_clip_config.json says the architecture; "
                "leave `architecture` out, or name a file of weights "
                f"({', '.join(WEIGHT_SUFFIXES)})"
            )
        return self

    @property
    @override
    def description(self) -> str:
        return f"CLIP score by {self._backbone}: cosine of image and caption, -1 to 1; null without a caption"

    @override
    def fields(self) -> list[pa.Field]:
        """The cosine, and the embedding if it is wanted."""
        text = f"of the image by {self._backbone}; its length is one"
        embedding = [described(f"{self.name}_embedding", EMBEDDING, text)] if self.embedding else []
        return [*super().fields(), *embedding]

    @property
    def _backbone(self) -> str:
        weights = _last_name(self.model)
        return weights if self.architecture is None else f"{self.architecture} ({weights})"


class HpsSettings(_Named):
    """Human Preference Score v2.1 (Wu et al., 2023): cosine of image and caption in a CLIP tuned on choices.

    It ranks images of one caption; null where there is none.

    Attributes:
        kind: `hps_v2_1`.
        name: Of the column.
        model: `HPS_v2.1_compressed.pt`, or a folder in open_clip's form: local, s3:// or hf://.
        architecture: open_clip's name of what the weights of a file are for.
        sha256: Of the file; of a folder its digest. Null takes what is there.
    """

    kind: Literal["hps_v2_1"]
    name: ColumnName = "hps_v2_1"
    model: str
    architecture: str = "ViT-H-14"
    sha256: Sha256 | None = None

    @property
    @override
    def description(self) -> str:
        return (
            f"Human Preference Score by {self.architecture} ({_last_name(self.model)}): cosine of image and "
            "caption, -1 to 1; null without a caption"
        )


class AestheticSettings(_Named):
    """LAION's aesthetic predictor v2: about 1 to 10, from the image's embedding by OpenAI's ViT-L/14.

    Attributes:
        kind: `aesthetic_laion_v2`.
        name: Of the column.
        clip: Name of the `clip` scorer, earlier in the list, whose embedding it takes.
        weights: `sac+logos+ava1-l14-linearMSE.pth`, or the same as safetensors: local, s3:// or hf://.
        sha256: Of the file; null takes what is there.
    """

    kind: Literal["aesthetic_laion_v2"]
    name: ColumnName = "aesthetic_laion_v2"
    clip: str = "clip_vit_l_14"
    weights: str
    sha256: Sha256 | None = None

    @property
    @override
    def description(self) -> str:
        weights = _last_name(self.weights)
        return f"LAION aesthetic predictor v2 ({weights}) on the embedding of {self.clip}: about 1 to 10"


class NsfwSettings(_Named):
    """LAION's detector of unsafe images: a probability, from the image's embedding by OpenAI's ViT-L/14.

    Attributes:
        kind: `nsfw_laion_vit_l_14`.
        name: Of the column.
        clip: Name of the `clip` scorer, earlier in the list, whose embedding it takes.
        weights: Safetensors with `norm.mean`, `norm.variance` and `layers.N.weight` and `.bias`: local, s3://
            or hf://.
        sha256: Of the file; null takes what is there.
    """

    kind: Literal["nsfw_laion_vit_l_14"]
    name: ColumnName = "nsfw_laion_vit_l_14"
    clip: str = "clip_vit_l_14"
    weights: str
    sha256: Sha256 | None = None

    @property
    @override
    def description(self) -> str:
        weights = _last_name(self.weights)
        return f"LAION's detector of unsafe images ({weights}) on the embedding of {self.clip}: 0 to 1"


class WatermarkSettings(_Named):
    """LAION's watermark detector: the probability that an image has one.

    Attributes:
        kind: `watermark_laion`.
        name: Of the column.
        weights: `watermark_model_v1.pt`, or the same as safetensors: local, s3:// or hf://.
        sha256: Of the file; null takes what is there.
    """

    kind: Literal["watermark_laion"]
    name: ColumnName = "watermark_laion"
    weights: str
    sha256: Sha256 | None = None

    @property
    @override
    def description(self) -> str:
        return f"LAION's watermark detector ({_last_name(self.weights)}): probability of one, 0 to 1"


class PHashSettings(_Named):
    """Perceptual hash, by which near duplicates are found: 64 bits, most of them the same.

    Attributes:
        kind: `phash`.
        name: Of the column.
    """

    kind: Literal["phash"]
    name: ColumnName = "phash"

    @property
    @override
    def description(self) -> str:
        return "perceptual hash, 64 bits: near duplicates share most of them"

    @override
    def fields(self) -> list[pa.Field]:
        """The hash."""
        return [described(self.name, pa.uint64(), self.description)]


class QualitySettings(Config):
    """What an image's pixels say of its quality.

    Attributes:
        kind: `quality`.
    """

    kind: Literal["quality"]

    def fields(self) -> list[pa.Field]:
        """The measures."""
        return list(Quality.fields)


HeadSettings = AestheticSettings | NsfwSettings
ModelSettings = ClipSettings | HpsSettings | AestheticSettings | NsfwSettings | WatermarkSettings
ScorerSettings = Annotated[
    ClipSettings
    | HpsSettings
    | AestheticSettings
    | NsfwSettings
    | WatermarkSettings
    | PHashSettings
    | QualitySettings,
    Field(discriminator="kind"),
]


def is_file(uri: str) -> bool:
    """Whether a URI names a file of weights, and not a folder."""
    return PurePosixPath(without_options(uri)).suffix.lower() in WEIGHT_SUFFIXES


def _last_name(uri: str) -> str:
    """What a description calls a model: no folders of the machine that scored."""
    return PurePosixPath(without_options(uri)).name


def needs_model(settings: ScorerSettings) -> bool:
    """Whether a scorer loads weights; the others need a CPU and every pixel."""
    return isinstance(settings, ModelSettings)


def scorer_fields(settings: Sequence[ScorerSettings]) -> list[pa.Field]:
    """The columns of all scorers, in order."""
    return [field for one in settings for field in one.fields()]


def check_scorers(settings: tuple[ScorerSettings, ...]) -> tuple[ScorerSettings, ...]:
    """The scorers, if they can run together.

    Raises:
        ValueError: Two add the same column, or a head's `clip` is no clip scorer before it.
    """
    names = [field.name for field in scorer_fields(settings)]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"two scorers add the column '{repeated[0]}'; give one of them another `name`")
    clips = [one.name for one in settings if isinstance(one, ClipSettings)]
    seen: list[str] = []
    for one in settings:
        if isinstance(one, ClipSettings):
            seen.append(one.name)
        elif isinstance(one, HeadSettings) and one.clip not in seen:
            remedy = (
                "list that one first"
                if one.clip in clips
                else f"set `clip` to one of {', '.join(clips)}"
                if clips
                else "add a scorer of kind clip before it"
            )
            raise ValueError(f"'{one.name}' takes the embedding of the clip scorer '{one.clip}'; {remedy}")
    return settings


Scorers = Annotated[tuple[ScorerSettings, ...], AfterValidator(check_scorers)]
"""The `scorers` of a job's configuration."""
