"""The Human Preference Score: a cosine as CLIP's, of images that are shown whole."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image

from pipelines.scorers.fetching import fetch_scorers
from pipelines.scorers.loading import load_scorers, score_images
from pipelines.scorers.settings import HpsSettings
from tests.pipelines.scorers.tiny_clip import (
    ARCHITECTURE,
    batch_of,
    natural,
    random_model,
    save_architecture,
)

CPU = torch.device("cpu")


def test_is_the_cosine_of_the_whole_image_and_its_caption(tmp_path: Path) -> None:
    save_architecture(tmp_path)
    weights = random_model(own_tokenizer=False)
    torch.save({"state_dict": weights.state_dict(), "epoch": 1}, tmp_path / "HPS_v2.1_compressed.pt")
    settings = [
        HpsSettings(
            kind="hps_v2_1", model=str(tmp_path / "HPS_v2.1_compressed.pt"), architecture=ARCHITECTURE
        )
    ]
    scorers = load_scorers(settings, fetch_scorers(settings), CPU, 2, torch.float32)
    images = [natural(64, 64), natural(40, 90)]
    found = score_images(scorers, batch_of(*images, captions=["a cat", "a cat"]))
    assert found.schema.names == ["hps_v2_1"]

    shown = open_clip.transform.PreprocessCfg(size=32, resize_mode="longest", fill_color=0)
    preprocess = open_clip.transform.image_transform_v2(shown, is_train=False)
    with torch.no_grad():
        pixels = torch.stack([preprocess(Image.fromarray(image)) for image in images])
        of_images = weights.encode_image(pixels, normalize=True)
        of_text = weights.encode_text(open_clip.tokenize(["a cat"]), normalize=True)
    assert found["hps_v2_1"].to_pylist() == pytest.approx((of_images @ of_text.T)[:, 0].tolist(), abs=2e-3)


def test_sees_what_a_centre_crop_would_cut_off(tmp_path: Path) -> None:
    save_architecture(tmp_path)
    torch.save(random_model(own_tokenizer=False).state_dict(), tmp_path / "hps.pt")
    settings = [HpsSettings(kind="hps_v2_1", model=str(tmp_path / "hps.pt"), architecture=ARCHITECTURE)]
    scorers = load_scorers(settings, fetch_scorers(settings), CPU, 2, torch.float32)
    image = natural(64, 128)
    other = image.copy()
    other[:, :20] = np.array([255, 0, 0], np.uint8)
    first, second = score_images(scorers, batch_of(image, other, captions=["a", "a"]))["hps_v2_1"].to_pylist()
    assert abs(first - second) > 1e-3
