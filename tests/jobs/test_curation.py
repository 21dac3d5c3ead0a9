"""The commands of curation as a user meets them; nothing here needs Ray."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from jobs.__main__ import main
from pipelines.config import load_config
from pipelines.curation.settings import CurateConfig
from pipelines.selection import Recipe
from tests.pipelines.made_scores import write_pairs, write_scores


def call(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments))


@pytest.fixture
def output(tmp_path: Path) -> str:
    """What `curate` leaves, with two recipes beside it."""
    write_scores(tmp_path / "out" / "scores", {"score": range(10)}, failed=1)
    write_pairs(tmp_path / "out" / "duplicates" / "abc", [("near", "r8", "r9", 3)])
    (tmp_path / "loose.yaml").write_text("rules: [{rule: range, column: score, min: 2}, {rule: duplicates}]")
    (tmp_path / "strict.yaml").write_text("rules: [{rule: range, name: good, column: score, min: 6}]")
    return str(tmp_path / "out")


def test_select_shows_what_each_rule_takes_away(output: str, tmp_path: Path) -> None:
    shown = call("select", output, "--recipe", str(tmp_path / "loose.yaml"))
    assert shown.exit_code == 0
    assert "selections/loose: 7 of 11 kept" in shown.output
    for row in (["decode: CorruptImageError", "1"], ["score", "2"], ["duplicates", "1"]):
        assert any(all(cell in line for cell in row) for line in shown.output.splitlines())
    changed = call(
        "select", output, "--recipe", str(tmp_path / "loose.yaml"), "--set", "rules.0.min=9", "--json"
    )
    assert json.loads(changed.output)["kept"] == 1


def test_mistakes_are_told_in_a_line(output: str, tmp_path: Path) -> None:
    (tmp_path / "typo.yaml").write_text("rules: [{rule: range, column: scorr, min: 2}]")
    for arguments, what in (
        (
            (output, "--recipe", str(tmp_path / "typo.yaml")),
            "no column 'scorr' in the scores; did you mean 'score'?",
        ),
        ((str(tmp_path), "--recipe", str(tmp_path / "loose.yaml")), "no finished scores"),
        ((output, "--recipe", str(tmp_path / "none.yaml")), "name an existing YAML file"),
        ((output,), "name a recipe with --recipe FILE, or two selections with --compare A B"),
        ((output, "--compare", "a", "b"), "selections/a"),
    ):
        shown = call("select", *arguments)
        assert shown.exit_code != 0
        assert what in shown.output
        assert "Traceback" not in shown.output


def test_pairs_of_several_settings_must_be_chosen_from(output: str, tmp_path: Path) -> None:
    other = write_pairs(tmp_path / "out" / "duplicates" / "def", [("near", "r0", "r9", 3)])
    arguments = ("select", output, "--recipe", str(tmp_path / "loose.yaml"))
    assert "say with --duplicates which folder" in call(*arguments).output
    assert "8 of 11 kept" in call(*arguments, "--duplicates", other).output


def test_the_configurations_that_come_along_are_valid() -> None:
    config = load_config(CurateConfig, "jobs/configs/curate.yaml", ["input=in", "output=out"])
    assert isinstance(config.recipe, str)
    assert len(load_config(Recipe, config.recipe).rules) >= 5
