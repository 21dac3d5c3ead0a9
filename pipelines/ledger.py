"""The folder of a run: which units there are, which are done, and what they made.

    run.json           what was asked for (first writer wins; another request is refused)
    plan.parquet       the units; retries/ROUND.parquet the units of each retry round
    data/, failed/     results and dead letters, named for their unit
    commits/UNIT.json  a unit is done if and only if this exists
    manifest.json      all data objects, once every unit is done

Units are committed by `pipelines.unit_result`.
"""

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.commit import Commit
from pipelines.config import differences
from pipelines.errors import RefusalError
from pipelines.manifest import manifest_files, parse_json
from pipelines.plan import Unit, plan_digest, plan_table, read_plan, retry_unit
from pipelines.shards import parquet_bytes
from pipelines.storage import ObjectMissingError, Storage, open_storage
from schemas.manifest import json_bytes

FORMAT = "meissonic-run-1"
RUN_PATH, PLAN_PATH, RETRIES, COMMITS = "run.json", "plan.parquet", "retries/", "commits/"
_THREADS = 32


class LedgerError(RefusalError):
    """The output folder belongs to another run, or its records contradict each other."""


@dataclass(frozen=True, kw_only=True)
class RunSpec:
    """What a run was asked for.

    Attributes:
        job: The job's name, such as "generate".
        config: All settings that determine the output, as JSON values.
        row_id: Column of the input rows' ids: in what `UnitJob.read` returns, and in the results.
        unique_id: Column of the results whose values are unique over the whole dataset.
        settings: The other settings: recorded, never compared.
        code_version: Of the program that began the run.
    """

    job: str
    config: dict[str, Any]
    row_id: str
    unique_id: str
    settings: dict[str, Any] = field(default_factory=dict)
    code_version: str = ""


