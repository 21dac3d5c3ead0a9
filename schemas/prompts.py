"""Prompt tables: one row a prompt. Only `prompt` is required; columns not named here pass through."""

import json

import pyarrow as pa

from schemas.described import described, required

IMAGE = pa.struct([pa.field("bytes", pa.binary()), pa.field("path", pa.string())])
"""An image as Hugging Face datasets store it: encoded bytes, or a path, or both."""

SHOWN_AS_IMAGES = {"huggingface": json.dumps({"info": {"features": {"image": {"_type": "Image"}}}})}
"""Metadata of a schema by which Hugging Face datasets show its column `image` as images."""

PROMPTS = pa.schema(
    [
        required("prompt", pa.string(), "text to make images for"),
        described("prompt_id", pa.string(), "unique in the table; made from the row where absent"),
        described("negative_prompt", pa.string(), "text that guidance leads away from"),
        described("seed", pa.int64(), "of the first image; image i has seed + i"),
        described("width", pa.int32(), "pixels"),
        described("height", pa.int32(), "pixels"),
        described("num_steps", pa.int32(), "sampling steps"),
        described("guidance_scale", pa.float64(), "of classifier-free guidance"),
        described("temperature", pa.float64(), "of the confidence noise, at the first step"),
        described("score", pa.float64(), "that the image shall have, as the model's training images had one"),
        described("num_images", pa.int32(), "images to make"),
        described("image", IMAGE, "start image: bytes, or a path from the table's folder on, a URI or a URL"),
        described("mask", IMAGE, "white where the start image is made anew"),
        described("strength", pa.float64(), "of image-to-image, in (0, 1]"),
    ]
)
