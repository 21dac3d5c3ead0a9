"""Charts, thumbnails and the frame of pages."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipelines.images import encode_image
from pipelines.pages.charts import Threshold, bar_chart, heatmap, histogram, line_chart, thinned
from pipelines.pages.rendering import PageTooLargeError, render
from pipelines.pages.thumbnails import thumbnail


@pytest.fixture
def template(tmp_path: Path) -> Path:
    file = tmp_path / "page.html.j2"
    file.write_text('{% extends "layout.html.j2" %}{% block content %}{{ text }}{% endblock %}')
    return file


def page(template: Path, text: str) -> str:
    values = {"title": "t", "lead": "", "sections": [], "footer": "", "text": text}
    return render(template, values).decode()


def test_text_is_escaped(template: Path) -> None:
    assert "&lt;b&gt;" in page(template, "<b>")


def test_a_page_that_is_slow_to_open_is_refused(template: Path) -> None:
    with pytest.raises(PageTooLargeError, match="give it fewer pictures"):
        page(template, "x" * 5_000_000)


def test_a_histogram_has_its_thresholds_and_its_numbers() -> None:
    chart = histogram(
        title="t",
        label="score",
        edges=[0, 1, 2],
        counts=[3, 4],
        thresholds=[Threshold(value=1.5, label="min")],
    )
    assert chart.description == "Histogram of score: 7 values from 0 to 2; min at 1.5."
    assert chart.rows == [("0", "1", "3"), ("1", "2", "4")]
    assert any({"value": 1.5, "label": "min"} in data for data in datas(chart.specification))


def test_bars_keep_their_order() -> None:
    assert [row[0] for row in bar_chart(title="t", label="n", values={"b": 2, "a": 1}).rows] == ["b", "a"]


def test_cells_tell_where_most_are() -> None:
    chart = heatmap(title="t", x="width", y="height", counts={("1", "2"): 3, ("4", "5"): 6})
    assert chart.description.endswith("most at 4, 5.")


def test_lines_of_a_million_points_are_drawn_with_some_hundred() -> None:
    points = thinned([(float(step), 2.0) for step in range(1_000_000)])
    assert 200 < len(points) <= 300
    assert {y for _, y in points} == {2.0}
    chart = line_chart(title="t", x="step", y="loss", series={"train": points})
    assert "train ends at 2" in chart.description


def test_a_thumbnail_is_small_and_shows_the_image() -> None:
    pixels = np.full((512, 256, 3), [250, 10, 10], np.uint8)
    found = thumbnail(encode_image(pixels, "png", 95), 64)
    picture = Image.open(io.BytesIO(base64.b64decode(found.partition(",")[2]))).convert("RGB")
    assert picture.size == (32, 64)
    pixel = picture.getpixel((16, 32))
    assert isinstance(pixel, tuple)
    assert pixel[0] > 200 > 60 > pixel[1]


@pytest.mark.parametrize("data", [None, b"", b"no image"])
def test_what_is_no_image_has_no_thumbnail(data: bytes | None) -> None:
    assert thumbnail(data) == ""


def datas(specification: object) -> list[list[object]]:
    """All values that a specification draws."""
    if isinstance(specification, dict):
        own = [specification["values"]] if isinstance(specification.get("values"), list) else []
        return own + [found for part in specification.values() for found in datas(part)]
    if isinstance(specification, list):
        return [found for part in specification for found in datas(part)]
    return []
