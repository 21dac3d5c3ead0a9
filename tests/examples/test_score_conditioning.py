"""A score becomes a micro-condition, and asking for a high one gives sharp images."""

from pathlib import Path

import pytest

from examples.shapes.score_conditioning import run


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.timeout(900)
def test_asking_for_a_high_score_gives_sharper_images(tmp_path: Path, local_ray: None) -> None:
    found = run(tmp_path)
    assert found.high > 1.5 * found.low
    assert found.share_sharper > 0.8
