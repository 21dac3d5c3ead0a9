"""The folder of a run: which units there are, which are done, and what they made.

    run.json           what was asked for (first writer wins; another request is refused)
    plan.parquet       the units; retries/ROUND.parquet the units of each retry round
    data/, failed/     results and dead letters, named for their unit
    commits/UNIT.json  a unit is done if and only if this exists; rollups/ holds copies
    manifest.json      all data objects, once every unit is done

Units are committed by `pipelines.unit_result`.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.commit import COMMITS, Commit, commit_path, read_commit
from pipelines.config import differences
from pipelines.errors import LedgerError
from pipelines.json_files import parse_json
from pipelines.manifest import by_position, manifest_files
from pipelines.plan import Plan, Unit, plan_digest, plan_of, read_plan, retry_unit
from pipelines.records import Records
from pipelines.shards import parquet_bytes
from pipelines.storage import ObjectMissingError, Storage, open_storage
from pipelines.storage.probe import probe
from schemas.manifest import json_bytes

FORMAT = "meissonic-run-1"
RUN_PATH, PLAN_PATH, RETRIES = "run.json", "plan.parquet", "retries/"


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
    def open(cls, uri: str, spec: RunSpec, plan: Plan) -> "Ledger":
        """Begin the run in an empty folder, or go on with the same run.

        Raises:
            LedgerError: The folder holds another run or other files; the message has the differences.
        """
        storage = open_storage(uri)
        ledger = cls(storage=storage, spec=spec)
        request = {"format": FORMAT, "plan": plan_digest(plan)} | ledger._spec_json()
        probe(storage)
        refuse_foreign_files(storage)
        storage.create(RUN_PATH, json_bytes(request))
        # Read back in any case: some servers ignore the condition, and then the last writer has won.
        found = parse_json(storage.read(RUN_PATH), storage.uri_of(RUN_PATH))
        ledger._refuse_other_run(found, request, plan)
        storage.create(PLAN_PATH, parquet_bytes(plan.table))
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

    def planned(self) -> Plan:
        """All units: the plan's, then those of each retry round."""
        retries = map(_retry_path, range(1, self._retry_rounds() + 1))
        return read_plan(*map(self.storage.read, [PLAN_PATH, *retries]))

    def committed(self, units: Iterable[Unit]) -> dict[str, Commit]:
        """The commit records of those of the units that are done, by unit id; for few units."""
        names = {entry.path for entry in self.storage.list(COMMITS)}
        done = [unit.id for unit in units if commit_path(unit.id) in names]
        return {unit_id: read_commit(self.storage, unit_id) for unit_id in done}

    def plan_retries(self) -> list[Unit]:
        """Plan a round that runs all dead letters again; goes on with the last round while it is not done.

        Returns:
            The units of the round that are not done; none when there are no dead letters.

        Raises:
            LedgerError: Units of the run itself are not done.
        """
        plan = self.planned()
        records = Records(self.storage, plan)
        pending = plan.take(records.pending())
        number = len(plan.rounds)
        if any(unit.round == 0 for unit in pending):
            raise LedgerError(
                f"{self.storage.uri}: {len(pending)} of {len(plan)} units are not done; "
                "run the job to its end first"
            )
        if pending:
            return pending
        retries = []
        for attempts in by_position(records.in_order()):
            if (entry := attempts[-1].failed) is not None:
                table = pq.read_table(pa.BufferReader(self.storage.read(entry.path)))
                index = plan.index_of(attempts[0].unit)
                assert index is not None  # the records are the plan's
                retries.append(retry_unit(plan[index], number, table["row"].to_pylist()))
        if retries:
            self.storage.create(_retry_path(number), parquet_bytes(plan_of(retries).table))
        return retries

    def manifest(self, commits: Iterable[Commit]) -> Iterator[tuple[str, bytes]]:
        """The manifest's files, path and bytes, from the records of all units in order."""
        return manifest_files({"job": self.spec.job, "unique_id": self.spec.unique_id}, commits)

    def write_manifest(self, records: Records) -> str:
        """Write the manifest of a run that is done, parts first; returns the URI of `manifest.json`.

        Another driver may run the dead letters again meanwhile, and write the manifest with what became of
        them: an older one must not stay in its place. While that driver is not through, its own will follow.
        """
        while True:
            for path, data in self.manifest(records.in_order()):
                self.storage.write(path, data)
            if self._retry_rounds() < len(records.plan.rounds):
                return self.storage.uri_of(path)
            records = Records(self.storage, self.planned())
            if len(records.pending()):
                return self.storage.uri_of(path)

    def _spec_json(self) -> dict[str, Any]:
        return {name: getattr(self.spec, name) for name in RunSpec.__dataclass_fields__}

    def _refuse_other_run(self, found: dict[str, Any], request: dict[str, Any], plan: Plan) -> None:
        compared = ("format", "job", "config", "row_id", "unique_id")
        lines = differences({n: found.get(n) for n in compared}, {n: request[n] for n in compared})
        what = "was begun with another configuration"
        if not lines and found.get("plan") != request["plan"]:
            what = "was begun with another input"
            lines = self._input_differences(plan)
        if lines:
            raise LedgerError(
                f"{self.storage.uri}: the run in this folder {what}:\n"
                + "\n".join(f"  {line}" for line in lines)
                + "\nuse the same again to go on with it, or another output folder"
            )

    def _input_differences(self, plan: Plan) -> list[str]:
        try:
            before = read_plan(self.storage.read(PLAN_PATH))
        except ObjectMissingError:
            return ["the run stopped before it wrote its plan; delete the folder if it holds nothing else"]
        return differences(_object_rows(before), _object_rows(plan)) or ["the units are cut in another way"]

    def _retry_rounds(self) -> int:
        number = 0
        while self.storage.exists(_retry_path(number + 1)):
            number += 1
        return number


def _retry_path(number: int) -> str:
    return f"{RETRIES}{number:04d}.parquet"


def _object_rows(plan: Plan) -> dict[str, str]:
    """What the plan says of each input object, for a comparison that people read."""
    objects = plan.table.group_by(["path", "fingerprint"]).aggregate([("row_stop", "max")])
    return {o["path"]: f"{o['row_stop_max']} rows, {o['fingerprint']}" for o in objects.to_pylist()}


def refuse_foreign_files(storage: Storage) -> None:
    """That a folder holds a run or nothing, before anything is written there.

    Raises:
        LedgerError: It holds something else.
    """
    if storage.exists(RUN_PATH):
        return
    for entry in storage.list():
        if not entry.path.startswith(".") and not storage.exists(RUN_PATH):
            raise LedgerError(
                f"{storage.uri}: holds files that are not a run's, such as '{entry.path}'; "
                "choose an empty folder"
            )
