"""Prompt tables: one row a prompt. Only `prompt` is required; columns not named here pass through."""

import json

import pyarrow as pa

IMAGE = pa.struct([pa.field("bytes", pa.binary()), pa.field("path", pa.string())])
"""An image as Hugging Face datasets store it: encoded bytes, or a path, or both."""

SHOWN_AS_IMAGES = {"huggingface": json.dumps({"info": {"features": {"image": {"_type": "Image"}}}})}
"""Metadata of a schema by which Hugging Face datasets show its column `image` as images."""

PROMPTS = pa.schema(
    [
        pa.field("prompt", pa.string(), nullable=False),
        pa.field("prompt_id", pa.string()),  # unique in the table; made from the row where absent
        pa.field("negative_prompt", pa.string()),
        pa.field("seed", pa.int64()),  # of the first image; image i has seed + i
        pa.field("width", pa.int32()),  # pixels
        pa.field("height", pa.int32()),
        pa.field("num_steps", pa.int32()),
        pa.field("guidance_scale", pa.float64()),
        pa.field("temperature", pa.float64()),  # of the confidence noise at the first step
        pa.field("score", pa.float64()),  # that the image shall have, as the model's training images had one
        pa.field("num_images", pa.int32()),
        pa.field("image", IMAGE),  # start image: bytes, or a path from the table's folder on, a URI or a URL
        pa.field("mask", IMAGE),  # white where the start image is made anew
        pa.field("strength", pa.float64()),  # of image-to-image, in (0, 1]
    ]
)
