"""The CLIP score: open_clip's own folder format, the cosine it says, no dependence on the batch."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from meissonic.text import TOKENIZER_FILES
from pipelines.scorers.clip import ClipScorer

TOKENIZER = Path(__file__).parents[2] / "assets" / "golden" / "tiny" / "tokenizer"
CONFIG = {
    "model_cfg": {
        "embed_dim": 16,
        "vision_cfg": {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8},
        "text_cfg": {"context_length": 77, "vocab_size": 610, "width": 32, "heads": 2, "layers": 2},
    },
    "preprocess_cfg": {"mean": [0.5] * 3, "std": [0.5] * 3},
}
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clip")
    torch.manual_seed(0)
    model = open_clip.CLIP(**{k: CONFIG["model_cfg"][k] for k in ("embed_dim", "vision_cfg", "text_cfg")})  # type: ignore[index]
    save_file(model.state_dict(), path / "open_clip_model.safetensors")
    (path / "open_clip_config.json").write_text(json.dumps(CONFIG))
    for name in TOKENIZER_FILES:
        shutil.copy(TOKENIZER / name, path / name)
    return path


def images(count: int) -> list[np.ndarray]:
    return list(np.random.default_rng(0).integers(0, 256, (count, 64, 64, 3), dtype=np.uint8))


def test_scores_are_cosines_of_normalised_embeddings(folder: Path) -> None:
    scorer = ClipScorer(folder, CPU, batch_size=2)
    (score,) = scorer.score(images(1), ["a red cat"])
    pixels = scorer.preprocess(Image.fromarray(images(1)[0]))[None]
    with torch.no_grad():
        image = scorer.model.encode_image(pixels)[0]
        text = scorer.model.encode_text(scorer.tokenizer(["a red cat"]))[0]
    assert score == pytest.approx(torch.cosine_similarity(image, text, dim=0).item(), abs=1e-5)
    assert -1 <= score <= 1


def test_scores_are_the_same_alone_and_together(folder: Path) -> None:
    scorer, prompts = ClipScorer(folder, CPU, batch_size=4), [f"prompt {i}" for i in range(6)]
    together = scorer.score(images(6), prompts)
    assert together == [scorer.score([i], [p])[0] for i, p in zip(images(6), prompts, strict=True)]


def test_other_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no open_clip_config\.json"):
        ClipScorer(tmp_path, CPU, batch_size=2)
