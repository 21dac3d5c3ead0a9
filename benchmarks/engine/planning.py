"""Planning: from the metadata of Parquet files to a plan file and back."""

from __future__ import annotations

from typing import Any

from benchmarks.engine.process import Steps
from pipelines.plan import InputObject, plan_digest, plan_units, read_plan
from pipelines.shards import parquet_bytes


def measure(rows: int, object_rows: int, unit_rows: int) -> dict[str, Any]:
    """Plan a table of `rows` in objects of `object_rows`; the objects exist by name only."""
    objects = [
        InputObject(path=f"prompts/part-{n:06d}.parquet", fingerprint=f"etag:{n:032x}:9000000", rows=size)
        for n, size in enumerate(min(object_rows, rows - start) for start in range(0, rows, object_rows))
    ]
    steps = Steps()
    with steps("plan_units"):
        plan = plan_units(objects, unit_rows, "0" * 64)
    with steps("plan_digest"):
        plan_digest(plan)
    with steps("encode"):
        data = parquet_bytes(plan.table)
    with steps("read_plan"):
        same = read_plan(data) == plan
    assert same
    return {"rows": rows, "units": len(plan), "plan_parquet_bytes": len(data)} | steps.to_json()
