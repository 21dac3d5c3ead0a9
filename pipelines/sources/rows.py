"""Rows of images, as every source gives them."""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import pyarrow as pa

from pipelines.plan import Unit
from pipelines.sources.interface import SourceError
from schemas.images import SOURCE_ROWS

UID_HEX = 32
MAX_MESSAGE_CHARACTERS = 1000
"""Of a fault: some tables hold whole images as text, where a path should be."""
_UID = re.compile(rf"[0-9a-fA-F]{{{UID_HEX}}}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Fault:
    """Why a row has no image.

    Attributes:
        stage: What was being done.
        type: Name of the error's type.
        message: What was wrong; the same in every run.
    """

    stage: Literal["read", "fetch"]
    type: str
    message: str

    @classmethod
    def of(cls, stage: Literal["read", "fetch"], error: Exception) -> "Fault":
        """The fault of a row for which this error was raised."""
        return cls(stage=stage, type=type(error).__name__, message=str(error)[:MAX_MESSAGE_CHARACTERS])


@dataclass(kw_only=True, slots=True)
class Row:
    """One image on its way in; of several faults the first counts.

    Attributes:
        key: Its name in the source; None for the row's id.
        uid: The source's own id.
        caption: Its caption.
        image_path: File, archive member or URL that it is from.
        encoded: Its bytes.
        fault: Why it has none.
    """

    key: str | None = None
    uid: str | None = None
    caption: str | None = None
    image_path: str | None = None
    encoded: bytes | None = None
    fault: Fault | None = None

    def fail(self, error: Exception, stage: Literal["read", "fetch"] = "read") -> None:
        """Note what is wrong with it."""
        self.fault = self.fault or Fault.of(stage, error)
        self.encoded = None


def rows_table(unit: Unit, rows: Sequence[Row]) -> pa.Table:
    """A unit's rows as a table of schema SOURCE_ROWS."""
    numbers = unit.row_numbers
    ids = [f"{unit.path}:{number}" for number in numbers]
    faults = [row.fault for row in rows]
    return pa.table(
        {
            "row_id": ids,
            "source_path": [unit.path] * len(ids),
            "source_row": list(numbers),
            "key": [row_id if row.key is None else row.key for row, row_id in zip(rows, ids, strict=True)],
            "uid": [uid_of(row.uid, row_id) for row, row_id in zip(rows, ids, strict=True)],
            "caption": [row.caption for row in rows],
            "image_path": [row.image_path for row in rows],
            "encoded": [None if row.fault else row.encoded for row in rows],
            "fault_stage": [fault and fault.stage for fault in faults],
            "fault_type": [fault and fault.type for fault in faults],
            "fault_message": [fault and fault.message for fault in faults],
        },
        schema=SOURCE_ROWS,
    )


def uid_of(own: str | None, row_id: str) -> str:
    """The source's own 128-bit id in hexadecimal, else the first 128 bits of the row id's SHA-256."""
    if own is not None and _UID.fullmatch(own):
        return own.lower()
    return hashlib.sha256(row_id.encode()).hexdigest()[:UID_HEX]


def check_unit_bytes(unit: Unit, num_bytes: int, limit: int) -> None:
    """That a unit's images fit in memory.

    Raises:
        SourceError: They do not.
    """
    if num_bytes > limit:
        raise SourceError(
            f"unit {unit.id} ({unit.path}, rows {unit.row_start} to {unit.row_stop}): {num_bytes} bytes of "
            f"images; the limit is {limit}: raise source.max_unit_bytes, which a run may change, or begin "
            "a run with fewer rows a unit"
        )
