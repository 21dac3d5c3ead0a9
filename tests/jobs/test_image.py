"""The container image for clusters."""

from __future__ import annotations

import re

from pipelines.models import PROJECT
from tests.jobs.cluster_files import pinned


def test_the_image_has_the_pinned_packages_and_an_ordinary_user() -> None:
    lines = (PROJECT / "Dockerfile").read_text().replace("\\\n", "")
    assert "--requirement /app/constraints.txt" in lines
    assert not re.search(r"pip install(?!.*--requirement)", lines)  # no other version of Ray
    assert re.search(r"^USER 1000$", lines, re.MULTILINE)
    assert "RAY_AUTH_MODE=token" in lines
    cuda = pinned("nvidia-cuda-runtime").split(".")[0]
    assert re.search(rf"^FROM nvidia/cuda:{cuda}\.", lines, re.MULTILINE)


def test_the_image_gets_the_code_and_not_the_rest() -> None:
    allowed = re.findall(r"^!(\S+)$", (PROJECT / ".dockerignore").read_text(), re.MULTILINE)
    assert (PROJECT / ".dockerignore").read_text().count("\n*\n") == 1  # all else is left out
    assert all((PROJECT / path).exists() for path in allowed)
    assert {"constraints.txt", "jobs", "meissonic", "pipelines", "schemas"} <= set(allowed)
    assert not {"tests", ".git", "out"} & set(allowed)
