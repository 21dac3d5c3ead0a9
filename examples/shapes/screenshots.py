"""The pictures of pages in docs/assets, from real outputs.

python -m examples.shapes.demo && python -m examples.shapes.curate && python -m examples.shapes.screenshots
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

from examples.shapes import curate, demo
from pipelines.reports.writing import REPORT_PATH

ASSETS = Path("docs/assets")
DESKTOP, PHONE = (1280, 900), (390, 844)
GAP = 24
QUIET = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update")


def main() -> None:
    """Take all of them."""
    generated, curated = demo.FOLDER / "images", curate.FOLDER / "out"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=list(QUIET))
        page = (generated / REPORT_PATH).resolve().as_uri()
        with _page(browser, page, DESKTOP, "light") as wide, _page(browser, page, PHONE, "dark") as narrow:
            wide.locator("#gallery").scroll_into_view_if_needed()
            narrow.click(".picture >> nth=3")
            _beside(wide, narrow, ASSETS / "report-generate.png")
        page = (curated / REPORT_PATH).resolve().as_uri()
        with _page(browser, page, DESKTOP, "light") as wide, _page(browser, page, PHONE, "dark") as narrow:
            wide.evaluate("document.querySelector('h2 ~ .chart, .chart').scrollIntoView()")
            narrow.evaluate("document.querySelectorAll('.gallery')[1].scrollIntoView()")
            _beside(wide, narrow, ASSETS / "report-curate.png")
        with (
            _viewer(generated) as url,
            _page(browser, url, DESKTOP, "dark") as wide,
            _page(browser, url, PHONE, "light") as narrow,
        ):
            _beside(wide, narrow, ASSETS / "view.png")
        browser.close()


@contextmanager
def _page(
    browser: Browser, url: str, size: tuple[int, int], theme: Literal["light", "dark"]
) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": size[0], "height": size[1]}, color_scheme=theme)
    page = context.new_page()
    page.goto(url, wait_until="networkidle")
    yield page
    context.close()


def _beside(wide: Page, narrow: Page, path: Path) -> None:
    """Both pages on one picture, the narrow one at the right."""
    taken = []
    for page in (wide, narrow):
        page.wait_for_timeout(500)  # charts are drawn, pictures decoded
        page.screenshot(path=path)
        taken.append(Image.open(path).convert("RGB"))
    height = max(picture.height for picture in taken)
    sheet = Image.new("RGB", (sum(p.width for p in taken) + GAP, height), "white")
    sheet.paste(taken[0], (0, 0))
    sheet.paste(taken[1], (taken[0].width + GAP, 0))
    sheet.quantize(256).save(path, optimize=True)
    print(path)


@contextmanager
def _viewer(output: Path) -> Iterator[str]:
    command = [sys.executable, "-m", "jobs", "view", str(output)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        yield server.stdout.readline().strip()
        server.terminate()


if __name__ == "__main__":
    main()
