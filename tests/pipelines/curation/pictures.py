"""Small images and source rows for the tests of curation."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

from schemas.images import SOURCE_ROWS


def picture(seed: int, width: int = 96, height: int = 64) -> NDArray[np.uint8]:
    """Soft blobs of colour, other ones for each seed, uint8 [height, width, 3]."""
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


def encoded(pixels: NDArray[np.uint8], image_format: str = "jpeg") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, image_format)
    return buffer.getvalue()


def source_rows(images: Sequence[bytes], **others: Sequence[object]) -> pa.Table:
    """Rows as a source gives them."""
    count = len(images)
    columns = {
        "row_id": [f"a.tar:{n}" for n in range(count)],
        "source_path": ["a.tar"] * count,
        "source_row": list(range(count)),
        "key": [f"k{n}" for n in range(count)],
        "uid": [f"{n:032x}" for n in range(count)],
        "caption": [f"caption {n}" for n in range(count)],
        "image_path": [f"k{n}.jpg" for n in range(count)],
        "encoded": list(images),
    }
    arrays = [pa.array(columns.get(f.name, [None] * count), f.type) for f in SOURCE_ROWS]
    table = pa.table(arrays, schema=SOURCE_ROWS)
    for name, values in others.items():
        table = table.append_column(name, pa.array(values))
    return table


def write_folder(folder: Path, count: int, width: int = 96, height: int = 64) -> list[str]:
    """A folder of pictures with captions beside them; gives their names."""
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"{n:03d}" for n in range(count)]
    for seed, name in enumerate(names):
        (folder / f"{name}.jpg").write_bytes(encoded(picture(seed, width, height)))
        (folder / f"{name}.txt").write_text(f"picture number {seed}")
    return names
