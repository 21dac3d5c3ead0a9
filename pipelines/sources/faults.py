"""Dead letters of rows whose image the source could not read or fetch."""

from typing import Any

from pipelines.worker import DeadLetter

FAULT_NAMES = ("fault_stage", "fault_type", "fault_message")
"""Columns of SOURCE_ROWS that say why a row has no image."""


def source_fault(index: int, row: dict[str, Any]) -> DeadLetter | None:
    """The dead letter of a row with this index; None where its image was read."""
    if row["fault_stage"] is None:
        return None
    return DeadLetter(
        row=index, stage=row["fault_stage"], error_type=row["fault_type"], message=row["fault_message"]
    )
