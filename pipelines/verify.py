"""Check a run's folder from its bytes: nothing lost, nothing twice, nothing changed."""

import hashlib
import io
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipelines.archives import ArchiveError, ArchiveLimits, read_samples
from pipelines.commit import COMMITS, Commit, commit_path, read_commit, row_ids_digest
from pipelines.errors import LedgerError
from pipelines.json_files import parse_json
from pipelines.ledger import PLAN_PATH, RUN_PATH, Ledger
from pipelines.plan import Plan, Unit, plan_digest, unit_key
from pipelines.records import ROLLUPS, read_rollup
from pipelines.storage import ObjectMissingError, StorageError
from schemas.failed import FAILED
from schemas.manifest import ObjectEntry

_THREADS = 8
_SHOWN = 50


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One thing that is wrong: the object's path within the output folder, and what."""

    path: str
    what: str


@dataclass(frozen=True, kw_only=True)
class VerifyReport:
    """What a check found.

    Attributes:
        output: URI of the output folder.
        units: Units of the plan and its retries.
        objects: Objects that were read and hashed.
        rows: Input rows of the plan.
        rows_out: Result rows that were counted.
        rows_failed: Dead letters that were counted, superseded ones left out.
        problems: All that is wrong.
    """

    output: str
    units: int
    objects: int
    rows: int
    rows_out: int
    rows_failed: int
    problems: list[Problem]

    def __str__(self) -> str:
        facts = (
            f"{self.output}: {self.units} units, {self.objects} objects, {self.rows} rows in, "
            f"{self.rows_out} rows out, {self.rows_failed} dead letters"
        )
        if not self.problems:
            return f"{facts}: all is as recorded"
        lines = [f"  {problem.path}: {problem.what}" for problem in self.problems[:_SHOWN]]
        if len(self.problems) > _SHOWN:
            lines.append(f"  and {len(self.problems) - _SHOWN} more")
        return "\n".join([f"{facts}: {len(self.problems)} problems", *lines])


@dataclass
class _Found:
    """What one unit's objects hold."""

    problems: list[Problem] = field(default_factory=list)
    objects: int = 0
    rows_out: int = 0
    unique_ids: pa.ChunkedArray = field(default_factory=lambda: pa.chunked_array([], pa.string()))
    shown_ids: set[str] = field(default_factory=set)  # of the rows that have an image
    schemas: dict[str, pa.Schema] = field(default_factory=dict)  # by path
    samples: dict[str, set[str]] = field(default_factory=dict)  # keys in WebDataset shards, by path
    failed_rows: list[int] = field(default_factory=list)

    def note(self, path: str, what: str) -> None:
        self.problems.append(Problem(path=path, what=what))


def verify(output: str) -> VerifyReport:
    """Read everything that the run in `output` names, and recount it.

    Raises:
        LedgerError: There is no run in the folder.
        StorageError: The plan cannot be read.
    """
    ledger = Ledger.load(output)
    units = ledger.planned()
    commits, problems = _read_commits(ledger, units)
    problems += _check_plan(ledger, units)
    problems += _check_rollups(ledger, commits)
    done = [unit for unit in units if unit.id in commits]
    with ThreadPoolExecutor(_THREADS) as pool:
        results = pool.map(lambda unit: _check_unit(ledger, unit, commits[unit.id]), done)
        found = dict(zip((unit.id for unit in done), results, strict=True))
    for unit in found.values():
        problems += unit.problems
    problems += _check_schemas(list(found.values()))
    problems += _check_unique(ledger, found)
    problems += _check_retries(units, found)
    if len(commits) == len(units):
        problems += _check_manifest(ledger, commits)
    return VerifyReport(
        output=ledger.storage.uri,
        units=len(units),
        objects=sum(unit.objects for unit in found.values()),
        rows=sum(unit.num_rows for unit in units if unit.round == 0),
        rows_out=sum(unit.rows_out for unit in found.values()),
        rows_failed=sum(len(found[unit.id].failed_rows) for unit in _newest_attempts(done)),
        problems=problems,
    )


