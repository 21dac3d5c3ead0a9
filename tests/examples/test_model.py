"""The committed model: small, loadable by others, and it draws what captions say."""

from pathlib import Path

import open_clip
import pytest
import torch

from examples.shapes.dataset import draw_many
from examples.shapes.drawing import SIDE
from examples.shapes.generate import SAMPLER, generate, share_right, verdicts
from examples.shapes.prompts import choose_scenes
from examples.shapes.world import caption, spoken
from meissonic.checkpoint import Meissonic
from meissonic.config import GenerationConfig
from meissonic.model_folder import read_generation_config

MODEL = Path(__file__).parents[2] / "examples/shapes/model"


@pytest.fixture(scope="module")
def model() -> Meissonic:
    return Meissonic.from_pretrained(MODEL)


def test_the_folder_is_small() -> None:
    assert sum(path.stat().st_size for path in MODEL.rglob("*") if path.is_file()) <= 10_000_000


def test_the_folder_carries_the_sampler_settings_of_the_code() -> None:
    assert read_generation_config(MODEL) == GenerationConfig(width=SIDE, height=SIDE, sampler=SAMPLER)


def test_held_out_captions_of_one_shape_come_out_right(model: Meissonic) -> None:
    scenes = choose_scenes("test", 24, two_object_share=0.0, seed=1)
    assert share_right(verdicts(model, scenes, seed=1)) >= 0.8


def test_an_image_depends_on_its_seed_alone(model: Meissonic) -> None:
    prompts = ["a large red square in the middle, on a white background", "a small pink cross at the top"]
    together = generate(model, prompts, seeds=[1, 2], batch_size=2)
    alone = generate(model, prompts[1:], seeds=[2], batch_size=2)
    assert (together[1] == alone[0]).all()


def test_the_clip_beside_it_tells_true_captions_from_others(model: Meissonic) -> None:
    clip = open_clip.create_model(f"local-dir:{MODEL / 'clip'}").eval()
    scenes = choose_scenes("test", 40, two_object_share=0.5, seed=2)
    pixels = torch.from_numpy(draw_many(scenes, None)).permute(0, 3, 1, 2).float().div(255)
    ids = model.tokenizer([caption(spoken(scene)) for scene in scenes])
    with torch.inference_mode():
        text = clip.encode_text(ids, normalize=True)
        scores = clip.encode_image((pixels - 0.5) / 0.5, normalize=True) @ text.T
        _, pooled = model.text_encoder(ids)
    torch.testing.assert_close(torch.nn.functional.normalize(pooled, dim=-1), text, rtol=1e-3, atol=1e-3)
    true, false = scores.diag(), scores[~torch.eye(len(scenes), dtype=torch.bool)]
    assert float((true[:, None] > false[None]).float().mean()) > 0.97
