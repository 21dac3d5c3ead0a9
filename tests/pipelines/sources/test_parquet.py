"""Parquet tables: whose columns have what, what passes through, and which images rows may name."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.images import RowImages
from pipelines.shards import parquet_bytes
from pipelines.sources import ColumnNames, SourceError, SourceSettings
from pipelines.storage import child
from tests.pipelines.sources.toys import faults, opened, put, read_all, table_of
from tests.servers.web import answer, serving

BYTES = pa.binary()
UID = "0123456789abcdef" * 2


def write(root_uri: str, table: pa.Table | dict[str, Any], path: str = "t.parquet") -> None:
    table = table if isinstance(table, pa.Table) else pa.table(table)
    put(root_uri, {path: parquet_bytes(table)})


@pytest.mark.parametrize("unit_rows", [1, 2, 10])
def test_images_in_structs_are_read(root_uri: str, unit_rows: int) -> None:
    images = [{"bytes": b"image 0", "path": "0.png"}, {"bytes": b"image 1", "path": None}, None]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    write(
        root_uri, {"image": pa.array(images, kind), "text": ["a", None, "c"], "uid": [UID.upper(), "7", None]}
    )
    rows = read_all(root_uri, unit_rows=unit_rows)
    assert [row["encoded"] for row in rows] == [b"image 0", b"image 1", None]
    assert [row["caption"] for row in rows] == ["a", None, "c"]
    assert [row["image_path"] for row in rows] == ["0.png", None, None]
    assert [row["key"] for row in rows] == ["t.parquet:0", "t.parquet:1", "t.parquet:2"]
    assert rows[0]["uid"] == UID
    assert [row["source_uid"] for row in rows] == [UID.upper(), "7", None]  # what is no 128-bit id is kept
    assert faults(rows) == [None, None, "read, ImageError: neither bytes nor a path"]


@pytest.mark.parametrize(
    "kind", [BYTES, pa.large_binary(), pa.binary_view(), pa.binary(7), pa.dictionary(pa.int32(), BYTES)]
)
def test_images_as_bytes_are_read_in_every_layout(tmp_path: Path, kind: pa.DataType) -> None:
    column = pa.array([b"image 0", b"image 1"])
    column = column.dictionary_encode() if pa.types.is_dictionary(kind) else column.cast(kind)
    write(str(tmp_path), {"jpg": column, "__key__": ["a", "b"]})
    rows = read_all(str(tmp_path))
    assert [(row["key"], row["encoded"]) for row in rows] == [("a", b"image 0"), ("b", b"image 1")]


@pytest.mark.parametrize(
    "kind", [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())]
)
def test_texts_are_read_in_every_layout(tmp_path: Path, kind: pa.DataType) -> None:
    column = pa.array(["a", None], pa.string())
    column = column.dictionary_encode() if pa.types.is_dictionary(kind) else column.cast(kind)
    write(str(tmp_path), {"jpg": [b"x", b"y"], "caption": column, "note": column})
    source = opened(str(tmp_path))
    assert source.passed_through == [pa.field("note", pa.string())]
    rows = table_of(source).to_pylist()
    assert [(row["caption"], row["note"]) for row in rows] == [("a", "a"), (None, None)]


def test_images_are_read_from_the_tables_folder_and_from_those_allowed(root_uri: str) -> None:
    put(root_uri, {"images/0.png": b"image 0"}, "in/tables")
    put(root_uri, {"1.png": b"image 1"}, "elsewhere")
    put(root_uri, {"2.png": b"image 2"}, "secret")
    folder, secret = (child(root_uri, name).partition("?")[0] for name in ("elsewhere", "secret"))
    paths = [
        "images/0.png",
        f"{folder}/1.png",
        f"{secret}/2.png",
        "../../secret/2.png",
        "images/none.png",
        "",
    ]
    write(root_uri, {"image_path": paths}, "tables/t.parquet")
    limits = RowImages(folders=(child(root_uri, "elsewhere"),))
    settings = SourceSettings(kind="parquet", row_images=limits)
    rows = read_all(root_uri, settings, unit_rows=10)
    assert [row["encoded"] for row in rows] == [b"image 0", b"image 1", None, None, None, None]
    assert [row["image_path"] for row in rows] == paths
    found = [fault or "" for fault in faults(rows)]
    assert "not in the table's folder" in found[2]
    assert "a path with '..'" in found[3]
    assert "cannot read it (ObjectMissingError)" in found[4]
    assert "neither bytes nor a path" in found[5]


def test_files_may_differ_in_columns_and_types(tmp_path: Path) -> None:
    write(
        str(tmp_path),
        {"jpg": [b"0"], "same": [1], "wider": pa.array([1], pa.int8()), "conflict": [1.5], "gone": ["a"]},
        "a.parquet",
    )
    write(
        str(tmp_path),
        {
            "jpg": [b"1"],
            "conflict": [["x", "y"]],
            "wider": [1 << 40],
            "same": [2],
            "new": [{"a": 1}],
            "empty": pa.nulls(1),
        },
        "b.parquet",
    )
    source = opened(str(tmp_path))
    assert {field.name: str(field.type) for field in source.passed_through} == {
        "same": "int64",
        "wider": "int64",
        "conflict": "string",
        "gone": "string",
        "new": "struct<a: int64>",
        "empty": "string",
    }
    first, second = table_of(source).to_pylist()
    assert [first[name] for name in ("same", "wider", "conflict", "gone", "new")] == [1, 1, "1.5", "a", None]
    assert [second[name] for name in ("same", "wider", "conflict", "gone", "new")] == [
        2,
        1 << 40,
        '["x", "y"]',
        None,
        {"a": 1},
    ]


def test_columns_with_names_of_the_output_are_renamed(tmp_path: Path) -> None:
    write(str(tmp_path), {"jpg": [b"0"], "width": [640], "encoded": ["x"], "punsafe": [0.1]})
    row = read_all(str(tmp_path))[0]
    assert (row["source_width"], row["source_encoded"], row["punsafe"]) == (640, "x", 0.1)
    assert row["encoded"] == b"0"


def invalid(values: list[bytes]) -> pa.Array:
    """Text that is not UTF-8, as some writers leave in their files."""
    array = pa.array(values, pa.binary())
    return pa.Array.from_buffers(pa.string(), len(array), array.buffers())


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("caption", "CaptionError: caption is not UTF-8"),
        ("key", "MetadataError: column key is not UTF-8"),
        ("uid", "MetadataError: column uid is not UTF-8"),
        ("note", "MetadataError: column note is not UTF-8"),
    ],
)
def test_texts_that_are_none_are_faults_of_their_rows(tmp_path: Path, name: str, message: str) -> None:
    write(str(tmp_path), {"jpg": [b"0", b"1"], name: invalid([b"caf\xe9", b"sound"])})
    rows = read_all(str(tmp_path))
    assert faults(rows) == [f"read, {message}", None]
    assert rows[0]["encoded"] is None


def test_captions_and_images_have_limits(tmp_path: Path) -> None:
    write(str(tmp_path), {"jpg": [b"0", b"1" * 11], "caption": ["c" * 6, "short"]})
    settings = SourceSettings(max_caption_bytes=5, row_images=RowImages(max_bytes=10))
    assert faults(read_all(str(tmp_path), settings)) == [
        "read, CaptionError: caption has 6 bytes; the limit is 5, which is max_caption_bytes",
        "read, ImageError: 11 bytes; the limit is 10, which is max_bytes",
    ]
    with pytest.raises(SourceError, match="12 bytes of images; the limit is 11"):
        read_all(str(tmp_path), SourceSettings(max_unit_bytes=11))


def test_the_settings_choose_columns(tmp_path: Path) -> None:
    write(str(tmp_path), {"jpg": [b"0"], "thumb": [b"1"], "caption": ["a"], "alt": ["b"], "number": [7]})
    columns = ColumnNames(image="thumb", caption="alt", key="number")
    row = read_all(str(tmp_path), SourceSettings(columns=columns))[0]
    assert (row["encoded"], row["source_caption"]) == (b"1", "a")
    assert (row["key"], row["jpg"], row["caption"]) == ("7", b"0", "b")


def test_tables_without_images_are_refused_by_name(tmp_path: Path) -> None:
    write(str(tmp_path), {"jpg": [b"0"]}, "a.parquet")
    write(str(tmp_path), {"n": [1], "m": [2]}, "b.parquet")
    with pytest.raises(SourceError, match=r"b\.parquet: no column of images.*columns are n, m; set source"):
        opened(str(tmp_path))
    write(str(tmp_path), pa.table({"n": pa.array([], pa.int64())}), "b.parquet")
    assert len(read_all(str(tmp_path))) == 1  # a table without rows lacks nothing


def test_two_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    table = pa.Table.from_arrays([pa.array([b"0"]), pa.array([1]), pa.array([2])], ["jpg", "n", "n"])
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    put(str(tmp_path), {"t.parquet": sink.getvalue().to_pybytes()})
    with pytest.raises(SourceError, match="two columns 'n'"):
        opened(str(tmp_path))


def test_urls_are_fetched(tmp_path: Path) -> None:
    with serving({"/0.jpg": answer(b"image 0"), "/1.jpg": answer(status=404)}) as server:
        urls = [f"{server.url}/0.jpg", f"{server.url}/1.jpg", None, "ftp://a/b"]
        write(str(tmp_path), {"URL": urls, "TEXT": ["a", "b", "c", "d"], "hash": [1, 2, 3, 4]})
        rows = read_all(str(tmp_path), SourceSettings(row_images=RowImages(allow_private=True)), 10)
    assert [row["encoded"] for row in rows] == [b"image 0", None, None, None]
    assert [row["image_path"] for row in rows] == urls
    assert [row["hash"] for row in rows] == [1, 2, 3, 4]
    assert [row["caption"] for row in rows] == ["a", "b", "c", "d"]
    assert faults(rows)[:3] == [
        None,
        f"fetch, WebError: {server.url}/1.jpg: the server answers with status 404",
        "read, ImageError: neither bytes nor a path",
    ]
    assert rows[3]["fault_type"] == "ImageError"


def test_what_is_fetched_must_have_the_tables_hash(tmp_path: Path) -> None:
    other = hashlib.sha256(b"another image").hexdigest()
    with serving({"/0.jpg": answer(b"image 0")}) as server:
        write(str(tmp_path), {"url": [f"{server.url}/0.jpg"], "sha256": [other]})
        limits = RowImages(allow_private=True)
        rows = read_all(str(tmp_path), SourceSettings(row_images=limits))
        assert rows[0]["fault_type"] == "HashError"
        assert "its sha256 is not the table's" in rows[0]["fault_message"]
        unchecked = SourceSettings.model_validate({"row_images": limits, "fetch": {"verify_hashes": False}})
        assert read_all(str(tmp_path), unchecked)[0]["encoded"] == b"image 0"


def test_images_in_a_column_of_paths_may_be_urls(tmp_path: Path) -> None:
    with serving({"/0.jpg": answer(b"image 0")}) as server:
        kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
        write(str(tmp_path), {"image": pa.array([{"bytes": None, "path": f"{server.url}/0.jpg"}], kind)})
        rows = read_all(str(tmp_path), SourceSettings(row_images=RowImages(allow_private=True)))
    assert rows[0]["encoded"] == b"image 0"
