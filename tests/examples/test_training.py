"""The training stages: what they learn from, and that a cut-off run goes on as if it was not."""

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch

from examples.shapes import train_transformer as stage
from examples.shapes.dataset import sample_scenes
from examples.shapes.tokenizer import write_tokenizer
from examples.shapes.train_clip import matches, neighbour, new_clip, text_config, text_tower, write_open_clip
from examples.shapes.train_transformer import (
    CaptionEncoder,
    Phase,
    TransformerTraining,
    masking_rates,
    timesteps,
    train_transformer,
)
from examples.shapes.train_vq import VQTraining, new_vq, train_vq
from examples.shapes.training import AveragedWeights, learning_rate_factor
from examples.shapes.world import Scene, Thing, forget, split_of, spoken
from meissonic.text import TextEncoder, Tokenizer
from meissonic.transformer import Transformer

OPTIONS = TransformerTraining(
    phases=(Phase(num_steps=1, two_object_share=0.0), Phase(num_steps=3, two_object_share=1.0)),
    batch_size=2,
    num_images=4,
    evaluate_every=2,
)


@pytest.fixture
def captions(tmp_path: Path) -> CaptionEncoder:
    vocab_size = write_tokenizer(tmp_path / "tokenizer")
    torch.manual_seed(0)
    return CaptionEncoder(
        TextEncoder(text_config(vocab_size)).eval(), Tokenizer.from_folder(tmp_path / "tokenizer")
    )


def test_the_learning_rate_warms_up_stays_and_falls() -> None:
    factors = [learning_rate_factor(step, 1000) for step in range(1000)]
    assert factors[0] == 0.01
    assert set(factors[99:400]) == {1.0}
    assert all(later <= earlier for earlier, later in itertools.pairwise(factors[400:]))
    assert factors[-1] < 0.03


def test_averaged_weights_follow_the_module() -> None:
    module = torch.nn.Linear(2, 2)
    average = AveragedWeights(module, decay=0.5)
    torch.nn.init.constant_(module.weight, 3.0)
    for _ in range(60):
        average.update(module)
    torch.testing.assert_close(average.weights["weight"], module.weight.detach())


def test_a_neighbour_is_another_training_scene() -> None:
    rng = np.random.default_rng(0)
    for scene in sample_scenes("train", 50, rng):
        other = neighbour(scene, rng)
        assert other != scene
        assert split_of(other) == "train"
        assert len(other.things) == len(scene.things)


def test_matches_are_the_captions_that_are_true() -> None:
    rng = np.random.default_rng(0)
    shown = sample_scenes("train", 30, rng)
    said = [forget(spoken(scene), rng, 0.5) for scene in shown]
    found = matches(shown, said)
    assert bool((found.diag() == 1).all())
    one = Scene(things=(Thing(shape="circle", color="red", size="small", place="left"),), background="white")
    about = [
        Scene(things=(Thing(),)),
        Scene(things=(Thing(color="red"),)),
        Scene(things=(Thing(color="blue"),)),
        Scene(things=(Thing(place="left"), Thing(place="right"))),
    ]
    assert matches([one], about).tolist() == [[1, 1, 0, 0]]


def test_high_masking_rates_are_common() -> None:
    rates = masking_rates(np.random.default_rng(0), 4000)
    assert 0 <= float(rates.min()) <= float(rates.max()) <= 1
    assert float((rates > 0.9).float().mean()) > 0.4


def test_timesteps_are_those_of_the_sampler_or_of_the_objective() -> None:
    rates = masking_rates(np.random.default_rng(0), 4000)
    steps = timesteps(rates, np.random.default_rng(1))
    of_objective = steps == rates * 1000
    assert 0.2 < float(of_objective.float().mean()) < 0.3
    of_sampler = steps[~of_objective]
    assert bool((of_sampler == of_sampler.round()).all())
    assert 0 <= float(of_sampler.min()) <= float(of_sampler.max()) <= 23


def test_a_cut_off_run_goes_on_as_if_it_was_not(
    tmp_path: Path, captions: CaptionEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    vq = new_vq().eval().requires_grad_(False)

    def run(work: Path, *, cut_off: bool) -> Transformer:
        evaluations = iter([not cut_off, True])

        def evaluate(_: Transformer) -> dict[str, float]:
            if not next(evaluations):
                raise KeyboardInterrupt
            return {}

        return train_transformer(work, vq, captions, OPTIONS, evaluate)

    monkeypatch.setattr(stage, "CONFIG", replace(stage.CONFIG, num_layers=1, num_single_layers=1))
    whole = run(tmp_path / "whole", cut_off=False)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut", cut_off=True)
    resumed = run(tmp_path / "cut", cut_off=False)
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(resumed.state_dict()[name], value, rtol=0, atol=0)


def test_a_finished_tokenizer_is_not_trained_again(tmp_path: Path) -> None:
    options = VQTraining(num_steps=3, num_plain_steps=1, batch_size=2, num_images=320)
    first = train_vq(tmp_path, options)
    again = train_vq(tmp_path, options)
    assert torch.equal(first.quantize.embedding.weight, again.quantize.embedding.weight)


def test_the_towers_make_an_open_clip_folder_and_a_text_encoder(tmp_path: Path) -> None:
    vocab_size = write_tokenizer(tmp_path / "tokenizer")
    clip = new_clip(vocab_size).eval()
    write_open_clip(clip, tmp_path / "tokenizer", tmp_path / "clip", vocab_size)
    loaded = open_clip.create_model(f"local-dir:{tmp_path / 'clip'}").eval()
    ids = Tokenizer.from_folder(tmp_path / "clip")(["a red circle", "a small cross at the top"])
    with torch.no_grad():
        _, pooled = text_tower(clip, vocab_size)(ids)
        torch.testing.assert_close(pooled, clip.encode_text(ids))
        torch.testing.assert_close(loaded.encode_text(ids), clip.encode_text(ids), rtol=2e-2, atol=2e-2)
