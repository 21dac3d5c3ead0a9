"""The plan of a run: its input cut into units. A pure function of the input and the config."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.errors import RefusalError
from schemas.units import PLAN


class PlanError(RefusalError):
    """The input cannot be cut into units; the message says why."""


@dataclass(frozen=True, kw_only=True, slots=True)
class InputObject:
    """One object of the input.

    Attributes:
        path: Path relative to the input's root, so that an input may move.
        fingerprint: Changes whenever the object's bytes do.
        rows: Rows in it.
    """

    path: str
    fingerprint: str
    rows: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Unit:
    """A fixed slice of the input: these rows of that object.

    Attributes:
        id: Position and digest of all that determines the unit's output; a retry's ends in `-rROUND`.
        position: Place in the plan, from 0.
        round: 0, or the number of the retry round.
        path: Input object, relative to the input's root.
        fingerprint: Of that object.
        row_start: First row number within the object.
        row_stop: One past the last.
        rows: A retry's row numbers within the object, ascending; None for all of the slice.
    """

    id: str
    position: int
    round: int = 0
    path: str
    fingerprint: str
    row_start: int
    row_stop: int
    rows: tuple[int, ...] | None = None

    @property
    def row_numbers(self) -> Sequence[int]:
        """The unit's rows, as numbers within its object."""
        return range(self.row_start, self.row_stop) if self.rows is None else self.rows

    @property
    def num_rows(self) -> int:
        """How many rows the unit has."""
        return len(self.row_numbers)

    @property
    def base_id(self) -> str:
        """The id of the unit that a retry belongs to; its own otherwise."""
        return self.id.removesuffix(f"-r{self.round}") if self.round else self.id

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON values; `from_json` reads them back."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "Unit":
        """The unit that `to_json` gave this value for."""
        return cls(**(value | {"rows": None if value["rows"] is None else tuple(value["rows"])}))


def plan_units(objects: Iterable[InputObject], unit_rows: int, config_digest: str) -> list[Unit]:
    """Cut the objects, in the order given, into units of at most `unit_rows` rows; none spans two objects.

    Args:
        objects: The input.
        unit_rows: Rows a unit.
        config_digest: Digest of everything else that determines the output.

    Raises:
        PlanError: There are no rows at all.
    """
    units: list[Unit] = []
    for source in objects:
        for start in range(0, source.rows, unit_rows):
            stop = min(start + unit_rows, source.rows)
            text = "\0".join([source.path, source.fingerprint, str(start), str(stop), config_digest])
            position = len(units)
            units.append(
                Unit(
                    id=f"{position:08d}-{hashlib.sha256(text.encode()).hexdigest()[:12]}",
                    position=position,
                    path=source.path,
                    fingerprint=source.fingerprint,
                    row_start=start,
                    row_stop=stop,
                )
            )
    if not units:
        raise PlanError("the input has no rows; check the input's location and its Parquet files")
    return units


def retry_unit(unit: Unit, round: int, rows: Iterable[int]) -> Unit:
    """The unit that runs these rows of an earlier one again."""
    return Unit(
        id=f"{unit.base_id}-r{round}",
        position=unit.position,
        round=round,
        path=unit.path,
        fingerprint=unit.fingerprint,
        row_start=unit.row_start,
        row_stop=unit.row_stop,
        rows=tuple(sorted(rows)),
    )


def plan_digest(units: Iterable[Unit]) -> str:
    """SHA-256 over the units' ids, in hexadecimal."""
    return hashlib.sha256("\n".join(unit.id for unit in units).encode()).hexdigest()


def plan_table(units: Sequence[Unit]) -> pa.Table:
    """The plan as a table of schema PLAN."""
    return pa.table([[getattr(unit, name) for unit in units] for name in PLAN.names], schema=PLAN)


def units_of(table: pa.Table) -> list[Unit]:
    """The units in a table of schema PLAN."""
    return [Unit.from_json(row) for row in table.to_pylist()]


def read_plan(data: bytes) -> list[Unit]:
    """The units in a `plan.parquet`."""
    return units_of(pq.read_table(pa.BufferReader(data)))
