"""The table of scores: one row an image that could be decoded."""

from collections.abc import Sequence

import pyarrow as pa

from pipelines.curation.settings import ScoreSettings
from pipelines.scorers.settings import scorer_fields
from schemas.described import described
from schemas.images import EXPORT_NAMES, IMAGE_FACTS
from schemas.prompts import IMAGE, SHOWN_AS_IMAGES


def scores_schema(settings: ScoreSettings, passed_through: Sequence[pa.Field]) -> pa.Schema:
    """What was decoded, the scores, the kept image if it is, and the source's other columns."""
    kept = [] if settings.keep == "none" else [described("image", IMAGE, "encoded bytes and name")]
    fields = [*IMAGE_FACTS, *scorer_fields(settings.scorers), *kept, *passed_through]
    return pa.schema(fields, metadata=SHOWN_AS_IMAGES if kept else None)


def taken_names(settings: ScoreSettings) -> list[str]:
    """The columns whose names a source's other columns cannot have."""
    return [*scores_schema(settings, []).names, "image", "encoded", "pixels", *EXPORT_NAMES]
