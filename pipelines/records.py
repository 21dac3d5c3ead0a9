"""Which units of a plan are done, and their commit records, without holding a million of them at once.

A commit record is one small object. To read a million of them takes hours, so the driver copies the records
of each thousand consecutive units into one object, a rollup, as soon as all of them are there. Rollups only
save requests: a unit is done if and only if its own record exists, and rollups may be deleted at any time.
"""

import bisect
import heapq
import json
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipelines.commit import COMMITS, Commit, read_commit
from pipelines.plan import Plan, unit_key
from pipelines.shards import parquet_bytes
from pipelines.storage import ObjectMissingError, Storage

ROLLUPS = "rollups/"
ROLLUP_UNITS = 1000
LISTED_UNITS = 10_000
"""Units whose records one listing in parallel with others covers."""
_THREADS = 32
_BLOCKS_AHEAD = 4


@dataclass(frozen=True, kw_only=True)
class _Block:
    """Consecutive units of one round."""

    path: str
    indices: range


class Records:
    """The commit records of a run, as one driver or reader sees them.

    Args:
        storage: The output folder.
        plan: Its units.
        rollups: Whether to read rollups in the place of the records themselves.
    """

    def __init__(self, storage: Storage, plan: Plan, *, rollups: bool = True) -> None:
        self.plan = plan
        self.done = np.zeros(len(plan), bool)
        self._storage = storage
        self._blocks = [
            _Block(
                path=f"{ROLLUPS}{number:04d}-{start // ROLLUP_UNITS:06d}.parquet",
                indices=indices[start : start + ROLLUP_UNITS],
            )
            for number, indices in enumerate(plan.rounds)
            for start in range(0, len(indices), ROLLUP_UNITS)
        ]
        self._starts = [block.indices.start for block in self._blocks]
        self._new: dict[int, dict[str, Commit]] = {}  # by block: those that are not rolled up yet
        self._readers = ThreadPoolExecutor(_THREADS)  # of single records, whichever their block
        self._rolled_up = {entry.path for entry in storage.list(ROLLUPS)} if rollups else set()
        last = unit_key(plan[len(plan.rounds[0]) - 1].id)[0]
        cuts = [f"{COMMITS}{position:08d}" for position in range(LISTED_UNITS, last, LISTED_UNITS)]
        for entry in storage.list_in_parallel(COMMITS, cuts):
            index = plan.index_of(entry.path[len(COMMITS) :].removesuffix(".json"))
            if index is not None:  # else of no unit of this plan: `verify` tells
                self.done[index] = True

    def pending(self) -> NDArray[np.int64]:
        """The indices in the plan of the units that are not done."""
        return np.flatnonzero(~self.done)

    def add(self, commit: Commit) -> None:
        """Note a unit as done; write a rollup when it is the last of its thousand."""
        index = self.plan.index_of(commit.unit)
        if index is None:
            raise ValueError(f"unit {commit.unit} is not in the plan")
        number = bisect.bisect_right(self._starts, index) - 1
        self.done[index] = True
        self._new.setdefault(number, {})[commit.unit] = commit
        self._roll_up(number)

    def roll_up(self) -> None:
        """Write the rollups that a killed driver did not come to write; delete those that are out of date.

        Rollups are listed before the records, so a rollup of a unit that is not done is older than the
        deletion of its record.
        """
        for number, block in enumerate(self._blocks):
            if block.path in self._rolled_up and not self._done_in(block).all():
                self._storage.delete(block.path)
                self._rolled_up.remove(block.path)
            self._roll_up(number)

    def in_order(self) -> Iterator[Commit]:
        """The records of all units that are done, by position and round, some thousands in memory."""
        rounds = self.plan.rounds
        numbers = [[n for n, block in enumerate(self._blocks) if block.indices.start in r] for r in rounds]
        return heapq.merge(*map(self._read_ahead, numbers), key=lambda commit: unit_key(commit.unit))

    def _read_ahead(self, numbers: Iterable[int]) -> Iterator[Commit]:
        with ThreadPoolExecutor(_BLOCKS_AHEAD) as pool:
            reading: deque[Future[list[Commit]]] = deque()
            for number in numbers:
                reading.append(pool.submit(self._read, number))
                if len(reading) > _BLOCKS_AHEAD:
                    yield from reading.popleft().result()
            while reading:
                yield from reading.popleft().result()

    def _read(self, number: int) -> list[Commit]:
        """The records of a block, in order."""
        block = self._blocks[number]
        ids = [i for i, done in zip(self.plan.ids(block.indices), self._done_in(block), strict=True) if done]
        known = dict(self._new.get(number, {}))
        if block.path in self._rolled_up and len(known) < len(ids):
            known = read_rollup(self._storage, block.path) | known
        missing = [unit_id for unit_id in ids if unit_id not in known]
        # a task a record would cost more than to read one from a folder
        shares = [missing[start::_THREADS] for start in range(min(_THREADS, len(missing)))]
        for commits in self._readers.map(self._read_each, shares):
            known |= {commit.unit: commit for commit in commits}
        return [known[unit_id] for unit_id in ids]

    def _read_each(self, unit_ids: Iterable[str]) -> list[Commit]:
        return [read_commit(self._storage, unit_id) for unit_id in unit_ids]

    def _roll_up(self, number: int) -> None:
        block = self._blocks[number]
        if block.path in self._rolled_up or not self._done_in(block).all():
            return
        texts = [json.dumps(commit.to_json(), sort_keys=True) for commit in self._read(number)]
        self._storage.create(block.path, parquet_bytes(pa.table({"record": pa.array(texts, pa.string())})))
        self._rolled_up.add(block.path)
        self._new.pop(number, None)

    def _done_in(self, block: _Block) -> NDArray[np.bool_]:
        return self.done[block.indices.start : block.indices.stop]


def read_rollup(storage: Storage, path: str) -> dict[str, Commit]:
    """The records in a rollup, by unit id; none where it was deleted since it was listed."""
    try:
        table = pq.read_table(pa.BufferReader(storage.read(path)))
    except ObjectMissingError:
        return {}
    commits = [Commit.from_json(json.loads(text)) for text in table["record"].to_pylist()]
    return {commit.unit: commit for commit in commits}
