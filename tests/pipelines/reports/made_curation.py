"""A `curate` output made without Ray: a folder of pictures, scored by the real worker and committed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.curation.layout import duplicates_uri, scores_uri, selection_uri
from pipelines.curation.scoring import ScoringJob, plan_scoring
from pipelines.curation.settings import ScoreConfig
from pipelines.inputs import find_parquet, read_batches
from pipelines.manifest import MANIFEST_PATH, read_entries
from pipelines.selection import Funnel, Recipe, select
from pipelines.storage import open_storage
from schemas.manifest import json_bytes
from tests.pipelines.curation.pictures import encoded, picture
from tests.pipelines.made_scores import write_pairs
from tests.pipelines.made_scoring import score_inline

HOSTILE = "</script><img src=x onerror=alert(1)><b>"
SIZES = ((96, 64), (64, 96), (120, 80), (40, 30), (200, 60))


@dataclass(frozen=True, kw_only=True)
class MadeCuration:
    """A `curate` output and its input.

    Attributes:
        output: The folder.
        job: The scoring.
    """

    output: str
    job: ScoringJob

    def score(self, units: int | None = None) -> None:
        """Commit that many units of the plan, or all and the manifest."""
        score_inline(self.job, units)

    def row_ids(self) -> list[str]:
        """Of the rows of scores, in order."""
        found = find_parquet(scores_uri(self.output))
        return [row_id for batch in read_batches(found, ["row_id"]) for row_id in batch[0].to_pylist()]

    def find_duplicates(self, pairs: Sequence[tuple[str, str, str, float]]) -> str:
        """Write these pairs as a search had found them."""
        uri = write_pairs(Path(duplicates_uri(self.output, "0123456789abcdef")), pairs)
        storage = open_storage(uri)
        settings = {"near": {"max_hamming": 6}, "semantic": {"min_cosine": 0.9}}
        manifest = {
            "format": "meissonic-manifest-1",
            "job": "dedup",
            "objects": _objects(uri),
            "failed": {"objects": []},
            "scores": open_storage(scores_uri(self.output)).sha256(MANIFEST_PATH),
            "settings": settings,
        }
        storage.write(MANIFEST_PATH, json_bytes(manifest))
        return uri

    def select(self, name: str, *rules: Mapping[str, Any], duplicates: str | None = None) -> Funnel:
        """Select by these rules."""
        recipe = Recipe.model_validate({"rules": rules})
        return select(scores_uri(self.output), duplicates, recipe, selection_uri(self.output, name))


def made_curation(folder: Path, count: int = 20, keep: str = "none", broken: int = 2) -> MadeCuration:
    """A planned scoring of some pictures, the first with a caption HOSTILE, and of files that are none."""
    images = folder / "images"
    images.mkdir()
    for number in range(count):
        name = f"{number:03d}"
        (images / f"{name}.jpg").write_bytes(encoded(picture(number, *SIZES[number % len(SIZES)])))
        caption = HOSTILE if number == 0 else f"picture number {number} " + "and more " * (number % 4)
        (images / f"{name}.txt").write_text(caption.strip())
    for number in range(broken):
        (images / f"x{number:03d}.jpg").write_bytes(b"no image at all")
    output = str(folder / "out")
    config = ScoreConfig.model_validate(
        {"input": str(images), "output": scores_uri(output), "unit_rows": 6, "keep": keep}
    )
    return MadeCuration(output=output, job=plan_scoring(config).open())


def _objects(uri: str) -> list[dict[str, Any]]:
    return [entry.to_json() for entry in read_entries(open_storage(uri))]
