"""Images beside their shard are read, and a path in a row leads to no other file."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest

from pipelines.decoding import ImageError
from pipelines.generated_images import ImagesBeside
from pipelines.storage import StorageError, child, open_storage
from tests.pipelines.made_generations import MadeGenerations, png

HOSTILE = (
    "../../etc/passwd",
    "/etc/passwd",
    "file:///etc/passwd",
    "http://127.0.0.1:1/x.png",
    "s3://bucket/secret",
    "{stem}/../../secret.png",
    "{stem}/../../../secret.png",
    "{stem}/..",
    "{stem}/.",
    "{stem}/",
    "{stem}.tar/../../secret.png",
    "{other}/s4.png",
    "{other}.tar/s4.png",
    "",
)


@pytest.mark.parametrize(("images", "suffix"), [("webdataset", ".tar"), ("files", "")])
def test_an_image_of_the_own_shard_is_read(
    root_uri: str, images: Literal["webdataset", "files"], suffix: str
) -> None:
    run = MadeGenerations(child(root_uri, "out"), images=images).commit()
    stem = run.units[1].id
    beside = ImagesBeside(open_storage(run.uri))
    assert beside.read(f"data/{stem}.parquet", f"{stem}{suffix}/s6.png") == png(6)
    with pytest.raises((ImageError, StorageError)):
        beside.read(f"data/{stem}.parquet", f"{stem}{suffix}/s7.jpg")


@pytest.mark.parametrize("images", ["webdataset", "files"])
@pytest.mark.parametrize("path", HOSTILE)
def test_a_path_to_another_file_is_refused(
    tmp_path: Path, path: str, images: Literal["webdataset", "files"]
) -> None:
    run = MadeGenerations(str(tmp_path / "out"), images=images).commit()
    (tmp_path / "secret.png").write_bytes(png(99))
    first, second = run.units[:2]
    with pytest.raises(ImageError, match="names a file that is not of its own shard"):
        ImagesBeside(open_storage(run.uri)).read(
            f"data/{first.id}.parquet", path.format(stem=first.id, other=second.id)
        )


def test_a_link_out_of_the_output_is_not_followed(tmp_path: Path) -> None:
    run = MadeGenerations(str(tmp_path / "out"), images="files").commit()
    (tmp_path / "secret.png").write_bytes(png(99))
    stem = run.units[0].id
    (tmp_path / "out" / "data" / stem / "link.png").symlink_to(tmp_path / "secret.png")
    with pytest.raises(ImageError):
        ImagesBeside(open_storage(run.uri)).read(f"data/{stem}.parquet", f"{stem}/link.png")


def test_a_tar_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    run = MadeGenerations(str(tmp_path / "out"), images="files").commit()
    stem = run.units[0].id
    with pytest.raises(StorageError):
        ImagesBeside(open_storage(run.uri)).read(f"data/{stem}.parquet", f"{stem}.tar/s1.png")
