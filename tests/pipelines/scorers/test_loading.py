"""Scorers from a job's settings: checked without a model, fetched by digest, run in order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from safetensors.torch import save_file

from pipelines.config import Config, ConfigError, build_config
from pipelines.models import ModelError
from pipelines.scorers.fetching import fetch_scorers
from pipelines.scorers.loading import load_scorers, score_images
from pipelines.scorers.settings import Scorers, needs_model, scorer_fields
from tests.pipelines.scorers.test_heads import random_layers, with_norm
from tests.pipelines.scorers.tiny_clip import WIDTH, batch_of, natural, save_folder

CPU = torch.device("cpu")


class Job(Config):
    """A job with scorers."""

    scorers: Scorers = ()


def parse(*scorers: dict[str, Any]) -> Scorers:
    return build_config(Job, {"scorers": list(scorers)}, (), "job.yaml").scorers


CLIP = {"kind": "clip", "model": "folder"}
AESTHETIC = {"kind": "aesthetic_laion_v2", "weights": "a.pth"}
NSFW = {"kind": "nsfw_laion_vit_l_14", "weights": "n.safetensors"}


def test_columns_are_known_without_a_model() -> None:
    settings = parse(
        {"kind": "phash"},
        CLIP | {"embedding": True},
        AESTHETIC,
        NSFW,
        {"kind": "hps_v2_1", "model": "hf://xswu/HPSv2/HPS_v2.1_compressed.pt"},
        {"kind": "watermark_laion", "weights": "w.pt"},
    )
    assert [(field.name, field.type) for field in scorer_fields(settings)] == [
        ("phash", pa.uint64()),
        ("clip_vit_l_14", pa.float32()),
        ("clip_vit_l_14_embedding", pa.list_(pa.float16())),
        ("aesthetic_laion_v2", pa.float32()),
        ("nsfw_laion_vit_l_14", pa.float32()),
        ("hps_v2_1", pa.float32()),
        ("watermark_laion", pa.float32()),
    ]
    assert [needs_model(one) for one in settings] == [False, True, True, True, True, True]
    assert not any(map(needs_model, parse({"kind": "phash"}, {"kind": "quality"})))


@pytest.mark.parametrize(
    ("scorers", "message"),
    [
        ([CLIP, CLIP], "two scorers add the column 'clip_vit_l_14'; give one of them another `name`"),
        (
            [CLIP | {"embedding": True}, CLIP | {"name": "clip_vit_l_14_embedding"}],
            "two scorers add the column 'clip_vit_l_14_embedding'",
        ),
        ([AESTHETIC], "embedding of the clip scorer 'clip_vit_l_14'; add a scorer of kind clip before it"),
        ([AESTHETIC, CLIP], "embedding of the clip scorer 'clip_vit_l_14'; list that one first"),
        ([CLIP, AESTHETIC | {"clip": "clip_b"}], "scorer 'clip_b'; set `clip` to one of clip_vit_l_14"),
        ([CLIP | {"model": "a.pt"}], "'a.pt' is a file of weights; name open_clip's model in `architecture`"),
        ([CLIP | {"architecture": "ViT-L-14"}], "'folder' is a folder, whose open_clip_config.json says"),
        ([CLIP | {"name": "Clip 1"}], "should match pattern"),
        ([AESTHETIC | {"sha256": "abc"}, CLIP], "should match pattern"),
        ([{"kind": "beauty"}], "'beauty'.*'aesthetic_laion_v2'"),
        ([CLIP | {"embeddings": True}], "did you mean 'embedding'?"),
    ],
)
def test_lists_that_cannot_run_are_refused_with_the_remedy(
    scorers: list[dict[str, Any]], message: str
) -> None:
    with pytest.raises(ConfigError, match=rf"^job\.yaml: scorers.*{message}"):
        parse(*scorers)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    save_folder(folder / "clip")
    torch.save(random_layers(WIDTH, 6, 1), folder / "a.pth")
    save_file(with_norm(random_layers(WIDTH, 6, 1)), folder / "n.safetensors")
    torch.save(random_layers(768, 6, 1), folder / "wide.pth")
    return folder


def settings_in(folder: Path) -> Scorers:
    return parse(
        {"kind": "phash"},
        CLIP | {"model": str(folder / "clip"), "embedding": True},
        AESTHETIC | {"weights": str(folder / "a.pth")},
        {"kind": "quality"},
        NSFW | {"weights": str(folder / "n.safetensors")},
    )


def test_all_scorers_of_a_list_run_over_a_batch(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = settings_in(weights)
    digests = fetch_scorers(settings)
    assert sorted(digests) == ["aesthetic_laion_v2", "clip_vit_l_14", "nsfw_laion_vit_l_14"]
    scorers = load_scorers(settings, digests, CPU, 2, torch.float32)
    clip: Any = scorers[1]
    encode, calls = clip.model.model.encode_image, []

    def counted(pixels: torch.Tensor) -> torch.Tensor:
        calls.append(len(pixels))
        embeddings: torch.Tensor = encode(pixels)
        return embeddings

    monkeypatch.setattr(clip.model.model, "encode_image", counted)
    images = [natural(64, 64), natural(40, 90), natural(100, 70, seed=2)]
    found = score_images(scorers, batch_of(*images, captions=["a", None, "c"]))
    assert calls == [2, 2]  # once for three images, whoever uses the embedding
    assert found.schema.equals(pa.schema(scorer_fields(settings)))
    assert found.num_rows == 3
    assert found["clip_vit_l_14"].null_count == 1
    embeddings = np.array(found["clip_vit_l_14_embedding"].to_pylist(), np.float32)
    layers = torch.load(weights / "a.pth", weights_only=True)
    hidden = embeddings @ layers["layers.0.weight"].numpy().T + layers["layers.0.bias"].numpy()
    expected = hidden @ layers["layers.1.weight"].numpy().T + layers["layers.1.bias"].numpy()
    assert found["aesthetic_laion_v2"].to_pylist() == pytest.approx(expected[:, 0].tolist(), abs=2e-3)
    alone = score_images(scorers, batch_of(images[2], captions=["c"]))
    assert alone.equals(found.slice(2, 1))


def test_no_images_give_no_rows_of_the_same_columns(weights: Path) -> None:
    settings = settings_in(weights)
    scorers = load_scorers(settings, fetch_scorers(settings), CPU, 2, torch.float32)
    found = score_images(scorers, batch_of())
    assert (found.num_rows, found.schema) == (0, pa.schema(scorer_fields(settings)))


def test_a_head_for_another_backbone_is_refused(weights: Path) -> None:
    settings = parse(
        CLIP | {"model": str(weights / "clip")}, AESTHETIC | {"weights": str(weights / "wide.pth")}
    )
    message = r"wide\.pth: a head for embeddings of 768 numbers, but 'clip_vit_l_14' makes 16"
    with pytest.raises(ModelError, match=message):
        load_scorers(settings, fetch_scorers(settings), CPU, 2, torch.float32)


def test_other_weights_than_the_settings_or_the_job_name_are_refused(weights: Path) -> None:
    named = parse(
        CLIP | {"model": str(weights / "clip")},
        AESTHETIC | {"weights": str(weights / "a.pth"), "sha256": "0" * 64},
    )
    with pytest.raises(ModelError, match=r"a\.pth.*0000"):
        fetch_scorers(named)
    with pytest.raises(ModelError, match=r"clip.*0000"):
        fetch_scorers(parse(CLIP | {"model": str(weights / "clip"), "sha256": "0" * 64}))
    settings = settings_in(weights)
    digests = fetch_scorers(settings) | {"nsfw_laion_vit_l_14": "1" * 64}
    with pytest.raises(ModelError, match=r"n\.safetensors.*1111"):
        load_scorers(settings, digests, CPU, 2, torch.float32)


def test_an_architecture_that_open_clip_has_not_is_refused_by_the_driver(weights: Path) -> None:
    settings = parse(CLIP | {"model": str(weights / "a.pth"), "architecture": "ViT-L-41"})
    with pytest.raises(ModelError, match="no architecture 'ViT-L-41'; close ones are ViT-L-1"):
        fetch_scorers(settings)
