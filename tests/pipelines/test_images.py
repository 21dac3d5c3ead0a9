"""Encoded images in and out."""

from __future__ import annotations

import io
import os
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipelines.config import ConfigError, identity, load_config, settings
from pipelines.decoding import ImageError
from pipelines.generation_config import GenerateConfig
from pipelines.images import RowImages, encode_image, image_bytes
from pipelines.storage import child, open_storage
from tests.servers.web import answer, redirect, serving

LIMITS = RowImages()


def picture(width: int = 8, height: int = 4) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_png_keeps_every_level() -> None:
    pixels = picture()
    assert np.array_equal(np.array(Image.open(io.BytesIO(encode_image(pixels, "png", 95)))), pixels)


@pytest.mark.parametrize("name", ["jpeg", "webp"])
def test_other_formats_are_what_they_say(name: str) -> None:
    opened = Image.open(io.BytesIO(encode_image(picture(64, 64), name, 90)))  # type: ignore[arg-type]
    assert (opened.format or "").lower() == name
    assert opened.size == (64, 64)


def read(
    path: str | None, folder: str | Path, limits: RowImages = LIMITS, data: bytes | None = None
) -> bytes:
    return image_bytes({"bytes": data, "path": path}, str(folder), limits)


def test_images_are_read_from_bytes_or_from_paths_beside_the_table(tmp_path: Path) -> None:
    (tmp_path / "a b.png").write_bytes(b"content")
    assert read("a b.png", tmp_path, data=b"own") == b"own"
    for path in ("a b.png", "./a b.png", f"{tmp_path}/a b.png", f"file://{tmp_path}/a%20b.png"):
        assert read(path, tmp_path) == b"content"
        assert read(path, f"file://{tmp_path}") == b"content"
    with pytest.raises(ImageError, match=r"missing\.png: cannot read it \(ObjectMissingError\)"):
        read("missing.png", tmp_path)
    with pytest.raises(ImageError, match="cannot read it") as error:
        read("data:image/png;base64," + "A" * 5000, tmp_path)
    assert len(str(error.value)) < 300
    with pytest.raises(ImageError, match="neither"):
        read(None, tmp_path)


def test_images_are_read_from_the_tables_storage(root_uri: str) -> None:
    open_storage(root_uri).write("images/a.png", b"content")
    root = open_storage(root_uri).uri_of("")
    for path in ("images/a.png", f"{root}/images/a.png"):
        assert read(path, root_uri) == b"content"
    with pytest.raises(ImageError, match="not in the table's folder"):
        read(f"{root}/images/a.png", child(root_uri, "tables"))
    assert read(f"{root}/images/a.png", "/elsewhere", RowImages(folders=(root_uri,))) == b"content"


@pytest.fixture
def table_folder(tmp_path: Path) -> Path:
    """A table's folder with a secret beside it, and a link that leads there."""
    folder = tmp_path / "table"
    folder.mkdir()
    (tmp_path / "secret.png").write_bytes(b"secret")
    (tmp_path / "table-2").mkdir()
    (tmp_path / "table-2" / "secret.png").write_bytes(b"secret")
    (folder / "link.png").symlink_to(tmp_path / "secret.png")
    (folder / "loop.png").symlink_to(folder / "loop.png")
    os.mkfifo(folder / "pipe.png")
    return folder


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("../secret.png", "a path with '..'"),
        ("x/../../secret.png", "a path with '..'"),
        ("{parent}/table/../secret.png", "a path with '..'"),
        ("{parent}/secret.png", "not in the table's folder"),
        ("{parent}/table-2/secret.png", "not in the table's folder"),
        ("link.png", "not in the table's folder"),
        ("/etc/passwd", "not in the table's folder"),
        ("/proc/self/environ", "not in the table's folder"),
        ("/dev/zero", "not in the table's folder"),
        ("file://{parent}/secret.png", "not in the table's folder"),
        ("file://{parent}/table/%2e%2e/secret.png", "not in the table's folder"),
        ("file://server{parent}/table/a.png", "not in the table's folder"),
        ("FILE://{parent}/table/a.png", "not in the table's folder"),
        ("s3://bucket/secret.png", "not in the table's folder"),
        ("s3://bucket/a.png?endpoint_url=http://evil.example", "a URI with options"),
        ("gs://bucket/a.png", "not in the table's folder"),
        ("memory://a.png", "not in the table's folder"),
        ("ftp://server/a.png", "not in the table's folder"),
        ("a\0.png", "control characters"),
        ("a\n.png", "control characters"),
        ("loop.png", "cannot read it"),
        ("pipe.png", "cannot read it"),
        ("", "neither bytes nor a path"),
        (".", "not in the table's folder"),
        ("~/a.png", "cannot read it"),
    ],
)
def test_a_row_names_nothing_else(table_folder: Path, path: str, reason: str) -> None:
    with pytest.raises(ImageError, match=re.escape(reason)):
        read(path.replace("{parent}", str(table_folder.parent)), table_folder)


