"""WebDataset tars: every image and every defect is a row, and a unit reads its own samples alone."""

from __future__ import annotations

import hashlib
import json
import pickle
import tarfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from pipelines.images import RowImages
from pipelines.plan import plan_units, retry_unit
from pipelines.sources import SourceError, SourceSettings
from pipelines.storage import StorageError, child, open_storage
from tests.pipelines.sources.toys import faults, opened, put, read_all, table_of, tar_of
from tests.pipelines.test_archives import END, member

UID = b"0123456789ABCDEF0000000000000000"
TAR = tar_of(
    {
        "000000000.jpg": b"image 0",
        "000000000.txt": b"caption 0\n",
        "000000000.json": b'{"url": "http://a/0.jpg", "caption": "not this", "similarity": 0.3}',
        "dir/000000001.PNG": b"image 1",
        "dir/000000001.json": '{"TEXT": "caption 1 \u2713", "uid": "%s"}'.encode() % UID,
        "000000002.webp": b"image 2",
        "000000002.cls": b"7",
    }
)


def test_samples_are_read_with_captions_and_facts(root_uri: str) -> None:
    put(root_uri, {"00000.tar": TAR})
    first, second, third = read_all(root_uri)
    assert first == {
        "row_id": "00000.tar:0",
        "source_path": "00000.tar",
        "source_row": 0,
        "key": "000000000",
        "uid": hashlib.sha256(b"00000.tar:0").hexdigest()[:32],
        "caption": "caption 0",
        "image_path": "000000000.jpg",
        "encoded": b"image 0",
        "fault_stage": None,
        "fault_type": None,
        "fault_message": None,
        "url": "http://a/0.jpg",
        "json": '{"url": "http://a/0.jpg", "caption": "not this", "similarity": 0.3}',
    }
    assert (second["key"], second["caption"], second["encoded"]) == (
        "dir/000000001",
        "caption 1 \u2713",
        b"image 1",
    )
    assert second["uid"] == "0123456789abcdef0000000000000000"
    assert (third["caption"], third["json"], third["encoded"]) == (None, None, b"image 2")


def test_one_tar_can_be_named(tmp_path: Path) -> None:
    put(str(tmp_path), {"a.tar": TAR, "b.tar": TAR})
    rows = read_all(str(tmp_path), name="in/b.tar")
    assert [row["row_id"] for row in rows] == ["b.tar:0", "b.tar:1", "b.tar:2"]


def test_tables_beside_tars_are_not_read(tmp_path: Path) -> None:
    put(str(tmp_path), {"00000.tar": TAR, "00000.parquet": b"rows", "00000_stats.json": b"{}", "_x.tar": b""})
    assert len(read_all(str(tmp_path))) == 3


def test_keys_that_the_settings_name_become_columns(tmp_path: Path) -> None:
    about = {"similarity": 0.3, "width": 640, "nsfw": True, "title": 5, "half": "\ud800"}
    put(str(tmp_path), {"a.tar": tar_of({"a.jpg": b"x", "a.json": json.dumps(about).encode()})})
    columns = {"similarity": "float64", "width": "int64", "nsfw": "bool", "title": "string", "half": "string"}
    row = read_all(str(tmp_path), SourceSettings.model_validate({"json_columns": columns}))[0]
    assert row["fault_type"] is None
    assert (row["similarity"], row["source_width"], row["nsfw"]) == (0.3, 640, True)
    assert (row["title"], row["half"]) == (None, None)  # of other types than asked for
    with pytest.raises(ValueError, match="has the whole text"):
        SourceSettings(json_columns={"json": "string"})


