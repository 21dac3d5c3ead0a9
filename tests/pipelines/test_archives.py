"""Tar archives: what may be in one, and what is never read."""

from __future__ import annotations

import io
import tarfile
import time
from typing import Any

import pytest
import webdataset as wds
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.archives import ArchiveError, ArchiveLimits, Member, read_members, read_samples, scan

LIMITS = ArchiveLimits()
END = bytes(1024)


def member(name: str, content: bytes = b"", **facts: Any) -> bytes:
    """One member as bytes, header and content; `facts` are attributes of its TarInfo."""
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for key, value in facts.items():
        setattr(info, key, value)
    return info.tobuf(facts.get("format", tarfile.GNU_FORMAT)) + content + bytes(-len(content) % 512)


def extended(kind: bytes, content: bytes) -> bytes:
    return member("header", content, type=kind)


def read(data: bytes, limits: ArchiveLimits = LIMITS) -> list[tuple[str, bytes]]:
    return [(member.name, member.data) for member in read_members(io.BytesIO(data), limits)]


def refused(data: bytes, limits: ArchiveLimits = LIMITS) -> str:
    """Why an archive is not read."""
    with pytest.raises(ArchiveError) as error:
        read(data, limits)
    return str(error.value)


@pytest.mark.parametrize("tar_format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_files_are_read_in_order(tar_format: int) -> None:
    files = {"a.png": b"image", "b/c.d/empty.txt": b"", "b/c.d/large.bin": bytes(5000)}
    if tar_format != tarfile.USTAR_FORMAT:
        files |= {"long/" * 60 + "name.txt": b"long", "日本語.txt": "日本語".encode()}
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tar_format) as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(content), 1.5
            archive.addfile(info, io.BytesIO(content))
    assert read(buffer.getvalue()) == list(files.items())
    assert read(END) == []


def scanned(data: bytes, limits: ArchiveLimits = LIMITS) -> list[str]:
    """What `scan` tells of an archive: names, and messages in parentheses."""
    entries = scan(io.BytesIO(data), limits)
    return [f"({entry.message})" if entry.fault else str(entry.name) for entry in entries]


def test_a_scan_tells_of_faults_and_goes_on() -> None:
    raw = bytearray(member("x"))
    raw[0] = 0xFF
    raw[148:156] = b"%06o\0 " % tarfile.calc_chksums(bytes(raw[:512]))[0]
    data = (
        member("a", b"1")
        + member("../b", b"2")
        + member("c", type=tarfile.LNKTYPE, linkname="a", size=4096)  # some writers give the target's size
        + extended(tarfile.XHDTYPE, b"damaged")
        + member("d", b"4")
        + member("a", b"5")
        + bytes(raw)
        + member("e", b"6" * 2000)
        + member("f", b"7")
    )
    assert scanned(data + END, ArchiveLimits(max_member_bytes=1000)) == [
        "a",
        "(member 2: '../b' is not a plain relative path)",
        "(member 3, 'c': a hard link; only files are read)",
        "(member 4: a damaged extended header)",
        "(member 5, 'a': the second of that name)",
        "(member 6: its name is not UTF-8)",
        "(member 7, 'e': 2000 bytes; the limit is 1000)",
        "f",
    ]


def test_a_scan_ends_with_what_makes_the_rest_unreadable() -> None:
    sound = member("a", b"1")
    damage = {
        b"": "(cut off: it has no end mark)",
        END + b"x": "(data after its end mark)",
        b"x" * 512 + member("b") + END: "(not a tar header at byte 1024)",
        member("b", size=10_000): "(member 2: 10000 bytes, which the archive does not have)",
    }
    for rest, message in damage.items():
        assert scanned(sound + rest) == ["a", message]
    limits = ArchiveLimits(max_members=1)
    assert scanned(sound + member("b") + END, limits) == ["a", "(more than 1 members)"]


