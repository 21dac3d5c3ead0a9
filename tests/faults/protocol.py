"""A small job of three units over a folder in memory, and what must hold of the folder at any instant."""

import functools
import random
from collections.abc import Callable
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.commit import COMMITS, Commit, commit_path
from pipelines.errors import LedgerError
from pipelines.garbage import collect_garbage
from pipelines.json_files import parse_json
from pipelines.ledger import PLAN_PATH, RETRIES, RUN_PATH, Ledger, RunSpec
from pipelines.manifest import MANIFEST_PATH, read_entries
from pipelines.plan import InputObject, Unit, plan_units, unit_key
from pipelines.records import Records
from pipelines.shards import parquet_shard
from pipelines.unit_result import UnitResult, commit_unit
from pipelines.verify import verify
from schemas.manifest import ObjectEntry
from tests.faults.memory_storage import URI, Process, Server
from tests.pipelines.toys import Square, failed_table

INPUT = [InputObject(path="a", fingerprint="a1", rows=3), InputObject(path="b", fingerprint="b1", rows=2)]
PLAN = plan_units(INPUT, 2, "scale 1")
SPEC = RunSpec(job="square", config={"scale": 1}, row_id="name", unique_id="sample_id")
OTHER_RUNS = [
    (replace(SPEC, config={"scale": 2}), PLAN),
    (SPEC, plan_units([replace(INPUT[0], fingerprint="a2"), INPUT[1]], 2, "scale 1")),
    (SPEC, plan_units(INPUT, 3, "scale 1")),
]
GRACE_S, URGENT_S = 1000.0, 500.0
"""What the protocol presumes: a unit takes less than the grace period from its first object to its record."""
_ONCE = (RUN_PATH, PLAN_PATH, RETRIES, COMMITS)

Program = Callable[[Process], object]
Rows = frozenset[int]


class Folder(Server):
    """An output folder that tolerates no state which the protocol excludes."""

    def __init__(self) -> None:
        super().__init__()
        self._once: dict[str, object] = {}

    def changed(self) -> None:
        self._once = {path: self.objects[path] for path in self.paths(*_ONCE)} | self._once
        for path, first in self._once.items():
            assert self.objects.get(path) is first, f"{path} was replaced or deleted"
        for entry in self.named():
            found = self.objects.get(entry.path)
            assert found, f"{entry.path} is named and not there"
            assert (len(found.data), found.sha256) == (entry.size, entry.sha256), f"{entry.path} changed"
        if MANIFEST_PATH in self.objects:
            manifest = parse_json(self.objects[MANIFEST_PATH].data, MANIFEST_PATH)
            for part in manifest.get("parts", []) + manifest["failed"].get("parts", []):
                assert part["path"] in self.objects, f"{part['path']} is named and not there"

    def named(self) -> list[ObjectEntry]:
        """What the commit records name."""
        return [entry for path in self.paths(COMMITS) for entry in _named_in(self.objects[path].data)]

    def run(self, program: Program) -> None:
        """Let a program run to its end, and none beside it."""
        Process(self, program).finish()

    def fork(self) -> "Folder":
        """Another folder with the same objects."""
        folder = Folder()
        folder.objects, folder.clock = dict(self.objects), self.clock
        return folder

    def finish(self, bad: Rows) -> None:
        """Start the job a last time: it makes what it makes where nothing ever happens."""
        self.run(driver(bad))
        found, expected = self.dataset(), undisturbed(bad, len(self.paths(RETRIES)))
        others = [path for path in found.keys() | expected.keys() if found.get(path) != expected.get(path)]
        assert not others, f"other than undisturbed: {sorted(others)}"

    def dataset(self) -> dict[str, bytes]:
        """The manifest, and all objects that count."""
        return {path: self.objects[path].data for path in [MANIFEST_PATH, *(e.path for e in self.named())]}

    def verify(self, bad: Rows) -> None:
        """Readers of the finished dataset find each row once; a collector leaves what counts or yet may."""
        rows: dict[str, list[str]] = {"name": [], "row_id": []}

        def read(process: Process) -> None:
            problems = verify(URI).problems
            assert not problems, problems
            for column, section in (("name", "data"), ("row_id", "failed")):
                for entry in read_entries(process.storage, section):
                    table = pq.read_table(pa.BufferReader(process.storage.read(entry.path)))
                    rows[column] += table[column].to_pylist()

        self.run(read)
        still_bad = [n for n in sorted(bad) if not 1 <= n % 3 <= len(self.paths(RETRIES))]
        assert rows["row_id"] == [f"row-{n}" for n in still_bad], rows
        assert sorted(rows["name"]) == [f"row-{n}" for n in range(1, 6) if n not in still_bad], rows
        self.clock += GRACE_S
        self.run(collect)
        left = set(self.paths("data/", "failed/", ".tmp/")) - {entry.path for entry in self.named()}
        rounds = [unit_key(path.split("/")[1].partition(".")[0])[1] for path in left]
        assert all(number > len(self.paths(RETRIES)) for number in rounds), left


