"""Generated images: one row a sample, with all that is needed to make it again."""

from collections.abc import Iterable

import pyarrow as pa

from schemas.prompts import IMAGE, SHOWN_AS_IMAGES

TOKEN = pa.uint16()

GENERATIONS = pa.schema(
    [
        pa.field("sample_id", pa.string(), nullable=False),
        pa.field("prompt_id", pa.string(), nullable=False),
        pa.field("sample_index", pa.int32(), nullable=False),  # 0 to num_images - 1
        pa.field("prompt", pa.string(), nullable=False),
        pa.field("negative_prompt", pa.string(), nullable=False),
        pa.field("seed", pa.int64(), nullable=False),
        pa.field("width", pa.int32(), nullable=False),  # pixels
        pa.field("height", pa.int32(), nullable=False),
        pa.field("num_steps", pa.int32(), nullable=False),
        pa.field("guidance_scale", pa.float64(), nullable=False),
        pa.field("temperature", pa.float64(), nullable=False),  # of the confidence noise, at the first step
        pa.field("temperature_end", pa.float64(), nullable=False),  # at the last
        pa.field("softmax_temperature", pa.float64(), nullable=False),
        pa.field("masking_schedule", pa.string(), nullable=False),
        pa.field("approximations", pa.string()),  # JSON: what made it another sampler than the released one
        pa.field("score", pa.float64(), nullable=False),  # that was asked for; the image's own is a scorer's
        pa.field("strength", pa.float64()),  # image-to-image only
        pa.field("source_image_id", pa.string()),  # SHA-256 of the start image's encoded bytes
        pa.field("source_mask_id", pa.string()),
        pa.field("model_id", pa.string(), nullable=False),
        pa.field("model_digest", pa.string(), nullable=False),
        pa.field("image", IMAGE),  # nullable, as the Image feature of Hugging Face datasets is
    ]
)
IMAGE_SUFFIXES = {"png": "png", "jpeg": "jpg", "webp": "webp"}
"""Of image files, and of the images in WebDataset shards, by their format."""
TOKENS = pa.field("tokens", pa.list_(pa.list_(TOKEN)), nullable=False)
"""Rows of the token grid; where the job keeps them."""
RANKS = [
    pa.field("rank", pa.int32(), nullable=False),  # 0 for the best of the prompt's images
    pa.field("kept", pa.bool_(), nullable=False),  # whether it is among the best; a loser may have no image
]
"""Where a job keeps the best of a prompt's images."""


def generations_schema(
    *, tokens: bool, scores: Iterable[pa.Field], ranks: bool, passed_through: Iterable[pa.Field]
) -> pa.Schema:
    """The schema of a job's shards.

    Args:
        tokens: Whether the token grids are kept.
        scores: The score columns, their names carrying predictor, backbone and version.
        ranks: Whether a prompt's images are ranked.
        passed_through: The prompt table's other columns.

    Raises:
        ValueError: Two columns would have the same name.
    """
    fields = [*GENERATIONS, *([TOKENS] if tokens else []), *scores, *(RANKS if ranks else [])]
    fields += [pa.field(field.name, field.type) for field in passed_through]
    names = [field.name for field in fields]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(
            f"columns {', '.join(repeated)} of the prompt table or of `scorers` have the names of output "
            "columns; rename them there"
        )
    return pa.schema(fields, metadata=SHOWN_AS_IMAGES)
