"""The watermark detector: LAION's network, its input and its first class, from a file of its weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image
from torchvision import transforms

from pipelines.models import ModelError
from pipelines.scorers.settings import WatermarkSettings
from pipelines.scorers.state_dicts import load_state_dict
from pipelines.scorers.watermark import WatermarkScorer, watermark_model
from tests.pipelines.scorers.tiny_clip import batch_of, natural

CPU = torch.device("cpu")
FIELDS = WatermarkSettings(kind="watermark_laion", weights="w").fields()


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("watermark") / "watermark_model_v1.pt"
    torch.save(watermark_model().state_dict(), path)
    return path


def scorer_of(file: Path, batch_size: int = 2) -> WatermarkScorer:
    return WatermarkScorer(FIELDS, load_state_dict(file, "it"), "it", CPU, batch_size, torch.float32)


def test_is_the_probability_of_the_first_class(file: Path) -> None:
    images = [natural(300, 411), natural(200, 128, seed=1)]
    found = scorer_of(file).score(batch_of(*images))["watermark_laion"].to_pylist()
    model = watermark_model()
    model.load_state_dict(torch.load(file, weights_only=True))
    preprocess = transforms.Compose(
        [
            transforms.Resize((256, 256)),
            transforms.ToTensor(),
            transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
        ]
    )
    with torch.no_grad():
        pixels = torch.stack([preprocess(Image.fromarray(image)) for image in images])
        logits = model.eval()(pixels)
    assert found == pytest.approx(logits.softmax(1)[:, 0].tolist(), abs=1e-4)


def test_the_network_has_the_published_names_and_shapes(file: Path) -> None:
    shapes = {name: tuple(value.shape) for name, value in load_state_dict(file, "it").items()}
    assert {name: shape for name, shape in shapes.items() if name.startswith("classifier")} == {
        "classifier.0.weight": (625, 1536),
        "classifier.0.bias": (625,),
        "classifier.3.weight": (256, 625),
        "classifier.3.bias": (256,),
        "classifier.5.weight": (2, 256),
        "classifier.5.bias": (2,),
    }
    assert shapes["conv_stem.weight"] == (40, 3, 3, 3)


def test_values_are_the_same_alone_and_together(file: Path) -> None:
    scorer, images = scorer_of(file), [natural(64, 64), natural(80, 50, seed=1), natural(64, 64, seed=2)]
    together = scorer.score(batch_of(*images))["watermark_laion"].to_pylist()
    assert together == [scorer.score(batch_of(i))["watermark_laion"][0].as_py() for i in images]


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    torch.save({"conv_stem.weight": torch.zeros(40, 3, 3, 3)}, tmp_path / "other.pt")
    with pytest.raises(ModelError, match="it: these are not the weights of LAION's watermark detector"):
        scorer_of(tmp_path / "other.pt")
