"""Train the VQ tokenizer on images of the world.

Plain autoencoding first; then the codebook is spread over the latents and follows them by moving averages,
and codes that nothing uses start again at a random latent. Square error alone: the world has no texture.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from examples.shapes.dataset import draw_many, sample_scenes
from examples.shapes.training import Log, averaged, learning_rate_factor, set_learning_rate
from examples.shapes.verify import check
from meissonic.config import VQConfig
from meissonic.vq import Resnet, VQModel, to_uint8

CONFIG = VQConfig(
    block_out_channels=(8, 16, 32, 64),
    layers_per_block=1,
    latent_channels=16,
    num_vq_embeddings=256,
    norm_num_groups=1,
)


@dataclass(frozen=True, kw_only=True)
class VQTraining:
    """How the tokenizer is trained.

    Attributes:
        num_steps: optimizer steps.
        num_plain_steps: of these, the first ones, without quantization.
        batch_size: images a step.
        num_images: images drawn beforehand; batches are drawn from them.
        learning_rate: at the peak.
        commitment: weight of the pull of latents towards their codes.
        code_decay: of the moving averages that the codes follow.
        ema_decay: of the averaged weights that are kept.
        seed: of images, weights and batches.
    """

    num_steps: int = 2500
    num_plain_steps: int = 400
    batch_size: int = 16
    num_images: int = 12_000
    learning_rate: float = 2.5e-3
    commitment: float = 0.05
    code_decay: float = 0.98
    ema_decay: float = 0.995
    seed: int = 1


def to_tensor(pixels: NDArray[np.uint8]) -> Tensor:
    """uint8 [B, H, W, 3] -> float [B, 3, H, W] in [0, 1]."""
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float().div(255)


def new_vq() -> VQModel:
    """Build a tokenizer whose residual branches start small: with torch's own start it learns much slower."""
    vq = VQModel(CONFIG)
    for module in vq.modules():
        if isinstance(module, nn.Conv2d):
            assert module.bias is not None
            nn.init.kaiming_normal_(module.weight, nonlinearity="linear")
            nn.init.zeros_(module.bias)
    with torch.no_grad():
        for module in vq.modules():
            if isinstance(module, Resnet):
                module.conv2.weight.mul_(0.3)
        vq.decoder.conv_out.weight.mul_(0.1)
        vq.decoder.conv_out.bias.fill_(0.5)  # type: ignore[union-attr]
    return vq


def weighted_error(decoded_B3HW: Tensor, pixels_B3HW: Tensor) -> Tensor:
    """Mean square error in which a shape's pixels count four times: they are a tenth of most images."""
    background = pixels_B3HW[:, :, :1, :1]
    foreground = ((pixels_B3HW - background).abs().amax(1, keepdim=True) > 0.02).float()
    return ((decoded_B3HW - pixels_B3HW).square() * (1 + 3 * foreground)).mean()


class CodebookAverages:
    """The running sums behind each code."""

    def __init__(self, vq: VQModel, latents_NC: Tensor, generator: torch.Generator, decay: float) -> None:
        """Start the codes as the centres of ten rounds of k-means."""
        self.codes = vq.quantize.embedding.weight
        self.decay = decay
        self.generator = generator
        self.codes.requires_grad_(False)
        self.codes.copy_(self._random(latents_NC, len(self.codes)))
        for _ in range(10):
            nearest = torch.cdist(latents_NC, self.codes).argmin(1)
            counts, sums = self._sums(latents_NC, nearest)
            used = counts > 0
            self.codes[used] = sums[used] / counts[used, None]
            self.codes[~used] = self._random(latents_NC, int((~used).sum()))
        self.counts = torch.ones(len(self.codes))
        self.sums = self.codes.clone()

    def _random(self, latents_NC: Tensor, count: int) -> Tensor:
        return latents_NC[torch.randint(len(latents_NC), (count,), generator=self.generator)]

    def _sums(self, latents_NC: Tensor, nearest_N: Tensor) -> tuple[Tensor, Tensor]:
        chosen = F.one_hot(nearest_N, len(self.codes)).float()
        return chosen.sum(0), chosen.T @ latents_NC

    def update(self, latents_NC: Tensor, nearest_N: Tensor, *, restart: bool) -> None:
        """Move each code towards its latents; `restart` moves unused codes to random latents."""
        counts, sums = self._sums(latents_NC, nearest_N)
        self.counts.lerp_(counts, 1 - self.decay)
        self.sums.lerp_(sums, 1 - self.decay)
        if restart:
            dead = self.counts < 0.03
            self.sums[dead] = self._random(latents_NC, int(dead.sum()))
            self.counts[dead] = 1.0
        self.codes.copy_(self.sums / self.counts.clip(min=1e-3)[:, None])


