"""The search for each kind of duplicates by Ray tasks: rows are split by key, then each part is searched."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import ray

from pipelines.dedup import tasks
from pipelines.dedup.columns import (
    DedupError,
    Piece,
    embedding_width,
    is_embedding,
    is_hash,
    open_scores,
    pieces_of,
)
from pipelines.dedup.near import num_blocks
from pipelines.dedup.pairs import Target
from pipelines.dedup.settings import DedupSettings, NearSettings, SemanticSettings
from pipelines.storage import Storage
from pipelines.tasks import task_result
from schemas.manifest import ObjectEntry

PIECE_ROWS, MAX_PIECES = 65_536, 400
"""Rows that a task reads; more of them where there would be too many tasks."""
PART_ROWS = 4_000_000
"""Rows of a part of which only hashes and ids are held."""
CLUSTERED_ROWS = 250_000
"""Rows of a part of which embeddings are held."""
SAMPLE_A_CLUSTER = 32
MAX_TABLE_TASKS = 64
_SPREAD = {"num_cpus": 1, "scheduling_strategy": "SPREAD"}

OnSearch = Callable[[str, int, int], None]


@dataclass(frozen=True, kw_only=True)
class Search:
    """A search for duplicates.

    Attributes:
        pieces: Of the dataset, and behind it of those that it is compared with.
        num_rows: Of the dataset.
        target: Where pairs go.
        on_progress: Called with the kind, and how many of how many steps are done.
    """

    pieces: list[Piece]
    num_rows: int
    target: Target
    on_progress: OnSearch | None

    @classmethod
    def open(
        cls, scores_uri: str, settings: DedupSettings, output: Storage, on_progress: OnSearch | None
    ) -> Search:
        """Look at the datasets.

        Raises:
            DedupError: One lacks a column that is needed.
        """
        columns: dict[str, Any] = {} if settings.near is None else {settings.near.column: is_hash}
        if settings.semantic is not None:
            columns[settings.semantic.column] = is_embedding
        found = {uri: open_scores(uri, columns) for uri in (scores_uri, *settings.against)}
        if settings.semantic is not None:
            _refuse_other_widths({u: embedding_width(f, settings.semantic.column) for u, f in found.items()})
        total = sum(item.rows for one in found.values() for item in one.objects)
        piece_rows = max(PIECE_ROWS, math.ceil(total / MAX_PIECES))
        pieces: list[Piece] = []
        first = 0
        for dataset, uri in enumerate((scores_uri, *settings.against)):
            pieces += pieces_of(found[uri], dataset, first, piece_rows)
            first = pieces[-1].first + pieces[-1].num_rows
        num_rows = sum(piece.num_rows for piece in pieces if piece.dataset == 0)
        target = Target(storage=output, against=settings.against)
        return cls(pieces=pieces, num_rows=num_rows, target=target, on_progress=on_progress)

    def exact(self) -> list[ObjectEntry]:
        """Pairs of equal bytes."""
        parts = self._split("image_id")
        found = [
            ray.remote(tasks.exact_part).options(**_SPREAD).remote(self.target, number, *part)
            for number, part in enumerate(parts)
        ]
        return self._entries("exact", found)

    def near(self, settings: NearSettings) -> list[ObjectEntry]:
        """Pairs of hashes that differ in few bits, or in none."""
        parts = self._split(settings.column)
        near_part = ray.remote(tasks.near_part).options(num_returns=2, **_SPREAD)
        equal, firsts = zip(
            *[near_part.remote(self.target, number, *part) for number, part in enumerate(parts)], strict=True
        )
        all_firsts, count = ray.remote(tasks.joined_firsts).options(num_returns=2, **_SPREAD).remote(*firsts)
        blocks = num_blocks(task_result(count), settings.max_hamming)
        num_tables = math.comb(blocks, settings.max_hamming)
        step = math.ceil(num_tables / MAX_TABLE_TASKS)
        near_tables = ray.remote(tasks.near_tables).options(**_SPREAD)
        different = [
            near_tables.remote(
                self.target,
                len(parts) + start // step,
                all_firsts,
                blocks,
                settings.max_hamming,
                range(start, min(start + step, num_tables)),
            )
            for start in range(0, num_tables, step)
        ]
        return self._entries("near", [*equal, *different])

    def semantic(self, settings: SemanticSettings) -> list[ObjectEntry]:
        """Pairs of embeddings of one cluster that point one way."""
        num_clusters = settings.num_clusters or max(math.isqrt(self.num_rows), 1)
        num_sampled = min(settings.sample or SAMPLE_A_CLUSTER * num_clusters, self.num_rows)
        rng = np.random.default_rng(settings.seed)
        chosen = np.sort(rng.choice(self.num_rows, num_sampled, replace=False, shuffle=False))
        samples = []
        for piece in (piece for piece in self.pieces if piece.dataset == 0):
            rows = chosen[(chosen >= piece.first) & (chosen < piece.first + piece.num_rows)]
            if len(rows):
                samples.append(
                    ray.remote(tasks.sampled).options(**_SPREAD).remote(piece, settings.column, rows)
                )
        centres = ray.remote(tasks.centres_of).options(**_SPREAD).remote(settings, num_clusters, *samples)
        num_parts = math.ceil(self._total * settings.probes / CLUSTERED_ROWS)
        split = ray.remote(tasks.split_clusters).options(num_returns=num_parts, **_SPREAD)
        pieces = [
            _listed(split.remote(piece, settings, centres, num_parts), num_parts) for piece in self.pieces
        ]
        found = [
            ray.remote(tasks.semantic_part)
            .options(**_SPREAD)
            .remote(self.target, part, num_parts, settings.min_cosine, *[piece[part] for piece in pieces])
            for part in range(num_parts)
        ]
        return self._entries("semantic", found)

    @property
    def _total(self) -> int:
        return self.pieces[-1].first + self.pieces[-1].num_rows

    def _split(self, column: str) -> list[list[Any]]:
        """References to the rows of each part, piece by piece."""
        num_parts = math.ceil(self._total / PART_ROWS)
        split = ray.remote(tasks.split_rows).options(num_returns=num_parts, **_SPREAD)
        pieces = [_listed(split.remote(piece, column, num_parts), num_parts) for piece in self.pieces]
        return [[piece[part] for piece in pieces] for part in range(num_parts)]

    def _entries(self, kind: str, found: list[Any]) -> list[ObjectEntry]:
        """What the tasks have written, in their order."""
        waiting = list(found)
        while waiting:
            if self.on_progress is not None:
                self.on_progress(kind, len(found) - len(waiting), len(found))
            done, waiting = ray.wait(waiting, fetch_local=False)
            for reference in done:
                task_result(reference)
        if self.on_progress is not None:
            self.on_progress(kind, len(found), len(found))
        return [entry for reference in found for entry in task_result(reference)]


def _refuse_other_widths(widths: dict[str, int | None]) -> None:
    known = [(uri, width) for uri, width in widths.items() if width is not None]
    for uri, width in known[1:]:
        if width != known[0][1]:
            raise DedupError(
                f"{uri}: embeddings of {width} values, but {known[0][0]} has {known[0][1]}; "
                "run `python -m jobs score` on both with the same model"
            )


def _listed(references: Any, count: int) -> list[Any]:
    """What a task with that many results gives, as a list."""
    return list(references) if count > 1 else [references]
