"""The sampler: prompts -> token grids -> pixels, in batches of one static shape.

    sampler = Sampler(Meissonic.from_pretrained(folder))
    for indices, tokens in sampler.sample(requests, batch_size=8):
        pixels = sampler.decode(tokens, batch_size=8)

A sample's tokens depend on its request, the model and the batch size that the whole run uses, never on its
neighbours: noise is counted per sample, and short batches are filled up. Shapes: B batch, N positions (H x
W), M positions whose logits a step needs, V codes, L text positions, D width.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import torch
from torch import Tensor

from meissonic.checkpoint import Meissonic
from meissonic.drawing import draw, draw_from_softmax
from meissonic.inference import Conditions, Network, Reductions, Reuse
from meissonic.inference.caches import Cache
from meissonic.masking import masked_counts, masked_fraction, temperatures
from meissonic.noise import Noise, PhiloxNoise
from meissonic.remasking import Batch, Remasking, timestep_at
from meissonic.requests import BatchShape, RequestError, SampleRequest, batch_shape, check_request
from meissonic.vq import prepare_decoder

ItemT = TypeVar("ItemT")
KEPT_TEXTS = 256
"""Encoded texts that are kept: 300 KiB each in the released model, in half precision."""
KEPT_FIRST_STEPS = 16
"""Unconditional halves of first steps that are kept: 8 MiB each at 1024 px."""


class Sampler:
    """Samples a model's images.

    It keeps products of the model's weights: make another when they change, or move to another device.

    Args:
        model: On its device, in evaluation mode.
        reductions: Exact reductions; a benchmark turns some off.
        compiled: Compile blocks and decoder, and replay captured graphs on a GPU: minutes at the start, for
            batches of few shapes.
    """

    def __init__(
        self, model: Meissonic, *, reductions: Reductions | None = None, compiled: bool = False
    ) -> None:
        self.model = model
        self.reductions = reductions = reductions or Reductions()
        self.network = Network(model.transformer, reductions, compiled=compiled)
        prepare_decoder(model.vq, compiled=compiled)
        self._draw = draw if reductions.one_pass_draw else draw_from_softmax
        if compiled and reductions.one_pass_draw and model.device.type == "cuda":
            from meissonic.draw_kernel import draw_on_gpu  # Triton is there where CUDA is

            self._draw = draw_on_gpu
        kept_texts = KEPT_TEXTS if reductions.cached_text else 0
        self._texts: Cache[tuple[str, int], tuple[Tensor, Tensor]] = Cache(kept_texts)
        self._first_steps: Cache[FirstStep, Tensor] = Cache(KEPT_FIRST_STEPS)

    def sample(
        self, requests: Sequence[SampleRequest], *, batch_size: int
    ) -> Iterator[tuple[list[int], Tensor]]:
        """Sample tokens, batch by batch.

        Args:
            requests: In any order and mix; they are grouped by `batch_shape`.
            batch_size: Samples a batch. Smaller groups are filled up to it, and the filling thrown away.

        Yields:
            Indices into `requests` and their tokens, int64 [len(indices), H, W]: none is masked, but all of a
            sample's are if its logits were not finite.

        Raises:
            RequestError: Before any compute, if a request is bad or there is none.
        """
        if not requests:
            raise RequestError("no requests to sample")
        if batch_size < 1:
            raise RequestError(f"batch_size is {batch_size}; it must be at least 1")
        groups: dict[BatchShape, list[int]] = {}
        for index, request in enumerate(requests):
            check_request(self.model, request)
            groups.setdefault(batch_shape(self.model, request), []).append(index)
        return self._sample_groups(requests, groups, batch_size)

    @torch.inference_mode()
    def _sample_groups(
        self, requests: Sequence[SampleRequest], groups: dict[BatchShape, list[int]], batch_size: int
    ) -> Iterator[tuple[list[int], Tensor]]:
        for shape, members in groups.items():
            for start in range(0, len(members), batch_size):
                indices = members[start : start + batch_size]
                filled = _filled([requests[i] for i in indices], batch_size)
                seeds = [request.seed for request in filled]
                noise = PhiloxNoise(seeds, self.model.device, self._draw)
                batch = self.prepare(filled, shape, noise)
                yield indices, self.run(batch, noise)[: len(indices)]

    @torch.inference_mode()
    def prepare(self, requests: Sequence[SampleRequest], shape: BatchShape, noise: Noise) -> Batch:
        """Encode the texts and the start images of requests that share `shape`."""
        model, device = self.model, self.model.device
        factor = model.vq.config.factor
        micro = [(float(r.width), float(r.height), 0.0, 0.0, r.score) for r in requests]
        micro_conds_B5 = torch.tensor(micro, device=device)
        negative_prompts = [r.negative_prompt for r in requests]
        conditions = self._conditions([r.prompt for r in requests], micro_conds_B5)
        negative = self._conditions(negative_prompts, micro_conds_B5) if shape.guided else None
        tokens = torch.full(
            (len(requests), shape.height // factor, shape.width // factor),
            model.scheduler.mask_token_id,
            device=device,
        )
        fractions = torch.ones(len(requests), device=device)
        if shape.from_image:
            tokens, fractions = _start_tokens(model, requests, shape, noise)
        per_sample = [temperatures(r.config.temperature, shape.num_steps) for r in requests]
        softmax_temperatures = [r.config.softmax_temperature for r in requests]
        return Batch(
            shape=shape,
            tokens_BHW=tokens,
            conditions=conditions,
            negative=negative,
            negative_prompts=tuple(negative_prompts),
            scores=tuple(r.score for r in requests),
            guidance_scale_B=torch.tensor([r.config.guidance_scale for r in requests], device=device),
            temperatures_BS=torch.stack(per_sample).to(device),
            softmax_temperature_B=torch.tensor(softmax_temperatures, device=device),
            confidence_threshold_B=torch.tensor(
                [r.config.confidence_threshold for r in requests], device=device
            ),
            starting_fraction_B=fractions,
        )

    def encode_text(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Texts -> hidden states [B, L, C] and pooled output [B, P]; those that are kept are not encoded."""

        def encode(missing: Sequence[tuple[str, int]]) -> list[tuple[Tensor, Tensor]]:
            model = self.model
            ids = model.tokenizer(_filled([text for text, _ in missing], len(texts))).to(model.device)
            hidden, pooled = model.text_encoder(ids)
            # copies: a row that is kept must not keep its batch
            return [(hidden[i].clone(), pooled[i].clone()) for i in range(len(missing))]

        # another batch size may round otherwise
        keys = [(text, len(texts)) for text in texts]
        hidden, pooled = zip(*self._texts.get_all(keys, encode), strict=True)
        return torch.stack(hidden), torch.stack(pooled)

    def _conditions(self, texts: Sequence[str], micro_conds_B5: Tensor) -> Conditions:
        return self.network.conditions(*self.encode_text(texts), micro_conds_B5)

    @torch.inference_mode()
    def run(
        self, batch: Batch, noise: Noise, on_step: Callable[[int, Tensor, Tensor], None] | None = None
    ) -> Tensor:
        """Run the steps of one batch: int64 tokens [B, H, W], see `sample`.

        `on_step(step, tokens, drawn)` sees each step's outcome: the tokens with those masked again, and
        before that. Nothing in here waits for the device.
        """
        shape = batch.shape
        mask_id = self.model.scheduler.mask_token_id
        tokens = batch.tokens_BHW.flatten(1)
        num_positions = tokens.shape[1]
        counts = self._counts(shape, num_positions)
        remasking = Remasking(batch)
        reuse = Reuse() if shape.reuse_interval > 1 else None
        finite_B = torch.ones(len(tokens), dtype=torch.bool, device=tokens.device)
        for step in range(shape.start_step, shape.num_steps):
            unknown = tokens == mask_id
            # the only wait for the device, and in this way of unmasking alone
            if shape.unmasking == "threshold" and not unknown.any():
                break
            positions = _positions_needed(unknown, counts[step])
            if reuse is not None:
                reuse.renew = (step - shape.start_step) % shape.reuse_interval == 0
            grid = tokens.view_as(batch.tokens_BHW)
            logits = self.logits(
                batch, grid, step, positions, timestep_B=remasking.timestep_B(step), reuse=reuse
            )
            codes, log_probs = noise.draw(step, positions, logits)
            finite_B &= log_probs.isfinite().all(1)
            drawn = torch.where(unknown, tokens.scatter(1, positions, codes), tokens)
            tokens = drawn
            if step < shape.num_steps - 1:
                zeros = torch.zeros(tokens.shape, device=tokens.device)
                uniform_BN = noise.confidence_uniform(step, num_positions)
                again = remasking.again(step, unknown, zeros.scatter(1, positions, log_probs), uniform_BN)
                tokens = drawn.masked_fill(again, mask_id)
            if on_step is not None:
                on_step(step, tokens.view_as(batch.tokens_BHW), drawn.view_as(batch.tokens_BHW))
        return tokens.masked_fill(~finite_B[:, None], mask_id).view_as(batch.tokens_BHW)

    def _counts(self, shape: BatchShape, num_positions: int) -> list[int]:
        """How many positions each step computes logits of."""
        # text-to-image masks by the schedule alone; from an image the counts differ by sample
        if shape.from_image or not self.reductions.masked_only:
            return [num_positions] * shape.num_steps
        return masked_counts(shape.masking_schedule, num_positions, shape.num_steps)

    @torch.inference_mode()
    def logits(
        self,
        batch: Batch,
        tokens_BHW: Tensor,
        step: int,
        positions_BM: Tensor,
        *,
        timestep_B: Tensor | None = None,
        reuse: Reuse | None = None,
    ) -> Tensor:
        """Guided float32 logits [B, M, V] at `positions`, divided by the softmax temperature.

        The two halves are combined before the head's last product, which is linear: W u + s (W c - W u) is
        W (u + s (c - u)). In the first step of text-to-image all tokens are masked.
        """
        if timestep_B is None:
            timestep_B = timestep_at(batch.shape.num_steps, step, tokens_BHW.device)
        features = self.network.features
        temperature = batch.softmax_temperature_B[:, None, None]
        if batch.negative is None or not batch.shape.is_guided(step):
            conditional = features(tokens_BHW, batch.conditions, timestep_B, positions_BM, reuse)
            return self.network.logits(conditional.float() / temperature)
        first = step == 0 and not batch.shape.from_image
        if first and self.reductions.cached_first_step and reuse is None:
            conditional = features(tokens_BHW, batch.conditions, timestep_B, positions_BM)
            unconditional = self._first_step(batch)
        else:
            conditions = batch.negative.joined(batch.conditions)
            tokens, positions = torch.cat([tokens_BHW, tokens_BHW]), torch.cat([positions_BM, positions_BM])
            timesteps = timestep_B if len(timestep_B) == 1 else torch.cat([timestep_B, timestep_B])
            unconditional, conditional = features(tokens, conditions, timesteps, positions, reuse).chunk(2)
        scale = batch.guidance_scale_B[:, None, None]
        if not self.reductions.guidance_first:
            unconditional, conditional = map(self.network.logits, (unconditional, conditional))
            return (unconditional + scale * (conditional - unconditional)) / temperature
        unconditional, conditional = unconditional.float(), conditional.float()
        return self.network.logits((unconditional + scale * (conditional - unconditional)) / temperature)

    def _first_step(self, batch: Batch) -> Tensor:
        """Features [B, N, D] of the unconditional halves when all is masked, which many images share."""
        assert batch.negative is not None
        keys = [
            FirstStep(shape=batch.shape, batch_size=len(batch.scores), negative_prompt=prompt, score=score)
            for prompt, score in zip(batch.negative_prompts, batch.scores, strict=True)
        ]
        samples = {key: index for index, key in enumerate(keys)}

        def compute(missing: Sequence[FirstStep]) -> Sequence[Tensor]:
            rows = torch.tensor(
                _filled([samples[key] for key in missing], len(keys)), device=batch.tokens_BHW.device
            )
            assert batch.negative is not None
            conditions = Conditions(**{k: v[rows] for k, v in batch.negative.tensors().items()})
            positions = torch.arange(batch.tokens_BHW[0].numel(), device=rows.device).expand(len(rows), -1)
            timestep = timestep_at(batch.shape.num_steps, 0, rows.device)
            features = self.network.features(batch.tokens_BHW[rows], conditions, timestep, positions)
            return [features[i].clone() for i in range(len(missing))]

        return torch.stack(self._first_steps.get_all(keys, compute))

    @torch.inference_mode()
    def decode(self, tokens_BHW: Tensor, *, batch_size: int) -> Tensor:
        """Tokens -> pixels [B, 3, height, width], about [0, 1]; fills up to `batch_size` as `sample` does."""
        filling = tokens_BHW[-1:].expand(batch_size - len(tokens_BHW), -1, -1)
        return self.model.vq.decode(torch.cat([tokens_BHW, filling]))[: len(tokens_BHW)]