DEFECTS = [
    (member("sound.jpg", b"1") + member("sound.txt", b"caption"), None),
    (
        member("sound.jpg", b"2"),
        "ArchiveError: member 3, 'sound.jpg': the second of that name",
    ),
    (
        member("../up.jpg", b"3"),
        "ArchiveError: member 4: '../up.jpg' is not a plain relative path",
    ),
    (
        member("link.jpg", type=tarfile.SYMTYPE, linkname="/etc/passwd"),
        "ArchiveError: member 5, 'link.jpg': a symbolic link; only files are read",
    ),
    (
        member("null.jpg", type=tarfile.CHRTYPE),
        "ArchiveError: member 6, 'null.jpg': a device; only files are read",
    ),
    (
        member("inner.tar", b"7"),
        "ArchiveError: member 7, 'inner.tar': an archive in an archive; unpack it into one of its own",
    ),
    (
        member("alone.txt", b"caption") + member("alone.cls", b"1"),
        "SampleError: sample 'alone': no image; it has .cls, .txt",
    ),
    (
        member("large.jpg", b"9" * 101),
        "SampleError: large.jpg: 101 bytes; the limit is 100, which is max_bytes",
    ),
    (member("empty.jpg", b""), "SampleError: empty.jpg: an empty file"),
    (
        member("latin.jpg", b"x") + member("latin.txt", b"caf\xe9"),
        "CaptionError: caption is not UTF-8",
    ),
    (
        member("long.jpg", b"x") + member("long.txt", b"c" * 51),
        "CaptionError: caption has 51 bytes; the limit is 50, which is max_caption_bytes",
    ),
    (
        member("longer.jpg", b"x") + member("longer.json", b'{"text": "%s"}' % (b"c" * 51)),
        "CaptionError: caption has 51 bytes; the limit is 50, which is max_caption_bytes",
    ),
    (
        member("half.jpg", b"x") + member("half.json", b'{"text": "\\ud800"}'),
        "CaptionError: caption is not UTF-8",
    ),
    (member("bad.jpg", b"x") + member("bad.json", b"{"), "MetadataError: .json is not JSON"),
    (
        member("deep.jpg", b"x") + member("deep.json", b"[" * 190),
        "MetadataError: .json is not JSON",
    ),
    (
        member("list.jpg", b"x") + member("list.json", b"[]"),
        "MetadataError: .json holds a list and not an object",
    ),
    (
        member("huge.jpg", b"x") + member("huge.json", b" " * 201),
        "MetadataError: .json has 201 bytes; the limit is 200, which is max_json_bytes",
    ),
    (member("last.jpg", b"x"), None),
]
LIMITS = SourceSettings(max_caption_bytes=50, max_json_bytes=200, row_images=RowImages(max_bytes=100))


@pytest.mark.parametrize("unit_rows", [1, 4, 100])
def test_a_tar_with_every_defect_loses_nothing(tmp_path: Path, unit_rows: int) -> None:
    data = b"".join(part for part, _ in DEFECTS) + member("cut.jpg", size=5000) + b"half"
    put(str(tmp_path), {"a.tar": data})
    rows = read_all(str(tmp_path), LIMITS, unit_rows)
    expected = [message and f"read, {message}" for _, message in DEFECTS]
    cut = "read, ArchiveError: member 29: 5000 bytes, which the archive does not have"
    assert faults(rows) == [*expected, cut]
    assert [row["row_id"] for row in rows] == [f"a.tar:{number}" for number in range(len(rows))]
    assert all((row["encoded"] is None) == (row["fault_type"] is not None) for row in rows)
    assert all(row["key"] for row in rows)


def test_a_caption_stays_with_an_image_whose_facts_are_bad(tmp_path: Path) -> None:
    put(str(tmp_path), {"a.tar": tar_of({"a.jpg": b"x", "a.txt": b"caption", "a.json": b"{"})})
    assert read_all(str(tmp_path))[0]["caption"] == "caption"


@pytest.mark.parametrize(
    ("damaged", "message"),
    [
        (TAR[: 512 * 12], "cut off: it has no end mark"),
        (TAR + b"x", "data after its end mark"),
        (TAR[: 512 * 10] + b"x" * 512 + TAR[512 * 11 :], "not a tar header at byte 5120"),
        (b"", "cut off: it has no end mark"),
    ],
)
def test_a_damaged_tar_gives_its_good_samples_and_one_row_of_damage(
    tmp_path: Path, damaged: bytes, message: str
) -> None:
    put(str(tmp_path), {"a.tar": damaged, "b.tar": TAR})
    rows = [row for row in read_all(str(tmp_path)) if row["source_path"] == "a.tar"]
    assert faults(rows)[-1] == f"read, ArchiveError: {message}"
    assert all(fault is None for fault in faults(rows)[:-1])
    assert [row["encoded"] for row in rows[:-1]] == [b"image 0", b"image 1", b"image 2"][: len(rows) - 1]


def test_each_image_of_a_sample_is_a_row(tmp_path: Path) -> None:
    put(
        str(tmp_path), {"a.tar": tar_of({"a.jpg": b"1", "a.png": b"2", "a.mask.png": b"3", "a.txt": b"both"})}
    )
    rows = read_all(str(tmp_path))
    assert [(row["key"], row["image_path"], row["caption"], row["encoded"]) for row in rows] == [
        ("a", "a.jpg", "both", b"1"),
        ("a", "a.png", "both", b"2"),
    ]


def test_parts_of_a_sample_may_lie_apart(tmp_path: Path) -> None:
    files = {"a.jpg": b"1", "b.jpg": b"2", "b.txt": b"second", "a.txt": b"first"}
    put(str(tmp_path), {"a.tar": tar_of(files)})
    assert [row["caption"] for row in read_all(str(tmp_path))] == ["first", "second"]


def test_tars_of_the_present_folder_are_read(tmp_path: Path) -> None:
    data = member(".", type=tarfile.DIRTYPE) + member("./a.jpg", b"1") + member("./a.txt", b"text") + END
    put(str(tmp_path), {"a.tar": data})
    assert [(row["key"], row["caption"]) for row in read_all(str(tmp_path))] == [("a", "text")]


