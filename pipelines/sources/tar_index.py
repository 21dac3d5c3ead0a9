"""What a WebDataset tar holds, as a table: made once, so that a unit reads its own samples alone.

Each row is one image, or one thing wrong with the tar; rows are in the order of the tar. A sample with two
images, such as `a.jpg` and `a.png`, is two rows with the same key and caption: none of them is dropped.
"""

import hashlib
import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO, cast

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.archives import ArchiveError, ArchiveLimits, Entry, sample_part, scan
from pipelines.plan import InputObject
from pipelines.shards import parquet_bytes
from pipelines.sources.interface import SampleError
from pipelines.sources.sidecars import IMAGE_SUFFIXES
from pipelines.storage import Storage

TAR_INDEX = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("path", pa.string()),  # the member; null where it has no name
        pa.field("offset", pa.int64()),  # of the image within the tar, in bytes
        pa.field("size", pa.int64()),
        pa.field("text_offset", pa.int64()),  # of the .txt
        pa.field("text_size", pa.int64()),
        pa.field("json_offset", pa.int64()),
        pa.field("json_size", pa.int64()),
        pa.field("fault_type", pa.string()),  # null where there is an image
        pa.field("fault_message", pa.string()),
    ]
)
_FORMAT = "tar-index-1"
_LIMITS = ArchiveLimits(max_member_bytes=1 << 50, dot_slash=True)  # sizes are judged when they are read
_ARCHIVES = (".tar", ".tar.gz", ".tgz", ".tar.zst", ".tar.bz2", ".tar.xz")
_SHOWN_SUFFIXES = 8
_READ_AHEAD_BYTES = 8 << 20
"""Images of web size lie so close that to read all of a tar is faster than to ask for each header."""


@dataclass(slots=True)
class _Sample:
    """Members of one key.

    Attributes:
        offset: Of the first.
        images: Those that are images.
        sidecars: The first `.txt` and the first `.json`, by suffix.
        suffixes: Of all.
    """

    offset: int
    images: list[Entry] = field(default_factory=list)
    sidecars: dict[str, Entry] = field(default_factory=dict)
    suffixes: list[str] = field(default_factory=list)

    def add(self, suffix: str, entry: Entry) -> None:
        self.suffixes.append(suffix)
        if suffix.lower() in IMAGE_SUFFIXES:
            self.images.append(entry)
        elif suffix.lower() in ("txt", "json"):
            self.sidecars.setdefault(suffix.lower(), entry)


def tar_index(stream: BinaryIO) -> pa.Table:
    """The index of a tar, of schema TAR_INDEX."""
    samples: dict[str, _Sample] = {}
    rows: list[tuple[int, dict[str, Any]]] = []
    for entry in scan(stream, _LIMITS):
        if entry.is_folder:
            continue
        if entry.fault is not None:
            rows.append((entry.offset, _fault(entry.name or entry.where, entry.name, entry.message)))
        elif entry.name is not None and entry.name.lower().endswith(_ARCHIVES):
            message = f"{entry.where}: an archive in an archive; unpack it into one of its own"
            rows.append((entry.offset, _fault(entry.name, entry.name, message)))
        elif entry.name is not None:
            key, suffix = sample_part(entry.name)
            samples.setdefault(key, _Sample(entry.offset)).add(suffix, entry)
    for key, sample in samples.items():
        rows.extend(_sample_rows(key, sample))
    ordered = [row for _, row in sorted(rows, key=lambda row: row[0])]
    return pa.Table.from_pylist(ordered, schema=TAR_INDEX)


def index_path(path: str, fingerprint: str) -> str:
    """Where the index of a tar is, in the folder of indexes."""
    digest = hashlib.sha256("\0".join([_FORMAT, path, fingerprint]).encode()).hexdigest()
    return f"tars/{digest[:32]}.parquet"


def ensure_index(storage: Storage, path: str, index_storage: Storage) -> InputObject:
    """The tar as an input; its index is made unless there is one for just these bytes."""
    fingerprint = storage.fingerprint(path)
    name = index_path(path, fingerprint)
    if index_storage.exists(name):
        with index_storage.open(name) as stream:
            rows = pq.ParquetFile(stream).metadata.num_rows
    else:
        with storage.open(path) as stream:
            # a buffered reader serves as the raw one below another
            ahead = io.BufferedReader(cast(io.RawIOBase, stream), _READ_AHEAD_BYTES)
            index = tar_index(ahead)
        rows = index.num_rows
        index_storage.write(name, parquet_bytes(index))  # whoever else makes it writes the same bytes
    return InputObject(path=path, fingerprint=fingerprint, rows=rows)


def _sample_rows(key: str, sample: _Sample) -> Iterator[tuple[int, dict[str, Any]]]:
    places: dict[str, int] = {}
    for suffix, column in (("txt", "text"), ("json", "json")):
        if (entry := sample.sidecars.get(suffix)) is not None:
            places |= {f"{column}_offset": entry.offset, f"{column}_size": entry.size}
    for entry in sample.images:
        about = {"key": key, "path": entry.name, "offset": entry.offset, "size": entry.size}
        yield entry.offset, about | places
    if not sample.images:
        suffixes = sorted(set(sample.suffixes))
        shown = ", ".join(f".{suffix}" for suffix in suffixes[:_SHOWN_SUFFIXES])
        more = ", …" if len(suffixes) > _SHOWN_SUFFIXES else ""
        message = f"sample '{key}': no image; it has {shown}{more}"
        yield sample.offset, _fault(key, None, message, SampleError) | places


def _fault(key: str, path: str | None, message: str, error: type[Exception] = ArchiveError) -> dict[str, Any]:
    return {
        "key": key or "the archive",
        "path": path,
        "fault_type": error.__name__,
        "fault_message": message,
    }
