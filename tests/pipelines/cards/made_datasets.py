"""Small datasets as jobs write them, without Ray: a run's folder, its shards and its manifest."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pipelines.code_version import code_version
from pipelines.generation_config import GenerateConfig
from pipelines.generation_models import GenerationModels
from pipelines.ledger import Ledger, RunSpec
from pipelines.packing import PackImages
from pipelines.plan import InputObject, plan_units
from pipelines.shards import Shard
from pipelines.tally import RunSummary
from schemas.manifest import FORMAT, ObjectEntry, json_bytes
from tests.pipelines.generation_toys import rows, tiny_worker


def summary_of(rows_in: int, rows_done: int, rows_out: int, **failures: int) -> RunSummary:
    return RunSummary(
        output="o",
        manifest="m",
        units=1,
        units_run=1,
        rows=rows_in,
        rows_done=rows_done,
        rows_failed=rows_in - rows_done,
        rows_out=rows_out,
        bytes_out=1,
        rows_run=rows_in,
        results_run=rows_out,
        elapsed_s=1.0,
        seconds={},
        events={},
        failures=failures,
    )


def write_run(folder: Path, job: str, shards: Sequence[Shard], unique_id: str) -> Ledger:
    """A finished run of one unit."""
    spec = RunSpec(job=job, config={}, row_id="row_id", unique_id=unique_id, code_version=code_version())
    plan = plan_units([InputObject(path="a", fingerprint="f", rows=1)], 1, "")
    ledger = Ledger.open(str(folder), spec, plan)
    for shard in shards:
        ledger.storage.write(shard.path, shard.data)
    objects = [ObjectEntry.of(shard.path, shard.data, shard.rows).to_json() for shard in shards]
    manifest = {"format": FORMAT, "job": job, "objects": objects, "failed": {"objects": []}}
    ledger.storage.write("manifest.json", json_bytes(manifest))
    return ledger


def write_generated(
    folder: Path, prompts: Sequence[str], **settings: object
) -> tuple[Ledger, GenerateConfig, GenerationModels, RunSummary]:
    """Images of a tiny model for some prompts, an empty one of which fails."""
    worker = tiny_worker(**settings)
    result = worker.process(rows(prompt=list(prompts), note=["as | given"] * len(prompts)))
    (unit,) = plan_units([InputObject(path="a", fingerprint="f", rows=len(prompts))], len(prompts), "")
    shards = PackImages(images=worker.config.images)(unit, result.table)
    ledger = write_run(folder, "generate", shards, "sample_id")
    models = GenerationModels(model_digest=worker.digest, scorer_digests={})
    done = len(prompts) - len(result.failed)
    failures = {"prompt: PromptRowError": len(result.failed)} if result.failed else {}
    summary = summary_of(len(prompts), done, result.table.num_rows, **failures)
    return ledger, worker.config, models, summary
