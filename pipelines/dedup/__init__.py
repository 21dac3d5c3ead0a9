"""Find duplicates in a dataset of scores: equal bytes, near-duplicates by perceptual hash, equal meaning.

    summary = find_duplicates("out/scores", "out/duplicates", DedupSettings())

Nothing is dropped here: pairs are written, and a selection's recipe decides.
"""

from pipelines.dedup.columns import DedupError
from pipelines.dedup.find import DuplicatesSummary, find_duplicates, search_request
from pipelines.dedup.settings import DedupSettings, NearSettings, SemanticSettings

__all__ = [
    "DedupError",
    "DedupSettings",
    "DuplicatesSummary",
    "NearSettings",
    "SemanticSettings",
    "find_duplicates",
    "search_request",
]
