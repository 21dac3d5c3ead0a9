"""What two recipes keep differently, in numbers and with samples."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from rich.console import Console
from rich.table import Table

from pipelines.errors import RefusalError
from pipelines.inputs import find_parquet, read_batches
from pipelines.manifest import read_manifest
from pipelines.storage import open_storage

NUM_SAMPLES = 12
_COLUMNS = ["row_id", "uid", "kept", "rule", "value", "threshold"]


@dataclass(frozen=True, kw_only=True)
class Sample:
    """An image that only one of the selections keeps.

    Attributes:
        row_id: Of the image.
        rule: Of the other selection, that dropped it.
        value: What the rule looked at.
        threshold: What it demanded.
    """

    row_id: str
    rule: str
    value: str
    threshold: str


@dataclass(kw_only=True)
class Side:
    """What one selection keeps and the other drops.

    Attributes:
        name: Of the selection that keeps.
        images: How many.
        rules: Of the other selection, with the images that each of them dropped.
        samples: Some of the images: the least by uid, so that they are as good as random, always the same.
    """

    name: str
    images: int = 0
    rules: Counter[str] = field(default_factory=Counter)
    samples: list[tuple[str, Sample]] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two selections of the same scores.

    Attributes:
        both: Images that both keep.
        neither: Rows that neither keeps.
        sides: What only the first keeps, and what only the second.
    """

    both: int
    neither: int
    sides: tuple[Side, Side]

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        sides = [
            {
                "name": side.name,
                "images": side.images,
                "rules": dict(side.rules.most_common()),
                "samples": [asdict(sample) for _, sample in side.samples],
            }
            for side in self.sides
        ]
        return {"both": self.both, "neither": self.neither, "only": sides}


def compare(first_uri: str, second_uri: str, names: tuple[str, str]) -> Comparison:
    """Compare the decisions of two selections.

    Raises:
        RefusalError: They are of different scores.
    """
    of = [read_manifest(open_storage(uri))["request"]["scores"] for uri in (first_uri, second_uri)]
    if of[0] != of[1]:
        raise RefusalError(f"{first_uri} and {second_uri} decide about different scores; select both again")
    sides = (Side(name=names[0]), Side(name=names[1]))
    both = neither = 0
    # of equal scores the decisions are cut into equal pieces
    for one, other in zip(_decisions(first_uri), _decisions(second_uri), strict=True):
        mine, theirs = one["kept"], other["kept"]
        both += _count(pc.and_(mine, theirs))
        neither += _count(pc.invert(pc.or_(mine, theirs)))
        _note(sides[0], other.filter(pc.and_not(mine, theirs)))
        _note(sides[1], one.filter(pc.and_not(theirs, mine)))
    return Comparison(both=both, neither=neither, sides=sides)


def comparison_text(found: Comparison, width: int = 80) -> str:
    """The comparison as tables for the terminal."""
    console = Console(width=width, color_system=None, highlight=False, markup=False)
    first, second = found.sides
    with console.capture() as captured:
        console.print(
            f"both keep {found.both:,}, only {first.name} {first.images:,}, only {second.name} "
            f"{second.images:,}, neither {found.neither:,}"
        )
        for side, other in ((first, second), (second, first)):
            if not side.images:
                continue
            table = Table(
                "rule", "images", "value", "threshold", title=f"only {side.name}: dropped by {other.name}"
            )
            for rule, count in side.rules.most_common():
                sample = next((s for _, s in side.samples if s.rule == rule), None)
                shown = (sample.value, sample.threshold) if sample else ("", "")
                table.add_row(rule, f"{count:,}", *(f"e.g. {text}"[:60] if text else "" for text in shown))
            console.print(table)
            console.print("samples: " + ", ".join(sample.row_id for _, sample in side.samples[:5]))
    return captured.get().rstrip()


def _note(side: Side, dropped: pa.Table) -> None:
    side.images += dropped.num_rows
    for group in dropped["rule"].value_counts().to_pylist():
        side.rules[group["values"]] += group["counts"]
    order = pc.sort_indices(dropped, sort_keys=[("uid", "ascending"), ("row_id", "ascending")])
    for row in dropped.take(order[:NUM_SAMPLES]).to_pylist():
        sample = Sample(
            row_id=row["row_id"],
            rule=row["rule"],
            value=row["value"] or "",
            threshold=row["threshold"] or "",
        )
        side.samples.append((row["uid"], sample))
    side.samples.sort(key=lambda item: (item[0], item[1].row_id))
    del side.samples[NUM_SAMPLES:]


def _count(mask: pa.ChunkedArray) -> int:
    return int(pc.sum(mask).as_py() or 0)


def _decisions(uri: str) -> Iterator[pa.Table]:
    return (pa.table(batch) for batch in read_batches(find_parquet(uri), _COLUMNS))
