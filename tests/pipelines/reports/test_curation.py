"""The report of a curation shows what each pass has made, whenever it is asked for."""

from __future__ import annotations

import base64
import html
import io
import json
import re
import shutil
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipelines.curation.layout import scores_uri
from pipelines.curation.scoring import plan_scoring
from pipelines.curation.settings import ScoreConfig
from pipelines.errors import LedgerError
from pipelines.reports.curation import curation_report
from pipelines.reports.curation_scores import score_chart
from pipelines.storage.local import LocalStorage
from tests.browser import DESKTOP, PHONE, visit
from tests.pipelines.curation.pictures import encoded, picture
from tests.pipelines.made_scoring import score_inline
from tests.pipelines.reports.made_curation import HOSTILE, made_curation

SMALL = {"rule": "range", "name": "too small", "column": "min_side", "min": 50}
WIDE = {"rule": "range", "name": "too wide", "column": "aspect", "max": 2.5}
WORDS = {"rule": "caption", "name": "words", "min_words": 4}
SHARP = {"rule": "percentile", "name": "contrast", "column": "contrast_rms", "top_percent": 75}
DUPLICATES = {"rule": "duplicates", "max_hamming": 5}


def page_of(output: str) -> str:
    return curation_report(output).decode()


def pictures(page: str) -> list[Image.Image]:
    """All pictures, decoded."""
    found = re.findall(r'<img src="data:image/webp;base64,([^"]+)"', page)
    images: list[Image.Image] = [Image.open(io.BytesIO(base64.b64decode(data))) for data in found]
    for image in images:
        image.load()
    return images


def specifications(page: str) -> dict[str, Any]:
    """The charts by their titles."""
    found = re.findall(
        r'<figcaption>([^<]*)</figcaption>.*?<script type="application/json">(.*?)</script>', page, re.S
    )
    return {html.unescape(title): json.loads(specification) for title, specification in found}


def section(page: str, name: str) -> str:
    """The text of a section."""
    part = page.split(f'<section id="{name}"')[1].split("</section>\n\n<section id=")[0]
    part = re.sub(r"<script.*?</script>", " ", part, flags=re.S)
    return html.unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", part)))


def test_scores_alone_make_a_page_with_samples_and_histograms(tmp_path: Path) -> None:
    made = made_curation(tmp_path)
    made.score()
    page = page_of(made.output)
    assert "22 images seen, 20 scored; nothing is selected yet" in page
    assert len(pictures(page)) == 20
    assert {"min_side", "sharpness_laplacian", "Width and height", "Words of the caption"} <= {
        *specifications(page)
    }
    assert "phash" not in specifications(page)
    failures = section(page, "dead-letters")
    assert "decode: UnknownFormatError : 2" in failures
    assert "it looks like text, not PNG" in failures
    assert 'id="duplicates"' not in page
    assert 'id="selection-0"' not in page


def test_a_job_that_runs_is_shown_by_what_it_has_committed(tmp_path: Path) -> None:
    made = made_curation(tmp_path)
    nothing = page_of(made.output)
    assert "Not finished: 0 of 22 images seen so far" in nothing
    assert not pictures(nothing)
    made.score(units=2)
    page = page_of(made.output)
    assert "Not finished: 12 of 22 images seen so far" in page
    assert len(pictures(page)) == 12


def test_a_folder_without_scores_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match=r"no run\.json"):
        curation_report(str(tmp_path))


def test_clusters_of_duplicates_are_shown_before_anything_is_selected(tmp_path: Path) -> None:
    made = made_curation(tmp_path)
    made.score()
    ids = made.row_ids()
    near = [("near", ids[0], ids[n], float(n)) for n in range(1, 5)] + [("near", ids[8], ids[9], 6.0)]
    made.find_duplicates([("exact", ids[6], ids[7], 0.0), *near, ("semantic", ids[10], ids[11], 0.05)])
    page = page_of(made.output)
    shown = section(page, "duplicates")
    for text in ("Near-duplicates: 5 pairs", "5 images", "4 bits apart", "Closest to the threshold"):
        assert text in shown
    assert "equal bytes" in shown
    assert "cosine 0.9500" in shown
    assert "stays" not in shown
    distances = specifications(page)["Pairs by the bits in which they differ"]
    assert [row["count"] for row in distances["data"]["values"]] == [0, 1, 1, 1, 1, 0, 1]


def test_a_selection_is_shown_with_reasons_samples_and_thresholds(tmp_path: Path) -> None:
    made = made_curation(tmp_path)
    made.score()
    ids = made.row_ids()
    pairs = made.find_duplicates([("near", ids[1], ids[6], 3.0)])
    funnel = made.select("default", SMALL, WIDE, WORDS, SHARP, DUPLICATES, duplicates=pairs)
    page = page_of(made.output)
    shown = section(page, "selection-0")
    assert f"{funnel.kept} of 22 images stay" in shown
    for step in funnel.steps:
        assert step.name in shown
    assert "range; column: min_side; min: 50" in shown
    assert "30 asked: >= 50" in shown
    assert "Dropped 4 of the 20 images that came to it" in shown
    charts = specifications(page)
    assert thresholds_of(charts["min_side"]) == [("min 50", 50)]
    assert thresholds_of(charts["aspect"]) == [("max 2.5", 2.5)]
    assert thresholds_of(charts["Words of the caption"]) == [("min 4", 4)]
    (label, value), *_ = thresholds_of(charts["contrast_rms"])
    assert label == f"min {value:g}"
    legend = {
        row["of"] for layer in charts["min_side"]["layer"] for row in layer["data"]["values"] if "of" in row
    }
    assert legend == {"all", "kept by default"}
    left = charts["What each rule left"]["layer"][1]["data"]["values"]
    assert [row["text"] for row in left][-1] == f"{funnel.kept:,}"
    duplicates = section(page, "duplicates")
    assert f"goes: duplicates, a copy of {ids[1]}" in duplicates
    assert "stays" in duplicates


