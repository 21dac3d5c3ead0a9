"""What each rule of a selection took away."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

FAULT = "fault"
"""Kind of a step that is no rule: an error for which images could not be read or decoded."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """One rule.

    Attributes:
        name: Of the rule.
        rule: Its kind.
        images: That came to it.
        dropped: By it.
        missing: Those of them that had no value.
        kept: That it left.
    """

    name: str
    rule: str
    images: int
    dropped: int
    missing: int
    kept: int

    @property
    def counts(self) -> tuple[str, str, str, str]:
        """Images that came, were dropped, had no value, are left, as texts."""
        missing = f"{self.missing:,}" if self.missing else ""
        return f"{self.images:,}", f"{self.dropped:,}", missing, f"{self.kept:,}"


@dataclass(frozen=True, kw_only=True)
class Funnel:
    """What became of the rows of an input.

    Attributes:
        output: URI of the selection.
        rows: Of the input.
        failed: Those that could not be read or decoded, by stage and error.
        steps: The rules, in order.
        kept: Images that stay.
    """

    output: str
    rows: int
    failed: dict[str, int]
    steps: tuple[Step, ...]
    kept: int

    @property
    def all_steps(self) -> list[Step]:
        """All that took rows away: faults of images, the most frequent first, then the rules."""
        left, faults = self.rows, list[Step]()
        for kind, count in sorted(self.failed.items(), key=lambda item: (-item[1], item[0])):
            faults.append(
                Step(name=kind, rule=FAULT, images=left, dropped=count, missing=0, kept=left - count)
            )
            left -= count
        return [*faults, *self.steps]

    def share(self, images: int) -> str:
        """So many images as a part of all rows; "" where there are none."""
        return f"{images / self.rows:.1%}" if self.rows else ""

    def to_json(self) -> dict[str, Any]:
        """As it stands in `funnel.json`."""
        return {name: value for name, value in asdict(self).items() if name != "output"}

    @classmethod
    def from_json(cls, output: str, value: dict[str, Any]) -> Funnel:
        """What `to_json` gave this value for."""
        return cls(**(value | {"output": output, "steps": tuple(Step(**step) for step in value["steps"])}))


def funnel_text(funnel: Funnel, width: int = 80) -> str:
    """The funnel as a table for the terminal."""
    table = Table()
    table.add_column("rule", overflow="fold")
    for name in ("images", "dropped", "no value", "kept", "of all"):
        table.add_column(name, justify="right", no_wrap=True)
    for step in funnel.all_steps:
        table.add_row(Text(step.name), *step.counts, funnel.share(step.kept))
    console = Console(width=width, color_system=None)
    with console.capture() as captured:
        console.print(table)
    return f"{funnel.output}: {funnel.kept:,} of {funnel.rows:,} kept\n{captured.get().rstrip()}"
