"""Which units of a run are committed, and which are new to somebody who notes those that are taken in."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from pipelines.commit import Commit, read_commit
from pipelines.ledger import Ledger
from pipelines.plan import unit_key
from pipelines.records import Records
from schemas.manifest import ObjectEntry

_THREADS = 16


class CommittedUnits:
    """The committed units of a run, read little by little.

    Attributes:
        num_units: Units of the plan and its retries, when it was looked at last.
        num_done: Those that are committed.
    """

    def __init__(self, ledger: Ledger) -> None:
        self.num_units = self.num_done = 0
        self._ledger = ledger
        self._known: set[str] = set()
        self._newest: dict[int, tuple[int, ObjectEntry | None]] = {}  # by position: last round, dead letters

    def new(self) -> list[Commit]:
        """The committed units that are not noted yet, in the order of the plan."""
        plan = self._ledger.planned()
        records = Records(self._ledger.storage, plan)
        self.num_units, self.num_done = len(plan), int(records.done.sum())
        if not self._known:
            commits = list(records.in_order())
        else:
            ids = [unit.id for unit in plan.take(np.flatnonzero(records.done))]
            with ThreadPoolExecutor(_THREADS) as pool:
                unknown = [unit_id for unit_id in ids if unit_id not in self._known]
                commits = list(pool.map(lambda unit_id: read_commit(self._ledger.storage, unit_id), unknown))
        return commits

    def letters(self, commits: Iterable[Commit]) -> list[ObjectEntry]:
        """The objects of dead letters, with those of new commits.

        Of each unit they are those of its last round: the others were run again.
        """
        newest = self._with(commits)
        return [entry for _, (_, entry) in sorted(newest.items()) if entry is not None]

    def note(self, commits: Sequence[Commit]) -> None:
        """These are taken in: they are new no more."""
        self._newest = self._with(commits)
        self._known.update(commit.unit for commit in commits)

    def _with(self, commits: Iterable[Commit]) -> dict[int, tuple[int, ObjectEntry | None]]:
        newest = dict(self._newest)
        for commit in commits:
            position, number = unit_key(commit.unit)
            if number >= newest.get(position, (-1, None))[0]:
                newest[position] = (number, commit.failed)
        return newest
