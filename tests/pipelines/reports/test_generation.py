"""The report of a generated set, as text and in a browser."""

from __future__ import annotations

import base64
import io
import json
import math
import re
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Browser

from pipelines.ledger import Ledger
from pipelines.pages.rendering import MAX_PAGE_BYTES
from pipelines.reports import generation
from pipelines.reports.committed import CommittedRun
from pipelines.reports.generation import generation_report
from tests.browser import DESKTOP, PHONE, visit
from tests.pipelines.made_generations import SCORE, SIDE, MadeGenerations

HOSTILE = "</script><img src=x onerror=alert(1)> & 'a \"fox\"'"
PROMPTS = [*(f"a fox number {number}" for number in range(9)), HOSTILE]


@pytest.fixture
def output(tmp_path: Path) -> str:
    return str(tmp_path / "out")


def test_it_tells_how_many_images_there_are_and_what_failed(output: str) -> None:
    MadeGenerations(output, PROMPTS, failed=[3]).commit()
    text = _text(generation_report(output))
    assert "9 of 10" in text
    assert "1 (10.0%)" in text
    assert "sample: ValueError" in text
    assert "logits of p3 are not finite" in text
    assert "finished" in text
    assert "not finished" not in text


@pytest.mark.parametrize("images", ["parquet", "webdataset", "files"])
def test_its_thumbnails_are_the_images_wherever_they_lie(output: str, images: str) -> None:
    MadeGenerations(output, PROMPTS, images=images).commit()  # type: ignore[arg-type]
    found = re.findall(r'src="data:image/webp;base64,([^"]+)"', generation_report(output).decode())
    assert len(found) == len(PROMPTS)
    for number, data in enumerate(found):
        pixel = Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB").getpixel((10, 10))
        assert isinstance(pixel, tuple)
        wanted = ((number * 37) % 200, (number * 91) % 200, 120)
        assert max(abs(a - b) for a, b in zip(pixel, wanted, strict=True)) < 12


def test_an_image_that_is_gone_leaves_its_row(output: str) -> None:
    ledger = MadeGenerations(output, PROMPTS, images="files").commit().ledger
    gone = next(entry.path for entry in ledger.storage.list("data/") if entry.path.endswith(".png"))
    ledger.storage.delete(gone)
    page = generation_report(output).decode()
    assert page.count("the image cannot be read any more") == 1
    assert page.count('class="picture"') == len(PROMPTS)


def test_a_copied_row_makes_the_image_again(output: str) -> None:
    MadeGenerations(output, PROMPTS).commit()
    rows = [json.loads(entry["row"]) for entry in _entries(generation_report(output))]
    assert [row["prompt"] for row in rows] == PROMPTS
    assert rows[2]["seed"] == 1002
    assert rows[2]["num_steps"] == 8
    assert rows[2]["width"] == SIDE


def test_the_extremes_of_a_score_are_named(output: str) -> None:
    MadeGenerations(output, [f"prompt {number}" for number in range(40)]).commit()
    why = {entry["prompt"]: entry["why"] for entry in _entries(generation_report(output))}
    assert why["prompt 39"] == [f"highest {SCORE}"]
    assert why["prompt 0"] == [f"lowest {SCORE}"]
    assert why["prompt 20"] == []


@pytest.mark.parametrize("losers", ["keep", "tokens", "drop"])
def test_best_of_compares_the_images_of_a_prompt(output: str, losers: str) -> None:
    MadeGenerations(output, PROMPTS[:4], num_images=3, losers=losers).commit()
    page = generation_report(output).decode()
    assert ("Best of a prompt" in page) == (losers != "drop")  # dropped ones leave nothing to compare with
    assert (f"Mean {SCORE} by rank" in page) == (losers != "drop")
    assert ("rank 2: the image cannot be read" in page) == (losers == "tokens")


def test_a_job_that_still_runs_has_a_report_too(output: str) -> None:
    made = MadeGenerations(output, PROMPTS)
    made.commit(made.units[:-1])
    text = _text(generation_report(output))
    assert "8 of 10" in text
    assert "not finished" in text


def test_a_job_without_any_unit_done_has_one(output: str) -> None:
    made = MadeGenerations(output, PROMPTS[:2])
    made.commit(made.units[:-1])
    assert "nothing is done yet" in _text(generation_report(output))


def test_the_cost_is_told_where_the_price_is_known(output: str) -> None:
    MadeGenerations(output, PROMPTS).commit()
    assert "cost of a thousand" not in _text(generation_report(output))
    text = _text(generation_report(output, price=3600.0))
    # three units of four seconds on two GPUs
    assert re.search(r"cost\s+24\.00", text)
    assert "cost of a thousand results" in text
    assert "results a GPU-hour" in text


