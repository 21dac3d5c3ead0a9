"""Write the report of a job into its output folder: `OUTPUT/report.html`."""

from __future__ import annotations

import logging

from pipelines.errors import RefusalError
from pipelines.json_files import parse_json
from pipelines.ledger import RUN_PATH
from pipelines.reports.bulk import bulk_report
from pipelines.reports.curation import curation_report
from pipelines.reports.generation import generation_report
from pipelines.reports.training import training_report
from pipelines.storage import Storage, open_storage

REPORT_PATH = "report.html"
_log = logging.getLogger(__name__)


def write_report(output: str, price: float | None = None) -> str:
    """Make the page from what the folder holds, at any time; gives its URI. Needs no Ray.

    Args:
        output: Output folder of any job.
        price: Of a GPU-hour, for the cost of a bulk job; None leaves it out.

    Raises:
        RefusalError: The folder is no job's; or there is a price, and it is a training's.
    """
    page = _page(output, price)
    storage = open_storage(output)
    storage.write(REPORT_PATH, page)
    return storage.uri_of(REPORT_PATH)


def try_to_write_report(output: str) -> str | None:
    """The same at the end of a job, whose results are complete: what goes wrong is logged, no more."""
    try:
        return write_report(output)
    except Exception:  # whatever it is: images that took a day are not to end with exit code 1 for a page
        _log.exception("%s: the results are complete, but their report could not be made", output)
        return None


def _page(output: str, price: float | None) -> bytes:
    storage = open_storage(output)
    if storage.exists(RUN_PATH):
        job = parse_json(storage.read(RUN_PATH), storage.uri_of(RUN_PATH)).get("job")
        return (generation_report if job == "generate" else bulk_report)(output, price)
    # jobs whose folder holds several runs
    if _holds(storage, "scores"):
        return curation_report(output, price)
    if _holds(storage, "stages"):
        if price is not None:
            raise RefusalError("--price: the report of a training has no cost; leave it out")
        return training_report(output)
    raise RefusalError(f"{output}: no job has written this folder; name the output folder of one")


def _holds(storage: Storage, folder: str) -> bool:
    return next(storage.list(f"{folder}/"), None) is not None
