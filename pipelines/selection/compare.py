"""What two recipes keep differently, in numbers and with samples."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

from pipelines.errors import RefusalError
from pipelines.inputs import find_parquet

NUM_SAMPLES = 12
_BATCH_ROWS = 65_536
_COLUMNS = ["row_id", "uid", "kept", "rule", "value", "threshold", "duplicate_of"]


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
    sides = (Side(name=names[0]), Side(name=names[1]))
    both = neither = 0
    for one, other in zip(_decisions(first_uri), _decisions(second_uri), strict=True):
        if one["row_id"] != other["row_id"]:
            raise RefusalError(
                f"{first_uri} and {second_uri} decide about different images; select both again"
            )
        both += one["kept"] and other["kept"]
        neither += not one["kept"] and not other["kept"]
        for side, keeps, drops in ((sides[0], one, other), (sides[1], other, one)):
            if keeps["kept"] and not drops["kept"]:
                _note(side, drops)
    return Comparison(both=both, neither=neither, sides=sides)


def comparison_text(found: Comparison, width: int = 100) -> str:
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


def _note(side: Side, dropped: dict[str, Any]) -> None:
    side.images += 1
    side.rules[dropped["rule"]] += 1
    sample = Sample(
        row_id=dropped["row_id"],
        rule=dropped["rule"],
        value=dropped["value"] or "",
        threshold=dropped["threshold"] or "",
    )
    side.samples.append((dropped["uid"] or "", sample))
    side.samples.sort(key=lambda item: (item[0], item[1].row_id))
    del side.samples[NUM_SAMPLES:]


def _decisions(uri: str) -> Iterator[dict[str, Any]]:
    found = find_parquet(uri)
    for item in found.objects:
        with found.storage.open(item.path) as stream:
            for batch in pq.ParquetFile(stream).iter_batches(_BATCH_ROWS, columns=_COLUMNS):
                yield from pa.table(batch).to_pylist()
