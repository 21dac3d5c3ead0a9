"""`benchmarks/README.md` leaves no script and no result out, and says of which commit each result is."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

FOLDER = Path("benchmarks")
TEXT = (FOLDER / "README.md").read_text()
SCRIPTS = [
    ".".join(path.parent.parts if path.stem == "__main__" else path.with_suffix("").parts)
    for path in sorted(FOLDER.rglob("*.py"))
    if re.search('^if __name__ == "__main__":$', path.read_text(), re.MULTILINE)
]
RESULTS = [path.relative_to(FOLDER).as_posix() for path in sorted(FOLDER.glob("results/**/*.json"))]


@pytest.mark.parametrize("module", SCRIPTS)
def test_every_script_is_named_by_its_command(module: str) -> None:
    assert re.search(rf"python -m {re.escape(module)}(?![\w.])", TEXT)


@pytest.mark.parametrize("result", RESULTS)
def test_every_result_is_named_with_its_commit_and_date(result: str) -> None:
    written = json.loads((FOLDER / result).read_text())
    (paragraph,) = [part for part in TEXT.split("\n\n") if f"[`{result}`]({result})" in part]
    assert written["commit"][:7] in paragraph
    assert written["date"] in paragraph


def test_nothing_is_linked_that_is_not_there() -> None:
    links = re.findall(r"\]\(([^)]+)\)", TEXT)
    assert [link for link in links if not (FOLDER / link).exists()] == []
