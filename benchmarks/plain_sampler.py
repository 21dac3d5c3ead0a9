"""The sampler in its plainest form, as the reference writes it: what `meissonic.sampling` is compared with.

Whole forwards of both guidance halves, guidance on the logits, and a draw at every position of the grid.
Shapes: B batch, H x W grid, N positions, M of them that are asked for, V codes.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from meissonic import Meissonic
from meissonic.masking import temperatures
from meissonic.noise import Noise
from meissonic.requests import SampleRequest


class GeneratorNoise:
    """Noise of one generator that the samples of a batch share, drawn as the reference draws it."""

    def __init__(self, batch: int, seed: int, device: str | torch.device = "cpu") -> None:
        self.batch, self.generator = batch, torch.Generator(device).manual_seed(seed)

    def draw(self, step: int, positions_BM: Tensor, logits_BMV: Tensor) -> tuple[Tensor, Tensor]:
        """See `Noise`."""
        probs_BMV = logits_BMV.softmax(-1)
        drawn = torch.multinomial(probs_BMV.flatten(0, 1), 1, generator=self.generator)
        codes = drawn.view(positions_BM.shape)
        return codes, probs_BMV.gather(-1, codes[..., None])[..., 0].log()

    def confidence_uniform(self, step: int, num_positions: int) -> Tensor:
        """See `Noise`."""
        shape = (self.batch, num_positions)
        return torch.rand(shape, generator=self.generator, device=self.generator.device)

    def start_uniform(self, num_positions: int) -> Tensor:
        """See `Noise`; text-to-image asks for none."""
        return self.confidence_uniform(0, num_positions)


class SharedNoise:
    """The same noise for both samplers, whichever positions they ask for: exponential races, by step."""

    def __init__(self, batch: int, num_positions: int, num_codes: int, device: str | torch.device) -> None:
        self.shape, self.device = (batch, num_positions, num_codes), device

    def _generator(self, step: int) -> torch.Generator:
        return torch.Generator(self.device).manual_seed(step)

    def draw(self, step: int, positions_BM: Tensor, logits_BMV: Tensor) -> tuple[Tensor, Tensor]:
        """See `Noise`."""
        noise = torch.empty(self.shape, device=self.device).exponential_(generator=self._generator(step))
        noise = noise.gather(1, positions_BM[..., None].expand(-1, -1, self.shape[-1]))
        probs_BMV = logits_BMV.softmax(-1)
        codes = (probs_BMV / noise).argmax(-1)
        return codes, probs_BMV.gather(-1, codes[..., None])[..., 0].log()

    def confidence_uniform(self, step: int, num_positions: int) -> Tensor:
        """See `Noise`."""
        generator = self._generator(1000 + step)
        return torch.rand(self.shape[:2], generator=generator, device=self.device)

    def start_uniform(self, num_positions: int) -> Tensor:
        """See `Noise`; text-to-image asks for none."""
        return self.confidence_uniform(0, num_positions)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PlainBatch:
    """Guided text-to-image requests of one shape, their texts encoded; halves one after the other, 2B."""

    tokens_BHW: Tensor
    text_BLC: Tensor
    pooled_BP: Tensor
    micro_conds_B5: Tensor
    guidance_scale_B: Tensor
    temperatures_BS: Tensor
    num_steps: int


@torch.inference_mode()
def plain_batch(model: Meissonic, requests: Sequence[SampleRequest]) -> PlainBatch:
    """Everything masked, negative prompts before the prompts."""
    device, factor = model.device, model.vq.config.factor
    texts = [r.negative_prompt for r in requests] + [r.prompt for r in requests]
    text_BLC, pooled_BP = model.text_encoder(model.tokenizer(texts).to(device))
    micro = [(float(r.width), float(r.height), 0.0, 0.0, r.score) for r in requests]
    grid = (len(requests), requests[0].height // factor, requests[0].width // factor)
    num_steps = requests[0].config.num_steps
    return PlainBatch(
        tokens_BHW=torch.full(grid, model.scheduler.mask_token_id, device=device),
        text_BLC=text_BLC,
        pooled_BP=pooled_BP,
        micro_conds_B5=torch.tensor(micro + micro, device=device),
        guidance_scale_B=torch.tensor([r.config.guidance_scale for r in requests], device=device),
        temperatures_BS=torch.stack([temperatures(r.config.temperature, num_steps) for r in requests]).to(
            device
        ),
        num_steps=num_steps,
    )


@torch.inference_mode()
def plain_logits(model: Meissonic, batch: PlainBatch, tokens_BHW: Tensor, step: int) -> Tensor:
    """Guided logits of every position, fp32 [B, N, V]."""
    timestep = torch.full((1,), batch.num_steps - 1 - step, device=tokens_BHW.device)
    twice = torch.cat([tokens_BHW, tokens_BHW])
    logits = model.transformer(twice, batch.text_BLC, batch.pooled_BP, batch.micro_conds_B5, timestep)
    unconditional, conditional = logits.chunk(2)
    guided = unconditional + batch.guidance_scale_B.to(logits)[:, None, None, None] * (
        conditional - unconditional
    )
    return guided.flatten(2).transpose(1, 2).float()


@torch.inference_mode()
def plain_sample_tokens(
    model: Meissonic, batch: PlainBatch, noise: Noise, after: list[Tensor] | None = None
) -> Tensor:
    """All steps of a guided text-to-image batch with the cosine schedule: int64 tokens [B, H, W].

    `after`, if given, collects the tokens [B, H, W] after each step.
    """
    mask_id, num_steps = model.scheduler.mask_token_id, batch.num_steps
    tokens = batch.tokens_BHW.flatten(1)
    everywhere = torch.arange(tokens.shape[1], device=tokens.device).expand_as(tokens)
    for step in range(num_steps):
        unknown = tokens == mask_id
        codes, log_probs = noise.draw(
            step, everywhere, plain_logits(model, batch, tokens.view_as(batch.tokens_BHW), step)
        )
        drawn = torch.where(unknown, codes, tokens)
        if step < num_steps - 1:
            progress = torch.tensor(step + 1, dtype=torch.float32) / num_steps
            wanted = (tokens.shape[1] * torch.cos(progress * math.pi / 2)).floor().long().to(tokens.device)
            count = torch.minimum(unknown.sum(1, keepdim=True) - 1, wanted).clamp_min(1)
            uniform = noise.confidence_uniform(step, tokens.shape[1]).clamp_min(1e-20)
            gumbel = -torch.log((-torch.log(uniform)).clamp_min(1e-20))
            confidence = log_probs + batch.temperatures_BS[:, step, None] * gumbel
            confidence = torch.where(unknown, confidence, torch.inf)
            cut_off = confidence.sort(dim=1).values.gather(1, count)
            drawn = drawn.masked_fill(confidence < cut_off, mask_id)
        tokens = drawn
        if after is not None:
            after.append(tokens.view_as(batch.tokens_BHW))
    return tokens.view_as(batch.tokens_BHW)
