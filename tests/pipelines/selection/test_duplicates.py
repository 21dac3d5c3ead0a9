"""Greedy choice among duplicates, against a slow one that compares each image with all that stay."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.selection import Recipe, RecipeError, select
from tests.pipelines.made_scores import write_pairs, write_scores

COUNT = 40
KINDS = ("exact", "near", "semantic")


def decided(scores: str, pairs: str, output: Path, **rule: Any) -> list[dict[str, Any]]:
    recipe = Recipe.model_validate({"rules": [{"rule": "duplicates", "keep": "score", **rule}]})
    select(scores, pairs, recipe, str(output))
    return pa.concat_tables(map(pq.read_table, sorted((output / "decisions").iterdir()))).to_pylist()


def slow_choice(scores: list[int], pairs: list[tuple[str, int, int, float]]) -> set[int]:
    """Every pair spelled out for all members of both groups; then from the best down."""
    close: set[tuple[int, int]] = set()
    for kind in KINDS:
        groups = [{n} for n in range(COUNT)]
        for of, a, b, distance in pairs:
            if of == kind and distance == 0 and groups[a] is not groups[b]:
                merged = groups[a] | groups[b]
                for member in merged:
                    groups[member] = merged
        for group in groups:
            close |= set(itertools.permutations(group, 2))
        for of, a, b, distance in pairs:
            if of == kind and distance:
                close |= {p for x in groups[a] for y in groups[b] for p in ((x, y), (y, x))}
    kept: set[int] = set()
    for n in sorted(range(COUNT), key=lambda n: (-scores[n], n)):
        if not any((n, other) in close for other in kept):
            kept.add(n)
    return kept


@pytest.mark.parametrize("seed", range(4))
def test_the_same_images_stay_as_when_all_pairs_are_spelled_out(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = rng.integers(0, 10, COUNT).tolist()
    pairs = []
    for a, b in rng.integers(0, COUNT, (25, 2)).tolist():
        kind = KINDS[int(rng.integers(3))]
        distance = 0.0 if kind == "exact" or rng.random() < 0.3 else 0.25
        if a != b:
            pairs.append((kind, a, b, distance))
    scores = write_scores(tmp_path / "scores", {"score": values})
    named = write_pairs(tmp_path / "pairs", [(k, f"r{a}", f"r{b}", d) for k, a, b, d in pairs])
    rows = decided(scores, named, tmp_path / "out", kinds=KINDS)
    kept = {n for n, row in enumerate(rows) if row["kept"]}
    assert kept == slow_choice(values, pairs)
    assert 0 < len(kept) < COUNT
    for row in rows:
        assert row["kept"] or int(row["duplicate_of"][1:]) in kept


def test_equals_stand_for_each_other_whichever_of_them_the_pairs_name(tmp_path: Path) -> None:
    scores = write_scores(tmp_path / "scores", {"score": [1, 2, 3, 9]})
    pairs = [("near", "r1", "r2", 0.0), ("near", "r0", "r1", 0.0), ("near", "r2", "r3", 4.0)]
    rows = decided(scores, write_pairs(tmp_path / "pairs", pairs), tmp_path / "out")
    assert [row["duplicate_of"] for row in rows] == ["r3", "r3", "r3", None]


def test_the_surest_kind_is_named(tmp_path: Path) -> None:
    scores = write_scores(tmp_path / "scores", {"score": [3, 2, 1]})
    pairs = [("semantic", "r0", "r2", 0.01), ("near", "r1", "r2", 5.0)]
    rows = decided(scores, write_pairs(tmp_path / "pairs", pairs), tmp_path / "out", kinds=KINDS)
    assert (rows[2]["duplicate_kind"], rows[2]["duplicate_of"]) == ("near", "r1")


def test_pairs_of_other_scores_are_refused(tmp_path: Path) -> None:
    scores = write_scores(tmp_path / "scores", {"score": [1, 2]})
    pairs = write_pairs(tmp_path / "pairs", [("exact", "r0", "r7", 0.0)])
    with pytest.raises(RecipeError, match="a pair names 'r7', which the scores do not have"):
        decided(scores, pairs, tmp_path / "out")
