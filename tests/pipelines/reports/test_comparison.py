"""The page of two selections shows what each keeps alone, and why the other drops it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from jobs.curation import select_command
from pipelines.errors import RefusalError
from pipelines.reports.comparison import compare_selections
from tests.browser import DESKTOP, PHONE, visit
from tests.pipelines.reports.made_curation import HOSTILE, MadeCuration, made_curation
from tests.pipelines.reports.test_curation import pictures, section, specifications

SMALL = {"rule": "range", "name": "too small", "column": "min_side", "min": 61}
WIDE = {"rule": "range", "name": f"wide {HOSTILE}", "column": "aspect", "max": 1.4}


def compared(tmp_path: Path) -> MadeCuration:
    made = made_curation(tmp_path)
    made.score()
    made.select("a", SMALL)
    made.select("b", WIDE)
    return made


def test_samples_of_both_sides_have_the_other_ones_reason(tmp_path: Path) -> None:
    made = compared(tmp_path)
    found, uri = compare_selections(made.output, "a", "b")
    assert uri == f"{made.output}/comparisons/a-b.html"
    page = Path(uri).read_text()
    assert len(pictures(page)) == sum(side.images for side in found.sides)
    for number, (side, reason) in enumerate(zip(found.sides, (WIDE["name"], "too small"), strict=True)):
        shown = section(page, f"only-{number}")
        assert f"Only {side.name} keeps {side.images}" in shown
        assert f"{reason}: " in shown
    assert "asked: <= 1.4" in section(page, "only-0")
    recipes = section(page, "recipes")
    assert "-too small: range; column: min_side; min: 61" in recipes
    assert f"+wide {HOSTILE}: range; column: aspect; max: 1.4" in recipes
    charts = specifications(page)
    groups = {row["line"] for row in charts["aspect"]["data"]["values"]}
    assert groups == {"both", "only a", "only b"}
    overlap = charts["What both keep, and one alone"]["layer"][0]["data"]["values"]
    alone = [row["value"] for row in overlap if row["part"] == "this one alone"]
    assert alone == [side.images for side in found.sides]


def test_equal_selections_are_said_to_be_equal(tmp_path: Path) -> None:
    made = compared(tmp_path)
    made.select("again", SMALL)
    _, uri = compare_selections(made.output, "a", "again")
    page = Path(uri).read_text()
    assert "Both have the same rules" in page
    assert not pictures(page)


def test_the_command_names_the_page(tmp_path: Path) -> None:
    made = compared(tmp_path)
    result = CliRunner().invoke(select_command, [made.output, "--compare", "a", "b"])
    assert result.exit_code == 0, result.output
    assert f"page: {made.output}/comparisons/a-b.html" in result.output


def test_a_selection_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RefusalError, match="missing"):
        compare_selections(compared(tmp_path).output, "a", "missing")


@pytest.mark.browser
@pytest.mark.slow
@pytest.mark.parametrize(("size", "theme"), [(DESKTOP, "dark"), (PHONE, "light")])
def test_the_page_works_alone_and_takes_texts_as_text(
    tmp_path: Path, browser: Any, size: tuple[int, int], theme: Any
) -> None:
    _, uri = compare_selections(compared(tmp_path).output, "a", "b")
    with visit(browser, Path(uri).as_uri(), size, theme) as opened:
        opened.page.wait_for_selector(".plot svg")
        assert HOSTILE in opened.page.locator("main").inner_text()
        assert opened.page.locator("main img[onerror]").count() == 0
        assert opened.wider_than_window() == 0
        assert opened.errors == []
        assert opened.requests == [Path(uri).as_uri()]
