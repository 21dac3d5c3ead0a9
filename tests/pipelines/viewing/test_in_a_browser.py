"""The viewer in a real browser: filter, enlarge, keys, phone, themes; nothing from elsewhere."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import uvicorn
from playwright.sync_api import expect

from pipelines.viewing.guard import Access
from pipelines.viewing.server import viewer
from tests.browser import DESKTOP, PHONE, visit
from tests.pipelines.made_generations import SIDE, MadeGenerations
from tests.pipelines.viewing.made_outputs import opened

pytestmark = [pytest.mark.browser, pytest.mark.slow]
SECRET = "a-secret"


def served(app: Any) -> Iterator[str]:
    """URL of the application, served by a thread."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
    server.should_exit = True
    thread.join(10)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> MadeGenerations:
    """Sixty prompts, of which one is long without a space and one is markup."""
    prompts = [f"a fox {n}" for n in range(60)]
    prompts[1], prompts[2] = "x" * 400, "<img src=x onerror=alert(1)>"
    columns = {"a_column_with_a_long_name_" * 3: list(range(60))}
    uri = str(tmp_path_factory.mktemp("run") / "out")
    return MadeGenerations(uri, prompts, failed=[7], unit_rows=30, columns=columns).commit()


@pytest.fixture(scope="module")
def url(run: MadeGenerations, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    yield from served(viewer(opened(run.uri, tmp_path_factory.mktemp("index")), Access()))


def test_a_filter_stands_in_the_url_without_empty_fields(browser: Any, url: str) -> None:
    with visit(browser, url) as opened_page:
        page = opened_page.page
        page.get_by_text("Filters", exact=True).click()
        page.locator("[name='min.clip']").fill("5")
        page.get_by_label("Order by").select_option("clip")
        page.get_by_label("Direction").select_option("desc")
        page.get_by_role("button", name="Show").click()
        page.wait_for_url("**min.clip**")
        asked = parse_qs(urlsplit(page.url).query)
        assert {name: values for name, values in asked.items() if name != "columns"} == {
            "min.clip": ["5"],
            "sort": ["clip"],
            "order": ["desc"],
        }
        assert page.locator("#gallery li").count() == 10
        page.get_by_label("Remove the filter clip ≥ 5").click()
        expect(page.locator("#gallery li")).to_have_count(48)
        assert opened_page.errors == []
        assert all(request.startswith(url) for request in opened_page.requests)


def test_enter_enlarges_and_arrows_lead_on(browser: Any, url: str) -> None:
    with visit(browser, f"{url}?q=fox") as opened_page:
        page = opened_page.page
        page.keyboard.press("ArrowRight")
        page.keyboard.press("ArrowRight")
        page.keyboard.press("Enter")
        page.wait_for_url("**/row?**")
        assert page.locator("h2").inner_text() == "a fox 3"
        image = page.locator(".shown img")
        assert image.evaluate("image => image.naturalWidth") == SIDE
        page.keyboard.press("ArrowRight")
        expect(page.locator("h2")).to_have_text("a fox 4")
        page.keyboard.press("ArrowLeft")
        expect(page.locator("h2")).to_have_text("a fox 3")
        page.keyboard.press("Escape")
        page.wait_for_url("**/?q=fox#r*")
        expect(page.locator("#r3 .picture")).to_be_focused()
        page.keyboard.press("/")
        assert page.evaluate("document.activeElement.id") == "search"
        assert opened_page.errors == []


def test_a_row_is_copied_for_a_prompt_table(browser: Any, url: str) -> None:
    with visit(browser, f"{url}row?row=s4") as opened_page:
        opened_page.page.get_by_role("button", name="Copy").click()
        opened_page.page.get_by_text("copied", exact=True).wait_for()
        row = json.loads(opened_page.page.evaluate("navigator.clipboard.readText()"))
        assert (row["prompt"], row["seed"]) == ("a fox 4", 1004)
        assert opened_page.errors == []


@pytest.mark.parametrize("size", [DESKTOP, PHONE])
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("path", ["", "row?row=s1", "?table=failed", "?columns=seed&min.seed=3"])
def test_pages_fit_and_are_quiet(
    browser: Any, url: str, path: str, theme: Any, size: tuple[int, int]
) -> None:
    with visit(browser, f"{url}{path}", size, theme) as opened_page:
        opened_page.page.wait_for_load_state("networkidle")
        for summary in opened_page.page.locator("form summary").all():
            summary.click()
        assert opened_page.wider_than_window() == 0
        assert opened_page.errors == []
        assert all(request.startswith(url) for request in opened_page.requests)


def test_the_theme_stays_from_page_to_page(browser: Any, url: str) -> None:
    with visit(browser, url) as opened_page:
        page = opened_page.page
        page.locator("#theme").click()
        page.locator("#gallery .picture").first.click()
        page.wait_for_url("**/row?**")
        assert page.evaluate("document.documentElement.dataset.theme") == "dark"


def test_it_works_without_scripts(browser: Any, url: str) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(url)
    page.fill("[name=q]", "fox 5")
    page.get_by_role("button", name="Show").click()
    assert "min." not in page.url
    assert page.locator("#gallery li").count() == 15
    page.locator("#gallery .picture").first.click()
    assert page.locator("h2").inner_text() == "a fox 5"
    page.get_by_text("Next").click()
    assert page.locator("h2").inner_text() == "a fox 15"
    context.close()


def test_the_printed_url_lets_in_and_leaves_no_token(
    browser: Any, run: MadeGenerations, tmp_path_factory: pytest.TempPathFactory
) -> None:
    app = viewer(opened(run.uri, tmp_path_factory.mktemp("index")), Access(token=SECRET, hosts=None))
    for url in served(app):
        with visit(browser, f"{url}?q=fox&token={SECRET}") as opened_page:
            opened_page.page.wait_for_url("**/?q=fox")
            assert opened_page.page.locator("#gallery li").count() == 48
            opened_page.page.wait_for_load_state("networkidle")
            assert opened_page.errors == []
