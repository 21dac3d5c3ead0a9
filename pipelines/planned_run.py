"""A run of a bulk job that has written nothing yet: what its run.json will say, and its units."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from pipelines.code_version import code_version
from pipelines.config import identity, settings
from pipelines.ledger import Ledger, RunSpec
from pipelines.plan import InputObject, Plan, plan_units
from schemas.manifest import json_bytes


@dataclass(frozen=True, kw_only=True)
class PlannedRun:
    """What a job will do.

    Attributes:
        spec: What `run.json` will say.
        units: The plan.
    """

    spec: RunSpec
    units: Plan

    def open(self, output: str) -> Ledger:
        """Begin the run in the output folder, or go on with it.

        Raises:
            LedgerError: The output folder holds something else.
            StorageError: It cannot hold a run.
        """
        return Ledger.open(output, self.spec, self.units)


def planned_run(
    job: str,
    config: BaseModel,
    noted: dict[str, Any],
    objects: Iterable[InputObject],
    unit_rows: int,
    *,
    row_id: str = "row_id",
    unique_id: str,
) -> PlannedRun:
    """Cut the input into units whose ids depend on all that determines the output.

    Args:
        job: The job's name.
        config: Its configuration.
        noted: What determines the output besides, such as digests of models; keys of run.json's `config`.
        objects: The input.
        unit_rows: Rows a unit.
        row_id: Column of the input rows' ids.
        unique_id: Column of the results whose values are unique.
    """
    request = identity(config) | noted
    spec = RunSpec(
        job=job,
        config=request,
        settings=settings(config),
        row_id=row_id,
        unique_id=unique_id,
        code_version=code_version(),
    )
    units = plan_units(list(objects), unit_rows, hashlib.sha256(json_bytes(request)).hexdigest())
    return PlannedRun(spec=spec, units=units)
