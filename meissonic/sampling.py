"""The sampler: prompts -> token grids -> pixels, in batches of one static shape.

A sample's tokens depend on its request, the model and the batch size that the whole run uses, never on its
neighbours: noise is counted per sample, and short batches are filled up. Shapes: B batch, N positions (H x
W), M positions whose logits a step needs, V codes, L text positions.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from meissonic.checkpoint import Meissonic
from meissonic.config import MaskingSchedule, SamplerConfig
from meissonic.masking import masked_counts, masked_fraction, num_to_mask, remask, temperatures
from meissonic.noise import Noise, PhiloxNoise

MAX_SEED = 2**63 - 1
DEFAULT_SCORE = 6.0
"""Aesthetic score that the released pipeline asks for."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class SampleRequest:
    """One image to make.

    Text alone: text-to-image. With `image`: image-to-image by `strength`, or with `mask` in- and outpainting.
    """

    prompt: str
    seed: int
    width: int
    height: int
    config: SamplerConfig = dataclasses.field(default_factory=SamplerConfig)
    negative_prompt: str = ""
    score: float = DEFAULT_SCORE
    """The last micro-condition."""
    image: Tensor | None = None
    """Start image [3, height, width] in [0, 1]."""
    mask: Tensor | None = None
    """bool [height / factor, width / factor]: true tokens are made anew, the others kept."""
    strength: float = 1.0
    """Image-to-image: the fraction of the steps that are run, in (0, 1]."""

    @property
    def start_step(self) -> int:
        """The first step that is run."""
        if self.image is None or self.mask is not None:
            return 0
        return self.config.num_steps - int(self.config.num_steps * self.strength)


@dataclasses.dataclass(frozen=True, kw_only=True)
class BatchShape:
    """What the samples of one batch share."""

    height: int
    width: int
    num_steps: int
    start_step: int
    guided: bool
    masking_schedule: MaskingSchedule
    from_image: bool


@dataclasses.dataclass(frozen=True, kw_only=True)
class Batch:
    """Tensors of one batch of samples, all of the same shape."""

    shape: BatchShape
    tokens_BHW: Tensor
    """Start tokens, the mask token where unknown."""
    text_BLC: Tensor
    pooled_BP: Tensor
    negative_text_BLC: Tensor | None
    negative_pooled_BP: Tensor | None
    micro_conds_B5: Tensor
    guidance_scale_B: Tensor
    temperatures_BS: Tensor
    softmax_temperature_B: Tensor
    starting_fraction_B: Tensor
    """Share of positions that the mask schedule counts from: 1, or the mask's area in inpainting."""


class RequestError(ValueError):
    """A request that cannot be sampled; the message says which value and what would do."""


