"""The worker of `package`: what has an image is packaged, the rest becomes dead letters."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.sources.faults import FAULT_NAMES, source_fault
from pipelines.worker import WorkerResult
from schemas.prompts import SHOWN_AS_IMAGES


class PackagingWorker:
    """Keeps the rows whose images could be read."""

    def __init__(self, first: tuple[str, ...]) -> None:
        """`first` are the columns to begin with, which people look at."""
        self.first = first

    def process(self, rows: pa.Table) -> WorkerResult:
        """Rows of `ReadPackagedRows` -> rows of the packaged set."""
        faults = rows.select(list(FAULT_NAMES)).to_pylist()
        letters = [letter for index, row in enumerate(faults) if (letter := source_fault(index, row))]
        table = rows.filter(pc.is_null(rows[FAULT_NAMES[0]])).drop_columns(list(FAULT_NAMES))
        others = [name for name in table.column_names if name not in self.first]
        table = table.select([*self.first, *others]).replace_schema_metadata(SHOWN_AS_IMAGES)
        return WorkerResult(table=table, failed=letters)
