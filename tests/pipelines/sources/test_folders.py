"""Folders of images: listed once, in pieces, with what stands beside each image."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pipelines.images import RowImages
from pipelines.plan import plan_units
from pipelines.sources import SourceSettings, folders
from pipelines.sources.folders import listed_images
from pipelines.storage import StoredObject, child, open_storage
from tests.pipelines.sources.toys import faults, opened, put, read_all, table_of

FILES = {
    "a.jpg": b"image a",
    "a.txt": b"caption a",
    "a.json": b'{"url": "http://a", "caption": "not this"}',
    "b/c.d.PNG": b"image c.d",
    "b/c.d.json": b'{"prompt": "caption c.d"}',
    "b/c.webp": b"image c",
    "b/c.txt": b"caption c",
    "b/\u5199\u771f.gif": b"photo",
    "_DSC1.jpg": b"camera",
    "notes.txt": b"of no image",
    "readme.md": b"",
    ".hidden.jpg": b"",
    ".cache/x.jpg": b"",
}


def test_images_are_read_with_what_stands_beside_them(root_uri: str) -> None:
    put(root_uri, FILES)
    rows = read_all(root_uri)
    assert {row["image_path"]: (row["key"], row["caption"], row["encoded"], row["url"]) for row in rows} == {
        "_DSC1.jpg": ("_DSC1", None, b"camera", None),
        "a.jpg": ("a", "caption a", b"image a", "http://a"),
        "b/c.d.PNG": ("b/c.d", "caption c.d", b"image c.d", None),
        "b/c.webp": ("b/c", "caption c", b"image c", None),
        "b/\u5199\u771f.gif": ("b/\u5199\u771f", None, b"photo", None),
    }
    assert [row["row_id"] for row in rows] == [f"listing-00000:{number}" for number in range(5)]
    assert faults(rows) == [None] * 5


def test_stems_that_begin_with_others_keep_their_sidecars() -> None:
    names = ["a.avif", "a.b.c.jpg", "a.b.jpg", "a.b.txt", "a.jpg", "a.txt", "a/x.png", "ab.txt"]
    entries = [StoredObject(path=name, size_bytes=1, modified_at=0.0) for name in sorted(names)]
    found = {row["path"]: row.get("text_path") for row in listed_images(entries)}
    assert found == {
        "a.avif": "a.txt",
        "a.jpg": "a.txt",
        "a.b.jpg": "a.b.txt",
        "a.b.c.jpg": None,
        "a/x.png": None,
    }


def test_long_listings_are_written_in_pieces(root_uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folders, "PIECE_ROWS", 4)
    put(root_uri, {f"{number:02d}.jpg": b"%d" % number for number in range(10)})
    source = opened(root_uri)
    assert [(item.path, item.rows) for item in source.objects] == [
        ("listing-00000", 4),
        ("listing-00001", 4),
        ("listing-00002", 2),
    ]
    assert table_of(source)["encoded"].to_pylist() == [b"%d" % number for number in range(10)]


def test_a_second_start_finds_the_same_plan_and_a_changed_folder_another(tmp_path: Path) -> None:
    put(str(tmp_path), FILES)
    plans = []

    def plan() -> object:
        plans.append(plan_units(opened(str(tmp_path)).objects, 3, "c"))
        return plans[-1]

    first = plan()
    index = [entry.path for entry in open_storage(child(str(tmp_path), "index")).list()]
    assert plan() == first
    assert [entry.path for entry in open_storage(child(str(tmp_path), "index")).list()] == index
    put(str(tmp_path), {"a.txt": b"another caption"})
    assert plan() != first
    put(str(tmp_path), {"new.jpg": b"x"})
    assert plan() not in plans[:-1]


def test_files_that_change_while_the_job_runs_are_faults(tmp_path: Path) -> None:
    put(str(tmp_path), {"a.jpg": b"image", "b.jpg": b"image", "c.jpg": b"image", "c.txt": b"text"})
    source = opened(str(tmp_path))
    (tmp_path / "in" / "a.jpg").unlink()
    (tmp_path / "in" / "b.jpg").write_bytes(b"longer image")
    (tmp_path / "in" / "c.txt").unlink()
    assert faults(table_of(source).to_pylist()) == [
        "read, SampleError: a.jpg: gone since the folder was listed",
        "read, SampleError: b.jpg: 12 bytes, and 5 when the folder was listed",
        "read, SampleError: c.txt: gone since the folder was listed",
    ]


def test_what_is_wrong_with_a_file_is_a_fault_of_its_row(tmp_path: Path) -> None:
    files = {
        "0.jpg": b"x" * 11,
        "1.jpg": b"",
        "2.jpg": b"x",
        "2.txt": b"caf\xe9",
        "3.jpg": b"x",
        "3.json": b"{",
        "4.jpg": b"x",
        "4.txt": b"too long",
        "5.jpg": b"x",
        "5.json": b'{"a": "too long"}',
        "6.jpg": b"x",
    }
    put(str(tmp_path), files)
    settings = SourceSettings(max_caption_bytes=5, max_json_bytes=10, row_images=RowImages(max_bytes=10))
    assert faults(read_all(str(tmp_path), settings)) == [
        "read, SampleError: 0.jpg: 11 bytes; the limit is 10, which is max_bytes",
        "read, SampleError: 1.jpg: an empty file",
        "read, CaptionError: caption is not UTF-8",
        "read, MetadataError: .json is not JSON",
        "read, CaptionError: caption has 8 bytes; the limit is 5, which is max_caption_bytes",
        "read, MetadataError: .json has 17 bytes; the limit is 10, which is max_json_bytes",
        None,
    ]


def test_names_with_spaces_of_other_scripts_are_read(tmp_path: Path) -> None:
    put(str(tmp_path), {"a.jpg": b"x"})
    (tmp_path / "in" / "\u5199\u3000\u771f.jpg").write_bytes(b"photo")
    assert [row["encoded"] for row in read_all(str(tmp_path))] == [b"x", b"photo"]


def test_a_name_that_is_not_utf8_is_a_fault_of_its_row(tmp_path: Path) -> None:
    put(str(tmp_path), {"a.jpg": b"x"})
    with open(os.path.join(os.fsencode(tmp_path), b"in", b"caf\xe9.jpg"), "wb") as stream:
        stream.write(b"x")
    assert faults(read_all(str(tmp_path))) == [None, "read, SampleError: caf?.jpg: its name is not UTF-8"]