def _read_commits(ledger: Ledger, units: Sequence[Unit]) -> tuple[dict[str, Commit], list[Problem]]:
    def read(unit: Unit) -> Commit | Problem:
        try:
            return read_commit(ledger.storage, unit.id)
        except ObjectMissingError:
            return Problem(
                path=commit_path(unit.id), what="missing: the unit is not done; start the job again"
            )
        except (StorageError, LedgerError) as error:
            return Problem(path=commit_path(unit.id), what=str(error))

    with ThreadPoolExecutor(_THREADS) as pool:
        found = list(pool.map(read, units))
    commits = {record.unit: record for record in found if isinstance(record, Commit)}
    return commits, [problem for problem in found if isinstance(problem, Problem)]


def _check_plan(ledger: Ledger, units: Plan) -> list[Problem]:
    problems = []
    run = parse_json(ledger.storage.read(RUN_PATH), RUN_PATH)
    if run["plan"] != plan_digest(units):
        problems.append(Problem(path=PLAN_PATH, what="is not the plan that run.json names"))
    known = {commit_path(unit.id) for unit in units}
    for entry in ledger.storage.list(COMMITS):
        if entry.path not in known:
            problems.append(Problem(path=entry.path, what="a commit of a unit that is not in the plan"))
    return problems


def _check_rollups(ledger: Ledger, commits: dict[str, Commit]) -> list[Problem]:
    problems = []
    for entry in ledger.storage.list(ROLLUPS):
        copies = read_rollup(ledger.storage, entry.path)
        if wrong := [unit_id for unit_id, copy in copies.items() if commits.get(unit_id) != copy]:
            what = f"{len(wrong)} records differ from those in {COMMITS}, such as {wrong[0]}; delete it"
            problems.append(Problem(path=entry.path, what=what))
    return problems


def _check_unit(ledger: Ledger, unit: Unit, commit: Commit) -> _Found:
    found, spec, record = _Found(), ledger.spec, commit_path(unit.id)
    done: set[str] = set()
    failed: set[str] = set()
    for entry in commit.outputs:
        data = _read_object(ledger, entry, found)
        if data is not None and entry.path.endswith(".tar"):
            _read_tar(data, entry, found)
        if data is None or not entry.path.endswith(".parquet"):
            continue
        table = _read_parquet(data, entry, found)
        if table is None:
            continue
        found.schemas[entry.path] = table.schema
        if spec.unique_id in table.column_names:
            found.rows_out += table.num_rows
            done.update(table[spec.row_id].cast(pa.string()).to_pylist())
            ids = table[spec.unique_id].cast(pa.string())
            found.unique_ids = pa.chunked_array([*found.unique_ids.chunks, *ids.chunks], pa.string())
            # a loser among a prompt's images may be kept without one
            shown = ids.filter(table["image"].is_valid()) if "image" in table.column_names else ids
            found.shown_ids.update(shown.to_pylist())
    if commit.failed is not None:
        data = _read_object(ledger, commit.failed, found)
        table = None if data is None else _read_parquet(data, commit.failed, found)
        if table is not None and table.schema.equals(FAILED):
            failed.update(table["row_id"].to_pylist())
            found.failed_rows = table["row"].to_pylist()
        elif table is not None:
            found.note(commit.failed.path, "does not have the schema of dead letters")
    for path, samples in found.samples.items():
        if samples != found.shown_ids:
            found.note(path, f"its samples are not the rows of the Parquet shard, by '{spec.unique_id}'")
    if found.problems:
        return found  # the counts below would only repeat them
    for what, recorded, counted in (
        ("rows in", commit.rows_in, unit.num_rows),
        ("rows in", commit.rows_in, commit.rows_done + commit.rows_failed),
        ("rows out", commit.rows_out, found.rows_out),
        ("dead letters", commit.rows_failed, len(found.failed_rows)),
        ("digest of row ids", commit.row_ids_sha256, row_ids_digest(done | failed)),
        ("rows that are results and dead letters", 0, len(done & failed)),
    ):
        if recorded != counted:
            found.note(record, f"{what}: recorded {recorded}, counted {counted}")
    if not set(found.failed_rows) <= set(unit.row_numbers):
        found.note(record, "dead letters of rows that are not the unit's")
    return found


def _read_object(ledger: Ledger, entry: ObjectEntry, found: _Found) -> bytes | None:
    try:
        data = ledger.storage.read(entry.path)
    except StorageError as error:
        found.note(entry.path, f"cannot be read: {error}")
        return None
    found.objects += 1
    if len(data) != entry.size:
        found.note(entry.path, f"{len(data)} bytes, recorded {entry.size}")
        return None
    if hashlib.sha256(data).hexdigest() != entry.sha256:
        found.note(entry.path, "its bytes changed: SHA-256 differs from the record")
        return None  # what damaged files hold is no further evidence, and readers may crash on them
    return data


