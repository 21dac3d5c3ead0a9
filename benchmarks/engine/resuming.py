"""Resuming: what a driver does before the first pending unit of a long run, and after the last.

The run's records are made up and written without waiting for the disk; of its data there is nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.engine.process import Steps
from pipelines.commit import Commit, commit_path
from pipelines.ledger import Ledger, RunSpec
from pipelines.manifest import read_manifest
from pipelines.plan import InputObject, plan_units
from pipelines.records import ROLLUPS, Records
from pipelines.storage import open_storage
from pipelines.storage.local import LocalStorage
from pipelines.tally import Tally
from schemas.manifest import ObjectEntry

UNIT_ROWS = 64
_OBJECT_UNITS = 1500
_SECONDS = {"read": 0.12, "encode": 0.31, "sample": 9.87, "decode": 1.23, "process": 0.05, "pack": 0.4}


def set_up(output: str, units: int) -> dict[str, Any]:
    """Write a run with all of its records, and no rollups."""
    starts = range(0, units, _OBJECT_UNITS)
    objects = [
        InputObject(
            path=f"part-{start:08d}.parquet",
            fingerprint=f"etag:{start:032x}:9000000",
            rows=UNIT_ROWS * min(_OBJECT_UNITS, units - start),
        )
        for start in starts
    ]
    plan = plan_units(objects, UNIT_ROWS, "0" * 64)
    spec = RunSpec(job="benchmark", config={}, row_id="prompt_id", unique_id="sample_id")
    storage = Ledger.open(output, spec, plan).storage
    records = ((commit_path(id), record(id).to_bytes()) for id in plan.ids(range(units)))
    if isinstance(storage, LocalStorage):
        Path(storage.root, "commits").mkdir()
        for path, data in records:
            Path(storage.root, path).write_bytes(data)
    else:
        with ThreadPoolExecutor(8) as pool:
            for _ in pool.map(lambda item: storage.write(*item), records):
                pass
    return {"units": units, "record_bytes": len(record(plan[0].id).to_bytes())}


def record(unit_id: str) -> Commit:
    """A record as a unit of images has it."""
    digest = hashlib.sha256(unit_id.encode()).hexdigest()
    shards = (("parquet", 212_345), ("tar", 98_765_432))
    return Commit(
        unit=unit_id,
        rows_in=UNIT_ROWS,
        rows_done=UNIT_ROWS,
        rows_failed=0,
        rows_out=UNIT_ROWS,
        row_ids_sha256=digest,
        outputs=tuple(
            ObjectEntry(path=f"data/{unit_id}.{suffix}", rows=UNIT_ROWS, sha256=digest, size=size)
            for suffix, size in shards
        ),
        failed=None,
        failures={},
        seconds=_SECONDS,
        events={},
        attempts=1,
        host="node-17.cluster.example",
        started_at=1_790_000_000.25,
        committed_at=1_790_000_012.75,
        code_version="0123456789abcdef0123456789abcdef01234567",
    )


def resume(output: str, missing_rollups: float) -> dict[str, Any]:
    """Start a driver: plan, listing, rollups that are missing, and the totals so far.

    Args:
        output: A run that is done.
        missing_rollups: Part of the rollups to delete before.
    """
    rollups = _delete_rollups(output, missing_rollups)
    steps = Steps()
    with steps("read_plan"):
        ledger = Ledger.load(output)
        plan = ledger.planned()
    with steps("list"):
        records = Records(ledger.storage, plan)
    with steps("write_missing_rollups"):
        records.roll_up()
    with steps("add_up"):
        tally = Tally(plan)
        tally.add_earlier(records.in_order())
    assert tally.progress().units_done == len(plan)
    assert not len(records.pending())
    return {"units": len(plan), "rollups_found": rollups} | steps.to_json()


def write_manifest(output: str) -> dict[str, Any]:
    """Write the manifest of a run that is done, as the driver does after the last unit."""
    ledger = Ledger.load(output)
    records = Records(ledger.storage, ledger.planned())
    steps = Steps()
    with steps("write_manifest"):
        ledger.write_manifest(records)
    manifest = read_manifest(ledger.storage)
    parts = manifest.get("parts", [])
    return {
        "units": manifest["units"],
        "objects": sum(part["rows"] for part in parts) or len(manifest["objects"]),
        "parts": len(parts),
        "bytes": sum(part["size"] for part in parts) + ledger.storage.size("manifest.json"),
    } | steps.to_json()


def _delete_rollups(output: str, part: float) -> int:
    """Delete some rollups, evenly spread; returns how many are left."""
    storage = open_storage(output)
    paths = [entry.path for entry in storage.list(ROLLUPS)]
    gone = list(_evenly(paths, part))
    for path in gone:
        storage.delete(path)
    return len(paths) - len(gone)


def _evenly(paths: list[str], part: float) -> Iterator[str]:
    for number, path in enumerate(paths):
        if int((number + 1) * part) > int(number * part):
            yield path
