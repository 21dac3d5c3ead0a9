"""How large everything is that the suite measures: as released, or toys that a CPU runs in seconds."""

from __future__ import annotations

import dataclasses
import functools
import json

import torch

from benchmarks.random_models import TOKENIZER_VOCAB, random_model
from meissonic import Meissonic, SamplerConfig, SampleRequest, TextConfig, TransformerConfig, VQConfig

DTYPE = torch.bfloat16
PROMPTS = ("a lighthouse on a cliff at dusk", "two red foxes asleep in the snow", "a glass of water")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scale:
    """Sizes of models, images, batches and repetitions."""

    transformer: TransformerConfig
    vq: VQConfig
    text: TextConfig
    side: int
    """Pixels along a side of an image."""
    num_steps: int
    batch_sizes: tuple[int, ...]
    compared_batch_sizes: tuple[int, ...]
    """At which the ways to sample are compared."""
    repetitions: int
    matmul_sizes: tuple[int, ...]
    """Rows of the matrices of the rate that all else is compared with; the best counts."""
    matmul_products: int
    """Products timed together, so that starting them costs nothing."""
    invariance_steps: int
    job_transformer: TransformerConfig
    job_vq: VQConfig
    job_text: TextConfig
    job_side: int
    job_prompts: int
    job_unit_rows: int
    job_batch_size: int
    job_steps: int
    clips: tuple[tuple[str, str], ...]
    """Models that score: what to call it, and open_clip's name or a configuration in JSON."""
    clip_images: int
    clip_batch_size: int
    compiles: bool
    """Whether compiled models are measured too: a CPU's compiler takes a minute."""
    training_batch_sizes: tuple[int, ...]
    """Of micro-batches, the most important first."""
    tokenizing: tuple[tuple[int, tuple[int, ...]], ...]
    """Sides of images in pixels, and batch sizes of each, the least first."""
    shapes_images: int
    """That a shapes model is trained on."""
    shapes_width: int
    """Of its transformer, whose settings follow: changes to `examples/shapes/train.yaml`."""
    shapes_train: tuple[str, ...]
    shapes_batch_size: int
    shapes_probe_steps: int
    shapes_train_s: float
    """Seconds of its training, about, after so many steps that tell the rate."""
    shapes_captions: int
    """Of a set, at most, that are checked."""


def _transformer(
    *, double: int, single: int, heads: int, head_dim: int, axes: tuple[int, ...], codes: int
) -> TransformerConfig:
    return TransformerConfig(
        num_layers=double,
        num_single_layers=single,
        num_attention_heads=heads,
        attention_head_dim=head_dim,
        axes_dims_rope=axes,
        joint_attention_dim=heads * head_dim,
        pooled_projection_dim=heads * head_dim,
        codebook_size=codes,
        vocab_size=codes + 64,
    )


def _text(width: int) -> TextConfig:
    return TextConfig(
        vocab_size=TOKENIZER_VOCAB,
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=2,
        num_attention_heads=width // 16,
        projection_dim=width,
    )


def _vq(*channels: int, codes: int) -> VQConfig:
    return VQConfig(
        block_out_channels=channels, layers_per_block=1, num_vq_embeddings=codes, norm_num_groups=4
    )


FULL = Scale(
    transformer=TransformerConfig(),
    vq=VQConfig(),
    text=TextConfig(),
    side=1024,
    num_steps=48,
    batch_sizes=(1, 2, 4, 8, 16, 32, 64),
    compared_batch_sizes=(8,),
    repetitions=2,
    matmul_sizes=(4096, 8192),
    matmul_products=20,
    invariance_steps=8,
    job_transformer=_transformer(double=6, single=12, heads=8, head_dim=64, axes=(16, 24, 24), codes=8192),
    job_vq=_vq(64, 64, 128, 128, 256, codes=8192),
    job_text=_text(512),
    job_side=512,
    job_prompts=1024,
    job_unit_rows=64,
    job_batch_size=32,
    job_steps=16,
    clips=(("ViT-L-14", "ViT-L-14"), ("ViT-H-14", "ViT-H-14")),
    clip_images=512,
    clip_batch_size=64,
    compiles=True,
    training_batch_sizes=(16, 32, 8),
    tokenizing=((512, (8, 32, 64)), (1024, (8, 32))),
    shapes_images=24_000,
    shapes_width=256,
    shapes_train=(
        "transformer.num_layers=4",
        "transformer.num_single_layers=8",
        "transformer.num_attention_heads=8",
        "stages.0.learning_rate=1e-3",
        "stages.0.warmup_steps=200",
        "workers.compile=true",
    ),
    shapes_batch_size=256,
    shapes_probe_steps=200,
    shapes_train_s=150.0,
    shapes_captions=300,
)
_TOY_CLIP = json.dumps(
    {
        "embed_dim": 16,
        "vision_cfg": {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
    }
)
SMALL = Scale(
    transformer=_transformer(double=1, single=1, heads=2, head_dim=16, axes=(4, 6, 6), codes=64),
    vq=_vq(8, 8, 8, codes=64),
    text=_text(32),
    side=32,
    num_steps=3,
    batch_sizes=(1, 2),
    compared_batch_sizes=(2,),
    repetitions=1,
    matmul_sizes=(64,),
    matmul_products=1,
    invariance_steps=3,
    job_transformer=_transformer(double=1, single=1, heads=2, head_dim=16, axes=(4, 6, 6), codes=64),
    job_vq=_vq(8, 8, 8, codes=64),
    job_text=_text(32),
    job_side=32,
    job_prompts=5,
    job_unit_rows=3,
    job_batch_size=2,
    job_steps=2,
    clips=(("toy", _TOY_CLIP),),
    clip_images=5,
    clip_batch_size=2,
    compiles=False,
    training_batch_sizes=(2, 1),
    tokenizing=((32, (1, 2)),),
    shapes_images=300,
    shapes_width=128,
    shapes_train=(
        "transformer.num_layers=1",
        "transformer.num_single_layers=1",
        "transformer.num_attention_heads=4",
        "stages.0.warmup_steps=1",
        "logging.every_steps=1",
    ),
    shapes_batch_size=16,
    shapes_probe_steps=4,
    shapes_train_s=1.0,
    shapes_captions=4,
)


@functools.lru_cache(maxsize=1)
def main_model(scale: Scale, device: str) -> Meissonic:
    """The model of most measurements, made once."""
    return random_model(scale.transformer, scale.vq, scale.text, dtype=DTYPE, device=device)


def requests(scale: Scale, count: int, num_steps: int) -> list[SampleRequest]:
    """Guided text-to-image requests of the released pipeline's settings."""
    return [
        SampleRequest(
            prompt=f"{PROMPTS[i % len(PROMPTS)]}, number {i}",
            seed=1000 + i,
            width=scale.side,
            height=scale.side,
            config=SamplerConfig(num_steps=num_steps),
        )
        for i in range(count)
    ]
