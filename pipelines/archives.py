"""Read tar archives, such as WebDataset shards, that somebody else may have written.

    with storage.open("shard.tar") as stream:
        for member in read_members(stream, ArchiveLimits()):
            member.name, member.data

Nothing is written to disk. `tarfile` parses each header; which headers are read, and how much follows one, is
decided here: `TarFile` takes what it cannot parse for the end, types it does not know for files, and in some
releases of Python endless time for sizes below zero.
"""

import io
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from tarfile import BLOCKSIZE, TarInfo
from typing import BinaryIO

_FILE = (tarfile.REGTYPE, tarfile.AREGTYPE)
_EXTENDED = (tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME)
_KINDS = {
    tarfile.DIRTYPE: "a folder",
    tarfile.SYMTYPE: "a symbolic link",
    tarfile.LNKTYPE: "a hard link",
    tarfile.CHRTYPE: "a device",
    tarfile.BLKTYPE: "a device",
    tarfile.FIFOTYPE: "a pipe",
    tarfile.GNUTYPE_SPARSE: "a sparse file",
}
_MAX_EXTENDED_BYTES = 16_384
"""Names, times and owners take some hundred bytes."""
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_CHUNK_BYTES = 1 << 20


class ArchiveError(Exception):
    """An archive, or a member of one, that is not read."""


@dataclass(frozen=True, kw_only=True)
class ArchiveLimits:
    """How much an archive may hold.

    Attributes:
        max_members: Files in it.
        max_member_bytes: Of one file.
        max_name_bytes: Of a file's name, in UTF-8.
    """

    max_members: int = 1_000_000
    max_member_bytes: int = 1 << 30
    max_name_bytes: int = 1024


@dataclass(frozen=True, kw_only=True, slots=True)
class Member:
    """One file of an archive.

    Attributes:
        name: A relative path without ".", ".." or empty parts; no two members share one.
        data: Its content.
    """

    name: str
    data: bytes


def read_members(stream: BinaryIO, limits: ArchiveLimits) -> Iterator[Member]:
    """The files of a tar that is not compressed, in order; one at a time is in memory.

    Args:
        stream: The archive, which must be seekable.
        limits: How much it may hold.

    Raises:
        ArchiveError: It is damaged or cut off; it holds anything but regular files with plain names of their
            own; or it passes a limit.
    """
    archive_bytes = stream.seek(0, io.SEEK_END)
    stream.seek(0)
    names: set[str] = set()
    extended, long_name = False, None  # what a header before the member's own says about it
    while any(block := stream.read(BLOCKSIZE)):
        header = _header(block, stream.tell() - len(block))
        where = f"member {len(names) + 1}"
        if not 0 <= header.size <= archive_bytes - stream.tell():
            raise ArchiveError(f"{where}: {header.size} bytes, which the archive does not have")
        if header.type in _EXTENDED:
            if extended or header.size > _MAX_EXTENDED_BYTES:
                raise ArchiveError(f"{where}: extended headers that are too long or too many")
            extended, long_name = True, _long_name(header.type, _content(stream, header.size), where)
            continue
        name = header.name if long_name is None else long_name
        _check_name(name, where, limits)
        where = f"{where}, '{name}'"
        if header.type not in _FILE:
            raise ArchiveError(f"{where}: {_KINDS.get(header.type, 'of unknown type')}; only files are read")
        if name in names:
            raise ArchiveError(f"{where}: the second of that name")
        if header.size > limits.max_member_bytes:
            raise ArchiveError(f"{where}: {header.size} bytes; the limit is {limits.max_member_bytes}")
        if len(names) == limits.max_members:
            raise ArchiveError(f"more than {limits.max_members} members")
        names.add(name)
        yield Member(name=name, data=_content(stream, header.size))
        extended, long_name = False, None
    if extended or len(block) != BLOCKSIZE:
        raise ArchiveError("cut off: it has no end mark")
    while rest := stream.read(_CHUNK_BYTES):
        if any(rest):  # other readers might go on there
            raise ArchiveError("data after its end mark")


def read_samples(stream: BinaryIO, limits: ArchiveLimits) -> dict[str, set[str]]:
    """The suffixes that each sample of a WebDataset shard has, by the sample's key.

    As in WebDataset the key ends at the first dot after the last slash.

    Raises:
        ArchiveError: As for `read_members`.
    """
    samples: dict[str, set[str]] = {}
    for member in read_members(stream, limits):
        folder, slash, file = member.name.rpartition("/")
        stem, _, suffix = file.partition(".")
        samples.setdefault(f"{folder}{slash}{stem}", set()).add(suffix)
    return samples


def _header(block: bytes, offset: int) -> TarInfo:
    try:
        return TarInfo.frombuf(block, "utf-8", "strict")
    except (tarfile.HeaderError, ValueError) as error:
        raise ArchiveError(f"not a tar header at byte {offset}") from error


def _content(stream: BinaryIO, num_bytes: int) -> bytes:
    """So many bytes; what fills their last block is skipped."""
    data = stream.read(num_bytes)
    if len(data) != num_bytes:
        raise ArchiveError("cut off while it was read")
    stream.seek(-num_bytes % BLOCKSIZE, io.SEEK_CUR)
    return data


def _long_name(kind: bytes, content: bytes, where: str) -> str | None:
    """The next member's name by its extended header, where that tells one.

    Raises:
        ArchiveError: The header is damaged, or says what would make readers disagree about what the archive
            holds: another size than the member's own header, or a sparse file.
    """
    name = content.rstrip(b"\0") if kind == tarfile.GNUTYPE_LONGNAME else _pax_path(content, where)
    try:
        return None if name is None else name.decode()
    except UnicodeDecodeError as error:
        raise ArchiveError(f"{where}: its name is not UTF-8") from error


def _pax_path(records: bytes, where: str) -> bytes | None:
    """The value of "path" among records "LENGTH KEYWORD=VALUE", a line each: the format pax of POSIX."""
    path = None
    while records:
        length = records.partition(b" ")[0]
        stop = int(length) if re.fullmatch(rb"[1-9]\d{0,4}", length) else 0
        record, records = records[:stop], records[stop:]
        keyword, equals, value = record[len(length) + 1 : -1].partition(b"=")
        if not equals or len(record) != stop or not record.endswith(b"\n"):
            raise ArchiveError(f"{where}: a damaged extended header")
        if keyword in (b"size", b"linkpath", b"hdrcharset") or keyword.startswith(b"GNU.sparse"):
            raise ArchiveError(f"{where}: an extended header with '{keyword.decode(errors='replace')}'")
        if keyword == b"path":
            path = value
    return path


def _check_name(name: str, where: str, limits: ArchiveLimits) -> None:
    if len(name.encode()) > limits.max_name_bytes:
        raise ArchiveError(f"{where}: a name of more than {limits.max_name_bytes} bytes")
    if _CONTROL.search(name):
        raise ArchiveError(f"{where}: a name with control characters")
    if "\\" in name or any(part in ("", ".", "..") for part in name.split("/")):
        raise ArchiveError(f"{where}: '{name}' is not a plain relative path")
