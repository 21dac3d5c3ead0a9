"""What every source of images is."""

from collections.abc import Callable
from dataclasses import dataclass

import pyarrow as pa

from pipelines.errors import RefusalError
from pipelines.plan import InputObject, Unit


class SourceError(RefusalError):
    """An input that cannot be read as images; the message says why and what to do."""


class RowError(Exception):
    """What is wrong with one row. Its message is the same in every run: it stands in a dead letter."""


class CaptionError(RowError):
    """A caption that is no text, or too long."""


class MetadataError(RowError):
    """A `.json` file that is none, or too long; a text of a table that is none."""


class SampleError(RowError):
    """An image that is missing, has changed, or is too large."""


@dataclass(frozen=True, kw_only=True)
class ImageSource:
    """An input of images.

    Attributes:
        objects: Its objects, in order.
        passed_through: The columns that follow those of SOURCE_ROWS in what is read.
        reader: Gives the rows of a unit. It is small and travels to each reading task; the source itself has
            an entry for each object.
    """

    objects: list[InputObject]
    passed_through: list[pa.Field]
    reader: Callable[[Unit], pa.Table]

    def read(self, unit: Unit) -> pa.Table:
        """The unit's rows: SOURCE_ROWS, then `passed_through`.

        Raises:
            StorageError: The input cannot be read, or it changed since it was planned.
            SourceError: The unit's images are larger than `max_unit_bytes`.
        """
        return self.reader(unit)