def thresholds_of(chart: dict[str, Any]) -> list[tuple[str, float]]:
    rows = next(layer["data"]["values"] for layer in chart["layer"] if layer["mark"]["type"] == "rule")
    return [(row["label"], row["value"]) for row in rows]


def test_of_several_selections_default_is_first_and_more_than_two_are_folded(tmp_path: Path) -> None:
    made = made_curation(tmp_path)
    made.score()
    made.select("strict", SMALL, WIDE)
    made.select("default", SMALL)
    two = page_of(made.output)
    assert [two.index(f">Selection {name}</h2>") for name in ("default", "strict")] == sorted(
        two.index(f">Selection {name}</h2>") for name in ("default", "strict")
    )
    assert '<details class="folded">' not in two
    made.select("words", WORDS)
    assert page_of(made.output).count('<details class="folded">') == 2


def test_a_selection_of_scores_that_changed_since_says_so(tmp_path: Path) -> None:
    made = made_curation(tmp_path)
    made.score()
    made.select("default", SMALL)
    assert "The scores changed" not in page_of(made.output)
    path = Path(made.output, "scores/manifest.json")
    path.write_text(path.read_text() + " ")
    assert "The scores changed since this was selected" in page_of(made.output)


def test_the_same_folder_gives_the_same_pictures(tmp_path: Path) -> None:
    made = made_curation(tmp_path)
    made.score()
    made.select("default", SMALL)
    assert page_of(made.output) == page_of(made.output)


@pytest.mark.parametrize("keep", ["none", "original"])
def test_an_input_that_is_gone_costs_the_pictures_that_scoring_did_not_keep(
    tmp_path: Path, keep: str
) -> None:
    made = made_curation(tmp_path, keep=keep)
    made.score()
    shutil.rmtree(tmp_path / "images")
    page = page_of(made.output)
    assert len(pictures(page)) == (20 if keep == "original" else 0)
    assert ("Some pictures are missing" in page) == (keep == "none")


def test_an_image_that_changed_since_it_was_scored_is_not_shown(tmp_path: Path) -> None:
    made = made_curation(tmp_path)
    made.score()
    other = (tmp_path / "images" / "003.jpg").read_bytes()
    (tmp_path / "images" / "004.jpg").write_bytes(other[:-1] + b"x")
    rewritten = (tmp_path / "images" / "005.jpg").read_bytes()
    (tmp_path / "images" / "005.jpg").write_bytes(rewritten[:-1] + b"x")  # of the same length
    page = page_of(made.output)
    assert len(pictures(page)) == 18
    assert "1 images of the input are not those that were scored" in page
    assert "1 images are not in the input any more, such as: 004.jpg" in page


def test_the_input_is_not_hashed_for_its_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "tables"
    folder.mkdir()
    images = [{"bytes": encoded(picture(number)), "path": None} for number in range(3)]
    pq.write_table(pa.table({"image": images, "caption": ["a", "b", "c"]}), folder / "a.parquet")
    output = str(tmp_path / "out")
    config = ScoreConfig(input=str(folder), output=scores_uri(output))
    score_inline(plan_scoring(config).open())

    def refuse(self: LocalStorage, path: str) -> str:
        assert "tables" not in self.uri_of(path), "hashes the input"
        return fingerprint(self, path)

    fingerprint = LocalStorage.fingerprint
    monkeypatch.setattr(LocalStorage, "fingerprint", refuse)
    assert len(pictures(page_of(output))) == 3


def test_an_infinite_value_lies_in_no_bin() -> None:
    with duckdb.connect() as connection:
        connection.execute(
            "CREATE TABLE scored AS SELECT unnest(['1', '2', '4', 'inf', '-inf', NULL]::DOUBLE[]) AS x"
        )
        connection.execute("CREATE VIEW images AS SELECT * FROM scored")
        chart = score_chart(connection, "x")
    assert chart is not None
    assert sum(int(count) for _, _, count in chart.rows) == 3
    assert "Infinity" not in json.dumps(chart.specification)


@pytest.mark.browser
@pytest.mark.slow
@pytest.mark.parametrize(("size", "theme"), [(DESKTOP, "light"), (PHONE, "dark")])
def test_the_page_works_alone_and_takes_captions_as_text(
    tmp_path: Path, browser: Any, size: tuple[int, int], theme: Any
) -> None:
    made = made_curation(tmp_path)
    made.score()
    ids = made.row_ids()
    pairs = made.find_duplicates([("near", ids[0], ids[5], 3.0)])
    made.select("default", {**SMALL, "name": HOSTILE}, WORDS, DUPLICATES, duplicates=pairs)
    page = tmp_path / "report.html"
    page.write_bytes(curation_report(made.output))
    with visit(browser, page.as_uri(), size, theme) as opened:
        opened.page.wait_for_selector(".plot svg")
        charts = opened.page.locator(".chart").count()
        assert opened.page.locator(".plot svg").count() == charts
        assert HOSTILE in opened.page.locator("main").inner_text()
        assert opened.page.locator("main img[onerror]").count() == 0
        assert opened.wider_than_window() == 0
        opened.page.locator("#theme").click()
        opened.page.wait_for_timeout(200)
        assert opened.errors == []
        assert opened.requests == [page.as_uri()]
