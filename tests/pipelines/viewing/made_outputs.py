"""Scored images to view, and what shows an output without a server."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from starlette.testclient import TestClient

from pipelines.curation.scoring import plan_scoring
from pipelines.curation.settings import ScoreConfig
from pipelines.viewing.guard import Access
from pipelines.viewing.outputs import open_output
from pipelines.viewing.rows import OutputRows
from pipelines.viewing.server import viewer
from tests.pipelines.curation.pictures import encoded, picture
from tests.pipelines.made_scoring import score_inline


def write_tar(path: Path, images: Sequence[bytes]) -> str:
    """A WebDataset tar of these images, with captions "caption 0", …; gives its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for number, data in enumerate(images):
            for suffix, content in (("jpg", data), ("txt", f"caption {number}".encode())):
                info = tarfile.TarInfo(f"{number:05d}.{suffix}")
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    return str(path.parent)


def write_scored(source: str, output: str, **settings: Any) -> None:
    """A finished run of `score` over an input, with the columns of the scorer `quality`."""
    values = {"input": source, "output": output, "scorers": [{"kind": "quality"}], "unit_rows": 4}
    score_inline(plan_scoring(ScoreConfig.model_validate(values | settings)).open())


def opened(uri: str, folder: Path) -> OutputRows:
    """The rows of an output, read."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = OutputRows(open_output(uri), folder)
    rows.refresh()
    return rows


def client(uri: str, folder: Path, access: Access | None = None) -> TestClient:
    """A client of a server that shows the output; it follows no redirects."""
    app = viewer(opened(uri, folder / "index"), access or Access())
    return TestClient(app, base_url="http://127.0.0.1", follow_redirects=False)


def random_jpegs(count: int) -> list[bytes]:
    """Images of noise and of blobs, in turns."""
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)
    return [encoded(picture(n, 64, 64) if n % 2 else noise) for n in range(count)]
