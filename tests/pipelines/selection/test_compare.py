"""Two selections of the same scores are compared by what each keeps alone."""

from pathlib import Path

import pytest

from pipelines.errors import RefusalError
from pipelines.selection import Recipe, select
from pipelines.selection.compare import NUM_SAMPLES, compare, comparison_text
from tests.pipelines.made_scores import write_scores


def chosen(scores: str, output: Path, **rule: object) -> str:
    recipe = Recipe.model_validate({"rules": [{"rule": "range", "column": "score", **rule}]})
    select(scores, None, recipe, str(output))
    return str(output)


def test_what_only_one_keeps_is_counted_by_the_other_ones_rule(tmp_path: Path) -> None:
    scores = write_scores(tmp_path / "scores", {"score": range(100)}, failed=3)
    low = chosen(scores, tmp_path / "low", name="not high", max=59)
    high = chosen(scores, tmp_path / "high", name="not [low]", min=50)
    found = compare(low, high, ("low", "high"))
    assert (found.both, found.neither, [side.images for side in found.sides]) == (10, 3, [50, 40])
    assert [dict(side.rules) for side in found.sides] == [{"not [low]": 50}, {"not high": 40}]
    uids = {f"r{n}": f"{n * 7919 % 1000:032x}" for n in range(50)}
    assert [s.row_id for _, s in found.sides[0].samples] == sorted(uids, key=uids.__getitem__)[:NUM_SAMPLES]
    assert compare(low, high, ("low", "high")) == found
    shown = comparison_text(found)
    assert "both keep 10, only low 50, only high 40, neither 3" in shown
    assert "not [low]" in shown
    assert max(map(len, shown.splitlines())) <= 80


def test_selections_of_different_scores_are_not_compared(tmp_path: Path) -> None:
    outputs = [
        chosen(write_scores(tmp_path / f"s{n}", {"score": range(n)}), tmp_path / f"o{n}", min=1)
        for n in (3, 4)
    ]
    with pytest.raises(RefusalError, match="different scores"):
        compare(outputs[0], outputs[1], ("a", "b"))
