"""From images just made to rows of GENERATIONS: ranked within their prompt, encoded, put in order."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from meissonic import SampleRequest
from pipelines.best_of import BestOf
from schemas.generations import TOKEN

Encode = Callable[[NDArray[np.uint8]], Future[bytes]]


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """One image to make.

    Attributes:
        row: Index of its prompt within the rows at hand.
        request: For the sampler.
        facts: Its values in GENERATIONS but for the image.
    """

    row: int
    request: SampleRequest
    facts: dict[str, Any]


@dataclass(kw_only=True)
class Made:
    """What became of one image.

    Attributes:
        tokens: uint16 [h, w].
        scores: One row with the scorers' columns.
        pixels: RGB, uint8 [H, W, 3]; None once they are being encoded, or never will be.
        encoded: The image, which may still be in the making; None where it has none.
        rank: Among the images of its prompt, 0 for the best.
        kept: Whether it is one of the best.
    """

    tokens: NDArray[np.uint16]
    scores: pa.RecordBatch
    pixels: NDArray[np.uint8] | None
    encoded: Future[bytes] | None = None
    rank: int = 0
    kept: bool = True


class Results:
    """Takes images as they are made, and encodes those that stay beside the next batch's compute.

    Where losers get no image, the encoding of a prompt's images waits until the last of them is made; until
    then only the pixels of the best so far are held.

    Attributes:
        made: By index into `wanted`; None where its logits were not finite.
    """

    def __init__(self, wanted: Sequence[Wanted], best_of: BestOf | None, encode: Encode) -> None:
        self.wanted, self.best_of, self.encode = wanted, best_of, encode
        self.made: dict[int, Made | None] = {}
        self.of_row: dict[int, list[int]] = {}
        for index, image in enumerate(wanted):
            self.of_row.setdefault(image.row, []).append(index)

    def add(self, images: Mapping[int, Made | None]) -> None:
        """Take some more, by index."""
        self.made |= images
        if self.best_of is None or self.best_of.losers == "keep":
            for made in images.values():
                self._encode(made)
        if self.best_of is not None:
            for row in {self.wanted[index].row for index in images}:
                self._rank(self.best_of, self.of_row[row])

    def finished(self, failed: Mapping[int, Any]) -> list[tuple[Wanted, Made]]:
        """What goes into the table, in order, but for the images of the prompt rows that failed."""
        found = []
        for index, image in enumerate(self.wanted):
            made = self.made[index]
            if made is None or image.row in failed:
                continue
            if made.kept or self.best_of is None or self.best_of.losers != "drop":
                found.append((image, made))
        return found

    def _rank(self, best_of: BestOf, indices: Sequence[int]) -> None:
        """Rank those of a prompt's images that are there; at the last one encode those that stay."""
        there = [made for index in indices if (made := self.made.get(index)) is not None]
        scores = [made.scores[best_of.rank_by][0].as_py() for made in there]
        for rank, place in enumerate(best_of.ranked(scores)):
            made = there[place]
            made.rank, made.kept = rank, rank < best_of.keep
            if not made.kept:
                made.pixels = None  # those to come cannot make it one of the best again
            elif all(index in self.made for index in indices):
                self._encode(made)

    def _encode(self, made: Made | None) -> None:
        if made is not None and made.pixels is not None:
            made.encoded, made.pixels = self.encode(made.pixels), None


def generation_table(
    schema: pa.Schema,
    images: Sequence[tuple[Wanted, Made]],
    *,
    scores: pa.Schema,
    suffix: str,
    passed_through: pa.Table,
) -> pa.Table:
    """The rows of these images; waits for their encoding.

    Args:
        schema: Of the result, see `generations_schema`.
        images: In order.
        scores: The scorers' columns.
        suffix: Of the images' names.
        passed_through: The prompt table's other columns, one row for each row of prompts.
    """
    scored = pa.Table.from_batches([made.scores for _, made in images], schema=scores)
    others = passed_through.take(pa.array([image.row for image, _ in images], pa.int64()))
    columns = []
    for column in schema:
        if column.name in others.column_names:
            columns.append(others[column.name].combine_chunks())
        elif column.name in scores.names:
            columns.append(scored[column.name].combine_chunks())
        elif column.name == "image":
            values = [
                {"bytes": made.encoded.result(), "path": f"{image.facts['sample_id']}.{suffix}"}
                if made.encoded is not None
                else None
                for image, made in images
            ]
            columns.append(pa.array(values, column.type))
        elif column.name == "tokens":
            columns.append(token_column([made.tokens for _, made in images]))
        elif column.name in ("rank", "kept"):
            columns.append(pa.array([getattr(made, column.name) for _, made in images], column.type))
        else:
            columns.append(pa.array([image.facts[column.name] for image, _ in images], column.type))
    return pa.table(columns, schema=schema)


def token_column(grids: Sequence[NDArray[np.uint16]]) -> pa.Array:
    """Token grids [h, w], of any sizes, as lists of rows."""
    row_lengths = np.concatenate([[0], *(np.full(len(grid), grid.shape[1]) for grid in grids)]).astype(
        np.int64
    )
    grid_lengths = np.array([0, *(len(grid) for grid in grids)], np.int64)
    values = pa.array(np.concatenate([np.empty(0, np.uint16), *(grid.ravel() for grid in grids)]), TOKEN)
    rows = pa.ListArray.from_arrays(pa.array(row_lengths.cumsum(), pa.int32()), values)
    return pa.ListArray.from_arrays(pa.array(grid_lengths.cumsum(), pa.int32()), rows)
