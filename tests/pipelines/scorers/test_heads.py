"""Heads on CLIP embeddings: the published formulas, the published weights' recorded outputs, refusals."""

from __future__ import annotations

import itertools
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from pipelines.models import ModelError
from pipelines.scorers.aesthetic import aesthetic_head
from pipelines.scorers.heads import Head, HeadScorer, read_layers
from pipelines.scorers.nsfw import nsfw_head
from pipelines.scorers.settings import AestheticSettings
from pipelines.scorers.state_dicts import load_state_dict
from tests.pipelines.scorers.tiny_clip import batch_of, natural

CPU = torch.device("cpu")
Weights = dict[str, torch.Tensor]


def random_layers(*sizes: int, numbers: tuple[int, ...] | None = None) -> Weights:
    generator = torch.Generator().manual_seed(0)
    weights: Weights = {}
    for place, (into, out) in enumerate(itertools.pairwise(sizes)):
        number = place if numbers is None else numbers[place]
        weights[f"layers.{number}.weight"] = torch.randn(out, into, generator=generator) / into**0.5
        weights[f"layers.{number}.bias"] = torch.randn(out, generator=generator)
    return weights


def with_norm(weights: Weights) -> Weights:
    width = weights["layers.0.weight"].shape[1]
    generator = torch.Generator().manual_seed(1)
    mean, variance = torch.randn(width, generator=generator), torch.rand(width, generator=generator) + 0.1
    return weights | {"norm.mean": mean, "norm.variance": variance}


def unit(count: int, width: int) -> NDArray[np.float32]:
    rows = np.random.default_rng(0).normal(size=(count, width)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def aesthetic(weights: Weights, width: int) -> Head:
    return aesthetic_head(read_layers(weights, "it", "clip", width, CPU))


def nsfw(weights: Weights, width: int) -> Head:
    return nsfw_head(read_layers(weights, "it", "clip", width, CPU), weights, "it")


def scores(head: Head, embeddings: NDArray[np.float32], batch_size: int = 4) -> list[float]:
    fields = AestheticSettings(kind="aesthetic_laion_v2", name="score", weights="w").fields()
    batch = batch_of(*[natural(8, 8)] * len(embeddings))
    batch.shared["clip"] = embeddings
    found: list[float] = HeadScorer(fields, head, "clip", CPU, batch_size).score(batch)["score"].to_pylist()
    return found


def test_the_aesthetic_head_is_linear_all_through() -> None:
    # numbered as in the published file, where dropout stood between
    weights, given = random_layers(12, 7, 5, 1, numbers=(0, 2, 10)), unit(6, 12)
    expected = given.astype(np.float64)
    for number in (0, 2, 10):
        expected = expected @ weights[f"layers.{number}.weight"].double().numpy().T
        expected = expected + weights[f"layers.{number}.bias"].double().numpy()
    assert scores(aesthetic(weights, 12), given) == pytest.approx(expected[:, 0].tolist(), abs=1e-5)


def test_the_nsfw_head_standardises_and_gives_a_probability() -> None:
    weights, given = with_norm(random_layers(12, 7, 5, 1)), unit(6, 12)
    hidden = (torch.from_numpy(given) - weights["norm.mean"]) / weights["norm.variance"] ** 0.5
    for number in range(3):
        hidden = hidden @ weights[f"layers.{number}.weight"].T + weights[f"layers.{number}.bias"]
        hidden = hidden.clamp_min(0) if number < 2 else 1 / (1 + (-hidden).exp())
    assert scores(nsfw(weights, 12), given) == pytest.approx(hidden[:, 0].tolist(), abs=1e-5)


def test_the_length_of_an_embedding_does_not_count() -> None:
    head, given = aesthetic(random_layers(12, 5, 1), 12), unit(3, 12)
    lengths = np.array([[20.0], [0.5], [3.0]], np.float32)
    assert scores(head, given * lengths) == pytest.approx(scores(head, given), abs=1e-5)


def test_values_are_the_same_alone_and_together() -> None:
    head, given = nsfw(with_norm(random_layers(12, 7, 1)), 12), unit(6, 12)
    assert scores(head, given) == [score for row in given for score in scores(head, row[None])]


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"linear.weight": torch.zeros(1, 12)}, r"no tensor layers\.0\.weight"),
        ({"layers.0.weight": torch.zeros(1, 12)}, r"no tensor layers\.0\.bias"),
        (random_layers(12, 7, 2), "do not follow each other to one number"),
        (random_layers(12, 7) | random_layers(6, 1, numbers=(1,)), "do not follow each other to one number"),
        (random_layers(5, 7, 1), "for embeddings of 5 numbers, but 'clip' makes 12; set `clip` to"),
    ],
)
def test_weights_of_other_shapes_are_refused(weights: Weights, message: str) -> None:
    with pytest.raises(ModelError, match=f"^it: .*{message}"):
        aesthetic(weights, 12)


def test_a_norm_of_another_width_is_refused() -> None:
    with pytest.raises(ModelError, match=r"^it: no tensor norm\.mean of 12 numbers"):
        nsfw(random_layers(12, 1), 12)
    weights = with_norm(random_layers(12, 1)) | {"norm.variance": torch.ones(3)}
    with pytest.raises(ModelError, match=r"^it: no tensor norm\.variance of 12 numbers"):
        nsfw(weights, 12)


@pytest.mark.parametrize("name", ["head.pth", "head.safetensors"])
def test_both_forms_of_files(tmp_path: Path, name: str) -> None:
    weights: Any = random_layers(12, 5, 1)
    (save_file if name.endswith("safetensors") else torch.save)(weights, tmp_path / name)
    assert scores(aesthetic(load_state_dict(tmp_path / name, "it"), 12), unit(3, 12)) == scores(
        aesthetic(weights, 12), unit(3, 12)
    )


@pytest.mark.weights
@pytest.mark.parametrize(
    ("file", "golden", "output", "make"),
    [
        ("sac+logos+ava1-l14-linearMSE.pth", "laion-aesthetic-v2", "aesthetic", aesthetic),
        ("laion-nsfw-vit-l-14.safetensors", "laion-nsfw-vit-l-14", "nsfw", nsfw),
        ("laion-nsfw-vit-b-32.safetensors", "laion-nsfw-vit-b-32", "nsfw", nsfw),
    ],
)
def test_the_published_heads_give_their_recorded_outputs(
    file: str, golden: str, output: str, make: Any
) -> None:
    folder = os.environ.get("MEISSONIC_WEIGHTS")
    if folder is None:
        pytest.skip("MEISSONIC_WEIGHTS names no folder with the published heads")
    recorded = load_file(Path(folder) / f"{golden}.golden.safetensors")
    embeddings = recorded["embedding"].numpy()
    head = make(load_state_dict(Path(folder) / file, file), embeddings.shape[1])
    assert scores(head, embeddings) == pytest.approx(recorded[output].tolist(), abs=2e-4)
