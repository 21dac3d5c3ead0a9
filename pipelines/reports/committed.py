"""What a bulk job has committed so far: its Parquet shards, its totals and its throughput."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cached_property

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.estimate import NOT_THE_WORKERS
from pipelines.inputs import ParquetInput
from pipelines.ledger import Ledger
from pipelines.manifest import MANIFEST_PATH
from pipelines.plan import InputObject, unit_key
from pipelines.records import Records
from pipelines.tally import RunSummary, Tally
from schemas.manifest import ObjectEntry

NUM_BINS = 60
_EXAMPLES = 3
"""Dead letters of a kind that are shown."""
_LETTER_OBJECTS = 32
"""That are looked through for them."""


@dataclass(frozen=True, kw_only=True)
class Throughput:
    """How a job went, from its first unit to its last commit.

    Attributes:
        began_at: Unix time in seconds.
        ended_at: The same.
        rates: Minutes since it began, and result rows a second in a short time around.
    """

    began_at: float
    ended_at: float
    rates: list[tuple[float, float]]


@dataclass(frozen=True, kw_only=True)
class Failure:
    """Dead letters of one kind.

    Attributes:
        kind: "stage: error type".
        count: How many.
        examples: Id and message of some.
    """

    kind: str
    count: int
    examples: list[tuple[str, str]]


class CommittedRun:
    """The units of a run that are done; reads every commit record once.

    Attributes:
        ledger: The run.
        summary: Its totals over all runs of the job.
        is_finished: Whether there is a manifest.
        shards: The Parquet objects, in the order of the plan.
        failed_paths: Of the objects of dead letters that are left.
        hosts: Units by the node that committed them.
        throughput: How it went; None before the first commit.
        worker_s: Seconds of all workers, without their starts.
    """

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        plan = ledger.planned()
        tally, ends = Tally(plan), list[tuple[float, int]]()
        shards, began = list[InputObject](), list[float]()
        letters: dict[int, ObjectEntry | None] = {}  # by position: of its last round, others were run again
        self.hosts: Counter[str] = Counter()
        for commit in Records(ledger.storage, plan).in_order():
            tally.add_earlier([commit])
            shards += [
                InputObject(path=entry.path, fingerprint=f"sha256:{entry.sha256}", rows=entry.rows)
                for entry in commit.outputs
                if entry.path.endswith(".parquet")
            ]
            letters[unit_key(commit.unit)[0]] = commit.failed
            self.hosts[commit.host] += 1
            began.append(commit.started_at)
            ends.append((commit.committed_at, commit.rows_out))
        self.failed_paths = [entry.path for entry in letters.values() if entry is not None]
        self.summary: RunSummary = tally.summary(ledger.storage.uri)
        self.is_finished = ledger.storage.exists(MANIFEST_PATH)
        self.shards = ParquetInput(storage=ledger.storage, objects=shards)
        self.throughput = _throughput(min(began), ends) if ends else None
        self.worker_s = sum(
            seconds
            for name, seconds in self.summary.seconds.items()
            if name not in NOT_THE_WORKERS and "." not in name
        )

    @cached_property
    def failures(self) -> list[Failure]:
        """The dead letters by kind, the most frequent first."""
        examples: dict[str, list[tuple[str, str]]] = {}
        for path in self.failed_paths[:_LETTER_OBJECTS]:
            table = pq.read_table(pa.BufferReader(self.ledger.storage.read(path)))
            for letter in table.to_pylist():
                found = examples.setdefault(f"{letter['stage']}: {letter['error_type']}", [])
                if len(found) < _EXAMPLES:
                    found.append((letter["row_id"], letter["message"]))
        return [
            Failure(kind=kind, count=count, examples=examples.get(kind, []))
            for kind, count in Counter(self.summary.failures).most_common()
        ]


def _throughput(began_at: float, ends: list[tuple[float, int]]) -> Throughput:
    ended_at = max(ends)[0]
    num_bins = min(NUM_BINS, len(ends))
    width = max(ended_at - began_at, 1e-3) / num_bins
    rows = Counter[int]()
    for at, count in ends:
        rows[min(int((at - began_at) / width), num_bins - 1)] += count
    rates = [((number + 0.5) * width / 60, rows[number] / width) for number in range(num_bins)]
    return Throughput(began_at=began_at, ended_at=ended_at, rates=rates)
