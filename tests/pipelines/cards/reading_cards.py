"""What a reader finds in a card: its metadata, its tables, its programs."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path
from typing import Any

import datasets
import pytest
import yaml

_PROGRAM = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def metadata_of(text: str) -> dict[str, Any]:
    """The front matter."""
    _, front_matter, _ = text.split("---\n", 2)
    return yaml.safe_load(front_matter)


def cells_of(text: str, first: str) -> list[str]:
    """The other cells of the table row that begins with this one."""
    lines = [line for line in text.splitlines() if line.startswith(f"| {first} |")]
    assert len(lines) == 1, lines
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", lines[0])[2:-1]]


def printed_by_programs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What each program of the card in a folder prints there, run as it stands."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", folder.parent / ".hf")
    printed = []
    for program in _PROGRAM.findall((folder / "README.md").read_text()):
        with contextlib.redirect_stdout(io.StringIO()) as output:
            exec(compile(program, "README.md", "exec"), {})  # noqa: S102 - the card's own
        printed.append(output.getvalue().strip())
    return printed
