"""What each rule of a selection took away."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text


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
    left = funnel.rows
    for kind, count in sorted(funnel.failed.items(), key=lambda item: (-item[1], item[0])):
        table.add_row(Text(kind), f"{left:,}", f"{count:,}", "", *_left(left - count, funnel))
        left -= count
    for step in funnel.steps:
        missing = f"{step.missing:,}" if step.missing else ""
        table.add_row(
            Text(step.name), f"{step.images:,}", f"{step.dropped:,}", missing, *_left(step.kept, funnel)
        )
    console = Console(width=width, color_system=None)
    with console.capture() as captured:
        console.print(table)
    return f"{funnel.output}: {funnel.kept:,} of {funnel.rows:,} kept\n{captured.get().rstrip()}"


def _left(left: int, funnel: Funnel) -> tuple[str, str]:
    return f"{left:,}", f"{left / funnel.rows:.1%}" if funnel.rows else ""
