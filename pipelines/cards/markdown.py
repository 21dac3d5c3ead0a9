"""Markdown from texts of any origin: nothing in them becomes a heading, a cell, a tag or a block's end."""

from __future__ import annotations

import re
from collections.abc import Iterable

import yaml

_SPECIAL = re.compile(r"[\\`*_{}\[\]<>#|~!&$]")
_TICKS = re.compile(r"`+")


def text(value: object) -> str:
    """Plain words on one line, within a line or a cell."""
    return _SPECIAL.sub(r"\\\g<0>", _one_line(value))


def code(value: object) -> str:
    """A code span in a table, whose cells pipes would end even there."""
    content = _one_line(value).replace("|", r"\|")
    ticks = "`" * (_longest_run(content) + 1)
    padding = " " if content.startswith("`") or content.endswith("`") else ""
    return f"{ticks}{padding}{content}{padding}{ticks}" if content else ""


def as_yaml(value: object) -> str:
    """A fenced block of YAML: the JSON value, its keys in their order."""
    content = yaml.safe_dump(value, sort_keys=False, allow_unicode=True)
    fence = "`" * max(3, _longest_run(content) + 1)
    return f"{fence}yaml\n{content}{fence}"


def table(header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """A table of cells that are Markdown already."""
    lines = [header, ("---",) * len(header), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _one_line(value: object) -> str:
    return " ".join(str(value).split())


def _longest_run(content: str) -> int:
    return max(map(len, _TICKS.findall(content)), default=0)
