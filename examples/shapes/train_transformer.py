"""Train the transformer on tokens of the world's images, conditioned by the text tower.

The batch of a step is a function of the seed and the step: a run that was cut off goes on as it was.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from examples.shapes.dataset import draw_many, sample_scenes
from examples.shapes.drawing import SIDE
from examples.shapes.train_vq import to_tensor
from examples.shapes.training import AveragedWeights, Log, learning_rate_factor, set_learning_rate
from examples.shapes.world import Scene, caption, forget, spoken
from meissonic.config import TransformerConfig
from meissonic.objective import drop_conditions, mask_tokens, mim_loss, parameter_groups, random_order
from meissonic.text import TextEncoder, Tokenizer
from meissonic.transformer import Transformer
from meissonic.vq import VQModel

CONFIG = TransformerConfig(
    num_layers=2,
    num_single_layers=4,
    attention_head_dim=32,
    num_attention_heads=3,
    joint_attention_dim=64,
    pooled_projection_dim=96,
    axes_dims_rope=(8, 12, 12),
    vocab_size=264,
    codebook_size=256,
    downsample=True,
    upsample=True,
)
MASK_TOKEN = CONFIG.vocab_size - 1
MICRO_CONDITIONS = (float(SIDE), float(SIDE), 0.0, 0.0, 6.0)
"""Original width and height, crop top and left, score: what the sampler passes too."""


@dataclass(frozen=True, kw_only=True)
class Phase:
    """A stretch of the training with images of its own.

    Attributes:
        num_steps: its length.
        two_object_share: how many of its images show two shapes.
    """

    num_steps: int
    two_object_share: float


@dataclass(frozen=True, kw_only=True)
class TransformerTraining:
    """How the transformer is trained.

    Attributes:
        phases: one after the other. Two shapes have four possible spots and are learned early, one has ten
            combinations of place and size, hence the falling share of two.
        batch_size: images a step.
        num_images: images that are drawn and tokenized before each phase.
        learning_rate: at the peak.
        weight_decay: of matrices.
        label_smoothing: of the cross-entropy.
        drop_rate: how often a sample has the empty prompt instead of its own.
        forget_share: how many samples have captions that leave attributes unsaid, hidden states and pooled
            output each another one: the two must not rely on each other to tell shape and colour.
        forget_rate: how often such a caption leaves out an attribute.
        ema_decay: of the averaged weights that are kept.
        evaluate_every: steps between two evaluations and saves.
        seed: of images, weights and batches.
    """

    phases: tuple[Phase, ...] = (
        Phase(num_steps=2500, two_object_share=0.6),
        Phase(num_steps=4500, two_object_share=0.3),
    )
    batch_size: int = 32
    num_images: int = 16_000
    learning_rate: float = 2e-3
    weight_decay: float = 0.1
    label_smoothing: float = 0.03
    drop_rate: float = 0.1
    forget_share: float = 0.5
    forget_rate: float = 0.3
    ema_decay: float = 0.998
    evaluate_every: int = 500
    seed: int = 3

    @property
    def num_steps(self) -> int:
        """Optimizer steps of all phases."""
        return sum(phase.num_steps for phase in self.phases)

    def phase_at(self, step: int) -> int:
        """Return the index of the phase that a step belongs to."""
        ends = itertools.accumulate(phase.num_steps for phase in self.phases)
        return next(index for index, end in enumerate(ends) if step < end)


class CaptionEncoder:
    """The frozen text tower, each caption computed once."""

    def __init__(self, encoder: TextEncoder, tokenizer: Tokenizer) -> None:
        self.encoder = encoder
        self.tokenizer = tokenizer
        self.known: dict[str, tuple[Tensor, Tensor]] = {}

    @torch.no_grad()
    def __call__(self, captions: list[str]) -> tuple[Tensor, Tensor]:
        """Return hidden states [B, L, C] and pooled outputs [B, P]."""
        if new := [text for text in dict.fromkeys(captions) if text not in self.known]:
            hidden, pooled = self.encoder(self.tokenizer(new))
            self.known.update(zip(new, zip(hidden, pooled, strict=True), strict=True))
        pairs = [self.known[text] for text in captions]
        return torch.stack([hidden for hidden, _ in pairs]), torch.stack([pooled for _, pooled in pairs])


def masking_rates(rng: np.random.Generator, count: int) -> Tensor:
    """Draw masking rates cos(u^2 pi/2): mostly high ones, where the caption decides what is drawn."""
    return torch.from_numpy(np.cos(rng.random(count) ** 2 * np.pi / 2)).float()


def timesteps(rates_B: Tensor, rng: np.random.Generator) -> Tensor:
    """Return the timestep that goes with each masking rate.

    The sampler passes how many steps remain, the published objective 1000 x rate. Three of four samples see
    the first, for a schedule of 6 to 24 steps, the others the second, so that either may follow.
    """
    num_steps = torch.from_numpy(rng.integers(6, 25, len(rates_B))).float()
    done = rates_B.clip(0, 1).acos() * 2 / np.pi
    remaining = (num_steps * (1 - done) - 1).round().clip(min=0)
    as_sampler = torch.from_numpy(rng.random(len(rates_B)) < 0.75)
    return torch.where(as_sampler, remaining, rates_B * 1000)


class Batches:
    """Tokens of the images drawn for a phase, and the batch of each step."""

    def __init__(
        self, vq: VQModel, captions: CaptionEncoder, options: TransformerTraining, index: int
    ) -> None:
        self.options = options
        self.captions = captions
        self.phase = options.phases[index]
        rng = np.random.default_rng(options.seed + 1000 * index)
        share = self.phase.two_object_share
        self.scenes = sample_scenes("train", options.num_images, rng, two_object_share=share)
        chunks = []
        with torch.no_grad():
            for start in range(0, len(self.scenes), 100):
                pixels = draw_many(self.scenes[start : start + 100], rng)
                chunks.append(vq.encode(to_tensor(pixels)))
        self.tokens = torch.cat(chunks)
        self.empty_hidden, self.empty_pooled = (condition[0] for condition in captions([""]))
        self.micro_conditions = torch.tensor([MICRO_CONDITIONS]).expand(options.batch_size, -1)

    def loss(self, transformer: Transformer, step: int) -> Tensor:
        """Return the objective on the batch of this step."""
        options = self.options
        size = options.batch_size
        rng = np.random.default_rng((options.seed, step))
        chosen = rng.integers(len(self.scenes), size=size)
        rates = masking_rates(rng, size)
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        order = random_order(size, self.tokens[0].numel(), generator)
        inputs, labels = mask_tokens(self.tokens[chosen], rates, order, MASK_TOKEN)
        partly = rng.random(size) < options.forget_share
        scenes = [spoken(self.scenes[index]) for index in chosen]
        hidden, _ = self.captions([self._partial(*pair, rng) for pair in zip(scenes, partly, strict=True)])
        _, pooled = self.captions([self._partial(*pair, rng) for pair in zip(scenes, partly, strict=True)])
        drop = torch.from_numpy(rng.random(size) < options.drop_rate)
        hidden, pooled = drop_conditions(hidden, pooled, self.empty_hidden, self.empty_pooled, drop)
        # the fused attention's backward pass is slow on CPUs at such short lengths
        with torch.autocast("cpu", torch.bfloat16), sdpa_kernel(SDPBackend.MATH):
            logits = transformer(inputs, hidden, pooled, self.micro_conditions, timesteps(rates, rng))
        return mim_loss(logits, labels, options.label_smoothing)

    def _partial(self, scene: Scene, partly: bool, rng: np.random.Generator) -> str:
        return caption(forget(scene, rng, self.options.forget_rate) if partly else scene)


def train_transformer(
    work: Path,
    vq: VQModel,
    captions: CaptionEncoder,
    options: TransformerTraining,
    evaluate: Callable[[Transformer], dict[str, float]],
) -> Transformer:
    """Train the transformer, go on where an earlier run was cut off, or load it where one finished.

    The averaged weights go to `work/transformer.safetensors`; `evaluate` gets a copy of them now and then.
    """
    torch.manual_seed(options.seed)  # module initialisation has no generator argument
    transformer = Transformer(CONFIG)
    result, resume = work / "transformer.safetensors", work / "transformer.resume.pt"
    if result.exists():
        transformer.load_state_dict(load_file(result))
        return transformer.eval().requires_grad_(False)
    log = Log(work / "log.csv", "transformer")
    groups = parameter_groups(transformer, options.weight_decay)
    optimizer = torch.optim.AdamW(groups, lr=options.learning_rate, betas=(0.9, 0.99))
    average = AveragedWeights(transformer, options.ema_decay)
    first = 0
    if resume.exists():
        saved = torch.load(resume, weights_only=True)
        transformer.load_state_dict(saved["transformer"])
        optimizer.load_state_dict(saved["optimizer"])
        first = int(saved["step"])
        average.load(saved["average"], first)
    total = 0.0
    batches: Batches | None = None
    for step in range(first, options.num_steps):
        phase = options.phase_at(step)
        if batches is None or batches.phase is not options.phases[phase]:
            batches = Batches(vq, captions, options, phase)
        set_learning_rate(optimizer, options.learning_rate * learning_rate_factor(step, options.num_steps))
        loss = batches.loss(transformer, step)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(transformer.parameters(), 1.0)
        optimizer.step()
        average.update(transformer)
        total += loss.item()
        if step % 50 == 49:
            log.write(step + 1, {"loss": total / 50})
            total = 0.0
        if (step + 1) % options.evaluate_every == 0 or step + 1 == options.num_steps:
            state = {
                "transformer": transformer.state_dict(),
                "optimizer": optimizer.state_dict(),
                "average": average.weights,
                "step": step + 1,
            }
            torch.save(state, resume.with_suffix(".new"))
            resume.with_suffix(".new").rename(resume)
            log.write(step + 1, evaluate(averaged(average.weights)))
    save_file(average.weights, result)
    return averaged(average.weights)


def averaged(weights: dict[str, Tensor]) -> Transformer:
    """Return a transformer with these weights, as half precision will store them."""
    transformer = Transformer(CONFIG)
    transformer.load_state_dict({name: value.half().float() for name, value in weights.items()})
    return transformer.eval().requires_grad_(False)
