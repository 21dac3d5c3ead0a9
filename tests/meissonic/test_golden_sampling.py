"""Scheduler and sampler against recorded steps, trajectories and images of the reference.

Every size, prompt and setting comes from the folder that `MEISSONIC_GOLDEN` names. Marked `golden`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from meissonic import Sampler, SamplerConfig, SampleRequest
from meissonic.config import TEMPERATURE_END
from meissonic.masking import masked_fraction, num_to_mask, remask, temperatures
from meissonic.remasking import Batch
from meissonic.requests import batch_shape
from meissonic.vq import to_uint8
from tests.meissonic import golden as recorded
from tests.meissonic.golden import Golden, RecordedNoise, close, tolerance_at

pytestmark = pytest.mark.golden


def span(temperature: Any) -> tuple[float, float]:
    return tuple(temperature) if isinstance(temperature, list) else (temperature, TEMPERATURE_END)  # type: ignore[return-value]


@pytest.mark.parametrize("case", [c for c in recorded.names("scheduler") if "add_noise" not in c])
def test_scheduler_step(golden: Golden, case: str) -> None:
    settings = golden.values[case]
    mask_id, steps = golden.model.scheduler.mask_token_id, settings["num_inference_steps"]
    temperature = temperatures(span(settings["temperature"]), steps)
    close(temperature, golden[f"{case}/temperatures"], 1e-6)

    sample = golden[f"{case}/sample"].flatten(1)
    unknown = sample == mask_id
    assert unknown.sum(1).tolist() == settings["masked_before"]
    logits = golden[f"{case}/logits"].flatten(2).transpose(1, 2)
    everywhere = torch.arange(sample.shape[1]).expand_as(sample)
    last = settings["timestep"] == 0
    uniform = golden.tensors.get(f"{case}/uniform_noise", torch.zeros(sample.shape))[None]
    noise = RecordedNoise(golden[f"{case}/exp_noise"][None], uniform)
    codes, log_probs = noise.draw(0, everywhere, logits)
    drawn = torch.where(unknown, codes, sample)
    assert torch.equal(
        drawn.view_as(golden[f"{case}/pred_original_sample"]), golden[f"{case}/pred_original_sample"]
    )

    step = steps - 1 - settings["timestep"]
    again = torch.zeros_like(unknown)
    if not last:
        fraction = settings["starting_mask_ratio"] * masked_fraction(
            settings["masking_schedule"], step + 1, steps
        )
        count = num_to_mask(fraction, sample.shape[1], unknown.sum(1))
        uniform_BN = noise.confidence_uniform(0, sample.shape[1])
        again = remask(log_probs, unknown, uniform_BN, count, temperature[step].expand(len(sample)))
    after = drawn.masked_fill(again, mask_id)
    assert torch.equal(after.view_as(golden[f"{case}/prev_sample"]), golden[f"{case}/prev_sample"])
    assert again.sum(1).tolist() == settings["masked_after"]


@pytest.mark.parametrize("case", [c for c in recorded.names("scheduler") if "add_noise" in c])
def test_start_images_are_masked_by_the_schedule(golden: Golden, case: str) -> None:
    settings = golden.values[case]
    schedule = settings.get("masking_schedule", case.rpartition("_")[2])
    done = settings["num_inference_steps"] - settings["timestep"]
    fraction = masked_fraction(schedule, done, settings["num_inference_steps"])
    masked = golden[f"{case}/uniform_noise"] < fraction
    noised = golden[f"{case}/sample"].masked_fill(masked, golden.model.scheduler.mask_token_id)
    assert torch.equal(noised, golden[f"{case}/noised"].to(noised.dtype))


def run(sampler: Sampler, batch: Batch, noise: RecordedNoise) -> tuple[Tensor, Tensor]:
    """Tokens after each step and tokens drawn in each step, both [steps, B, H, W]."""
    tokens, drawn = [], []
    sampler.run(batch, noise, lambda _step, t, d: (tokens.append(t), drawn.append(d)))
    return torch.stack(tokens), torch.stack(drawn)


@pytest.mark.parametrize("case", recorded.names("trajectory"))
def test_guided_trajectories_token_by_token(golden: Golden, case: str) -> None:
    model, settings = golden.model, golden.values[case]
    tokens = golden[f"{case}/tokens"]
    height, width = (side * model.vq.config.factor for side in tokens.shape[2:])
    requests = [
        SampleRequest(
            prompt=prompt,
            negative_prompt=settings["negative"],
            seed=0,
            height=height,
            width=width,
            config=SamplerConfig(
                num_steps=settings["steps"],
                guidance_scale=settings["guidance_scale"],
                temperature=span(settings["temperature"]),
            ),
            score=settings["micro_conds"][-1],
        )
        for prompt in settings["prompts"]
    ]
    noise = RecordedNoise(golden[f"{case}/exp_noise"], golden[f"{case}/uniform_noise"])
    sampler = Sampler(model)
    batch = sampler.prepare(requests, batch_shape(model, requests[0]), noise)
    close(batch.conditions.micro_conds_B5, torch.tensor(settings["micro_conds"]).expand(len(requests), -1))
    assert torch.equal(batch.tokens_BHW, tokens[0])

    everywhere = torch.arange(tokens[0, 0].numel()).expand(len(requests), -1)
    for name, step in (("logits_first", 0), ("logits_last", settings["steps"] - 1)):
        logits = sampler.logits(batch, tokens[step], step, everywhere)
        # guidance multiplies the rounding of its two halves
        close(
            logits.mT.view_as(golden[f"{case}/{name}"]),
            golden[f"{case}/{name}"],
            tolerance_at(settings["steps"] - 1, 2e-4),
        )

    after, drawn = run(sampler, batch, noise)
    assert torch.equal(after, tokens[1:])
    assert torch.equal(drawn, golden[f"{case}/pred_original"])


def pipeline_request(settings: dict[str, Any], **changes: Any) -> SampleRequest:
    return SampleRequest(
        prompt=settings["prompt"],
        negative_prompt=settings.get("negative_prompt", ""),
        seed=0,
        height=settings["height"],
        width=settings["width"],
        config=SamplerConfig(
            num_steps=settings["num_inference_steps"],
            guidance_scale=settings["guidance_scale"],
            temperature=span(settings["temperature"]),
            masking_schedule=settings.get("schedule"),
        ),
        **changes,
    )


def test_prompt_to_image(golden: Golden) -> None:
    model, settings = golden.model, golden.values["pipeline"]
    request = pipeline_request(settings)
    noise = RecordedNoise(golden["pipeline/exp_noise"], golden["pipeline/uniform_noise"])
    sampler = Sampler(model)
    batch = sampler.prepare([request], batch_shape(model, request), noise)
    close(batch.conditions.micro_conds_B5[0], torch.tensor(settings["micro_conds"]))
    tokens, _ = run(sampler, batch, noise)
    assert torch.equal(tokens, golden["pipeline/tokens_per_step"])
    pixels = model.vq.decode(tokens[-1])
    top = golden["pipeline/image_top"]
    close(pixels[..., : top.shape[-2], :].clip(0, 1), top)
    levels = to_uint8(pixels)[0].int() - golden["pipeline/image_uint8"].int()
    assert levels.abs().max() <= 1


def test_prompt_to_image_without_guidance(golden: Golden) -> None:
    model, settings = golden.model, golden.values["pipeline_nocfg"]
    request = pipeline_request(settings)
    noise = RecordedNoise(golden["pipeline_nocfg/exp_noise"], golden["pipeline_nocfg/uniform_noise"])
    sampler = Sampler(model)
    batch = sampler.prepare([request], batch_shape(model, request), noise)
    assert batch.negative is None
    assert torch.equal(run(sampler, batch, noise)[0][-1], golden["pipeline_nocfg/tokens"])


def start_image(golden: Golden, name: str) -> Tensor:
    pixels = np.array(Image.open(golden.folder / name).convert("RGB"))
    return torch.from_numpy(pixels).permute(2, 0, 1).float() / 255


def check_image_run(golden: Golden, case: str, request: SampleRequest, noise: RecordedNoise) -> None:
    model = golden.model
    sampler = Sampler(model)
    batch = sampler.prepare([request], batch_shape(model, request), noise)
    assert torch.equal(batch.tokens_BHW, golden[f"{case}/start_tokens"])
    tokens, _ = run(sampler, batch, noise)
    assert torch.equal(tokens, golden[f"{case}/tokens_per_step"])
    first, last = golden.values[case]["image_rows"]
    rows = to_uint8(model.vq.decode(tokens[-1]))[:, first:last].permute(0, 3, 1, 2).int()
    assert (rows - golden[f"{case}/image_rows_uint8"].int()).abs().max() <= 1


def test_image_to_image(golden: Golden) -> None:
    settings = golden.values["img2img"]
    image = start_image(golden, "img2img_input.png")
    request = pipeline_request(settings, image=image, strength=settings["strength"])
    assert torch.equal(golden.model.vq.encode(image[None]), golden["img2img/encoded_tokens"])
    noise = RecordedNoise(
        golden["img2img/exp_noise"],
        golden["img2img/uniform_noise"],
        first_step=request.start_step,
        start=golden["img2img/uniform_init"],
    )
    check_image_run(golden, "img2img", request, noise)


def test_inpainting(golden: Golden) -> None:
    factor = golden.model.vq.config.factor
    mask = Image.open(golden.folder / "inpaint_mask.png").convert("L")
    coarse = mask.resize((mask.width // factor, mask.height // factor), Image.Resampling.LANCZOS)
    request = pipeline_request(
        golden.values["inpaint"],
        image=start_image(golden, "inpaint_input.png"),
        mask=torch.from_numpy(np.array(coarse) >= 128),
    )
    noise = RecordedNoise(golden["inpaint/exp_noise"], golden["inpaint/uniform_noise"])
    check_image_run(golden, "inpaint", request, noise)
