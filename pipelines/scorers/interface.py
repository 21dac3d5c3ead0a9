"""What every scorer is: it adds columns to a batch of images and drops nothing."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class ImageBatch:
    """Some decoded images and their captions.

    Attributes:
        pixels: RGB, uint8 [height, width, 3] each; sizes differ.
        captions: Their texts; None where there is none.
        shared: What scorers of this batch computed for one another, such as embeddings, by name.
        events: What a user may want to know, such as "out of memory", and how often; for the unit's record.
    """

    pixels: Sequence[NDArray[np.uint8]]
    captions: Sequence[str | None]
    shared: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    events: Counter[str] = field(default_factory=Counter)

    def __len__(self) -> int:
        return len(self.pixels)


class Scorer(Protocol):
    """Built once an actor; loads its model there.

    Attributes:
        fields: The columns it adds, each named for predictor, backbone and version.
        min_side: Pixels of the shorter side below which images must not be scaled down for it; None where it
            needs every pixel.
    """

    @property
    def fields(self) -> Sequence[pa.Field]: ...  # noqa: D102

    @property
    def min_side(self) -> int | None: ...  # noqa: D102

    def score(self, batch: ImageBatch) -> dict[str, pa.Array]:
        """The columns of `fields` for these images, in order; an image's values depend on that image only."""
        ...