def check_request(model: Meissonic, request: SampleRequest) -> None:
    """Raise `RequestError` before any compute if `request` cannot be sampled with `model`."""
    factor = model.vq.config.factor * (2 if model.transformer.config.downsample else 1)
    for side in ("width", "height"):
        size = getattr(request, side)
        if size < factor or size % factor:
            raise RequestError(f"{side} is {size}; it must be a positive multiple of {factor} for this model")
    if not 0 <= request.seed <= MAX_SEED:
        raise RequestError(f"seed is {request.seed}; it must be in [0, 2^63)")
    if not math.isfinite(request.score):
        raise RequestError(f"score is {request.score}; it must be finite")
    if request.image is None:
        if request.mask is not None:
            raise RequestError("mask without an image; give the image whose unmasked part is kept")
        return
    if request.image.shape != (3, request.height, request.width):
        raise RequestError(
            f"image is {tuple(request.image.shape)}, should be (3, {request.height}, {request.width})"
        )
    if request.mask is not None:
        grid = (request.height // model.vq.config.factor, request.width // model.vq.config.factor)
        if request.mask.shape != grid:
            raise RequestError(f"mask is {tuple(request.mask.shape)}, should be the token grid {grid}")
        if not request.mask.any():
            raise RequestError("mask marks nothing to be made anew")
    elif not 0 < request.strength <= 1 or int(request.config.num_steps * request.strength) < 1:
        raise RequestError(
            f"strength is {request.strength} of {request.config.num_steps} steps; "
            "it must be in (0, 1] and leave a step"
        )


def batch_shape(model: Meissonic, request: SampleRequest) -> BatchShape:
    """Requests with the same answer can share a batch."""
    return BatchShape(
        height=request.height,
        width=request.width,
        num_steps=request.config.num_steps,
        start_step=request.start_step,
        guided=request.config.guided,
        masking_schedule=request.config.masking_schedule or model.scheduler.masking_schedule,
        from_image=request.image is not None,
    )


def sample(
    model: Meissonic, requests: Sequence[SampleRequest], *, batch_size: int
) -> Iterator[tuple[list[int], Tensor]]:
    """Sample tokens, batch by batch.

    Args:
        model: on its device.
        requests: in any order and mix; they are grouped by `batch_shape`.
        batch_size: samples per batch. Smaller groups are filled up to it, and the filling thrown away.

    Yields:
        Indices into `requests` and their tokens, int64 [len(indices), H, W].

    Raises:
        RequestError: before any compute, if a request is bad or there is none.
    """
    if not requests:
        raise RequestError("no requests to sample")
    if batch_size < 1:
        raise RequestError(f"batch_size is {batch_size}; it must be at least 1")
    groups: dict[BatchShape, list[int]] = {}
    for index, request in enumerate(requests):
        check_request(model, request)
        groups.setdefault(batch_shape(model, request), []).append(index)
    return _sample_groups(model, requests, groups, batch_size)


@torch.inference_mode()
def _sample_groups(
    model: Meissonic, requests: Sequence[SampleRequest], groups: dict[BatchShape, list[int]], batch_size: int
) -> Iterator[tuple[list[int], Tensor]]:
    for shape, members in groups.items():
        for start in range(0, len(members), batch_size):
            indices = members[start : start + batch_size]
            filled = [requests[i] for i in indices] + [requests[indices[-1]]] * (batch_size - len(indices))
            noise = PhiloxNoise([r.seed for r in filled], model.device)
            batch = prepare_batch(model, filled, shape, noise)
            yield indices, sample_tokens(model, batch, noise)[: len(indices)]


def prepare_batch(
    model: Meissonic, requests: Sequence[SampleRequest], shape: BatchShape, noise: Noise
) -> Batch:
    """Encode the texts and the start images of requests that share `shape`."""
    device = model.device
    factor = model.vq.config.factor
    text, pooled = encode_text(model, [r.prompt for r in requests])
    negative_text = negative_pooled = None
    if shape.guided:
        negative_text, negative_pooled = encode_text(model, [r.negative_prompt for r in requests])
    tokens = torch.full(
        (len(requests), shape.height // factor, shape.width // factor),
        model.scheduler.mask_token_id,
        device=device,
    )
    fractions = torch.ones(len(requests), device=device)
    if shape.from_image:
        tokens, fractions = _start_tokens(model, requests, shape, noise)
    micro = [(float(r.width), float(r.height), 0.0, 0.0, r.score) for r in requests]
    per_sample = [temperatures(r.config.temperature, shape.num_steps) for r in requests]
    return Batch(
        shape=shape,
        tokens_BHW=tokens,
        text_BLC=text,
        pooled_BP=pooled,
        negative_text_BLC=negative_text,
        negative_pooled_BP=negative_pooled,
        micro_conds_B5=torch.tensor(micro, device=device),
        guidance_scale_B=torch.tensor([r.config.guidance_scale for r in requests], device=device),
        temperatures_BS=torch.stack(per_sample).to(device),
        softmax_temperature_B=torch.tensor([r.config.softmax_temperature for r in requests], device=device),
        starting_fraction_B=fractions,
    )


def encode_text(model: Meissonic, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Texts -> hidden states [B, L, C] and pooled output [B, P]."""
    hidden, pooled = model.text_encoder(model.tokenizer(texts).to(model.device))
    return hidden, pooled


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


@torch.inference_mode()
def sample_tokens(
    model: Meissonic, batch: Batch, noise: Noise, on_step: Callable[[int, Tensor, Tensor], None] | None = None
) -> Tensor:
    """Run the steps of one batch: int64 tokens [B, H, W].

    None is masked at the end, but all of a sample's are if its logits were not finite.
    `on_step(step, tokens, drawn)` sees each step's outcome: the tokens with those masked again, and before
    that.
    """
    shape = batch.shape
    mask_id = model.scheduler.mask_token_id
    tokens = batch.tokens_BHW.flatten(1)
    num_positions = tokens.shape[1]
    # text-to-image masks by the schedule alone, so the counts are known; from an image they differ by sample
    counts = [num_positions] * shape.num_steps
    if not shape.from_image:
        counts = masked_counts(shape.masking_schedule, num_positions, shape.num_steps)
    finite_B = torch.ones(len(tokens), dtype=torch.bool, device=tokens.device)
    for step in range(shape.start_step, shape.num_steps):
        unknown = tokens == mask_id
        positions = _positions_needed(unknown, counts[step])
        probs = _probabilities(model, batch, tokens, step, positions)
        codes = noise.draw(step, positions, probs)
        chosen = probs.gather(-1, codes[..., None])[..., 0]
        finite_B &= chosen.isfinite().all(1)
        drawn = torch.where(unknown, tokens.scatter(1, positions, codes), tokens)
        if step == shape.num_steps - 1:
            tokens = drawn
        else:
            log_probs = torch.zeros(tokens.shape, device=tokens.device).scatter(1, positions, chosen.log())
            fraction = batch.starting_fraction_B * masked_fraction(
                shape.masking_schedule, step + 1, shape.num_steps
            ).to(tokens.device)
            again = remask(
                log_probs,
                unknown,
                noise.confidence_uniform(step, num_positions),
                num_to_mask(fraction, num_positions, unknown.sum(1)),
                batch.temperatures_BS[:, step],
            )
            tokens = drawn.masked_fill(again, mask_id)
        if on_step is not None:
            on_step(step, tokens.view_as(batch.tokens_BHW), drawn.view_as(batch.tokens_BHW))
    return tokens.masked_fill(~finite_B[:, None], mask_id).view_as(batch.tokens_BHW)


def _positions_needed(unknown_BN: Tensor, count: int) -> Tensor:
    """`count` positions of each sample with all unknown ones among them, int64 [B, M], in order."""
    # ties in the confidences may leave fewer unknown than `count`
    return unknown_BN.int().argsort(dim=1, descending=True, stable=True)[:, :count]


def _probabilities(
    model: Meissonic, batch: Batch, tokens_BN: Tensor, step: int, positions_BM: Tensor
) -> Tensor:
    """fp32 probabilities of the codes [B, M, V] at `positions`, guidance included."""
    logits = guided_logits(model, batch, tokens_BN.view_as(batch.tokens_BHW), step, positions_BM)
    return F.softmax(logits / batch.softmax_temperature_B[:, None, None], dim=-1)


def guided_logits(
    model: Meissonic, batch: Batch, tokens_BHW: Tensor, step: int, positions_BM: Tensor
) -> Tensor:
    """fp32 logits [B, M, V] at `positions`, guided.

    The head runs at those positions only, and the two halves are combined before its last product, which is
    linear: W u + s (W c - W u) = W (u + s (c - u)).
    """
    head = model.transformer.mlm_layer
    # the remaining step's number, not the masking rate: what the released weights are sampled with
    timestep = torch.full((1,), batch.shape.num_steps - 1 - step, device=tokens_BHW.device)
    text, pooled, micro, tokens, positions = (
        batch.text_BLC, batch.pooled_BP, batch.micro_conds_B5, tokens_BHW, positions_BM,
    )  # fmt: skip
    if batch.negative_text_BLC is not None and batch.negative_pooled_BP is not None:
        text = torch.cat([batch.negative_text_BLC, text])
        pooled = torch.cat([batch.negative_pooled_BP, pooled])
        micro, tokens, positions = (torch.cat([x, x]) for x in (micro, tokens, positions))
    hidden = model.transformer.hidden(tokens, text, pooled, micro, timestep).flatten(1, 2)
    features = head.features(hidden.gather(1, positions[..., None].expand(-1, -1, hidden.shape[-1]))).float()
    if batch.shape.guided:
        unconditional, conditional = features.chunk(2)
        features = unconditional + batch.guidance_scale_B[:, None, None] * (conditional - unconditional)
    return head.logits(features.to(head.conv2.weight.dtype)).float()


@torch.inference_mode()
def decode(model: Meissonic, tokens_BHW: Tensor, *, batch_size: int) -> Tensor:
    """Tokens -> pixels [B, 3, height, width], about [0, 1]; short batches are filled up to `batch_size`."""
    filling = tokens_BHW[-1:].expand(batch_size - len(tokens_BHW), -1, -1)
    return model.vq.decode(torch.cat([tokens_BHW, filling]))[: len(tokens_BHW)]
