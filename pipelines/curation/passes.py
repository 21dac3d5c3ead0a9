"""The passes of curation, each of which goes on where it was: score, find duplicates, select, export.

    curation = Curation(load_config(CurateConfig, "jobs/configs/curate.yaml", ["input=…", "output=…"]))
    curation.score(), curation.find_duplicates(), curation.select(), curation.export()

A pass reads only what the ones before it have finished. All but `select` need a connected Ray.
"""

from __future__ import annotations

import hashlib
from functools import cached_property

from pipelines.cards.training_set import read_selected, write_card
from pipelines.config import load_config
from pipelines.curation import layout
from pipelines.curation.exporting import open_export
from pipelines.curation.scoring import OnProgress, ScoringPlan, plan_scoring
from pipelines.curation.settings import CurateConfig, ScoreConfig
from pipelines.dedup import DuplicatesSummary, find_duplicates, search_request
from pipelines.selection import Funnel, Recipe, select
from pipelines.tally import RunSummary
from schemas.manifest import json_bytes

_DIGEST_HEX = 16


def plan_curation(config: CurateConfig) -> ScoringPlan:
    """The plan of the scores, the pass that others follow; looks at the whole input."""
    return Curation(config).scoring


class Curation:
    """Curation of one input with one configuration.

    Attributes:
        config: The configuration.
        recipe: Its recipe.
        scores_uri: Folder of the scores.
        selection_uri: Folder of the selection.
        dataset_uri: Folder of the training set.
    """

    def __init__(self, config: CurateConfig) -> None:
        self.config = config
        self.recipe = load_config(Recipe, config.recipe) if isinstance(config.recipe, str) else config.recipe
        self.scores_uri = layout.scores_uri(config.output)
        self.selection_uri = layout.selection_uri(config.output, config.name)
        self.dataset_uri = layout.dataset_uri(config.output, config.name)

    @cached_property
    def scoring(self) -> ScoringPlan:
        """The plan of the scores; looks at the whole input."""
        values = self.config.score.model_dump() | {
            "input": self.config.input,
            "output": self.scores_uri,
            "card": self.config.card,
        }
        return plan_scoring(ScoreConfig.model_validate(values))

    @property
    def duplicates_uri(self) -> str:
        """Folder of the pairs of duplicates: another one for other scores or other settings."""
        request = json_bytes(search_request(self.scores_uri, self.config.dedup))
        digest = hashlib.sha256(request).hexdigest()[:_DIGEST_HEX]
        return layout.duplicates_uri(self.config.output, digest)

    def score(self, on_progress: OnProgress | None = None) -> RunSummary:
        """Decode and score all images that are not yet."""
        return self.scoring.open().run(on_progress)

    def find_duplicates(self) -> DuplicatesSummary:
        """Find all pairs of duplicates, unless that is done."""
        return find_duplicates(self.scores_uri, self.duplicates_uri, self.config.dedup)

    def select(self) -> Funnel:
        """Decide by the recipe which images stay; takes seconds."""
        return select(self.scores_uri, self.duplicates_uri, self.recipe, self.selection_uri)

    def export(self, on_progress: OnProgress | None = None) -> RunSummary | None:
        """Write the training set; None where the configuration asks for none.

        Raises:
            LedgerError: The training set of this name is of another selection.
        """
        if self.config.export is None:
            return None
        job = open_export(self.scoring, self.selection_uri, self.config.export, self.dataset_uri)
        summary = job.run(on_progress)
        write_card(job.ledger, self.config, self.scoring.weights, read_selected(self.selection_uri), summary)
        return summary
