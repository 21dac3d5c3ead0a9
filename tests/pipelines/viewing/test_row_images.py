"""Where a row's image is from, and that a row cannot have another file read."""

from __future__ import annotations

import io
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipelines.sources.fetching import Fetcher
from pipelines.viewing.pictures import Thumbnails, content_type, no_image
from pipelines.viewing.row_images import NoImageError, RowImagesReader
from pipelines.viewing.rows import OutputRows
from tests.pipelines.curation.pictures import encoded, picture, write_folder
from tests.pipelines.made_generations import MadeGenerations, png, prompts_with_words
from tests.pipelines.viewing.made_outputs import (
    client,
    opened,
    random_jpegs,
    write_scored,
    write_tar,
)


def read(rows: OutputRows, number: int) -> bytes:
    place = rows.place(number)
    relation = rows.relation("images")
    assert relation is not None
    names = ["source_path", "source_row", "image_path", "image_id"]
    values = {}
    if not rows.output.keeps_images:
        found = rows.index.query(f"SELECT {', '.join(names)} FROM images WHERE __row = ?", [number])
        values = dict(zip(names, found[0], strict=True))
    return RowImagesReader(rows.output).read(place, values)


@pytest.mark.parametrize("images", ["parquet", "webdataset", "files"])
def test_images_in_all_packings(tmp_path: Path, images: Literal["parquet", "webdataset", "files"]) -> None:
    MadeGenerations(str(tmp_path / "out"), images=images).commit()
    rows = opened(str(tmp_path / "out"), tmp_path / "index")
    assert [read(rows, n) for n in (0, 6, 11)] == [png(n) for n in (0, 6, 11)]


def test_rows_of_large_groups_are_found(tmp_path: Path) -> None:
    MadeGenerations(str(tmp_path / "out"), prompts_with_words(600), unit_rows=600).commit()
    path = next((tmp_path / "out" / "data").iterdir())
    pq.write_table(pq.read_table(path), path, row_group_size=270)
    rows = opened(str(tmp_path / "out"), tmp_path / "index")
    for number in (0, 255, 256, 269, 270, 511, 512, 539, 540, 599):
        assert read(rows, number) == png(number), number


def test_a_path_in_a_row_leads_nowhere_else(tmp_path: Path) -> None:
    run = MadeGenerations(str(tmp_path / "out"), images="files").commit()
    (tmp_path / "secret.png").write_bytes(png(99))
    shard = tmp_path / "out" / "data" / f"{run.units[0].id}.parquet"
    table = pq.read_table(shard)
    hostile = f"{run.units[0].id}/../../../secret.png"
    column = pa.array([{"bytes": None, "path": hostile}] * table.num_rows, table.schema.field("image").type)
    pq.write_table(table.set_column(table.schema.get_field_index("image"), "image", column), shard)
    rows = opened(run.uri, tmp_path / "index")
    with pytest.raises(NoImageError, match="not of its own shard"):
        read(rows, 0)
    viewed = client(run.uri, tmp_path / "again")
    assert viewed.get("/image?row=0").status_code == 404
    assert viewed.get("/thumbnail?row=0").content == no_image()
    assert viewed.get("/row?row=s0").status_code == 200


def test_images_that_scoring_kept(tmp_path: Path) -> None:
    images = random_jpegs(6)
    write_scored(write_tar(tmp_path / "in" / "a.tar", images), str(tmp_path / "out"), keep="original")
    (tmp_path / "in" / "a.tar").unlink()
    assert read(opened(str(tmp_path / "out"), tmp_path / "index"), 5) == images[5]


def test_images_of_a_folder_and_one_that_changed(tmp_path: Path) -> None:
    write_folder(tmp_path / "in", 6)
    write_scored(str(tmp_path / "in"), str(tmp_path / "out"))
    rows = opened(str(tmp_path / "out"), tmp_path / "index")
    assert read(rows, 4) == (tmp_path / "in" / "004.jpg").read_bytes()
    data = bytearray((tmp_path / "in" / "003.jpg").read_bytes())
    data[-3] ^= 1
    (tmp_path / "in" / "003.jpg").write_bytes(data)
    with pytest.raises(NoImageError, match="another image there by now"):
        read(rows, 3)
    (tmp_path / "in" / "002.jpg").unlink()
    with pytest.raises(NoImageError, match="gone since"):
        read(rows, 2)


