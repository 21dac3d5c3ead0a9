"""Pages in a real browser: Debian's Chromium, driven by Playwright."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

DESKTOP, PHONE = (1280, 900), (390, 844)
_QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@dataclass(kw_only=True)
class Visit:
    """A page that is open.

    Attributes:
        page: To click on.
        errors: What the console complained of, and exceptions of scripts.
        requests: URLs that were asked for, data URIs left out.
    """

    page: Page
    errors: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def wider_than_window(self) -> int:
        """Pixels by which the page can be scrolled sideways; none on a page that fits."""
        return self.page.evaluate(
            "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        )


@contextmanager
def chromium() -> Iterator[Browser]:
    """The browser; the test is skipped where there is none, unless MEISSONIC_REQUIRE_BROWSER is set."""
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        missing = "there is no chromium: Debian's package of that name"
        if os.environ.get("MEISSONIC_REQUIRE_BROWSER"):
            pytest.fail(f"MEISSONIC_REQUIRE_BROWSER is set and {missing}")
        pytest.skip(missing)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=_QUIET)
        yield browser
        browser.close()


@contextmanager
def visit(
    browser: Browser,
    url: str,
    size: tuple[int, int] = DESKTOP,
    theme: Literal["light", "dark"] = "light",
    screenshot: Path | None = None,
) -> Iterator[Visit]:
    """A page of its own context, opened and loaded; `screenshot` is taken of all of it at the end."""
    context = browser.new_context(
        viewport={"width": size[0], "height": size[1]}, color_scheme=theme, accept_downloads=True
    )
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    opened = Visit(page=context.new_page())
    opened.page.on("console", lambda m: opened.errors.append(m.text) if m.type == "error" else None)
    opened.page.on("pageerror", lambda error: opened.errors.append(str(error)))
    opened.page.on(
        "request",
        lambda request: opened.requests.append(request.url) if not request.url.startswith("data:") else None,
    )
    opened.page.goto(url, wait_until="load")
    yield opened
    if screenshot is not None:
        opened.page.screenshot(path=screenshot, full_page=True)
    context.close()
