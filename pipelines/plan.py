"""The plan of a run: its input cut into units. A pure function of the input and the config."""

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any, cast, overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipelines.errors import RefusalError
from schemas.units import PLAN

_BATCH_UNITS = 4096
_SHARD_NAME = re.compile(r"(?:train-)?(\d{5,})(?:-r(\d+))?(?:-of-\d{5,})?(?![\d-])")


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

    @classmethod
    def of_rows(cls, path: str, fingerprint: str, numbers: Sequence[int]) -> "Unit":
        """Some rows of an object, in the form that readers take; it is in no plan.

        Args:
            path: Of the object.
            fingerprint: Of it.
            numbers: Of the rows within it, ascending, at least one.
        """
        return cls(
            id=path,
            position=0,
            path=path,
            fingerprint=fingerprint,
            row_start=numbers[0],
            row_stop=numbers[-1] + 1,
            rows=tuple(numbers),
        )

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

    @property
    def shard_name(self) -> str:
        """A short name for the unit's objects, by its position: `00042`, of a retry `00042-r1`."""
        return f"{self.position:05d}" + (f"-r{self.round}" if self.round else "")

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON values; `from_json` reads them back."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "Unit":
        """The unit that `to_json` gave this value for."""
        return cls(**(value | {"rows": None if value["rows"] is None else tuple(value["rows"])}))


class Plan(Sequence[Unit]):
    """The units of a run, kept as columns: a hundred million rows are more than a million units.

    Args:
        table: Of schema PLAN: the plan's own units by position, then those of each retry round.

    Attributes:
        table: The same.
        rounds: The indices of each round's units: the plan's own, then those of each retry round.
    """

    def __init__(self, table: pa.Table) -> None:
        self.table = table.combine_chunks()
        self._ids = self.table["id"]
        self._positions = self.table["position"].to_numpy()
        cuts = np.flatnonzero(np.diff(self.table["round"].to_numpy())) + 1
        self.rounds = [range(start, stop) for start, stop in pairwise([0, *cuts.tolist(), len(self)])]

    @overload
    def __getitem__(self, index: int) -> Unit: ...
    @overload
    def __getitem__(self, index: slice) -> list[Unit]: ...
    def __getitem__(self, index: int | slice) -> Unit | list[Unit]:
        numbers = range(len(self))[index]
        return self.take([numbers])[0] if isinstance(numbers, int) else self.take(numbers)

    def __len__(self) -> int:
        return self.table.num_rows

    def __iter__(self) -> Iterator[Unit]:
        return _units(self.table)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Plan) and self.table.equals(other.table)

    def take(self, indices: Sequence[int] | NDArray[np.int64]) -> list[Unit]:
        """The units with these indices in the plan."""
        return list(_units(self.table.take(pa.array(indices, pa.int64()))))

    def ids(self, indices: range) -> list[str]:
        """The ids of consecutive units."""
        return cast(list[str], self._ids.slice(indices.start, len(indices)).to_pylist())

    def index_of(self, unit_id: str) -> int | None:
        """The index of a unit; None where the plan has no such unit."""
        try:
            position, round = unit_key(unit_id)
        except ValueError:
            return None
        if round >= len(self.rounds):
            return None
        indices = self.rounds[round]
        found = indices.start + int(np.searchsorted(self._positions[indices.start : indices.stop], position))
        return found if found < indices.stop and self._ids[found].as_py() == unit_id else None

    def index_of_output(self, path: str) -> int | None:
        """The index of the unit that an object `data/NAME…` or `failed/NAME…` is of; None if of none.

        NAME is the unit's id, or its `shard_name`, alone or as in `train-00000-of-00012`.
        """
        name = path.split("/")[1].partition(".")[0]
        index = self.index_of(name)
        if index is not None:
            return index
        matched = _SHARD_NAME.match(name)
        if matched is None:
            return None
        position, round = int(matched[1]), int(matched[2] or 0)
        if round >= len(self.rounds):
            return None
        indices = self.rounds[round]
        positions = self._positions[indices.start : indices.stop]
        found = int(np.searchsorted(positions, position))
        is_there = found < len(positions) and positions[found] == position
        return indices.start + found if is_there else None

    def rows_total(self) -> int:
        """Rows of the input."""
        own = self.table.slice(0, len(self.rounds[0]))
        return int(pc.sum(pc.subtract(own["row_stop"], own["row_start"])).as_py())

    def rows_with_retries(self) -> int:
        """Rows to run in all: those of the input, and those of the retries."""
        return self.rows_total() + int(pc.sum(pc.list_value_length(self.table["rows"])).as_py() or 0)


def plan_units(objects: Iterable[InputObject], unit_rows: int, config_digest: str) -> Plan:
    """Cut the objects, in the order given, into units of at most `unit_rows` rows; none spans two objects.

    Args:
        objects: The input.
        unit_rows: Rows a unit.
        config_digest: Digest of everything else that determines the output.

    Raises:
        PlanError: There are no rows at all.
    """
    sources = [source for source in objects if source.rows]
    if not sources:
        raise PlanError("the input has no rows; check the input's location and its Parquet files")
    counts = [-(-source.rows // unit_rows) for source in sources]
    starts = np.concatenate([np.arange(0, source.rows, unit_rows) for source in sources])
    stops = np.minimum(starts + unit_rows, np.repeat([source.rows for source in sources], counts))
    source_numbers = np.repeat(np.arange(len(sources), dtype=np.int32), counts)
    ids = []
    for position, (number, start, stop) in enumerate(
        zip(source_numbers.tolist(), starts.tolist(), stops.tolist(), strict=True)
    ):
        source = sources[number]
        text = "\0".join([source.path, source.fingerprint, str(start), str(stop), config_digest])
        ids.append(f"{position:08d}-{hashlib.sha256(text.encode()).hexdigest()[:12]}")
    columns = {
        "id": ids,
        "position": np.arange(len(ids)),
        "round": np.zeros(len(ids), np.int64),
        "path": pa.DictionaryArray.from_arrays(source_numbers, [source.path for source in sources]),
        "fingerprint": pa.DictionaryArray.from_arrays(source_numbers, [s.fingerprint for s in sources]),
        "row_start": starts,
        "row_stop": stops,
        "rows": pa.nulls(len(ids), PLAN.field("rows").type),
    }
    return Plan(pa.table(columns, schema=PLAN))


def _units(table: pa.Table) -> Iterator[Unit]:
    """A plan's rows as units, some thousands as Python values at a time."""
    for batch in table.to_batches(max_chunksize=_BATCH_UNITS):
        yield from map(Unit.from_json, batch.to_pylist())


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


def unit_key(unit_id: str) -> tuple[int, int]:
    """Position and round of the unit with this id; ValueError where it is not an id."""
    position, _, rest = unit_id.partition("-")
    return int(position), int(rest.partition("-r")[2] or 0)


def plan_of(units: Sequence[Unit]) -> Plan:
    """The plan of these units, in the order of PLAN's rows."""
    columns = [pa.array([getattr(unit, f.name) for unit in units], f.type) for f in PLAN]
    return Plan(pa.table(columns, schema=PLAN))


def plan_digest(plan: Plan) -> str:
    """SHA-256 over the ids of the plan's own units, in hexadecimal."""
    return hashlib.sha256("\n".join(plan.ids(plan.rounds[0])).encode()).hexdigest()


def read_plan(*files: bytes) -> Plan:
    """The units of a `plan.parquet` and of the files of its retry rounds."""
    return Plan(pa.concat_tables(pq.read_table(pa.BufferReader(data)).cast(PLAN) for data in files))
