"""From a template and its values to one HTML file that asks for nothing else.

`layout.html.j2` is the frame of every page, `parts.html.j2` what they share. Templates lie beside the code
that fills them.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
from rich.filesize import decimal

MAX_PAGE_BYTES = 5_000_000
_HERE = Path(__file__).parent


class PageTooLargeError(ValueError):
    """A page that would be slow to open."""


def render(template: Path, values: Mapping[str, Any]) -> bytes:
    """The page.

    Args:
        template: Extends `layout.html.j2`.
        values: What it names; of `layout.html.j2` these are `title`, `lead`, `sections` (id and name of
            each) and `footer`. All text is escaped.

    Raises:
        PageTooLargeError: It has more than MAX_PAGE_BYTES: it was given too many pictures.
    """
    page = environment(template.parent).get_template(template.name).render(values).encode()
    if len(page) > MAX_PAGE_BYTES:
        raise PageTooLargeError(
            f"{template.name}: {len(page):,} bytes; {MAX_PAGE_BYTES:,} at most: give it fewer pictures"
        )
    return page


@functools.cache
def environment(folder: Path) -> jinja2.Environment:
    """Templates of a folder and of this one; a name that a template misses is an error."""
    found = jinja2.Environment(
        loader=jinja2.FileSystemLoader([folder, _HERE]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters |= {"count": "{:,}".format, "size": decimal}
    found.policies["json.dumps_kwargs"] = {"sort_keys": False}
    found.globals["chart_library"] = chart_library
    return found


@functools.cache
def chart_library() -> str:
    """The JavaScript that draws charts: Vega, Vega-Lite and Vega-Embed."""
    import vl_convert  # 30 MB that only pages need

    bundle: str = vl_convert.javascript_bundle()  # type: ignore[call-arg]
    return bundle.replace("</script", r"<\/script")