def train_vq(work: Path, options: VQTraining) -> VQModel:
    """Train the tokenizer, or load it where an earlier run finished; weights go to `work/vq.safetensors`."""
    torch.manual_seed(options.seed)  # module initialisation has no generator argument
    vq = new_vq()
    result = work / "vq.safetensors"
    if result.exists():
        vq.load_state_dict(load_file(result))
        return vq.eval().requires_grad_(False)
    log = Log(work / "log.csv", "vq")
    rng = np.random.default_rng(options.seed)
    generator = torch.Generator().manual_seed(options.seed)
    images = draw_many(sample_scenes("train", options.num_images, rng), rng)
    weights = [weight for name, weight in vq.named_parameters() if name != "quantize.embedding.weight"]
    optimizer = torch.optim.AdamW(weights, lr=options.learning_rate, weight_decay=0.0, betas=(0.9, 0.95))
    average = averaged(vq, options.ema_decay)
    codebook: CodebookAverages | None = None
    for step in range(options.num_steps):
        set_learning_rate(optimizer, options.learning_rate * learning_rate_factor(step, options.num_steps))
        chosen = rng.integers(len(images), size=options.batch_size)
        pixels = to_tensor(images[chosen])
        if step == options.num_plain_steps:
            codebook = _start_codebook(vq, images, generator, options)
        with torch.autocast("cpu", torch.bfloat16):
            latents = vq.latents(pixels)
        latents = latents.float()
        quantized, commitment = latents, torch.zeros(())
        if codebook is not None:
            codes = vq.nearest_codes(latents.detach())
            quantized = vq.lookup(codes)
            commitment = F.mse_loss(latents, quantized)
            flat = latents.detach().permute(0, 2, 3, 1).flatten(0, 2)
            restart = step % 50 == 0 and step < 0.7 * options.num_steps
            codebook.update(flat, codes.flatten(), restart=restart)
            quantized = latents + (quantized - latents).detach()
        with torch.autocast("cpu", torch.bfloat16):
            decoded = vq.decode_latents(quantized)
        error = weighted_error(decoded.float(), pixels)
        loss = error + options.commitment * commitment
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        average.update_parameters(vq)
        if step % 50 == 0:
            log.write(step, {"error": error.item(), "commitment": commitment.item()})
        if step % 250 == 249 or step == options.num_steps - 1:
            state = average.module.state_dict()
            log.write(step, evaluate(state))
            save_file(state, work / "vq.partial.safetensors")
    (work / "vq.partial.safetensors").rename(result)
    return train_vq(work, options)


def evaluate(weights: dict[str, Tensor], count: int = 300) -> dict[str, float]:
    """Reconstruct validation images in half precision: how many still verify, how many codes are used."""
    vq = VQModel(CONFIG)
    vq.load_state_dict({name: value.half().float() for name, value in weights.items()})
    rng = np.random.default_rng(0)
    scenes = sample_scenes("validation", count, rng)
    pixels = to_tensor(draw_many(scenes, rng))
    with torch.no_grad():
        codes = torch.cat([vq.encode(chunk) for chunk in torch.split(pixels, 32)])
        decoded = torch.cat([vq.decode(chunk) for chunk in torch.split(codes, 32)])
    right = [
        check(image, scene).right for image, scene in zip(to_uint8(decoded).numpy(), scenes, strict=True)
    ]
    return {
        "verified": float(np.mean(right)),
        "validation_mse": F.mse_loss(decoded, pixels).item(),
        "codes_used": float(torch.unique(codes).numel()),
    }


@torch.no_grad()
def _start_codebook(
    vq: VQModel, images: NDArray[np.uint8], generator: torch.Generator, options: VQTraining
) -> CodebookAverages:
    latents = torch.cat([vq.latents(to_tensor(images[start : start + 32])) for start in range(0, 320, 32)])
    return CodebookAverages(
        vq, latents.permute(0, 2, 3, 1).flatten(0, 2).contiguous(), generator, options.code_decay
    )
