"""Write the table of faults into docs/reliability.md, from the tests that ran and passed.

MEISSONIC_RELIABILITY=docs/reliability.md python -m pytest -m "" tests/faults tests/integration
"""

import os
import re
from collections import defaultdict
from pathlib import Path

import pytest

from tests.faults.matrix import ROWS

_BEGIN, _END = "<!-- the matrix -->\n", "<!-- end of the matrix -->"
_seen: dict[str, list[tuple[str, int]]] = defaultdict(list)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.when == "call" and report.passed:
        for name, value in report.user_properties:
            if name == "fault":
                fault, place, _, num_again = value
                _seen[fault].append((place, num_again))


def pytest_sessionfinish() -> None:
    if "MEISSONIC_RELIABILITY" not in os.environ:
        return
    lines = [
        "| fault | made on | what the job does | finished rows computed again | bytes as undisturbed |",
        "|---|---|---|---|---|",
    ]
    for row in ROWS:
        places = ", ".join(place for place, _ in _seen[row.name]) or "not run"
        again = sum(num_again for _, num_again in _seen[row.name])
        same = "yes" if _seen[row.name] else ""
        lines.append(f"| {row.name} | {places} | {row.outcome} | {again} | {same} |")
    path = Path(os.environ["MEISSONIC_RELIABILITY"])
    table = _BEGIN + "\n" + "\n".join(lines) + "\n\n" + _END
    path.write_text(re.sub(f"{_BEGIN}.*{_END}", lambda _: table, path.read_text(), flags=re.DOTALL))
