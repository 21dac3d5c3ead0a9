"""The training of the parts: what they learn from, and that they are not trained twice."""

import itertools
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch

from examples.shapes.dataset import sample_scenes
from examples.shapes.tokenizer import write_tokenizer
from examples.shapes.train_clip import matches, neighbour, new_clip, text_tower, write_open_clip
from examples.shapes.train_vq import VQTraining, train_vq
from examples.shapes.training import averaged, learning_rate_factor
from examples.shapes.world import Scene, Thing, forget, split_of, spoken
from meissonic.text import Tokenizer


def test_the_learning_rate_warms_up_stays_and_falls() -> None:
    factors = [learning_rate_factor(step, 1000) for step in range(1000)]
    assert factors[0] == 0.01
    assert set(factors[99:400]) == {1.0}
    assert all(later <= earlier for earlier, later in itertools.pairwise(factors[400:]))
    assert factors[-1] < 0.03


def test_averaged_weights_follow_the_module() -> None:
    module = torch.nn.Linear(1, 1)
    average = averaged(module, decay=0.5)
    weights = []
    for value in (0.0, 1.0, *[2.0] * 60):
        torch.nn.init.constant_(module.weight, value)
        average.update_parameters(module)
        weights.append(average.module.weight.item())
    assert weights[:2] == [0.0, pytest.approx(1 - 2 / 11)]  # early steps do not linger
    assert weights[-1] == pytest.approx(2.0)


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


@pytest.mark.slow
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
