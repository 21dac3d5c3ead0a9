"""The report of a bulk job that has no pictures of its own: counts, dead letters, throughput."""

from __future__ import annotations

from pathlib import Path

import yaml

from pipelines.ledger import Ledger
from pipelines.pages.rendering import render
from pipelines.pages.words import short_code_version
from pipelines.reports.committed import CommittedRun
from pipelines.reports.run_facts import cost_facts, run_facts, throughput_charts
from pipelines.storage import without_options

_TEMPLATE = Path(__file__).with_name("bulk.html.j2")


def bulk_report(output: str, price: float | None = None) -> bytes:
    """The page, from what is committed; the job may still run.

    Args:
        output: The job's folder.
        price: Of a GPU-hour; of a worker's where it has no GPU.

    Raises:
        LedgerError: There is no run in the folder.
    """
    found = CommittedRun(Ledger.load(output))
    spec, charts = found.ledger.spec, throughput_charts(found, "rows")
    sections = {
        "summary": "Summary",
        "dead-letters": "Dead letters" if found.failures else "",
        "throughput": "Throughput" if charts else "",
        "settings": "Settings",
    }
    values = {
        "title": f"{spec.job.capitalize()}: {found.summary.rows_out:,} rows",
        "lead": without_options(found.ledger.storage.uri),
        "sections": [(id, name) for id, name in sections.items() if name],
        "facts": run_facts(found, "input rows", "rows") + cost_facts(found, price),
        "failures": found.failures,
        "throughput_charts": charts,
        "settings": yaml.safe_dump(spec.config, sort_keys=True, allow_unicode=True),
        "footer": f"Code: {short_code_version(spec.code_version)}.",
    }
    return render(_TEMPLATE, values)
