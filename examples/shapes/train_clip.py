"""Train a small CLIP on images and captions of the world, and write it as an open_clip folder.

Its text tower conditions the transformer; text and image tower together make the CLIP score. Which captions
describe which images of a batch is known exactly, so every true pair is a positive, and each scene brings
neighbours that differ in one attribute, or that have colours or shapes swapped, as hard negatives.
"""

import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from examples.shapes.dataset import draw_many, sample_scenes
from examples.shapes.drawing import SIDE
from examples.shapes.tokenizer import MAX_LENGTH
from examples.shapes.train_vq import to_tensor
from examples.shapes.training import Log, averaged, learning_rate_factor, set_learning_rate
from examples.shapes.world import (
    BACKGROUNDS,
    COLORS,
    PLACES,
    SHAPES,
    SIZES,
    Scene,
    Thing,
    caption,
    forget,
    split_of,
    spoken,
)
from meissonic.config import TextConfig
from meissonic.text import TextEncoder, Tokenizer

EMBED_DIM = 96
MEAN, STD = 0.5, 0.5
NUM_NEIGHBOURS = 3


@dataclass(frozen=True, kw_only=True)
class CLIPTraining:
    """How the two towers are trained.

    Attributes:
        num_steps: optimizer steps.
        num_groups: scenes a step, each with NUM_NEIGHBOURS neighbours beside it.
        learning_rate: at the peak.
        weight_decay: of matrices.
        forget_rate: with which half of the captions leave attributes unsaid.
        noise: greatest standard deviation of the pixel noise, of 255.
        ema_decay: of the averaged weights that are kept.
        seed: of images, captions and weights.
    """

    num_steps: int = 600
    num_groups: int = 24
    learning_rate: float = 1.5e-3
    weight_decay: float = 0.1
    forget_rate: float = 0.3
    noise: float = 10.0
    ema_decay: float = 0.99
    seed: int = 2


def text_config(vocab_size: int) -> TextConfig:
    """Return the text tower's configuration."""
    return TextConfig(
        vocab_size=vocab_size,
        hidden_size=64,
        intermediate_size=256,
        num_hidden_layers=3,
        num_attention_heads=4,
        projection_dim=EMBED_DIM,
        max_position_embeddings=MAX_LENGTH,
        hidden_act="gelu",
        layer_norm_eps=1e-5,
        eos_token_id=2,
    )


def open_clip_config(vocab_size: int) -> dict[str, Any]:
    """Return the content of `open_clip_config.json`."""
    text = text_config(vocab_size)
    return {
        "model_cfg": {
            "embed_dim": EMBED_DIM,
            "vision_cfg": {"image_size": SIDE, "layers": 3, "width": 96, "head_width": 32, "patch_size": 8},
            "text_cfg": {
                "context_length": text.max_position_embeddings,
                "vocab_size": vocab_size,
                "hf_tokenizer_name": "shapes",  # open_clip reads the tokenizer's files beside this one
                "width": text.hidden_size,
                "heads": text.num_attention_heads,
                "layers": text.num_hidden_layers,
            },
        },
        "preprocess_cfg": {
            "mean": [MEAN] * 3,
            "std": [STD] * 3,
            "interpolation": "bicubic",
            "resize_mode": "squash",
        },
    }


def new_clip(vocab_size: int) -> open_clip.CLIP:
    """Build the two towers with fresh weights."""
    config = open_clip_config(vocab_size)["model_cfg"]
    return open_clip.CLIP(config["embed_dim"], config["vision_cfg"], config["text_cfg"])


def neighbour(scene: Scene, rng: np.random.Generator) -> Scene:
    """Return a training scene that differs in one attribute, or in that two shapes swapped one."""
    while True:
        things = list(scene.things)
        background = scene.background
        index = int(rng.integers(len(things)))
        kind = rng.choice(["shape", "color", "size", "place", "background", "swap", "swap"])
        if kind == "shape":
            things[index] = replace(things[index], shape=str(rng.choice(SHAPES)))
        elif kind == "color":
            things[index] = replace(things[index], color=str(rng.choice(COLORS)))
        elif kind == "background":
            background = str(rng.choice(BACKGROUNDS))
        elif len(things) == 1 and kind == "size":
            things[0] = replace(things[0], size=str(rng.choice(SIZES)))
        elif len(things) == 1 and kind == "place":
            things[0] = replace(things[0], place=str(rng.choice(list(PLACES))))
        elif len(things) == 2 and kind == "swap":
            first, second = things
            name = str(rng.choice(["shape", "color"]))
            things = [
                replace(first, **{name: getattr(second, name)}),
                replace(second, **{name: getattr(first, name)}),
            ]
        other = Scene(things=tuple(things), background=background)
        if other != scene and split_of(other) == "train":
            return other


def attribute_codes(many: list[Scene]) -> NDArray[np.int64]:
    """Return one row of numbers a scene; -1 for what is left unsaid, -2 in place of a second shape."""

    def code(value: str | None, names: tuple[str, ...]) -> int:
        return -1 if value is None else names.index(value)

    def thing_codes(thing: Thing) -> list[int]:
        look = [code(thing.shape, SHAPES), code(thing.color, COLORS)]
        return [*look, code(thing.size, SIZES), code(thing.place, tuple(PLACES))]

    rows = []
    for scene in many:
        row = [code for thing in scene.things for code in thing_codes(thing)]
        rows.append([*row, *[-2] * (8 - len(row)), code(scene.background, BACKGROUNDS)])
    return np.array(rows)


