"""The pages as a client sees them: search, filters, order, pages, rows, refresh."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from starlette.testclient import TestClient

from pipelines.storage import StorageError, child, open_storage
from pipelines.viewing.answers import Answers
from pipelines.viewing.index import QueryError
from tests.pipelines.made_generations import MadeGenerations, prompts_with_words
from tests.pipelines.made_generations import image as made_image
from tests.pipelines.viewing.made_outputs import client, random_jpegs, write_scored, write_tar


@pytest.fixture(scope="module")
def viewed(tmp_path_factory: pytest.TempPathFactory) -> TestClient:
    """Twelve prompts, of which the sixth is a dead letter, and a column that is null in half of the rows."""
    columns: dict[str, list[Any]] = {
        "note": [None if n % 2 else f"note {n}" for n in range(12)],
        "is_odd": [bool(n % 2) for n in range(12)],
        "captions": [["a", "b"]] * 12,
    }
    folder = tmp_path_factory.mktemp("viewed")
    MadeGenerations(str(folder / "out"), failed=[5], columns=columns).commit()
    return client(str(folder / "out"), folder)


def prompts(viewed: TestClient, **parameters: object) -> list[str]:
    """The texts of the rows on a page, in order."""
    answer = viewed.get(f"/?{urlencode({name.replace('__', '.'): v for name, v in parameters.items()})}")
    assert answer.status_code == 200, answer.text
    return re.findall(r'<img src="thumbnail[^>]* alt="([^"]*)"', answer.text)


def prompt_row(page: str) -> Any:
    """The row of a prompt table on the page of a row."""
    return json.loads(html.unescape(re.findall(r'id="prompt-row"[^>]*>(.*?)</pre>', page)[0]))


def refused(viewed: TestClient, **parameters: object) -> str:
    answer = viewed.get(f"/?{urlencode({name.replace('__', '.'): v for name, v in parameters.items()})}")
    assert answer.status_code == 400
    return html.unescape(re.findall(r'role="alert">.*?<span>(.*?)</span>', answer.text)[0])


def test_all_rows_are_shown_in_the_order_of_the_output(viewed: TestClient) -> None:
    shown = prompts(viewed)
    assert len(shown) == 11
    assert shown[:2] == ["a fox 0", "a boat 1"]
    assert "<strong>11</strong> rows" in viewed.get("/").text


def test_a_search_wants_every_word_in_any_case(viewed: TestClient) -> None:
    assert prompts(viewed, q="FOX") == ["a fox 0", "a fox 4", "a fox 8"]
    assert prompts(viewed, q="fox 4") == ["a fox 4"]
    assert prompts(viewed, q="%") == []


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({"min__clip": "0.8", "max__clip": 1}, ["a fox 8", "a boat 9", "a house 10"]),
        ({"min__seed": "1010"}, ["a house 10", "a snow 11"]),
        ({"is__prompt": "a fox 4"}, ["a fox 4"]),
        ({"is__is_odd": "true", "max__clip": "0.4"}, ["a boat 1", "a snow 3"]),
        ({"has__note": "null", "min__clip": "0.85"}, ["a boat 9", "a snow 11"]),
        ({"has__note": "value", "min__clip": "0.85"}, ["a house 10"]),
        ({"where": "clip * 10 = 3 OR prompt LIKE '%11' -- a remark"}, ["a snow 3", "a snow 11"]),
    ],
)
def test_filters_of_any_column(viewed: TestClient, filters: dict[str, object], expected: list[str]) -> None:
    assert prompts(viewed, **filters) == expected


def test_order_by_any_column_nulls_last(viewed: TestClient) -> None:
    assert prompts(viewed, sort="clip", order="desc")[:2] == ["a snow 11", "a house 10"]
    assert prompts(viewed, sort="note", order="desc")[:2] == ["a fox 8", "a house 6"]
    assert prompts(viewed, sort="note", order="desc")[-1] == "a snow 11"


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"min__clip": "much"}, "min.clip = 'much': not a number; write one such as 0.25"),
        ({"min__prompt": "1"}, "column 'prompt' has no numbers; use is.prompt"),
        ({"min__clipp": "1"}, "no column 'clipp' in this table; did you mean 'clip'?"),
        ({"sort": "x"}, "no column 'x' in this table"),
        ({"page": "-1"}, "page = '-1': not a page; the first is 1"),
        ({"table": "secrets"}, "table = 'secrets': choose images or failed"),
        ({"is__is_odd": "maybe"}, "choose true or false"),
        ({"where": "clip >"}, "not an SQL expression"),
        ({"where": "1); DROP TABLE images; --"}, "not an SQL expression"),
        ({"where": "1=1) or (1=1"}, "not an SQL expression"),
        ({"where": "(SELECT count(*) FROM read_text('/etc/passwd')) > 0"}, "it has a subquery"),
        ({"where": "prompt > 1 AND clipp > 0"}, "did you mean 'clip'?"),
        ({"where": "prompt + 1 > 0"}, "the query cannot be answered: "),
        ({"selection": "strict"}, "no selection 'strict'; there are none"),
        ({"q": "x" * 3000}, "q: more than 2000 characters; shorten it"),
    ],
)
def test_what_cannot_be_asked_is_said(
    viewed: TestClient, parameters: dict[str, object], message: str
) -> None:
    assert message in refused(viewed, **parameters)


def test_empty_fields_of_a_form_are_taken_out_of_the_url(viewed: TestClient) -> None:
    answer = viewed.get("/?q=&min.clip=0.2&max.clip=&sort=&order=desc&columns=seed")
    assert answer.status_code == 303
    assert answer.headers["location"] == "?min.clip=0.2&order=desc&columns=seed"


def test_pages_have_links_that_keep_the_view(tmp_path: Path) -> None:
    MadeGenerations(str(tmp_path / "out"), prompts_with_words(120), unit_rows=50).commit()
    viewed = client(str(tmp_path / "out"), tmp_path)
    assert len(prompts(viewed, max__clip="9")) == 48
    page = viewed.get("/?max.clip=9&sort=clip&order=desc")
    following = html.unescape(re.findall(r'rel="next" href="([^"]*)"', page.text)[0])
    assert following == ".?max.clip=9&sort=clip&order=desc&page=2"
    assert prompts(viewed, max__clip="9", sort="clip", order="desc", page="2")[0] == "a house 42"
    assert len(prompts(viewed, max__clip="9", page="2")) == 91 - 48
    assert len(prompts(viewed, max__clip="9", page="77")) == 91 - 48  # the last there is


def test_histograms_are_of_the_filtered_rows_and_their_bars_filter(viewed: TestClient) -> None:
    page = viewed.get("/?q=fox").text
    assert "Histogram of clip: 3 values from" in page
    bar = re.findall(r'<a href="\.(\?[^"]*)" tabindex="-1"><title>from', page)[3]
    assert viewed.get(html.unescape(bar)).status_code == 200
    assert "min.clip=" in bar


@pytest.mark.parametrize(
    "values",
    [
        [10_000_000 + 999 * n // 199 for n in range(200)],
        [n / 10 for n in range(200)],
        [0.1 + n * 1e-12 for n in range(200)],
        [float("-inf"), *[-1 + n / 199 for n in range(398)], float("inf")],
    ],
    ids=["large integers", "tenths", "close together", "infinite"],
)
@pytest.mark.parametrize("filters", ["", "&min.x=0&max.x=10000499", "&below.x=0.10000000005&q=fox"])
def test_a_bar_leads_to_as_many_rows_as_it_shows(tmp_path: Path, values: list[float], filters: str) -> None:
    prompts = prompts_with_words(len(values))
    MadeGenerations(str(tmp_path / "out"), prompts, unit_rows=400, columns={"x": values}).commit()
    viewed = client(str(tmp_path / "out"), tmp_path)
    page = viewed.get(f"/?columns=x{filters}").text
    found = re.findall(r'<a href="\.(\?[^"]*)" tabindex="-1"><title>(.*?): ([\d,]+)</title>', page)
    assert len(found) == 24
    assert len({label for _, label, _ in found}) == 24
    shown = []
    for url, label, count in found:
        answer = viewed.get(html.unescape(url)).text
        total = re.findall(r"<strong>([\d,]+)</strong> rows?", answer) or ["0"]
        assert total == [count], label
        shown.append(int(count))
    assert sum(shown) == int((re.findall(r"<strong>(\d+)</strong> rows?", page) or ["0"])[0])


def test_a_range_with_an_open_end_stays_in_the_form(viewed: TestClient) -> None:
    assert prompts(viewed, below__clip="0.2") == ["a fox 0", "a boat 1"]
    assert 'name="below.clip" value="0.2"' in viewed.get("/?below.clip=0.2").text
    assert "clip &lt; 0.2" in viewed.get("/?below.clip=0.2").text


def test_chosen_columns_stand_below_each_image(viewed: TestClient) -> None:
    page = viewed.get("/?columns=seed&columns=note&q=fox").text
    assert re.findall(r"<dt>seed</dt><dd>(\d+)</dd>", page) == ["1000", "1004", "1008"]
    assert "<dt>clip</dt>" not in page


def test_a_row_has_all_columns_its_image_and_its_neighbours(viewed: TestClient) -> None:
    page = viewed.get("/row?row=s4&at=1&q=fox").text
    assert "2 of 3" in page
    assert [html.unescape(u) for u in re.findall(r'rel="(?:prev|next)" href="([^"]*)"', page)] == [
        "row?row=s0&at=0&q=fox",
        "row?row=s8&at=2&q=fox",
    ]
    for name in ("sample_id", "seed", "guidance_scale", "note"):
        assert f">{name}</th>" in page
    assert 'captions</th><td class="muted"><code>list&lt;' in page  # the column `captions` is in Parquet only
    image = viewed.get(re.findall(r'src="(image[^"]*)"', page)[0].replace("&amp;", "&"))
    assert image.headers["content-type"] == "image/png"


def test_a_link_to_a_row_that_moved_finds_it(viewed: TestClient) -> None:
    assert "3 of 3" in viewed.get("/row?row=s8&at=0&q=fox").text
    assert "3 of 3" in viewed.get("/row?row=s8&q=fox").text
    assert "outside of the filters" in viewed.get("/row?row=s8&q=boat").text
    assert viewed.get("/row?row=none").status_code == 404


def test_a_row_as_one_of_a_prompt_table(viewed: TestClient) -> None:
    row = prompt_row(viewed.get("/row?row=s4").text)
    assert (row["prompt"], row["seed"], row["num_images"]) == ("a fox 4", 1004, 1)
    assert "sample_id" not in row
    assert "image" not in row


def test_dead_letters_are_a_table_of_their_own(viewed: TestClient) -> None:
    page = viewed.get("/?table=failed&q=finite").text
    assert "logits of p5 are not finite" in page
    assert "Dead letters 1" in page
    row = viewed.get("/row?row=p5&table=failed").text
    assert "ValueError" in row
    assert "<img" not in row


def test_a_running_job_shows_what_is_committed_and_more_after_a_refresh(tmp_path: Path) -> None:
    run = MadeGenerations(str(tmp_path / "out"), failed=[9])
    viewed = client(run.uri, tmp_path)
    assert "Nothing is committed yet" in viewed.get("/").text
    run.commit(run.units[1:2])
    open_storage(run.uri).write(f"data/{run.units[0].id}.parquet", b"half written")
    assert viewed.get("/refresh?q=a").headers["location"] == ".?q=a"
    assert prompts(viewed) == ["a fox 4", "a boat 5", "a house 6", "a snow 7"]
    assert "1 of 3 units committed" in viewed.get("/").text
    open_storage(run.uri).delete(f"data/{run.units[0].id}.parquet")
    run.commit()
    viewed.get("/refresh")
    assert len(prompts(viewed)) == 11
    page = viewed.get("/").text
    assert "generate, finished" in page
    assert "Dead letters 1" in page


def test_an_output_on_any_storage(root_uri: str, tmp_path: Path) -> None:
    MadeGenerations(child(root_uri, "out"), images="webdataset").commit()
    viewed = client(child(root_uri, "out"), tmp_path)
    assert len(prompts(viewed, q="fox")) == 3
    assert viewed.get("/image?row=4").headers["content-type"] == "image/png"
    assert viewed.get("/thumbnail?row=4").headers["content-type"] == "image/webp"


def test_a_curation_shows_decisions_and_what_stays_in_the_place_of_a_duplicate(tmp_path: Path) -> None:
    from pipelines.selection import Recipe, select
    from tests.pipelines.made_scores import write_pairs

    images = random_jpegs(6)
    source = write_tar(tmp_path / "in" / "a.tar", [*images, b"\xff\xd8\xff broken"])
    output = tmp_path / "out"
    write_scored(source, str(output / "scores"))
    pairs = write_pairs(output / "duplicates" / "d", [("exact", "a.tar:0", "a.tar:2", 0.0)])
    rules = [{"rule": "duplicates", "kinds": ["exact"]}, {"rule": "expression", "where": "key <> '00005'"}]
    select(
        str(output / "scores"),
        pairs,
        Recipe.model_validate({"rules": rules}),
        str(output / "selections/strict"),
    )
    viewed = client(str(output), tmp_path)
    assert "curate, finished" in viewed.get("/").text
    assert len(prompts(viewed)) == 6
    assert prompts(viewed, selection="strict", is__kept="false") == ["caption 2", "caption 5"]
    row = viewed.get("/row?row=a.tar:2&selection=strict").text
    assert "Stays in its place" in row
    assert "caption 0" in row
    assert viewed.get("/image?row=3").content == images[3]
    assert (
        "CorruptImageError" in viewed.get("/?table=failed").text
        or "Truncated" in viewed.get("/?table=failed").text
    )
    assert json.loads(html.unescape(re.findall(r'id="prompt-row"[^>]*>(.*?)</pre>', row)[0])) == {
        "prompt": "caption 2"
    }


def test_columns_of_the_output_that_are_called_like_decisions_are_none(tmp_path: Path) -> None:
    from pipelines.selection import Recipe, select

    (tmp_path / "in").mkdir()
    columns = {"kept": [False] * 4, "duplicate_of": ["x.parquet:0"] * 4, "rule": ["mine"] * 4}
    table = {"image": random_jpegs(4), "caption": list("abcd"), **columns}
    pq.write_table(pa.table(table), tmp_path / "in" / "x.parquet")
    output = tmp_path / "out"
    write_scored(str(tmp_path / "in"), str(output / "scores"))
    rules = [{"rule": "expression", "where": "caption <> 'b'"}]
    select(
        str(output / "scores"), None, Recipe.model_validate({"rules": rules}), str(output / "selections/s")
    )
    viewed = client(str(output), tmp_path)
    page = viewed.get("/?selection=s").text
    assert re.findall(r'<li id="r(\d)" class="dropped">', page) == ["1"]
    assert "<dt>rule</dt><dd>mine" not in page
    assert "Stays in its place" not in viewed.get("/row?row=x.parquet:3&selection=s").text
    row = viewed.get("/row?row=x.parquet:1&selection=s").text
    assert re.findall(r"<th[^>]*>([^<]*)</th>", row)[0].startswith("decision_")


def test_a_refusal_can_be_told_where_nothing_is_known_of_the_columns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    MadeGenerations(str(tmp_path / "out")).commit()
    viewed = client(str(tmp_path / "out"), tmp_path)

    def failing(*_: object) -> None:
        raise QueryError("out of memory")

    monkeypatch.setattr(Answers, "facts", failing)
    assert refused(viewed) == "out of memory"


def test_an_output_that_is_out_of_reach_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    MadeGenerations(str(tmp_path / "out")).commit()
    viewed = client(str(tmp_path / "out"), tmp_path)

    def failing(*_: object) -> bool:
        raise StorageError("the storage is away")

    monkeypatch.setattr(type(open_storage(str(tmp_path))), "exists", failing)
    answer = viewed.get("/refresh")
    assert answer.status_code == 502
    assert "the storage is away" in answer.text
    assert len(prompts(viewed)) == 12  # what was read is shown all the same


def test_a_picture_of_a_failure_is_not_kept_by_the_browser(tmp_path: Path) -> None:
    images = [{"bytes": b"", "path": ""}, {"bytes": b"no image", "path": "x"}]
    columns = {"image": [*images, *[made_image(n) for n in range(2, 12)]]}
    MadeGenerations(str(tmp_path / "out"), columns=columns).commit()
    viewed = client(str(tmp_path / "out"), tmp_path)
    found = [viewed.get(f"/thumbnail?row={n}").headers["cache-control"] for n in range(3)]
    assert found == ["no-store", "no-store", "private, max-age=86400, immutable"]
