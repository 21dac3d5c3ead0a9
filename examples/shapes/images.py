"""Draw scenes as a table of images with captions, as raw as a collection is before it is curated.

FOLDER/00000.parquet …   image, caption, captions (alternatives that leave attributes unsaid) and, where
                         images are blurred, score: 10 for a sharp one, less for each pixel of blur
"""

import io
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, ImageFilter

from examples.shapes.dataset import sample_scenes
from examples.shapes.drawing import draw
from examples.shapes.world import PLACES, Scene, caption, forget, spoken
from schemas.prompts import IMAGE

SHARD_ROWS = 2_000
BEST_SCORE, LOST_PER_PX = 10.0, 1.0
_SCHEMA = pa.schema(
    [
        pa.field("image", IMAGE),
        pa.field("caption", pa.string()),
        pa.field("captions", pa.list_(pa.string())),
    ]
)


@dataclass(frozen=True, kw_only=True)
class ImageSet:
    """Which images to draw.

    Attributes:
        num_images: Of scenes of the training split, with replacement; each is moved and scaled a little.
        two_object_share: How many of them show two shapes.
        places: Of shapes that are alone.
        num_copies: Images that are there a second time.
        num_alternatives: Captions beside the whole one.
        forget_rate: How often such a caption leaves out an attribute.
        blurred_share: How many of them are blurred.
        blur_px: Least and greatest standard deviation of the blur.
        seed: Of all that is drawn.
    """

    num_images: int
    two_object_share: float
    places: tuple[str, ...] = tuple(PLACES)
    num_copies: int = 100
    num_alternatives: int = 8
    forget_rate: float = 0.3
    blurred_share: float = 0.0
    blur_px: tuple[float, float] = (4.0, 6.0)
    seed: int = 3


def write_images(folder: Path, images: ImageSet) -> None:
    """Write the shards, unless they are there; the folder appears when it is whole."""
    if folder.exists():
        return
    rng = np.random.default_rng(images.seed)
    share, places = images.two_object_share, images.places
    scenes = sample_scenes("train", images.num_images, rng, two_object_share=share, places=places)
    rows = [_row(scene, images, rng) for scene in scenes]
    rows += [rows[index] for index in rng.choice(len(rows), images.num_copies, replace=False)]
    rows = [rows[index] for index in rng.permutation(len(rows))]
    schema = _SCHEMA.append(pa.field("score", pa.float32())) if images.blurred_share else _SCHEMA
    temporary = folder.with_name(f"{folder.name}.new")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    for number, start in enumerate(range(0, len(rows), SHARD_ROWS)):
        table = pa.Table.from_pylist(rows[start : start + SHARD_ROWS], schema=schema)
        pq.write_table(table, temporary / f"{number:05d}.parquet")
    temporary.rename(folder)


def _row(scene: Scene, images: ImageSet, rng: np.random.Generator) -> dict[str, Any]:
    picture = Image.fromarray(draw(scene, rng))
    blur_px = 0.0
    if images.blurred_share and rng.random() < images.blurred_share:
        blur_px = rng.uniform(*images.blur_px)
        picture = picture.filter(ImageFilter.GaussianBlur(blur_px))
    buffer = io.BytesIO()
    picture.save(buffer, "png")
    said = spoken(scene)
    return {
        "image": {"bytes": buffer.getvalue(), "path": None},
        "caption": caption(said),
        "captions": [caption(forget(said, rng, images.forget_rate)) for _ in range(images.num_alternatives)],
        "score": BEST_SCORE - LOST_PER_PX * blur_px,
    }
