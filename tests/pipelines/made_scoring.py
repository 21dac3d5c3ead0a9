"""The job `score` without Ray: units scored by the real worker, here, and committed."""

from __future__ import annotations

import time

from pipelines.curation.decode_worker import DecodeWorker
from pipelines.curation.scores import scores_schema
from pipelines.curation.scoring import PackScores, ScoringJob
from tests.pipelines.toys import commit_rows, write_manifest


def score_inline(job: ScoringJob, units: int | None = None) -> None:
    """Commit that many units of the plan, or all and the manifest."""
    worker = DecodeWorker(job.config)
    pack = PackScores(schema=scores_schema(job.config, job.source.passed_through))
    for unit in list(job.ledger.planned())[:units]:
        started = time.time()
        rows = job.source.read(unit)
        result = worker.process(rows)
        commit_rows(
            job.ledger,
            unit,
            rows["row_id"].to_pylist(),
            result.table,
            result.failed,
            pack=pack,
            started_at=started,
            seconds={"decode": 0.5, "read": 0.25},
        )
    if units is None:
        write_manifest(job.ledger)
