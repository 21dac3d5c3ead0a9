"""WebDataset tars: samples of one image, its caption in `.txt` and facts about it in `.json`."""

from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
import ray

from pipelines.budget import cluster_nodes
from pipelines.inputs import check_unchanged, read_unit
from pipelines.plan import InputObject, Unit
from pipelines.sources.byte_ranges import Place, read_places
from pipelines.sources.interface import ImageSource, SampleError
from pipelines.sources.rows import Fault, Row, check_unit_bytes, rows_table
from pipelines.sources.settings import SourceSettings
from pipelines.sources.sidecars import caption_too_long, json_too_long, sidecar_fields, take_sidecars
from pipelines.sources.tar_index import ensure_index, index_path
from pipelines.storage import Storage, open_storage
from pipelines.tasks import task_result
from schemas.images import passed_through

_THREADS = 4
_TASKS_A_CPU = 2


@dataclass(frozen=True, kw_only=True)
class TarReader:
    """Reads units of tars.

    Attributes:
        storage: Where the tars are.
        index_storage: Where their indexes are.
        settings: What to read.
        renamed: Columns that `.json` files make, by their name there.
    """

    storage: Storage
    index_storage: Storage
    settings: SourceSettings
    renamed: dict[str, pa.Field]

    def __call__(self, unit: Unit) -> pa.Table:
        """The unit's rows."""
        check_unchanged(self.storage, unit.path, unit.fingerprint)
        name = index_path(unit.path, unit.fingerprint)
        # an index is found by what it is of, and has no fingerprint to compare
        index = read_unit(self.index_storage, replace(unit, path=name, fingerprint="index")).to_pylist()
        places = [place for entry in index for place in self._places(entry)]
        sizes = [entry["size"] or 0 for entry in index]
        images = sum(size for size in sizes if size <= self.settings.row_images.max_bytes)
        check_unit_bytes(unit, images, self.settings.max_unit_bytes)
        found = read_places(self.storage, unit.path, places)
        rows, values = [], []
        for entry in index:
            row, about = self._row(entry, found)
            rows.append(row)
            values.append(about)
        return append_columns(rows_table(unit, rows), values, self.renamed)

    def _places(self, entry: dict[str, Any]) -> list[Place]:
        """What to read of a row: neither what is too large nor what there is not."""
        limits = {
            "": self.settings.row_images.max_bytes,
            "text_": self.settings.max_caption_bytes,
            "json_": self.settings.max_json_bytes,
        }
        places = [(_place(entry, part), limit) for part, limit in limits.items()]
        return [place for place, limit in places if place is not None and place[1] <= limit]

    def _row(self, entry: dict[str, Any], found: dict[Place, bytes]) -> tuple[Row, dict[str, Any]]:
        row = Row(key=entry["key"], image_path=entry["path"])
        if entry["fault_type"] is not None:
            row.fault = Fault(stage="read", type=entry["fault_type"], message=entry["fault_message"])
            return row, {}
        settings, place = self.settings, _place(entry, "")
        if place is not None:
            fill_image(row, found.get(place, b""), place[1], entry["path"], settings)
        text, about = (self._sidecar(entry, part, found) for part in ("text_", "json_"))
        values = take_sidecars(row, text, about, settings)
        if text is None and entry["text_size"] is not None:
            row.fail(caption_too_long(entry["text_size"], settings.max_caption_bytes))
        if about is None and entry["json_size"] is not None:
            row.fail(json_too_long(entry["json_size"], settings.max_json_bytes))
        return row, values

    def _sidecar(self, entry: dict[str, Any], part: str, found: dict[Place, bytes]) -> bytes | None:
        place = _place(entry, part)
        if place is None or place not in self._places(entry):
            return None
        return found.get(place, b"")


def fill_image(row: Row, data: bytes, num_bytes: int, path: str, settings: SourceSettings) -> None:
    """Put an image into a row, or that it is empty or too large."""
    limit = settings.row_images.max_bytes
    if num_bytes > limit:
        row.fail(SampleError(f"{path}: {num_bytes} bytes; the limit is {limit}, which is max_bytes"))
    elif not num_bytes:
        row.fail(SampleError(f"{path}: an empty file"))
    elif row.fault is None:
        row.encoded = data


def append_columns(
    table: pa.Table, values: Sequence[dict[str, Any]], renamed: dict[str, pa.Field]
) -> pa.Table:
    """The table with a column for each of the fields; values are by the names before they were renamed."""
    for name, target in renamed.items():
        table = table.append_column(target, pa.array([value.get(name) for value in values], target.type))
    return table


def open_tar_source(
    storage: Storage, names: Sequence[str], index_uri: str, settings: SourceSettings, taken: Collection[str]
) -> ImageSource:
    """The source of some tars; makes the indexes that are missing."""
    index_storage = open_storage(index_uri)
    renamed = passed_through(sidecar_fields(settings.json_columns), taken)
    reader = TarReader(storage=storage, index_storage=index_storage, settings=settings, renamed=renamed)
    objects = _indexed(storage, names, index_storage)
    return ImageSource(objects=objects, passed_through=list(renamed.values()), reader=reader)


def _indexed(storage: Storage, names: Sequence[str], index_storage: Storage) -> list[InputObject]:
    if len(names) > 1 and ray.is_initialized():
        return _indexed_by_tasks(storage, names, index_storage)
    with ThreadPoolExecutor(_THREADS) as pool:
        return list(pool.map(lambda name: ensure_index(storage, name, index_storage), names))


def _indexed_by_tasks(storage: Storage, names: Sequence[str], index_storage: Storage) -> list[InputObject]:
    task = ray.remote(ensure_index).options(num_cpus=1, scheduling_strategy="SPREAD")
    num_cpus = sum(node.num_cpus for node in cluster_nodes())
    most = max(int(num_cpus), 1) * _TASKS_A_CPU
    running: dict[Any, int] = {}
    objects: dict[int, InputObject] = {}
    waiting = iter(enumerate(names))
    while len(objects) < len(names):
        while len(running) < most and (item := next(waiting, None)) is not None:
            running[task.remote(storage, item[1], index_storage)] = item[0]
        done, _ = ray.wait(list(running))
        for reference in done:
            objects[running.pop(reference)] = task_result(reference)
    return [objects[number] for number in range(len(names))]


def _place(entry: dict[str, Any], part: str) -> Place | None:
    """Where the image, "text_" or "json_" of a row is."""
    offset, size = entry[f"{part}offset"], entry[f"{part}size"]
    return None if offset is None else (offset, size)