def test_an_index_is_made_once_for_the_same_bytes(root_uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    put(root_uri, {"a.tar": TAR, "b.tar": TAR})
    first = opened(root_uri)
    index = open_storage(child(root_uri, "index"))
    before = [entry.path for entry in index.list()]
    assert len(before) == 2
    monkeypatch.setattr("pipelines.sources.tar_index.tar_index", lambda stream: pytest.fail("made again"))
    assert opened(root_uri).objects == first.objects
    monkeypatch.undo()
    put(root_uri, {"a.tar": tar_of({"a.jpg": b"other"})})
    assert opened(root_uri).objects[0] != first.objects[0]
    assert set(before) < {entry.path for entry in index.list()}


def test_a_tar_that_changed_since_it_was_planned_is_noticed(tmp_path: Path) -> None:
    put(str(tmp_path), {"a.tar": TAR})
    source = opened(str(tmp_path))
    put(str(tmp_path), {"a.tar": TAR.replace(b"image 1", b"image X")})
    with pytest.raises(StorageError, match="it changed since the job was planned"):
        table_of(source)


def test_a_unit_reads_little_more_than_its_own_samples(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {f"{number:03d}.jpg": bytes([number]) * 1_000_000 for number in range(12)}
    put(str(tmp_path), {"a.tar": tar_of(files)})
    source = opened(str(tmp_path))
    unit = plan_units(source.objects, 2, "c")[4]
    read: list[int] = []
    source.read(unit)  # verifies the tar, once a process
    real = type(open_storage(str(tmp_path))).open

    class Counting:
        def __init__(self, stream: Any) -> None:
            self.stream = stream

        def __enter__(self) -> Counting:
            return self

        def __exit__(self, *error: object) -> None:
            self.stream.close()

        def seek(self, offset: int) -> int:
            return int(self.stream.seek(offset))

        def read(self, size: int) -> bytes:
            read.append(size)
            return bytes(self.stream.read(size))

    def counting(self: Any, path: str) -> Any:
        stream = real(self, path)
        return Counting(stream) if path.endswith(".tar") else stream

    monkeypatch.setattr(type(open_storage(str(tmp_path))), "open", counting)
    table = source.read(unit)
    assert table["encoded"].to_pylist() == [bytes([8]) * 1_000_000, bytes([9]) * 1_000_000]
    assert 2_000_000 <= sum(read) < 2_010_000


def test_some_rows_of_a_unit_can_be_read_again(tmp_path: Path) -> None:
    put(str(tmp_path), {"a.tar": TAR})
    source = opened(str(tmp_path))
    unit = retry_unit(plan_units(source.objects, 3, "c")[0], 1, [0, 2])
    rows = source.read(unit).to_pylist()
    assert [(row["row_id"], row["encoded"]) for row in rows] == [
        ("a.tar:0", b"image 0"),
        ("a.tar:2", b"image 2"),
    ]


def test_units_that_would_fill_the_memory_are_refused(tmp_path: Path) -> None:
    put(str(tmp_path), {"a.tar": TAR})
    with pytest.raises(SourceError, match=r"21 bytes of images; the limit is 20: raise source\.max"):
        read_all(str(tmp_path), SourceSettings(max_unit_bytes=20))
    assert len(read_all(str(tmp_path), SourceSettings(max_unit_bytes=20), unit_rows=2)) == 3


def test_a_reader_is_small_and_travels(tmp_path: Path) -> None:
    for number in range(20):
        put(str(tmp_path), {f"{number}.tar": TAR})
    source = opened(str(tmp_path))
    data = pickle.dumps(source.reader)
    assert len(data) < 5000
    unit = plan_units(source.objects, 3, "c")[7]
    assert pickle.loads(data)(unit).equals(source.read(unit))
    assert pickle.loads(pickle.dumps(source)) == source


@hypothesis_settings(max_examples=60, deadline=None)
@given(change=st.lists(st.tuples(st.integers(0, len(TAR) - 1), st.integers(0, 255)), max_size=4))
def test_no_damage_raises(tmp_path_factory: pytest.TempPathFactory, change: list[tuple[int, int]]) -> None:
    data = bytearray(TAR)
    for position, value in change:
        data[position] = value
    folder = str(tmp_path_factory.mktemp("damage"))
    put(folder, {"a.tar": bytes(data)})
    rows = read_all(folder)
    assert rows
    assert all((row["encoded"] is None) == (row["fault_type"] is not None) for row in rows)


@pytest.fixture
def many_tars(tmp_path: Path) -> str:
    for number in range(3):
        put(str(tmp_path), {f"{number}.tar": tar_of({f"{number}-{n}.jpg": b"x" for n in range(number + 1)})})
    return str(tmp_path)


@pytest.mark.ray
@pytest.mark.slow  # workers take seconds to start
def test_tasks_index_many_tars(many_tars: str, local_ray: None) -> None:
    assert [(item.path, item.rows) for item in opened(many_tars).objects] == [
        (f"{number}.tar", number + 1) for number in range(3)
    ]