def test_names_of_tars_of_the_present_folder_are_read_where_allowed() -> None:
    data = member(".", type=tarfile.DIRTYPE) + member("./a") + member("./b/c") + END
    entries = [*scan(io.BytesIO(data), ArchiveLimits(dot_slash=True))]
    assert [entry.name for entry in entries if not entry.is_folder] == ["a", "b/c"]
    assert [entry.is_folder for entry in entries] == [True, False, False]


def test_shards_that_webdataset_writes_are_read() -> None:
    buffer = io.BytesIO()
    with wds.TarWriter(buffer, encoder=False) as writer:
        for number in range(3):
            writer.write({"__key__": f"dir/{number:04d}", "png": b"image", "cls.txt": b"1"})
    assert [name for name, _ in read(buffer.getvalue())][:2] == ["dir/0000.cls.txt", "dir/0000.png"]
    samples = read_samples(io.BytesIO(buffer.getvalue()), LIMITS)
    assert samples == {f"dir/{number:04d}": {"png", "cls.txt"} for number in range(3)}


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (tarfile.SYMTYPE, "a symbolic link"),
        (tarfile.LNKTYPE, "a hard link"),
        (tarfile.CHRTYPE, "a device"),
        (tarfile.BLKTYPE, "a device"),
        (tarfile.FIFOTYPE, "a pipe"),
        (tarfile.DIRTYPE, "a folder"),
        (tarfile.CONTTYPE, "of unknown type"),
        (tarfile.GNUTYPE_SPARSE, "a sparse file"),
        (tarfile.XGLTYPE, "of unknown type"),
        (tarfile.GNUTYPE_LONGLINK, "of unknown type"),
        (b"Z", "of unknown type"),
    ],
)
def test_only_files_are_read(kind: bytes, reason: str) -> None:
    data = member("first") + member("second", type=kind, linkname="/etc/passwd") + END
    assert refused(data) == f"member 2, 'second': {reason}; only files are read"


@pytest.mark.parametrize(
    "name", ["/etc/passwd", "../a", "a/../b", "a/..", "./a", "a//b", "a\\b", "..\\a", "a\nb", "a\x7fb", ""]
)
def test_names_are_plain_relative_paths(name: str) -> None:
    long_name = extended(tarfile.GNUTYPE_LONGNAME, name.encode() + b"\0")
    pax_name = extended(tarfile.XHDTYPE, record("path", name))
    for data in (member(name), long_name + member("a"), pax_name + member("a")):
        assert "not a plain relative path" in refused(data + END) or "control" in refused(data + END)


def record(keyword: str, value: str) -> bytes:
    """A record of a pax header."""
    rest = f" {keyword}={value}\n".encode()
    length = len(rest) + 1
    while len(f"{length}") + len(rest) != length:
        length += 1
    return f"{length}".encode() + rest


def test_a_nul_in_a_name_is_refused() -> None:
    assert "control characters" in refused(
        extended(tarfile.XHDTYPE, record("path", "a\0b")) + member("a") + END
    )


def test_limits_are_kept() -> None:
    limits = ArchiveLimits(max_members=2, max_member_bytes=10, max_name_bytes=20)
    assert len(read(member("a", bytes(10)) + member("b" * 20) + END, limits)) == 2
    assert refused(member("a", bytes(11)) + END, limits) == "member 1, 'a': 11 bytes; the limit is 10"
    assert "more than 2 members" in refused(b"".join(map(member, "abc")) + END, limits)
    assert "a name of more than 20 bytes" in refused(member("b" * 21) + END, limits)
    assert "a name of more than 20 bytes" in refused(member("é" * 11) + END, limits)


def test_two_members_of_one_name_are_refused() -> None:
    assert refused(member("a", b"1") + member("a", b"2") + END) == "member 2, 'a': the second of that name"


def test_sizes_beyond_the_archive_are_refused() -> None:
    assert "bytes, which the archive does not have" in refused(member("a", b"1", size=1 << 33) + END)
    assert "bytes, which the archive does not have" in refused(member("a", b"1", size=1600) + END)


