"""Contact sheets of a page: pictures with what is said of them, and no more of them than a page can hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from pipelines.reports.curation_tables import Sampled

PICTURES_BYTES = 3_300_000
"""Of all pictures of a page; what draws the charts is 0.9 MB."""


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """Some images under one heading.

    Attributes:
        title: The heading.
        note: What they are a sample of.
        images: The images.
    """

    title: str
    note: str
    images: Sequence[Sampled]


def fitting(sheets: Sequence[Sheet], pictures: dict[int, str], budget_bytes: int) -> list[Sheet]:
    """The sheets, each with the same part of its images left out where all are more than fit.

    Args:
        sheets: All sheets of a page.
        pictures: By ordinal.
        budget_bytes: For all pictures together.
    """
    whole = sum(len(pictures[image.ordinal]) for sheet in sheets for image in sheet.images)
    share = min(1.0, max(budget_bytes, 0) / max(whole, 1))
    while True:
        cut = [replace(s, images=s.images[: _part(len(s.images), share)]) for s in sheets]
        if share == 0 or sum(len(pictures[i.ordinal]) for s in cut for i in s.images) <= budget_bytes:
            return cut
        share = share * 0.9 if share > 0.01 else 0


def _part(count: int, share: float) -> int:
    return int(count * share + 1e-9)