def test_images_of_parquet_and_none_from_the_web(tmp_path: Path) -> None:
    images = random_jpegs(4)
    (tmp_path / "in").mkdir()
    pq.write_table(pa.table({"image": images, "caption": list("abcd")}), tmp_path / "in" / "x.parquet")
    write_scored(str(tmp_path / "in"), str(tmp_path / "out"))
    rows = opened(str(tmp_path / "out"), tmp_path / "index")
    assert read(rows, 2) == images[2]
    row = {"source_path": "x.parquet", "source_row": 0, "image_path": "HTTP://example.org/a.jpg"}
    with pytest.raises(NoImageError, match="viewing fetches nothing"):
        RowImagesReader(rows.output).read(rows.place(0), row)


def test_nothing_is_fetched_where_the_input_has_a_url_by_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "in").mkdir()
    images = [{"bytes": data, "path": f"{n}.jpg"} for n, data in enumerate(random_jpegs(4))]
    pq.write_table(pa.table({"image": images}), tmp_path / "in" / "x.parquet")
    write_scored(str(tmp_path / "in"), str(tmp_path / "out"))
    rows = opened(str(tmp_path / "out"), tmp_path / "index")
    asked: list[str] = []
    monkeypatch.setattr(Fetcher, "of", lambda *_: asked.append("a fetcher"))
    changed = [{"bytes": None, "path": "http://127.0.0.1:1/a.jpg"}] * 4
    pq.write_table(pa.table({"image": changed}), tmp_path / "in" / "x.parquet")
    with pytest.raises(NoImageError, match="on the web, and nothing is fetched here"):
        read(rows, 2)
    assert asked == []


def test_of_a_large_row_group_only_what_is_before_the_rows_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    noise = np.random.default_rng(0)
    images = [{"bytes": noise.bytes(5_000), "path": ""} for _ in range(4096)]  # writers make pages of 1024
    prompts = prompts_with_words(len(images))
    run = MadeGenerations(str(tmp_path / "out"), prompts, unit_rows=4096, columns={"image": images}).commit()
    path = next((tmp_path / "out" / "data").iterdir())
    pq.write_table(pq.read_table(path), path, row_group_size=len(images))
    rows = opened(run.uri, tmp_path / "index")
    storage = type(rows.output.ledger.storage)
    num_bytes: list[int] = []
    really = storage.open

    class Counted(io.BufferedReader):
        def read(self, size: int | None = -1, /) -> bytes:
            data = super().read(size)
            num_bytes.append(len(data))
            return data

    monkeypatch.setattr(storage, "open", lambda self, path: Counted(really(self, path)))  # type: ignore[arg-type]
    assert read(rows, 3) == images[3]["bytes"]
    assert 1024 * 5_000 < sum(num_bytes) < 2048 * 5_000


def test_few_batches_are_read_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    MadeGenerations(str(tmp_path / "out"), unit_rows=1).commit()
    rows = opened(str(tmp_path / "out"), tmp_path / "index")
    reader = RowImagesReader(rows.output)
    really, reading, most = reader._read_batch, [0], [0]

    def slow(path: str, number: int) -> pa.Array:
        reading[0] += 1
        most[0] = max(most[0], reading[0])
        time.sleep(0.05)
        reading[0] -= 1
        return really(path, number)

    monkeypatch.setattr(reader, "_read_batch", slow)
    with ThreadPoolExecutor(12) as pool:
        assert list(pool.map(lambda n: reader.read(rows.place(n), {}), range(12))) == [
            png(n) for n in range(12)
        ]
    assert 1 < most[0] <= 4


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (encoded(picture(0), "png"), "image/png"),
        (encoded(picture(0), "jpeg"), "image/jpeg"),
        (encoded(picture(0), "webp"), "image/webp"),
        (encoded(picture(0), "gif"), "image/gif"),
        (encoded(picture(0), "tiff"), None),
        (b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>", None),
        (b"<!doctype html><script>alert(1)</script>", None),
        (b"GIF89a<script>alert(1)</script>", None),
        (b"", None),
    ],
)
def test_content_types_are_told_by_the_bytes(data: bytes, expected: str | None) -> None:
    assert content_type(data) == expected


def test_a_thumbnail_is_made_once() -> None:
    calls = []

    def data() -> bytes:
        calls.append(1)
        return encoded(picture(0, 900, 600), "png")

    thumbnails = Thumbnails()
    first = thumbnails.get(7, data)
    assert thumbnails.get(7, data) == first
    assert len(calls) == 1
    assert max(Image.open(io.BytesIO(first)).size) == 256
    assert thumbnails.get(8, lambda: b"no image at all") == no_image()
