"""From what a run left behind to a table of where its seconds went.

Three sources, all in Unix time: the driver's notes (`traced`), the lines of the workers' log, and the commit
records. The phases follow each other, and their sum is the time from the command to its exit.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from pipelines.commit import Commit

Span = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Notes:
    """What the driver noted.

    Attributes:
        started: When the command was given.
        began: When its first line ran.
        imported: When its modules were imported.
        returned: When the command was through, but for what runs at exit.
        exited: When the process was gone.
        spans: When each step began and ended, each time that it ran.
    """

    started: float
    began: float
    imported: float
    returned: float
    exited: float
    spans: Mapping[str, Sequence[Span]]

    def seconds(self, *steps: str) -> float:
        """Of all times that these steps ran."""
        return sum(end - begin for step in steps for begin, end in self.spans[step])

    def within(self, step: str, outer: Span) -> float:
        """Seconds of a step that ran inside a span of another."""
        return sum(end - begin for begin, end in self.spans[step] if outer[0] <= begin <= outer[1])


@dataclass(frozen=True, kw_only=True)
class UnitPhases:
    """Where the time of `run_units` went, in seconds.

    Attributes:
        actors: Until the first worker began to be built: the record of attempts, Ray Data, the actor's
            process and its imports.
        build: Of that worker: its model, loaded and checked.
        first_unit: From there to the first commit.
        steady: From the first commit to the last.
        end: From there to the end, without the manifest.
        manifest: Of the manifest.
    """

    actors: float
    build: float
    first_unit: float
    steady: float
    end: float
    manifest: float

    def to_json(self, prefix: str = "") -> dict[str, float]:
        """By name."""
        return {prefix + name: getattr(self, name) for name in self.__dataclass_fields__}


def unit_phases(
    notes: Notes, step: str, lines: Iterable[dict[str, Any]], commits: Sequence[Commit]
) -> UnitPhases:
    """The phases of the only time that `run_units` ran as this step.

    Args:
        notes: Of the driver.
        step: The name of that `run_units`.
        lines: Of the log of its workers.
        commits: Its records, by time.
    """
    (span,) = notes.spans[step]
    built, build_s = min((line["at"], line["seconds"]) for line in lines if line["message"] == "worker built")
    first, last = commits[0].committed_at, commits[-1].committed_at
    manifest_s = notes.within("manifest", span)
    return UnitPhases(
        actors=built - build_s - span[0],
        build=build_s,
        first_unit=first - built,
        steady=last - first,
        end=span[1] - last - manifest_s,
        manifest=manifest_s,
    )


def generate_phases(notes: Notes, units: UnitPhases) -> dict[str, float]:
    """All of a `generate` command."""
    return _complete(
        notes,
        _started(notes)
        | {
            "model": notes.seconds("model"),
            "plan": notes.seconds("plan") - notes.seconds("model"),
            "ray": notes.seconds("ray"),
        }
        | units.to_json()
        | {name: notes.seconds(name) for name in ("card", "report")},
    )


def curate_phases(notes: Notes, scoring: UnitPhases, export: UnitPhases) -> dict[str, float]:
    """All of a `curate` command."""
    return _complete(
        notes,
        _started(notes)
        | {
            "ray": notes.seconds("ray"),
            "plan": notes.seconds("plan"),
        }
        | scoring.to_json("score_")
        | {name: notes.seconds(name) for name in ("dedup", "select", "export_plan")}
        | export.to_json("export_")
        | {name: notes.seconds(name) for name in ("card", "report")},
    )


def _started(notes: Notes) -> dict[str, float]:
    """What every command begins with."""
    return {
        "interpreter": notes.began - notes.started,
        "imports": notes.imported - notes.began,
        "config": notes.seconds("config"),
    }


def _complete(notes: Notes, phases: dict[str, float]) -> dict[str, float]:
    """With what lies between the phases, and the exit."""
    other = notes.returned - notes.started - sum(phases.values())
    return phases | {"other": other, "exit": notes.exited - notes.returned}


def stage_seconds(commits: Sequence[Commit]) -> dict[str, float]:
    """Mean seconds of a unit in each stage."""
    total: Counter[str] = Counter()
    for commit in commits:
        total.update(commit.seconds)
    return {name: seconds / len(commits) for name, seconds in total.items()}


def log_lines(folder: Path, job: str) -> list[dict[str, Any]]:
    """The lines of a job that the workers of a Ray session logged, each with its Unix time as `at`."""
    found = []
    for file in folder.rglob("worker-*.err"):
        for text in file.read_text(errors="replace").splitlines():
            if text.startswith("{") and (line := json.loads(text)).get("job_name") == job:
                found.append(line | {"at": _unix_time(line["asctime"])})
    return sorted(found, key=lambda line: line["at"])


def _unix_time(text: str) -> float:
    return datetime.strptime(text, "%Y-%m-%d %H:%M:%S,%f").timestamp()
