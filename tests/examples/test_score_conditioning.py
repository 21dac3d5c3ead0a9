"""A score becomes a micro-condition, and asking for a high one gives sharp images."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from examples.shapes.score_conditioning import RESULT


@pytest.mark.slow
@pytest.mark.reliability
@pytest.mark.ray
@pytest.mark.timeout(900)
def test_asking_for_a_high_score_gives_sharper_images(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "examples.shapes.score_conditioning", "--work", str(tmp_path)]
    subprocess.run(command, check=True)
    found = json.loads((tmp_path / RESULT).read_text())
    assert found["high"] > 1.5 * found["low"]
    assert found["share_sharper"] > 0.8