@dataclasses.dataclass(frozen=True, kw_only=True)
class FirstStep:
    """What the unconditional half of a first step depends on."""

    shape: BatchShape
    batch_size: int
    negative_prompt: str
    score: float


def _start_tokens(
    model: Meissonic, requests: Sequence[SampleRequest], shape: BatchShape, noise: Noise
) -> tuple[Tensor, Tensor]:
    """Encoded start images with the mask token where they are made anew, and the masks' areas."""
    images = torch.stack([r.image for r in requests if r.image is not None])
    images = images.to(model.device, model.vq.quant_conv.weight.dtype)
    # one at a time: a convolution over a batch may round differently from one over a single image
    codes = torch.cat([model.vq.encode(image[None]) for image in images])
    fraction = masked_fraction(shape.masking_schedule, shape.start_step, shape.num_steps)
    by_strength = noise.start_uniform(codes[0].numel()).view_as(codes) < fraction.to(codes.device)
    masks = torch.stack(
        [m if r.mask is None else r.mask.to(codes.device) for r, m in zip(requests, by_strength, strict=True)]
    )
    areas = [1.0 if r.mask is None else r.mask.sum().item() / r.mask.numel() for r in requests]
    return codes.masked_fill(masks, model.scheduler.mask_token_id), torch.tensor(areas, device=codes.device)


def _positions_needed(unknown_BN: Tensor, count: int) -> Tensor:
    """`count` positions of each sample with all unknown ones among them, int64 [B, M], in order."""
    # ties in the confidences may leave fewer unknown than `count`
    return unknown_BN.int().argsort(dim=1, descending=True, stable=True)[:, :count]


def _filled(items: Sequence[ItemT], count: int) -> list[ItemT]:
    """The items, the last one repeated."""
    return [*items, *[items[-1]] * (count - len(items))]
