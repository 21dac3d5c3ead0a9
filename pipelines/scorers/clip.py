"""How well an image fits its caption: the cosine of their CLIP embeddings (Radford et al., 2021)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipelines.scorers.batches import Batches
from pipelines.scorers.interface import ImageBatch
from pipelines.scorers.open_clip_models import ClipModel
from pipelines.scorers.settings import EMBEDDING


class ClipScorer:
    """CLIP similarity of images and captions.

    Attributes:
        name: What other scorers find the images' embeddings by, in `ImageBatch.shared`.
        fields: The cosine, and the embedding if it is wanted.
        min_side: Of the images.
    """

    def __init__(self, name: str, fields: Sequence[pa.Field], model: ClipModel, batch_size: int) -> None:
        self.name, self.fields, self.model = name, fields, model
        self.min_side = model.preprocessing.min_side
        self.images = Batches(f"{name}'s images", batch_size)
        self.texts = Batches(f"{name}'s captions", batch_size)

    def score(self, batch: ImageBatch) -> dict[str, pa.Array]:
        """Cosines in [-1, 1], null where there is no caption; embeddings of length one, float16 [D]."""
        model = self.model
        embeddings = self.images.run(batch.pixels, model.pixels, model.embed_images, batch.events)
        batch.shared[self.name] = embeddings
        columns = [pa.array(self._cosines(embeddings, batch), pa.float32())]
        if len(self.fields) > 1:
            columns.append(_lists(embeddings))
        return {field.name: column for field, column in zip(self.fields, columns, strict=True)}

    def _cosines(self, embeddings: NDArray[np.float32], batch: ImageBatch) -> list[float | None]:
        texts = list(dict.fromkeys(text for text in batch.captions if text and text.strip()))
        if not texts:
            return [None] * len(batch)
        of_texts = self.texts.run(texts, self.model.ids, self.model.embed_texts, batch.events)
        known = dict(zip(texts, of_texts, strict=True))
        return [
            float((image * known[text]).sum()) if text in known else None
            for image, text in zip(embeddings, batch.captions, strict=True)
        ]


def _lists(embeddings: NDArray[np.float32]) -> pa.Array:
    values, count = embeddings.astype(np.float16).ravel(), len(embeddings)
    offsets = np.arange(count + 1, dtype=np.int32) * (values.size // max(count, 1))
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(values, EMBEDDING.value_type))
