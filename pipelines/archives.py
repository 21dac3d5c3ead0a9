"""Read tar archives, such as WebDataset shards, that somebody else may have written.

    with storage.open("shard.tar") as stream:
        for member in read_members(stream, ArchiveLimits()):
            member.name, member.data

`read_members` raises at the first thing that is not as it must be; `scan` tells of it and goes on. Nothing is
written to disk. `tarfile` parses each header; which headers are read, and how much follows one, is
decided here: `TarFile` takes what it cannot parse for the end, types it does not know for files, and in some
releases of Python endless time for sizes below zero.
"""

import io
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
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
_WITHOUT_CONTENT = (
    tarfile.DIRTYPE,
    tarfile.SYMTYPE,
    tarfile.LNKTYPE,
    tarfile.CHRTYPE,
    tarfile.BLKTYPE,
    tarfile.FIFOTYPE,
)
"""Whatever size their header tells: some writers give that of a link's target."""
_MAX_EXTENDED_BYTES = 16_384
"""Names, times and owners take some hundred bytes."""
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_CHUNK_BYTES = 1 << 20
_NOT_UTF8 = "its name is not UTF-8"


class ArchiveError(Exception):
    """An archive, or a member of one, that is not read."""


@dataclass(frozen=True, kw_only=True)
class ArchiveLimits:
    """How much an archive may hold.

    Attributes:
        max_members: Files in it.
        max_member_bytes: Of one file.
        max_name_bytes: Of a file's name, in UTF-8.
        dot_slash: Whether names may begin with "./", as those of `tar cf x.tar .` do; it is left out.
    """

    max_members: int = 1_000_000
    max_member_bytes: int = 1 << 30
    max_name_bytes: int = 1024
    dot_slash: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Member:
    """One file of an archive.

    Attributes:
        name: A relative path without ".", ".." or empty parts; no two members share one.
        data: Its content.
    """

    name: str
    data: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """What an archive has at one place: a file, or a reason why there is none.

    Attributes:
        where: Its place for messages, such as "member 3, 'a.png'"; "" for what is wrong with the archive.
        name: As a member's; None where there is none that may be used.
        offset: Of its first byte in the archive.
        size: Its bytes.
        is_folder: Whether it is a folder, which holds nothing itself.
        fault: Why it is not read; None for a file that is.
    """

    where: str
    name: str | None
    offset: int
    size: int
    is_folder: bool = False
    fault: str | None = None

    @property
    def message(self) -> str:
        """The fault and its place."""
        return f"{self.where}: {self.fault}" if self.where else f"{self.fault}"


def read_members(stream: BinaryIO, limits: ArchiveLimits) -> Iterator[Member]:
    """The files of a tar that is not compressed, in order; one at a time is in memory.

    Args:
        stream: The archive, which must be seekable.
        limits: How much it may hold.

    Raises:
        ArchiveError: It is damaged or cut off; it holds anything but regular files with plain names of their
            own; or it passes a limit.
    """
    for entry in scan(stream, limits):
        if entry.fault is not None:
            raise ArchiveError(entry.message)
        assert entry.name is not None  # or there would be a fault
        stream.seek(entry.offset)
        yield Member(name=entry.name, data=_content(stream, entry.size))


def scan(stream: BinaryIO, limits: ArchiveLimits) -> Iterator[Entry]:
    """All that a tar which is not compressed holds, in order, whether it is sound or not.

    What lies behind damage is not looked for: an entry that tells of it is the last. The stream may be moved
    between entries.

    Args:
        stream: The archive, which must be seekable.
        limits: How much it may hold.
    """
    try:
        yield from _entries(stream, limits)
    except _DamageError as damage:
        yield Entry(where=damage.where, name=None, offset=damage.offset, size=0, fault=str(damage))


class _DamageError(Exception):
    """What follows in the archive cannot be told."""

    def __init__(self, offset: int, message: str, where: str = "") -> None:
        super().__init__(message)
        self.offset, self.where = offset, where


@dataclass
class _Extended:
    """What headers before a member's own say about it."""

    is_there: bool = False
    name: str | None = None
    fault: str | None = None


def _entries(stream: BinaryIO, limits: ArchiveLimits) -> Iterator[Entry]:
    archive_bytes = stream.seek(0, io.SEEK_END)
    names: set[str] = set()
    extended, number, position = _Extended(), 1, 0
    while any(block := _read_at(stream, position, BLOCKSIZE)):
        header = _header(block, position)
        offset, where = position + BLOCKSIZE, f"member {number}"
        if header.type in _WITHOUT_CONTENT:
            header.size = 0
        if not 0 <= header.size <= archive_bytes - offset:
            raise _DamageError(position, f"{header.size} bytes, which the archive does not have", where)
        position = offset + header.size + -header.size % BLOCKSIZE
        if header.type in _EXTENDED:
            if extended.is_there or header.size > _MAX_EXTENDED_BYTES:
                extended.fault = "extended headers that are too long or too many"
            else:
                _extend(extended, header.type, _read_at(stream, offset, header.size))
            extended.is_there = True
            continue
        if number > limits.max_members:
            raise _DamageError(offset, f"more than {limits.max_members} members")
        entry = _entry(header, extended, where, offset, limits)
        if entry.fault is None and entry.name in names:
            entry = replace(entry, fault="the second of that name")
        if entry.fault is None and entry.name is not None:
            names.add(entry.name)
        yield entry
        extended, number = _Extended(), number + 1
    if extended.is_there or len(block) != BLOCKSIZE:
        raise _DamageError(position, "cut off: it has no end mark")
    stream.seek(position + BLOCKSIZE)
    while rest := stream.read(_CHUNK_BYTES):
        if any(rest):  # other readers might go on there
            raise _DamageError(position, "data after its end mark")


