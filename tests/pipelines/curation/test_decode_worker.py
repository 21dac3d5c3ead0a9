"""Each image becomes a row of facts and scores, or a dead letter."""

import hashlib
import io

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from pipelines.curation.decode_worker import DecodeWorker
from pipelines.curation.scores import scores_schema
from pipelines.curation.settings import ImageSettings, ScoreSettings
from pipelines.resizing import ResizeSettings
from pipelines.scorers.settings import ClipSettings, PHashSettings, QualitySettings
from tests.pipelines.curation.pictures import encoded, picture, source_rows

CLIP = ClipSettings(kind="clip", model="a/folder")
PLAIN = (PHashSettings(kind="phash"), QualitySettings(kind="quality"))


def test_rows_have_facts_scores_and_the_sources_own_columns() -> None:
    data = encoded(picture(0))
    rows = source_rows([data, encoded(picture(1), "png")], license=["a", "b"])
    found = DecodeWorker(ScoreSettings(scorers=PLAIN)).process(rows)
    assert found.failed == []
    schema = scores_schema(ScoreSettings(scorers=PLAIN), [pa.field("license", pa.string())])
    assert found.table.select(schema.names).cast(schema).num_rows == 2
    row = found.table.to_pylist()[0]
    assert row["image_id"] == hashlib.sha256(data).hexdigest()
    assert (row["format"], row["width"], row["height"], row["min_side"]) == ("jpeg", 96, 64, 64)
    assert row["aspect"] == 1.5
    assert row["size_bytes"] == len(data)
    assert row["bytes_per_pixel"] == pytest.approx(len(data) / (96 * 64))
    assert row["license"] == "a"
    assert row["sharpness_laplacian"] > 0


def test_what_cannot_be_decoded_is_a_dead_letter_and_the_rest_goes_on() -> None:
    rows = source_rows([encoded(picture(n)) for n in range(40)])
    broken = rows["encoded"].to_pylist()
    broken[17] = broken[17][:200]
    broken[33] = b""
    rows = rows.set_column(
        rows.schema.get_field_index("encoded"), "encoded", pa.array(broken, pa.large_binary())
    )
    faults = [None] * 40
    faults[2] = "fetch"
    for name, value in (("fault_stage", "fetch"), ("fault_type", "WebError"), ("fault_message", "gone")):
        values = pa.array([value if n == 2 else None for n in range(40)], pa.string())
        rows = rows.set_column(rows.schema.get_field_index(name), name, values)
    found = DecodeWorker(ScoreSettings(scorers=PLAIN)).process(rows)
    assert [(letter.row, letter.stage, letter.error_type) for letter in found.failed] == [
        (2, "fetch", "WebError"),
        (17, "decode", "TruncatedImageError"),
        (33, "decode", "EmptyImageError"),
    ]
    assert found.table["row_id"].to_pylist() == [f"a.tar:{n}" for n in range(40) if n not in (2, 17, 33)]


def test_rows_that_all_fail_still_have_the_tables_columns() -> None:
    worker = DecodeWorker(ScoreSettings(scorers=PLAIN))
    nothing = worker.process(source_rows([b"", b"no image"])).table
    assert nothing.num_rows == 0
    assert nothing.schema == worker.process(source_rows([encoded(picture(0))])).table.schema


def test_models_get_pixels_of_the_size_they_need_and_no_more() -> None:
    settings = ScoreSettings(scorers=(CLIP,), model_side=40)
    pixels = (
        DecodeWorker(settings).process(source_rows([encoded(picture(0, 300, 200), "png")])).table["pixels"]
    )
    value = pixels[0].as_py()
    assert (value["height"], value["width"]) == (40, 60)
    assert len(value["bytes"]) == 40 * 60 * 3


def test_kept_images_are_the_bytes_or_resized() -> None:
    data = encoded(picture(0, 300, 200))
    table = DecodeWorker(ScoreSettings(keep="original")).process(source_rows([data])).table
    assert table["image"][0].as_py() == {"bytes": data, "path": f"{table['image_id'][0]}.jpg"}
    images = ImageSettings(resize=ResizeSettings(mode="keep_ratio", size=50), format="webp")
    for scorers in ((), PLAIN):
        settings = ScoreSettings(keep="resized", images=images, scorers=scorers)
        image = DecodeWorker(settings).process(source_rows([data])).table["image"][0].as_py()
        assert Image.open(io.BytesIO(image["bytes"])).size == (75, 50)
        assert image["path"].endswith(".webp")


def test_a_row_depends_on_that_row_only() -> None:
    rows = source_rows([encoded(picture(n)) for n in range(20)])
    worker = DecodeWorker(ScoreSettings(scorers=PLAIN))
    whole = worker.process(rows).table
    assert np.all([worker.process(rows.slice(n, 1)).table.equals(whole.slice(n, 1)) for n in (0, 7, 19)])
