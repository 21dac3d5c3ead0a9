"""A tiny model with random weights."""

from __future__ import annotations

from pathlib import Path

import pytest

from meissonic import Meissonic
from tests.meissonic import golden as recorded
from tests.meissonic.golden import FOLDER, Golden


@pytest.fixture(scope="session")
def model() -> Meissonic:
    """The golden folder's model: two of every kind of block, random weights."""
    return Meissonic.from_pretrained(FOLDER)


@pytest.fixture(scope="session")
def folder() -> Path:
    return FOLDER


@pytest.fixture(scope="session")
def golden() -> Golden:
    return recorded.load()