def test_sizes_below_zero_do_not_lead_back() -> None:
    began = time.monotonic()
    for size in (-512, -1024, -1):
        data = member("z") + member("a", size=size) + END
        assert f"{size} bytes, which the archive does not have" in refused(data)
    assert time.monotonic() - began < 1


@pytest.mark.parametrize("keyword", ["size", "linkpath", "hdrcharset", "GNU.sparse.major", "GNU.sparse.name"])
def test_extended_headers_that_readers_disagree_about_are_refused(keyword: str) -> None:
    data = extended(tarfile.XHDTYPE, record("mtime", "1.5") + record(keyword, "1")) + member("a", b"1") + END
    assert refused(data) == f"member 1: an extended header with '{keyword}'"


@pytest.mark.parametrize(
    "content",
    [
        b"x",
        b"11 mtime=1\n"[:-1],
        b"99999 a=b\n",
        b"0 a=b\n",
        b"-5 a=b\n",
        b"\xb2 a=b\n",
        b"6 ab\n\n",
        b"9" * 9000,
    ],
)
def test_damaged_extended_headers_are_refused(content: bytes) -> None:
    assert "a damaged extended header" in refused(extended(tarfile.XHDTYPE, content) + member("a") + END)


def test_extended_headers_are_few_and_short() -> None:
    header = extended(tarfile.XHDTYPE, record("mtime", "1.5"))
    assert "too long or too many" in refused(header + header + member("a") + END)
    assert "too long or too many" in refused(
        extended(tarfile.XHDTYPE, record("comment", "x" * 20_000)) + member("a") + END
    )
    assert refused(header + END) == "cut off: it has no end mark"


def test_names_that_are_not_utf8_are_refused() -> None:
    raw = bytearray(member("a"))
    raw[0] = 0xFF
    raw[148:156] = b"%06o\0 " % tarfile.calc_chksums(bytes(raw[:512]))[0]
    assert refused(bytes(raw) + END) == "member 1: its name is not UTF-8"
    long_name = extended(tarfile.GNUTYPE_LONGNAME, b"\xff\0")
    assert "not UTF-8" in refused(long_name + member("a") + END)


def test_a_damaged_header_is_not_taken_for_the_end() -> None:
    data = bytearray(member("a", b"1") + member("b", b"2") + END)
    data[1024] ^= 1
    assert refused(bytes(data)) == "not a tar header at byte 1024"


def test_an_archive_that_is_cut_off_is_refused_wherever_the_cut_is() -> None:
    data = member("a", b"1" * 600) + member("b", b"2")
    assert len(read(data + bytes(512))) == 2
    for length in range(0, len(data) + 1, 100):
        assert refused(data[:length])
    assert refused(b"") == "cut off: it has no end mark"


def test_data_after_the_end_is_refused() -> None:
    assert refused(member("a") + END + member("b") + END) == "data after its end mark"
    assert refused(member("a") + END + b"x") == "data after its end mark"


def test_compressed_archives_are_refused() -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        archive.addfile(tarfile.TarInfo("a"))
    assert "not a tar header" in refused(buffer.getvalue())


@settings(max_examples=300, deadline=None)
@given(
    change=st.lists(st.tuples(st.integers(0, 2559), st.integers(0, 255)), max_size=6),
    fix=st.booleans(),
)
def test_no_damage_raises_anything_else_or_reads_anything_new(
    change: list[tuple[int, int]], fix: bool
) -> None:
    data = bytearray(extended(tarfile.XHDTYPE, record("path", "x")) + member("a", b"12") + member("b"))
    for position, value in change:
        data[position] = value
    for start in (0, 1024, 2048) if fix else ():  # sums that are right again let the damage through
        data[start + 148 : start + 156] = (
            b"%06o\0 " % tarfile.calc_chksums(bytes(data[start : start + 512]))[0]
        )
    try:
        found = [*read_members(io.BytesIO(bytes(data) + END), LIMITS)]
    except ArchiveError:
        return
    assert all(isinstance(item, Member) and len(item.data) <= len(data) for item in found)
    assert len({item.name for item in found}) == len(found) <= 3