@functools.cache
def _named_in(record: bytes) -> list[ObjectEntry]:
    commit = Commit.from_json(parse_json(record, "record"))
    return [*commit.outputs, *([commit.failed] if commit.failed else [])]


@functools.cache
def after_rounds(bad: Rows, rounds: int) -> Folder:
    """The folder of an undisturbed job that ran, and then ran its dead letters again; to be forked."""
    folder = Folder()
    for number in range(rounds):
        folder.run(driver(bad, retry=number > 0))
    return folder


@functools.cache
def undisturbed(bad: Rows, retries: int) -> dict[str, bytes]:
    return after_rounds(bad, 1 + retries).dataset()


def driver(bad: Rows, retry: bool = False, seed: int = 0) -> Program:
    """The program of a job and of the cluster that takes its units in some order.

    Args:
        bad: Rows that fail.
        retry: Whether to run the dead letters again.
        seed: Of the order.
    """

    def run(process: Process) -> None:
        process.phase = "open"
        ledger = Ledger.open(URI, SPEC, PLAN)
        process.phase = "plan"
        if retry:
            try:
                ledger.plan_retries()
            except LedgerError:  # units of the run itself are not done
                return
        plan = ledger.planned()
        finished = set(process.server.paths(COMMITS))
        records = Records(ledger.storage, plan)
        records.roll_up()
        pending = plan.take(records.pending())
        for unit in random.Random(seed).sample(pending, len(pending)):
            assert commit_path(unit.id) not in finished - process.hidden, f"{unit.id} is computed again"
            result = _computed(unit, bad)
            process.pause()
            process.phase = "commit"
            shards = parquet_shard(unit, result.table) if result.table.num_rows else []
            records.add(commit_unit(ledger, result, shards))
            process.phase = "compute"
        if not len(records.pending()):
            process.phase = "manifest"
            ledger.write_manifest(records)

    return run


def collect(process: Process) -> None:
    collect_garbage(URI, older_than_s=GRACE_S)


def _computed(unit: Unit, bad: Rows) -> UnitResult:
    """What becomes of a unit of rows 1 to 5; retry round r heals the bad rows n with n % 3 == r."""
    numbers = [n + (1 if unit.path == "a" else 4) for n in unit.row_numbers]
    values = [-n if n in bad and not (unit.round and unit.round == n % 3) else n for n in numbers]
    rows = pa.table({"name": [f"row-{n}" for n in numbers], "value": values})
    result, ids = Square().process(rows), rows["name"].combine_chunks()
    failed = failed_table(unit, ids, [(letter.row, letter) for letter in result.failed])
    return UnitResult(
        unit=unit, row_ids=ids, table=result.table, failed=failed, attempts=1, started_at=0.0, seconds={}
    )
