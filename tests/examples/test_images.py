"""The drawn images: whole tables whose captions are true, with copies and blur where they are asked for."""

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from examples.shapes.images import BEST_SCORE, ImageSet, write_images
from examples.shapes.parts import take_parts
from examples.shapes.world import caption_words
from meissonic.model_folder import read_configs
from pipelines.scorers.quality import quality

MODEL = Path(__file__).parents[2] / "examples/shapes/model"


def drawn(folder: Path, images: ImageSet) -> pa.Table:
    write_images(folder, images)
    return pa.concat_tables(pq.read_table(path) for path in sorted(folder.iterdir()))


def test_a_copy_has_the_bytes_of_another_image(tmp_path: Path) -> None:
    table = drawn(tmp_path / "raw", ImageSet(num_images=20, two_object_share=0.5, num_copies=3))
    encoded = [image["bytes"] for image in table["image"].to_pylist()]
    assert (len(encoded), len(set(encoded))) == (23, 20)


def test_alternative_captions_say_less(tmp_path: Path) -> None:
    table = drawn(tmp_path / "raw", ImageSet(num_images=20, two_object_share=0.5, num_copies=0))
    for row in table.to_pylist():
        assert len(row["captions"]) == 8
        assert all(
            len(other) <= len(row["caption"].replace("circle", "triangle")) + 9 for other in row["captions"]
        )
        assert {word for text in row["captions"] for word in text.replace(",", "").split()} <= {
            *caption_words()
        }
    assert "score" not in table.column_names


def test_the_score_falls_with_the_blur(tmp_path: Path) -> None:
    table = drawn(
        tmp_path / "raw",
        ImageSet(num_images=40, two_object_share=1.0, num_copies=0, blurred_share=0.5, blur_px=(2.0, 6.0)),
    )
    scores = table["score"].to_numpy()
    sharpness = [
        quality(np.array(Image.open(io.BytesIO(image["bytes"]))))["sharpness_laplacian"]
        for image in table["image"].to_pylist()
    ]
    is_sharp = scores == BEST_SCORE
    assert 10 <= is_sharp.sum() <= 30
    assert np.array(sharpness)[is_sharp].min() > np.array(sharpness)[~is_sharp].max()


def test_the_same_set_is_drawn_again(tmp_path: Path) -> None:
    images = ImageSet(num_images=5, two_object_share=0.5, num_copies=1)
    assert drawn(tmp_path / "one", images).equals(drawn(tmp_path / "other", images))


def test_parts_are_a_model_without_a_transformer(tmp_path: Path) -> None:
    take_parts(MODEL, tmp_path / "parts")
    configs = read_configs(tmp_path / "parts")
    assert configs.transformer is None
    assert configs.vq == read_configs(MODEL).vq
