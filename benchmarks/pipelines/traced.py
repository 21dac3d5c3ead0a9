"""Run a command of `jobs` and note when its steps begin and end: `… traced NOTES generate --config …`.

NOTES becomes a JSON object: `began` and `imported`, Unix times in seconds, and for each step a list of pairs
of such times. Nothing but functions of the driver is wrapped, each a few times a run.
"""

import time

BEGAN = time.time()  # before all other imports: they are the next phase

import functools  # noqa: E402
import importlib  # noqa: E402
import json  # noqa: E402
import sys  # noqa: E402
from collections.abc import Callable  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

STEPS: dict[str, dict[str, str]] = {
    "generate": {
        "config": "jobs.__main__:load_config",
        "plan": "pipelines.generate:open_job",
        "model": "pipelines.generate:prepare",
        "ray": "jobs.__main__:connect",
        "units": "pipelines.generate:run_units",
        "manifest": "pipelines.ledger:Ledger.write_manifest",
        "card": "pipelines.generate:write_card",
        "report": "jobs.command:tell_report",
    },
    "curate": {
        "config": "jobs.curation:load_config",
        "ray": "jobs.curation:connect",
        "plan": "pipelines.curation.passes:plan_scoring",
        "units": "pipelines.curation.scoring:run_units",
        "dedup": "pipelines.curation.passes:find_duplicates",
        "select": "pipelines.curation.passes:select",
        "export_plan": "pipelines.curation.passes:open_export",
        "export_units": "pipelines.curation.exporting:run_units",
        "manifest": "pipelines.ledger:Ledger.write_manifest",
        "card": "pipelines.curation.passes:write_card",
        "report": "jobs.curation:tell_report",
    },
}
"""For each command its steps, and the function that each of them is; some are within others."""


def watch(place: str, spans: list[tuple[float, float]]) -> None:
    """Put in the place of `module:name` a function that also notes when it began and ended."""
    module, _, path = place.partition(":")
    owner = importlib.import_module(module)
    *parents, name = path.split(".")
    for parent in parents:
        owner = getattr(owner, parent)
    setattr(owner, name, _noting(getattr(owner, name), spans))


def _noting(function: Callable[..., Any], spans: list[tuple[float, float]]) -> Callable[..., Any]:
    @functools.wraps(function)
    def noting(*args: Any, **kwargs: Any) -> Any:
        began = time.time()
        try:
            return function(*args, **kwargs)
        finally:
            spans.append((began, time.time()))

    return noting


def main() -> None:
    """Run the command that the arguments name; exits as it does."""
    notes, command, *arguments = sys.argv[1:]
    spans: dict[str, list[tuple[float, float]]] = {step: [] for step in STEPS[command]}
    jobs = importlib.import_module("jobs.__main__")
    for step, place in STEPS[command].items():
        watch(place, spans[step])
    imported = time.time()
    try:
        jobs.main([command, *arguments])
    finally:
        found = {"began": BEGAN, "imported": imported, "returned": time.time(), "spans": spans}
        Path(notes).write_text(json.dumps(found))


if __name__ == "__main__":
    main()
