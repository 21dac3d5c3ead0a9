"""Small inputs of images, and all that a source gives for one."""

from __future__ import annotations

import io
import tarfile
from typing import Any

import pyarrow as pa

from pipelines.plan import plan_units
from pipelines.sources import ImageSource, SourceSettings, open_source
from pipelines.storage import child, open_storage
from schemas.images import SOURCE_ROWS

TAKEN = ("image_id", "width", "height")


def read_all(
    root_uri: str, settings: SourceSettings | None = None, unit_rows: int = 3, name: str = "in"
) -> list[dict[str, Any]]:
    """All rows of the input `name` in a place, read unit by unit; the index goes into `index` beside it."""
    source = opened(root_uri, settings, name)
    return table_of(source, unit_rows).to_pylist()


def opened(root_uri: str, settings: SourceSettings | None = None, name: str = "in") -> ImageSource:
    return open_source(child(root_uri, name), settings or SourceSettings(), child(root_uri, "index"), TAKEN)


def table_of(source: ImageSource, unit_rows: int = 3) -> pa.Table:
    tables = [source.read(unit) for unit in plan_units(source.objects, unit_rows, "c")]
    expected = pa.schema([*SOURCE_ROWS, *source.passed_through])
    assert all(table.schema == expected for table in tables)
    return pa.concat_tables(tables)


def put(root_uri: str, files: dict[str, bytes], name: str = "in") -> None:
    storage = open_storage(child(root_uri, name))
    for path, data in files.items():
        storage.write(path, data)


def tar_of(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for path, data in files.items():
            info = tarfile.TarInfo(path)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def faults(rows: list[dict[str, Any]]) -> list[str | None]:
    """What is wrong with each row, as one text."""
    return [
        row["fault_type"] and f"{row['fault_stage']}, {row['fault_type']}: {row['fault_message']}"
        for row in rows
    ]