def test_long_prompts_and_many_images_of_one_cost_no_report(output: str) -> None:
    MadeGenerations(output, [f"{number} " + "x" * 8000 for number in range(96)]).commit()
    assert len(generation_report(output)) < MAX_PAGE_BYTES
    many = f"{output}-many"
    MadeGenerations(many, PROMPTS[:1], num_images=64, losers="keep").commit()
    page = generation_report(many).decode()
    assert page.count(", rank ") == 8
    assert ", rank 63" in page


def test_the_last_images_count_in_the_rate_of_their_time(output: str) -> None:
    MadeGenerations(output, PROMPTS[:2]).commit()
    throughput = CommittedRun(Ledger.load(output)).throughput
    assert throughput is not None
    ((_, rate),) = throughput.rates
    assert rate == pytest.approx(2 / (throughput.ended_at - throughput.began_at))


def test_a_large_set_stays_within_the_size(output: str, tmp_path: Path) -> None:
    MadeGenerations(output, [f"prompt {number} " + "x" * 2000 for number in range(400)]).commit()
    assert len(generation_report(output)) < MAX_PAGE_BYTES


def test_a_set_of_many_shards_is_looked_at_in_part_and_the_page_says_so(
    output: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    MadeGenerations(output, PROMPTS).commit()
    assert "shards, evenly spread" not in generation_report(output).decode()
    monkeypatch.setattr(generation, "MAX_SHARDS", 2)
    page = generation_report(output)
    assert "2 of the 3 shards, evenly spread" in _text(page)
    assert [entry["prompt"] for entry in _entries(page)] == [*PROMPTS[:4], *PROMPTS[8:]]


def test_a_score_that_is_infinite_is_none(output: str) -> None:
    scores = [math.inf, -math.inf, math.nan, *(number / 10 for number in range(3, 10))]
    MadeGenerations(output, PROMPTS, num_images=2, losers="keep", columns={SCORE: scores}).commit()
    page = generation_report(output)
    assert f"Histogram of {SCORE}: 14 values from 0.3 to 0.9" in page.decode()
    assert [entry["scores"][SCORE] is None for entry in _entries(page)] == [True] * 6 + [False] * 14


@pytest.mark.browser
def test_the_gallery_in_a_browser(output: str, tmp_path: Path, browser: Browser) -> None:
    MadeGenerations(output, PROMPTS, failed=[3], num_images=2, losers="keep").commit()
    file = tmp_path / "report.html"
    file.write_bytes(generation_report(output))
    with visit(browser, file.as_uri()) as opened:
        page = opened.page
        assert page.locator("#images > li").count() == 18
        page.fill("[name=text]", "NUMBER 4")
        assert page.locator("#images > li").count() == 2
        assert page.inner_text("#gallery-count") == "2 of 18"
        page.click("button[type=reset]")
        page.fill("[name=least]", "0.9")
        page.select_option("[name=order]", "-1")
        assert page.inner_text("#images > li:first-child .label").split()[-1] == "1"
        page.click("#images > li:first-child .picture")
        assert page.is_visible("#enlarged")
        assert page.inner_text("#enlarged-prompt") == HOSTILE
        page.keyboard.press("ArrowRight")
        page.keyboard.press("ArrowLeft")
        page.click("#copy")
        page.wait_for_selector("#copied:has-text('copied')")
        assert json.loads(page.evaluate("navigator.clipboard.readText()"))["prompt"] == HOSTILE
        page.keyboard.press("Escape")
        assert not page.is_visible("#enlarged")
        page.wait_for_selector(".plot svg")
        assert opened.errors == []
        assert opened.requests == [file.as_uri()]


@pytest.mark.browser
@pytest.mark.slow
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_it_fits_a_phone_in_both_themes(output: str, tmp_path: Path, browser: Browser, theme: str) -> None:
    MadeGenerations(output, PROMPTS, failed=[3], num_images=2, losers="keep").commit()
    file = tmp_path / "report.html"
    file.write_bytes(generation_report(output))
    papers = {}
    for size in (PHONE, DESKTOP):
        with visit(browser, file.as_uri(), size, theme) as opened:  # type: ignore[arg-type]
            assert opened.wider_than_window() == 0
            papers[size] = opened.page.evaluate("getComputedStyle(document.body).backgroundColor")
            opened.page.click("#theme")
            assert opened.page.evaluate("getComputedStyle(document.body).backgroundColor") != papers[size]
            assert opened.errors == []


def _entries(page: bytes) -> list[dict]:  # type: ignore[type-arg]
    found = re.search(r'<script type="application/json" id="entries">(.*?)</script>', page.decode(), re.S)
    assert found is not None
    return json.loads(found[1])  # type: ignore[no-any-return]


def _text(page: bytes) -> str:
    return re.sub(r"<[^>]+>", " ", page.decode())