def _entry(header: TarInfo, extended: _Extended, where: str, offset: int, limits: ArchiveLimits) -> Entry:
    """What a member's header and those before it tell."""
    name = header.name if extended.name is None else extended.name
    if limits.dot_slash:
        name = name.removeprefix("./")
    entry = Entry(
        where=where, name=None, offset=offset, size=header.size, is_folder=header.type == tarfile.DIRTYPE
    )
    if fault := extended.fault or _name_fault(name, limits):
        return replace(entry, fault=fault)
    entry = replace(entry, name=name, where=f"{where}, '{name}'")
    if header.type not in _FILE:
        return replace(entry, fault=f"{_KINDS.get(header.type, 'of unknown type')}; only files are read")
    if header.size > limits.max_member_bytes:
        return replace(entry, fault=f"{header.size} bytes; the limit is {limits.max_member_bytes}")
    return entry


def read_samples(stream: BinaryIO, limits: ArchiveLimits) -> dict[str, set[str]]:
    """The suffixes that each sample of a WebDataset shard has, by the sample's key.

    Raises:
        ArchiveError: As for `read_members`.
    """
    samples: dict[str, set[str]] = {}
    for member in read_members(stream, limits):
        key, suffix = sample_part(member.name)
        samples.setdefault(key, set()).add(suffix)
    return samples


def sample_part(name: str) -> tuple[str, str]:
    """The sample's key and the part's suffix that a member's name tells.

    As in WebDataset the key ends at the first dot after the last slash.
    """
    folder, slash, file = name.rpartition("/")
    stem, _, suffix = file.partition(".")
    return f"{folder}{slash}{stem}", suffix


def _header(block: bytes, offset: int) -> TarInfo:
    try:
        return TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except (tarfile.HeaderError, ValueError) as error:
        raise _DamageError(offset, f"not a tar header at byte {offset}") from error


def _read_at(stream: BinaryIO, offset: int, num_bytes: int) -> bytes:
    stream.seek(offset)
    return stream.read(num_bytes)


def _content(stream: BinaryIO, num_bytes: int) -> bytes:
    data = stream.read(num_bytes)
    if len(data) != num_bytes:
        raise ArchiveError("cut off while it was read")
    return data


def _extend(extended: _Extended, kind: bytes, content: bytes) -> None:
    """Note the next member's name by an extended header, where that tells one, or what is wrong with it.

    Wrong is damage, and what would make readers disagree about what the archive holds: another size than the
    member's own header, or a sparse file.
    """
    try:
        name = content.rstrip(b"\0") if kind == tarfile.GNUTYPE_LONGNAME else _pax_path(content)
        extended.name = None if name is None else name.decode()
    except UnicodeDecodeError:
        extended.fault = _NOT_UTF8
    except ArchiveError as error:
        extended.fault = str(error)


def _pax_path(records: bytes) -> bytes | None:
    """The value of "path" among records "LENGTH KEYWORD=VALUE", a line each: the format pax of POSIX."""
    path = None
    while records:
        length = records.partition(b" ")[0]
        stop = int(length) if re.fullmatch(rb"[1-9]\d{0,4}", length) else 0
        record, records = records[:stop], records[stop:]
        keyword, equals, value = record[len(length) + 1 : -1].partition(b"=")
        if not equals or len(record) != stop or not record.endswith(b"\n"):
            raise ArchiveError("a damaged extended header")
        if keyword in (b"size", b"linkpath", b"hdrcharset") or keyword.startswith(b"GNU.sparse"):
            raise ArchiveError(f"an extended header with '{keyword.decode(errors='replace')}'")
        if keyword == b"path":
            path = value
    return path


def _name_fault(name: str, limits: ArchiveLimits) -> str | None:
    if not _is_unicode(name):
        return _NOT_UTF8
    if len(name.encode()) > limits.max_name_bytes:
        return f"a name of more than {limits.max_name_bytes} bytes"
    if _CONTROL.search(name):
        return "a name with control characters"
    if "\\" in name or any(part in ("", ".", "..") for part in name.split("/")):
        return f"'{name}' is not a plain relative path"
    return None


def _is_unicode(text: str) -> bool:
    """Whether no bytes were escaped as surrogates."""
    return not any("\ud800" <= character <= "\udfff" for character in text)
