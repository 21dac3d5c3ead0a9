"""Compare two results, or two folders of them: `python -m benchmarks.compare A B [--threshold 0.05]`.

B / A of each rate, time, size, ratio and share that both have, the worst regression first. A difference
counts if the medians differ by more than the threshold and the ranges of the repetitions do not overlap. Of
other hardware only ratios and shares are compared. Exit code 1: a regression; 2: a result cannot be read.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text


@dataclasses.dataclass(frozen=True, kw_only=True)
class Kind:
    """Numbers that are read alike, known by words of their own name or else of what they are part of."""

    words: str
    more_is_better: bool
    is_ratio: bool = False
    verdicts: tuple[str, str] = ("slower", "faster")
    """For the worse and for the better."""
    least: float = 0.0
    """Numbers below are rounding."""


KINDS = (
    Kind(words="speedup|fraction_of", more_is_better=True, is_ratio=True),
    Kind(words="share|equal|busy|ok", more_is_better=True, is_ratio=True, verdicts=("worse", "better")),
    Kind(words="per_s", more_is_better=True),
    Kind(words="seconds|s", more_is_better=False, least=0.005),
    Kind(words="bytes|kib|mib|gib", more_is_better=False, verdicts=("larger", "smaller")),
)
NOT_OURS = re.compile(r"matmul_|plain($|_)|loop$|cpu_share$|load_|largest$")
"""What the project is compared with, how busy the machine was, and single operations of a step."""
HARDWARE = ("cpu", "num_cpus", "num_threads", "gpus")
CHANGING = {"load_average", "elapsed_s"}
"""Among the settings, but none."""
LABELS = ("name", "dtype", "num_threads", "batch_size", "rows", "units", "actors", "unit_s")
"""Fields that tell the items of a list apart, whatever their order."""
REMEDY = "give a JSON file that a benchmark wrote, or a folder of them"
Names = tuple[str, ...]


class InputError(Exception):
    """Something that is given is not a result."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Number:
    """A measured number and the range of its repetitions."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        spread = f" [{self.low:g}, {self.high:g}]" if self.low < self.high else ""
        return f"{self.median:g}{spread}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """A number of both results; `gain` is above 1 where B is better."""

    name: str
    a: Number
    b: Number
    ratio: float
    gain: float
    verdict: str
    regressed: bool


def read_result(path: Path) -> dict[str, Any]:
    """What a benchmark wrote; raises InputError if it did not."""
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; {REMEDY}") from error
    except ValueError as error:
        raise InputError(f"{path}: no JSON; {REMEDY}") from error
    for field in ("hardware", "settings", "measures"):
        if not isinstance(result, dict) or not isinstance(result.get(field), dict):
            raise InputError(f"{path}: no object {field!r}; {REMEDY}")
    return result


def files(path: Path) -> dict[str, Path]:
    """The result files of a folder by their relative paths, or the one file."""
    if not path.exists():
        raise InputError(f"{path}: no such file or folder; {REMEDY}")
    if not path.is_dir():
        return {"": path}
    return {found.relative_to(path).as_posix(): found for found in sorted(path.rglob("*.json"))}


def numbers(value: Any, names: Names = ()) -> Iterator[tuple[Names, Number]]:
    """All numbers within measures, with the names that lead there."""
    if isinstance(value, dict) and "median" in value:
        every = [*value.get("all", []), value["median"]]
        low, high = value.get("min", min(every)), value.get("max", max(every))
        yield names, Number(median=value["median"], low=low, high=high)
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield from numbers(inner, (*names, name))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            known = [key for key in LABELS if isinstance(inner, dict) and key in inner]
            label = " ".join(f"{key}={inner[key]}" for key in known) or str(index)
            yield from numbers(inner, (*names[:-1], f"{names[-1]}[{label}]"))
    elif isinstance(value, int | float):
        yield names, Number(median=value, low=value, high=value)


def kind_of(names: Names) -> Kind | None:
    """How a number is read; None if more of it is neither better nor worse."""
    fields = [name.partition("[")[0] for name in reversed(names)]
    if any(NOT_OURS.match(field) for field in fields):
        return None
    found = (k for field in fields for k in KINDS if re.search(rf"(^|_)({k.words})(_|$)", field))
    return next(found, None)


def judge(name: str, a: Number, b: Number, kind: Kind | None, threshold: float) -> Row:
    """Compare a number of both results."""
    ratio = b.median / a.median if a.median else 1.0 if not b.median else float("inf")
    gain = ratio if kind is None or kind.more_is_better else 1 / ratio if ratio else float("inf")
    verdict, regressed = "same", False
    if kind and max(a.median, b.median) < kind.least:
        verdict = "same, too short to tell"
    elif abs(ratio - 1) > threshold and a.low <= b.high and b.low <= a.high:
        verdict = "same, within the spread"
    elif abs(ratio - 1) > threshold:
        verdict, regressed = (kind.verdicts[gain > 1], gain < 1) if kind else ("changed", False)
    return Row(name=name, a=a, b=b, ratio=ratio, gain=gain, verdict=verdict, regressed=regressed)


def differences(a: dict[str, Any], b: dict[str, Any]) -> list[str]:
    """The fields in which two objects differ, with both values."""
    found = []
    for field in sorted({*a, *b} - CHANGING):
        left, right = a.get(field), b.get(field)
        if isinstance(left, dict) and isinstance(right, dict):
            found += [f"{field}.{inner}" for inner in differences(left, right)]
        elif left != right:
            found.append(f"{field} {left} → {right}")
    return found


def compare(
    a: dict[str, Any], b: dict[str, Any], *, threshold: float, everything: bool
) -> tuple[list[str], list[Row]]:
    """What to be warned of in two results, and their numbers."""
    machine = differences(a["hardware"], b["hardware"])
    hardware = [found for found in machine if found.split()[0] in HARDWARE]
    titles = {
        "OTHER BENCHMARK": differences(*({"benchmark": result.get("benchmark")} for result in (a, b))),
        "OTHER HARDWARE, absolute numbers are not comparable": hardware,
        "OTHER SOFTWARE": [found for found in machine if found not in hardware],
        "OTHER SETTINGS, perhaps of other work": differences(a["settings"], b["settings"]),
    }
    warnings = [f"{title}: {', '.join(found)}" for title, found in titles.items() if found]
    left, right = dict(numbers(a["measures"])), dict(numbers(b["measures"]))
    for side, here, there in (("A", left, right), ("B", right, left)):
        lone = [".".join(names) for names in here if names not in there and kind_of(names)]
        if lone:
            warnings.append(f"{len(lone)} numbers are in {side} alone, such as {lone[0]}")
    rows = []
    for names in (names for names in left if names in right and names[-1] not in LABELS):
        kind = kind_of(names)
        if everything or (kind and (kind.is_ratio or not hardware)):
            rows.append(judge(".".join(names), left[names], right[names], kind, threshold))
    return warnings, rows


def compare_files(a: Path, b: Path, *, threshold: float, everything: bool) -> tuple[list[str], list[Row]]:
    """The same of all files that two paths have in common."""
    left, right = files(a), files(b)
    warnings = [f"{name}: in {a if name in left else b} alone" for name in sorted({*left} ^ {*right})]
    rows = []
    for name in (name for name in left if name in right):
        pair = read_result(left[name]), read_result(right[name])
        found = compare(*pair, threshold=threshold, everything=everything)
        prefix = f"{name}: " if name else ""
        warnings += [prefix + warning for warning in found[0]]
        rows += [dataclasses.replace(row, name=prefix + row.name) for row in found[1]]
    if not {*left} & {*right}:
        raise InputError(f"{a}, {b}: no result is in both; give two files, or folders with the same names")
    return warnings, sorted(rows, key=lambda row: (not row.regressed, row.gain))


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare, print and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("a", type=Path, metavar="A", help="result file or folder")
    parser.add_argument("b", type=Path, metavar="B", help="the same, of the code to judge")
    parser.add_argument("--threshold", type=float, default=0.05, help="share of A that counts as a change")
    parser.add_argument(
        "--all", action="store_true", help="also what is just other, and all of other hardware"
    )
    given = parser.parse_args(arguments)
    try:
        warnings, rows = compare_files(given.a, given.b, threshold=given.threshold, everything=given.all)
    except InputError as error:
        print(f"benchmarks.compare: {error}", file=sys.stderr)
        return 2
    console = Console(width=None if sys.stdout.isatty() else 250, soft_wrap=True)
    for warning in warnings:
        console.print(Text(f"WARNING {warning}", style="bold red"))
    table = Table("number", "A", "B", "B / A", "verdict", box=None, pad_edge=False)
    for row in rows:
        cells = (row.name, str(row.a), str(row.b), f"{row.ratio:.3f}", row.verdict)
        table.add_row(*map(Text, cells), style="red" if row.regressed else "")
    console.print(table)
    regressions = sum(row.regressed for row in rows)
    console.print(f"{len(rows)} numbers compared, {regressions} regressed")
    return 1 if regressions else 0


if __name__ == "__main__":
    sys.exit(main())