def matches(images: list[Scene], captions: list[Scene]) -> Tensor:
    """Return whether each caption (column) is true of each image (row), as 0 or 1."""
    shown, said = attribute_codes(images)[:, None], attribute_codes(captions)[None]
    return torch.from_numpy(((said == -1) | (said == shown)).all(-1)).float()


def train_clip(work: Path, tokenizer: Tokenizer, vocab_size: int, options: CLIPTraining) -> open_clip.CLIP:
    """Train the towers, or load them where an earlier run finished; weights go to `work/clip.safetensors`."""
    torch.manual_seed(options.seed)  # module initialisation has no generator argument
    clip = new_clip(vocab_size)
    result = work / "clip.safetensors"
    if result.exists():
        clip.load_state_dict(load_file(result))
        return clip.eval().requires_grad_(False)
    log = Log(work / "log.csv", "clip")
    rng = np.random.default_rng(options.seed)
    decayed = [weight for weight in clip.parameters() if weight.ndim >= 2]
    others = [weight for weight in clip.parameters() if weight.ndim < 2]
    groups = [
        {"params": decayed, "weight_decay": options.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=options.learning_rate, betas=(0.9, 0.98))
    average = averaged(clip, options.ema_decay)
    for step in range(options.num_steps):
        set_learning_rate(optimizer, options.learning_rate * learning_rate_factor(step, options.num_steps))
        shown = sample_scenes("train", options.num_groups, rng)
        shown += [neighbour(scene, rng) for scene in shown for _ in range(NUM_NEIGHBOURS)]
        rates = np.where(rng.random(len(shown)) < 0.5, options.forget_rate, 0.0)
        said = [forget(spoken(scene), rng, rate) for scene, rate in zip(shown, rates, strict=True)]
        noise = rng.uniform(0, options.noise, (len(shown), 1, 1, 1))
        pixels = draw_many(shown, rng) + noise * rng.standard_normal((len(shown), SIDE, SIDE, 3), np.float32)
        with torch.autocast("cpu", torch.bfloat16):
            pixels_B3HW = to_tensor(pixels.clip(0, 255).astype(np.uint8))
            image = clip.encode_image(normalized(pixels_B3HW), normalize=True)
            text = clip.encode_text(tokenizer([caption(scene) for scene in said]), normalize=True)
        logits = clip.logit_scale.exp() * image.float() @ text.float().T
        match = matches(shown, said)
        loss = (
            F.cross_entropy(logits, match / match.sum(1, keepdim=True))
            + F.cross_entropy(logits.T, match.T / match.T.sum(1, keepdim=True))
        ) / 2
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(clip.parameters(), 1.0)
        optimizer.step()
        with torch.no_grad():
            clip.logit_scale.clamp_(max=float(np.log(100)))
        average.update_parameters(clip)
        if step % 25 == 0:
            log.write(step, {"loss": loss.item()})
        if step % 200 == 199 or step == options.num_steps - 1:
            weights = average.module.state_dict()
            log.write(step, evaluate(weights, tokenizer, vocab_size))
            save_file(weights, work / "clip.partial.safetensors")
    (work / "clip.partial.safetensors").rename(result)
    return train_clip(work, tokenizer, vocab_size, options)


def normalized(pixels_B3HW: Tensor) -> Tensor:
    """Pixels in [0, 1] -> what the image tower reads."""
    return (pixels_B3HW - MEAN) / STD


@torch.no_grad()
def evaluate(
    weights: dict[str, Tensor], tokenizer: Tokenizer, vocab_size: int, count: int = 200
) -> dict[str, float]:
    """Score validation images with true captions, those of other scenes, and those of near neighbours."""
    clip = new_clip(vocab_size).eval()
    clip.load_state_dict({name: value.half().float() for name, value in weights.items()})
    rng = np.random.default_rng(0)
    shown = sample_scenes("validation", count, rng)
    near = [neighbour(scene, rng) for scene in shown]
    image = clip.encode_image(normalized(to_tensor(draw_many(shown, rng))), normalize=True)
    said = [spoken(scene) for scene in shown]
    true = clip.encode_text(tokenizer([caption(scene) for scene in said]), normalize=True)
    false = clip.encode_text(tokenizer([caption(spoken(scene)) for scene in near]), normalize=True)
    scores = image @ true.T
    wrong = scores[matches(shown, said) == 0]
    right = scores.diag()
    return {
        "auc": (right[:, None] > wrong[None]).float().mean().item(),
        "neighbour_accuracy": (right > (image * false).sum(1)).float().mean().item(),
        "true_score": right.mean().item(),
        "false_score": wrong.mean().item(),
    }


def text_tower(clip: open_clip.CLIP, vocab_size: int) -> TextEncoder:
    """Return the text tower as the model's text encoder."""
    encoder = TextEncoder(text_config(vocab_size))
    text = {
        name: value
        for name, value in clip.state_dict().items()
        if not name.startswith("visual.") and name != "logit_scale"
    }
    encoder.tower.load_state_dict(text)
    return encoder.eval().requires_grad_(False)


def write_open_clip(clip: open_clip.CLIP, tokenizer_folder: Path, folder: Path, vocab_size: int) -> None:
    """Write both towers in half precision as a folder that open_clip opens as `local-dir:FOLDER`."""
    folder.mkdir(parents=True, exist_ok=True)
    config = json.dumps(open_clip_config(vocab_size), indent=2) + "\n"
    (folder / "open_clip_config.json").write_text(config, encoding="utf-8")
    weights = {name: value.half().contiguous() for name, value in clip.state_dict().items()}
    save_file(weights, folder / "open_clip_model.safetensors")
    for path in tokenizer_folder.iterdir():
        shutil.copyfile(path, folder / path.name)
