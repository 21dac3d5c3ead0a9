"""Generated images: one row a sample, with all that is needed to make it again."""

from collections.abc import Iterable

import pyarrow as pa

from schemas.described import described, required
from schemas.prompts import IMAGE, SHOWN_AS_IMAGES

TOKEN = pa.uint16()

GENERATIONS = pa.schema(
    [
        required("sample_id", pa.string(), "hash of prompt, index, seed, settings and model: unique"),
        required("prompt_id", pa.string(), "the prompt table's own, or a hash of its row"),
        required("sample_index", pa.int32(), "among the images of its prompt, 0 to num_images - 1"),
        required("prompt", pa.string(), "text that the image was made for"),
        required("negative_prompt", pa.string(), "text that guidance leads away from; empty for none"),
        required("seed", pa.int64(), "of the sample's noise"),
        required("width", pa.int32(), "pixels"),
        required("height", pa.int32(), "pixels"),
        required("num_steps", pa.int32(), "sampling steps"),
        required("guidance_scale", pa.float64(), "of classifier-free guidance; none at 1 or below"),
        required("temperature", pa.float64(), "of the confidence noise, at the first step"),
        required("temperature_end", pa.float64(), "of the confidence noise, at the last step"),
        required("softmax_temperature", pa.float64(), "divides the logits before a code is drawn"),
        required("masking_schedule", pa.string(), "how fast positions were decided: cosine or linear"),
        described("approximations", pa.string(), "JSON: what made it another sampler than the released one"),
        required("score", pa.float64(), "quality that was asked for; the image's own is a scorer's"),
        described("strength", pa.float64(), "of image-to-image, in (0, 1]; null without a start image"),
        described("source_image_id", pa.string(), "SHA-256 of the start image's bytes; null without one"),
        described("source_mask_id", pa.string(), "SHA-256 of the mask's bytes; null without one"),
        required("model_id", pa.string(), "the model's name"),
        required("model_digest", pa.string(), "SHA-256 over the model's files"),
        # nullable, as the Image feature of Hugging Face datasets is
        described("image", IMAGE, "bytes and name, or the path from data/ on; null where it is not kept"),
    ]
)
IMAGE_SUFFIXES = {"png": "png", "jpeg": "jpg", "webp": "webp"}
"""Of image files, and of the images in WebDataset shards, by their format."""
TOKENS = required("tokens", pa.list_(pa.list_(TOKEN)), "VQ codes: rows of the grid")
"""Rows of the token grid; where the job keeps them."""
RANKS = [
    required("rank", pa.int32(), "among the images of its prompt, 0 for the best"),
    required("kept", pa.bool_(), "whether it is among the best; others may have no image"),
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
    fields += [described(f.name, f.type, "of the prompt table, as it was there") for f in passed_through]
    names = [field.name for field in fields]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(
            f"columns {', '.join(repeated)} of the prompt table or of `scorers` have the names of output "
            "columns; rename them there"
        )
    return pa.schema(fields, metadata=SHOWN_AS_IMAGES)
