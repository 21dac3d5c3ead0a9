"""`make demo` as a newcomer runs it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(900)]

LIMIT_S = 600
"""A minute or two on an idle machine; the tests beside it take their share."""


def test_the_demo_ends_in_time_with_an_accuracy_and_a_contact_sheet() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "examples.shapes.demo"], capture_output=True, text=True, timeout=LIMIT_S
    )
    assert done.returncode == 0, done.stdout + done.stderr
    one, two = (int(found) for found in re.findall(r"(?:one object|two objects) .*\((\d+)%\)", done.stdout))
    assert one >= 75
    assert two >= 75
    sheet = re.search(r"contact sheet: (.*)", done.stdout)
    assert sheet is not None
    assert Image.open(Path(sheet[1])).width > 1000