def _read_parquet(data: bytes, entry: ObjectEntry, found: _Found) -> pa.Table | None:
    try:
        table = pq.read_table(pa.BufferReader(data))
    except (pa.ArrowInvalid, OSError) as error:
        found.note(entry.path, f"not readable as Parquet: {error}")
        return None
    if table.num_rows != entry.rows:
        found.note(entry.path, f"{table.num_rows} rows, recorded {entry.rows}")
    return table


def _read_tar(data: bytes, entry: ObjectEntry, found: _Found) -> None:
    """Note the samples of a WebDataset shard; each must be an image, its text and its facts."""
    try:
        samples = read_samples(io.BytesIO(data), ArchiveLimits())
    except ArchiveError as error:
        found.note(entry.path, f"not readable as a tar: {error}")
        return
    broken = sorted(key for key, of in samples.items() if len(of) != 3 or not {"txt", "json"} < of)
    if len(samples) != entry.rows:
        found.note(entry.path, f"{len(samples)} samples, recorded {entry.rows}")
    elif broken:
        what = f"{len(broken)} samples that are not one image, .txt and .json, such as '{broken[0]}'"
        found.note(entry.path, what)
    else:
        found.samples[entry.path] = set(samples)


def _check_schemas(found: Sequence[_Found]) -> list[Problem]:
    """All Parquet shards of one suffix have one schema."""
    problems = []
    first: dict[str, tuple[str, pa.Schema]] = {}
    for unit in found:
        for path, schema in unit.schemas.items():
            suffix = path.partition(".")[2]
            other, expected = first.setdefault(suffix, (path, schema))
            # what columns are said to hold may change with the code, within a run that goes on
            if not schema.equals(expected) or schema.metadata != expected.metadata:
                problems.append(Problem(path=path, what=f"its schema differs from that of {other}"))
    return problems


def _check_unique(ledger: Ledger, found: dict[str, _Found]) -> list[Problem]:
    column = ledger.spec.unique_id
    chunks = [chunk for unit in found.values() for chunk in unit.unique_ids.chunks]
    counts = pa.chunked_array(chunks, pa.string()).value_counts()
    repeated = set(counts.filter(pc.greater(counts.field("counts"), 1)).field("values").to_pylist())
    problems = []
    for name, unit in found.items() if repeated else ():
        if shared := sorted(repeated.intersection(unit.unique_ids.to_pylist())):
            what = f"{len(shared)} values of '{column}' that occur more than once, such as '{shared[0]}'"
            problems.append(Problem(path=f"data/{name}", what=what))
    return problems


def _check_retries(units: Sequence[Unit], found: dict[str, _Found]) -> list[Problem]:
    """Each retry runs exactly the dead letters of the attempt before it."""
    problems = []
    before: dict[int, Unit] = {}
    for unit in sorted(units, key=lambda unit: unit.round):
        if unit.round > 0:
            earlier = found.get(before[unit.position].id)
            if earlier is not None and sorted(earlier.failed_rows) != list(unit.row_numbers):
                what = f"does not run the dead letters of {before[unit.position].id}"
                problems.append(Problem(path=commit_path(unit.id), what=what))
        before[unit.position] = unit
    return problems


def _newest_attempts(units: Sequence[Unit]) -> list[Unit]:
    """For each unit of the plan the last that ran its rows: itself, or its latest retry."""
    newest: dict[int, Unit] = {}
    for unit in sorted(units, key=lambda unit: unit.round):
        newest[unit.position] = unit
    return list(newest.values())


def _check_manifest(ledger: Ledger, commits: dict[str, Commit]) -> list[Problem]:
    problems = []
    ordered = sorted(commits.values(), key=lambda commit: unit_key(commit.unit))
    for path, data in ledger.manifest(ordered):
        try:
            if ledger.storage.read(path) != data:
                problems.append(
                    Problem(path=path, what="is not what the commit records say; start the job again")
                )
        except StorageError as error:
            problems.append(Problem(path=path, what=f"cannot be read: {error}; start the job again"))
    return problems