@pytest.mark.s3
def test_a_row_of_a_table_on_object_storage_names_nothing_else(s3_server: str) -> None:
    for path in (
        "/etc/passwd",
        "file:///etc/passwd",
        "s3://bucket/secret/a.png",
        "s3://bucket/table-2/a.png",
    ):
        with pytest.raises(ImageError, match="not in the table's folder"):
            read(path, "s3://bucket/table")
    with pytest.raises(ImageError, match="a URI with options"):
        read("s3://bucket/table/a.png?endpoint_url=http://evil.example", "s3://bucket/table")
    with pytest.raises(ImageError, match=r"a path with '\.\.'"):
        read("../secret/a.png", "s3://bucket/table")


def test_other_folders_are_opened_by_the_job(table_folder: Path) -> None:
    limits = RowImages(folders=(str(table_folder.parent / "table-2"),))
    assert read(f"{table_folder.parent}/table-2/secret.png", table_folder, limits) == b"secret"
    with pytest.raises(ImageError, match="not in the table's folder"):
        read("link.png", table_folder, limits)
    with pytest.raises(ConfigError, match=r"folders.*'images' must be an absolute path"):
        load_config(RowImages, None, ["folders=[images]"])


def test_images_are_read_from_the_web() -> None:
    local = RowImages(allow_private=True, max_bytes=100)
    answers = {
        "/a.png": answer(b"content"),
        "/large.png": answer(bytes(101)),
        "/metadata.png": redirect("http://169.254.169.254/latest/meta-data"),
        "/file.png": redirect("file:///etc/passwd"),
    }
    with serving(answers) as server:
        assert read(f"{server.url}/a.png", "/elsewhere", local) == b"content"
        assert read(f"HTTP{server.url[4:]}/a.png", "/elsewhere", local) == b"content"
        for path, reason in (
            ("large.png", "more than 100 bytes"),
            ("metadata.png", "redirected: its host has a link-local"),
            ("file.png", "redirected: not an http:// or https:// URL"),
            ("missing.png?" + "x" * 500, "breaks off"),
        ):
            with pytest.raises(ImageError, match=f"^{server.url}/.*: .*{reason}"):
                read(f"{server.url}/{path}", "/elsewhere", local)
        with pytest.raises(ImageError, match="private address"):
            read(f"{server.url}/a.png", "/elsewhere")


def test_size_is_bounded_wherever_an_image_comes_from(root_uri: str) -> None:
    open_storage(root_uri).write("a.png", bytes(101))
    for path, data in (("a.png", None), (None, bytes(101))):
        with pytest.raises(ImageError, match="101 bytes; the limit is 100, which is max_bytes"):
            read(path, root_uri, RowImages(max_bytes=100), data)
        assert len(read(path, root_uri, RowImages(max_bytes=101), data)) == 101


def test_limits_that_decide_which_rows_fail_are_part_of_a_runs_identity() -> None:
    config = GenerateConfig(prompts="p", model="m", output="o")
    assert set(identity(config)["row_images"]) == {"max_bytes", "max_pixels", "max_redirects"}
    assert set(settings(config)["row_images"]) == {"timeout_s", "allow_private", "folders"}