@dataclass(frozen=True, kw_only=True)
class Ledger:
    """An output folder, held by the driver and by every task that commits. Small and picklable."""

    storage: Storage
    spec: RunSpec

    @classmethod
    def open(cls, uri: str, spec: RunSpec, units: Sequence[Unit]) -> "Ledger":
        """Begin the run in an empty folder, or go on with the same run.

        Raises:
            LedgerError: The folder holds another run or other files; the message has the differences.
        """
        storage = open_storage(uri)
        ledger = cls(storage=storage, spec=spec)
        request = {"format": FORMAT, "plan": plan_digest(units)} | ledger._spec_json()
        _refuse_foreign_files(storage)
        storage.create(RUN_PATH, json_bytes(request))
        # Read back in any case: some servers ignore the condition, and then the last writer has won.
        found = parse_json(storage.read(RUN_PATH), storage.uri_of(RUN_PATH))
        ledger._refuse_other_run(found, request, units)
        storage.create(PLAN_PATH, parquet_bytes(plan_table(units)))
        return ledger

    @classmethod
    def load(cls, uri: str) -> "Ledger":
        """The run in a folder, as its run.json describes it.

        Raises:
            LedgerError: There is no run in it.
        """
        storage = open_storage(uri)
        try:
            found = parse_json(storage.read(RUN_PATH), storage.uri_of(RUN_PATH))
        except ObjectMissingError as error:
            raise LedgerError(f"{uri}: no run.json; name the output folder of a job") from error
        if found.get("format") != FORMAT:
            raise LedgerError(f"{uri}/{RUN_PATH}: format is {found.get('format')!r}, not '{FORMAT}'")
        names = RunSpec.__dataclass_fields__
        return cls(storage=storage, spec=RunSpec(**{name: found[name] for name in names}))

    def planned(self) -> list[Unit]:
        """All units: the plan's, then those of each retry round."""
        units = read_plan(self.storage.read(PLAN_PATH))
        for number in range(1, self._retry_rounds() + 1):
            units += read_plan(self.storage.read(_retry_path(number)))
        return units

    def committed(self, units: Iterable[Unit]) -> dict[str, Commit]:
        """The commit records of those of the units that are done, by unit id."""
        names = {entry.path for entry in self.storage.list(COMMITS)}  # one missed is only computed again
        done = [unit.id for unit in units if commit_path(unit.id) in names]
        with ThreadPoolExecutor(_THREADS) as pool:
            return dict(zip(done, pool.map(self.read_commit, done), strict=True))

    def read_commit(self, unit_id: str) -> Commit:
        """One unit's commit record; ObjectMissingError while the unit is not done."""
        path = commit_path(unit_id)
        uri = self.storage.uri_of(path)
        value = parse_json(self.storage.read(path), uri)
        try:
            return Commit.from_json(value)
        except (KeyError, TypeError) as error:
            raise LedgerError(
                f"{uri}: not a commit record ({error}); delete it to have the unit computed again"
            ) from error

    def plan_retries(self) -> list[Unit]:
        """Plan a round that runs all dead letters again; goes on with the last round while it is not done.

        Returns:
            The units of the round that are not done; none when there are no dead letters.

        Raises:
            LedgerError: Units of the run itself are not done.
        """
        units = self.planned()
        commits = self.committed(units)
        pending = [unit for unit in units if unit.id not in commits]
        number = max(unit.round for unit in units)
        if any(unit.round == 0 for unit in pending):
            raise LedgerError(
                f"{self.storage.uri}: {len(pending)} of {len(units)} units are not done; "
                "run the job to its end first"
            )
        if pending:
            return pending
        retries = []
        for unit in newest_attempts(units):
            if (entry := commits[unit.id].failed) is not None:
                table = pq.read_table(pa.BufferReader(self.storage.read(entry.path)))
                retries.append(retry_unit(unit, number + 1, table["row"].to_pylist()))
        if retries:
            self.storage.create(_retry_path(number + 1), parquet_bytes(plan_table(retries)))
        return retries

    def manifest(self, units: Sequence[Unit], commits: dict[str, Commit]) -> dict[str, bytes]:
        """The manifest's files by path, from the commit records of all units; `manifest.json` is last."""
        ordered = sorted(units, key=lambda unit: (unit.position, unit.round))
        newest = newest_attempts(units)
        totals = {
            "job": self.spec.job,
            "units": len(newest),
            "rows_in": sum(unit.row_stop - unit.row_start for unit in newest),
            "rows_done": sum(commits[unit.id].rows_done for unit in ordered),
            "rows_failed": sum(commits[unit.id].rows_failed for unit in newest),
            "rows_out": sum(commits[unit.id].rows_out for unit in ordered),
            "unique_id": self.spec.unique_id,
        }
        data = [entry for unit in ordered for entry in commits[unit.id].outputs]
        failed = [commits[unit.id].failed for unit in newest]
        return manifest_files(totals, data, [entry for entry in failed if entry is not None])

    def write_manifest(self, units: Sequence[Unit], commits: dict[str, Commit]) -> str:
        """Write the manifest, parts first; returns the URI of `manifest.json`."""
        for path, data in (files := self.manifest(units, commits)).items():
            self.storage.write(path, data)
        return self.storage.uri_of(list(files)[-1])

    def _spec_json(self) -> dict[str, Any]:
        return {name: getattr(self.spec, name) for name in RunSpec.__dataclass_fields__}

    def _refuse_other_run(
        self, found: dict[str, Any], request: dict[str, Any], units: Sequence[Unit]
    ) -> None:
        compared = ("format", "job", "config", "row_id", "unique_id")
        lines = differences({n: found.get(n) for n in compared}, {n: request[n] for n in compared})
        what = "was begun with another configuration"
        if not lines and found.get("plan") != request["plan"]:
            what = "was begun with another input"
            lines = self._input_differences(units)
        if lines:
            raise LedgerError(
                f"{self.storage.uri}: the run in this folder {what}:\n"
                + "\n".join(f"  {line}" for line in lines)
                + "\nuse the same again to go on with it, or another output folder"
            )

    def _input_differences(self, units: Sequence[Unit]) -> list[str]:
        try:
            before = read_plan(self.storage.read(PLAN_PATH))
        except ObjectMissingError:
            return ["the run stopped before it wrote its plan; delete the folder if it holds nothing else"]
        return differences(_object_rows(before), _object_rows(units)) or ["the units are cut in another way"]

    def _retry_rounds(self) -> int:
        number = 0
        while self.storage.exists(_retry_path(number + 1)):
            number += 1
        return number


def commit_path(unit_id: str) -> str:
    """Where a unit's commit record is."""
    return f"{COMMITS}{unit_id}.json"


def newest_attempts(units: Iterable[Unit]) -> list[Unit]:
    """For each unit of the plan the last that ran its rows: itself, or its latest retry; by position."""
    newest: dict[int, Unit] = {}
    for unit in sorted(units, key=lambda unit: unit.round):
        newest[unit.position] = unit
    return [newest[position] for position in sorted(newest)]


def _retry_path(number: int) -> str:
    return f"{RETRIES}{number:04d}.parquet"


def _object_rows(units: Iterable[Unit]) -> dict[str, str]:
    """What the plan says of each input object, for a comparison that people read."""
    stops: dict[str, str] = {}
    for unit in units:
        stops[unit.path] = f"{unit.row_stop} rows, {unit.fingerprint}"
    return stops


def _refuse_foreign_files(storage: Storage) -> None:
    if storage.exists(RUN_PATH):
        return
    for entry in storage.list():
        if not entry.path.startswith(".") and not storage.exists(RUN_PATH):
            raise LedgerError(
                f"{storage.uri}: holds files that are not a run's, such as '{entry.path}'; "
                "choose an empty folder"
            )
