"""The model against recorded outputs of the reference. `MEISSONIC_GOLDEN` names another folder of the form.

Every size, prompt and setting comes from the folder's own files. Marked `golden`.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from meissonic import Meissonic, SamplerConfig, SampleRequest
from meissonic.config import TEMPERATURE_END
from meissonic.layers import rope_table
from meissonic.masking import masked_fraction, num_to_mask, remask, temperatures
from meissonic.objective import TIMESTEP_SCALE, mask_tokens, masking_rate, mim_loss, parameter_groups
from meissonic.sampling import Batch, batch_shape, encode_text, guided_logits, prepare_batch, sample_tokens
from meissonic.transformer import position_ids
from meissonic.vq import to_uint8
from tests.meissonic import golden as recorded
from tests.meissonic.golden import TOLERANCE, Golden, RecordedNoise, tolerance_at

pytestmark = pytest.mark.golden


@pytest.fixture(scope="module")
def golden() -> Golden:
    return recorded.load()


def close(actual: Tensor, expected: Tensor, tolerance: float = TOLERANCE) -> None:
    torch.testing.assert_close(actual.float(), expected.float(), atol=tolerance, rtol=tolerance)


def span(temperature: Any) -> tuple[float, float]:
    return tuple(temperature) if isinstance(temperature, list) else (temperature, TEMPERATURE_END)  # type: ignore[return-value]


# text


def test_prompts_become_the_recorded_ids(golden: Golden) -> None:
    assert torch.equal(golden.model.tokenizer(golden.values["text/prompts"]), golden["text/input_ids"])


def test_text_encoder_reproduces_hidden_states_and_pooled_output(golden: Golden) -> None:
    hidden, pooled = golden.model.text_encoder(golden["text/input_ids"])
    close(hidden, golden["text/hidden_penultimate"])
    close(pooled, golden["text/text_embeds"])
    last = golden.model.text_encoder.tower.forward_intermediates(
        golden["text/input_ids"], indices=1, normalize_intermediates=True, output_fmt="NLC"
    )["text_intermediates"][0]
    close(last, golden["text/last_hidden_state"])


# transformer


def transformer_inputs(golden: Golden, grid: str) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return tuple(golden[f"{grid}/{n}"] for n in ("tokens", "encoder_hidden_states", "pooled", "micro_conds"))  # type: ignore[return-value]


@pytest.mark.parametrize("grid", recorded.names("transformer"))
@pytest.mark.parametrize("timestep", ["scalar_t", "vector_t"])
def test_transformer_logits(golden: Golden, grid: str, timestep: str) -> None:
    timesteps = golden[f"{grid}/{timestep}/timestep"]
    logits = golden.model.transformer(*transformer_inputs(golden, grid), timesteps)
    close(logits, golden[f"{grid}/{timestep}/logits"], tolerance_at(timesteps.max().item()))


@pytest.mark.parametrize("grid", recorded.names("transformer_odd"))
def test_odd_grids_are_padded_as_recorded(golden: Golden, grid: str) -> None:
    case = golden.values[grid]
    logits = golden.model.transformer(*transformer_inputs(golden, grid), torch.tensor([case["timestep"]]))
    assert list(logits.shape) == case["logits_shape"]
    close(logits, golden[f"{grid}/logits"], tolerance_at(case["timestep"]))


@pytest.mark.parametrize(
    "grid", [g for g in recorded.names("transformer") if f"{g}/act" in recorded.names(g)]
)
def test_intermediate_activations(golden: Golden, grid: str) -> None:
    model, act = golden.model.transformer, f"{grid}/act"
    seen: dict[str, Any] = {}

    def watch(name: str, module: torch.nn.Module) -> torch.utils.hooks.RemovableHandle:
        return module.register_forward_hook(lambda _m, _i, out: seen.__setitem__(name, out))

    watched = {
        "embed": model.embed,
        "cond_embed": model.cond_embed,
        "temb": model.time_text_embed,
        "context": model.encoder_proj_layer_norm,
        "project_to_hidden": model.project_to_hidden,
        "double0": model.transformer_blocks[0],
        "single0": model.single_transformer_blocks[0],
        "project_from_hidden": model.project_from_hidden,
        "down_block": model.down_block,
        "up_block": model.up_block,
    }
    handles = [watch(name, module) for name, module in watched.items() if module is not None]
    timestep = golden[f"{grid}/scalar_t/timestep"]
    model(*transformer_inputs(golden, grid), timestep)
    for handle in handles:
        handle.remove()
    seen["double0_image"], seen["double0_text"] = seen.pop("double0")
    names = [name for name in golden.tensors if name.startswith(act + "/")]
    assert names
    for name in names:
        close(seen[name.removeprefix(act + "/")], golden[name], tolerance_at(timestep.max().item()))


@pytest.mark.parametrize(
    "grid", [g for g in recorded.names("transformer") if f"{g}/rope_cos" in recorded.names(g)]
)
def test_rotary_tables(golden: Golden, grid: str) -> None:
    num_text = golden[f"{grid}/encoder_hidden_states"].shape[1]
    height, width = golden[f"{grid}/tokens"].shape[1:]
    if golden.model.transformer.config.downsample:
        height, width = (height + 1) // 2, (width + 1) // 2
    ids = position_ids(num_text, height, width, torch.device("cpu"))
    assert torch.equal(ids[num_text:], golden[f"{grid}/img_ids"])
    cos, sin = rope_table(ids, golden.model.transformer.config.axes_dims_rope)
    close(cos, golden[f"{grid}/rope_cos"], 1e-6)
    close(sin, golden[f"{grid}/rope_sin"], 1e-6)


@pytest.mark.parametrize(
    "case",
    [
        c
        for g in recorded.names("transformer")
        for c in recorded.names(f"{g}/scalar_t")
        if c.endswith("_bf16")
    ],
)
def test_bfloat16_logits_correlate(golden: Golden, case: str) -> None:
    grid = case.split("/scalar_t/")[0]
    half = copy.deepcopy(golden.model.transformer).to(torch.bfloat16)
    tokens, *floats = transformer_inputs(golden, grid)
    logits = half(tokens, *(x.to(torch.bfloat16) for x in floats), golden[f"{grid}/scalar_t/timestep"])
    both = torch.stack([logits.float().flatten(), golden[case].float().flatten()])
    assert torch.corrcoef(both)[0, 1] > 0.99


# VQ


def test_vq_encodes_and_decodes(golden: Golden) -> None:
    vq = golden.model.vq
    latents = vq.latents(golden["vqvae/pixels"])
    close(latents, golden["vqvae/latents"])
    assert torch.equal(vq.encode(golden["vqvae/pixels"]), golden["vqvae/token_ids"])
    close(vq.lookup(golden["vqvae/token_ids"]), golden["vqvae/quantized"])
    close(vq.decode(golden["vqvae/decode_tokens"]), golden["vqvae/decode_raw"])


# scheduler


@pytest.mark.parametrize("case", [c for c in recorded.names("scheduler") if "add_noise" not in c])
def test_scheduler_step(golden: Golden, case: str) -> None:
    settings = golden.values[case]
    mask_id, steps = golden.model.scheduler.mask_token_id, settings["num_inference_steps"]
    temperature = temperatures(span(settings["temperature"]), steps)
    close(temperature, golden[f"{case}/temperatures"], 1e-6)

    sample = golden[f"{case}/sample"].flatten(1)
    unknown = sample == mask_id
    assert unknown.sum(1).tolist() == settings["masked_before"]
    probs = golden[f"{case}/logits"].flatten(2).transpose(1, 2).softmax(-1)
    everywhere = torch.arange(sample.shape[1]).expand_as(sample)
    last = settings["timestep"] == 0
    uniform = golden.tensors.get(f"{case}/uniform_noise", torch.zeros(sample.shape))[None]
    noise = RecordedNoise(golden[f"{case}/exp_noise"][None], uniform)
    codes = noise.draw(0, everywhere, probs)
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
        log_probs = probs.gather(-1, codes[..., None])[..., 0].log()
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


# sampler


def run(model: Meissonic, batch: Batch, noise: RecordedNoise) -> tuple[Tensor, Tensor]:
    """Tokens after each step and tokens drawn in each step, both [steps, B, H, W]."""
    tokens, drawn = [], []
    sample_tokens(model, batch, noise, lambda _step, t, d: (tokens.append(t), drawn.append(d)))
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
    batch = prepare_batch(model, requests, batch_shape(model, requests[0]), noise)
    close(batch.micro_conds_B5, torch.tensor(settings["micro_conds"]).expand(len(requests), -1))
    assert torch.equal(batch.tokens_BHW, tokens[0])

    everywhere = torch.arange(tokens[0, 0].numel()).expand(len(requests), -1)
    for name, step in (("logits_first", 0), ("logits_last", settings["steps"] - 1)):
        logits = guided_logits(model, batch, tokens[step], step, everywhere)
        # guidance multiplies the rounding of its two halves
        close(
            logits.mT.view_as(golden[f"{case}/{name}"]),
            golden[f"{case}/{name}"],
            tolerance_at(settings["steps"] - 1, 2e-4),
        )

    after, drawn = run(model, batch, noise)
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
    batch = prepare_batch(model, [request], batch_shape(model, request), noise)
    close(batch.micro_conds_B5[0], torch.tensor(settings["micro_conds"]))
    tokens, _ = run(model, batch, noise)
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
    batch = prepare_batch(model, [request], batch_shape(model, request), noise)
    assert batch.negative_text_BLC is None
    assert torch.equal(run(model, batch, noise)[0][-1], golden["pipeline_nocfg/tokens"])


def start_image(golden: Golden, name: str) -> Tensor:
    pixels = np.array(Image.open(golden.folder / name).convert("RGB"))
    return torch.from_numpy(pixels).permute(2, 0, 1).float() / 255


def check_image_run(golden: Golden, case: str, request: SampleRequest, noise: RecordedNoise) -> None:
    model = golden.model
    batch = prepare_batch(model, [request], batch_shape(model, request), noise)
    assert torch.equal(batch.tokens_BHW, golden[f"{case}/start_tokens"])
    tokens, _ = run(model, batch, noise)
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


# training


def test_training_loss_and_gradients(golden: Golden) -> None:
    rate = masking_rate(golden["train/uniform_t"])
    close(rate, golden["train/mask_prob"], 1e-6)
    mask_id = golden.model.scheduler.mask_token_id
    inputs, labels = mask_tokens(golden["train/image_tokens"], rate, golden["train/perm"], mask_id)
    assert torch.equal(inputs == mask_id, golden["train/mask"])
    assert torch.equal(inputs, golden["train/input_ids"])
    assert torch.equal(labels, golden["train/labels"])

    model = copy.deepcopy(golden.model.transformer).requires_grad_(True)
    conditions = (golden[f"train/{n}"] for n in ("encoder_hidden_states", "pooled", "micro_conds"))
    logits = model(inputs, *conditions, rate * TIMESTEP_SCALE)
    tolerance = tolerance_at(rate.max().item() * TIMESTEP_SCALE)
    close(logits, golden["train/logits"], tolerance)
    loss = mim_loss(logits, labels)
    close(loss, golden["train/loss"], tolerance)

    loss.backward()
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    assert {n for n, _ in model.named_parameters()} - gradients.keys() == set(
        golden.values["train/no_grad_params"]
    )
    for name, norm in golden.values["train/grad_norms"].items():
        torch.testing.assert_close(
            gradients[name].norm().item(), norm, rtol=max(1e-4, tolerance), atol=1e-6, msg=name
        )
    total = torch.linalg.vector_norm(torch.stack([g.norm() for g in gradients.values()])).item()
    torch.testing.assert_close(
        total, golden.values["train/total_grad_norm"], rtol=max(1e-4, tolerance), atol=1e-6
    )
    for name in (n for n in golden.tensors if n.startswith("train/grad/")):
        torch.testing.assert_close(
            gradients[name.removeprefix("train/grad/")],
            golden[name],
            rtol=max(1e-3, tolerance),
            atol=max(1e-4, tolerance),
        )


def test_weight_decay_leaves_out_the_recorded_parameters(golden: Golden) -> None:
    model = golden.model.transformer
    names = {id(p): n for n, p in model.named_parameters()}
    _, undecayed = parameter_groups(model, weight_decay=0.1)
    assert {names[id(p)] for p in undecayed["params"]} == set(golden.values["train/no_decay_params"])  # type: ignore[attr-defined]


GRIDS = [*recorded.names("transformer"), *recorded.names("transformer_odd"), "train"]


@pytest.mark.parametrize("case", [grid for grid in GRIDS if f"{grid}/img_ids" in recorded.names(grid)])
def test_image_positions_count_the_grid_of_the_blocks(golden: Golden, case: str) -> None:
    tokens = "train/image_tokens" if case == "train" else f"{case}/tokens"
    height, width = golden[tokens].shape[1:]
    if golden.model.transformer.config.downsample:
        height, width = (height + 1) // 2, (width + 1) // 2
    assert torch.equal(position_ids(0, height, width, torch.device("cpu")), golden[f"{case}/img_ids"])


def test_unconditional_text_is_the_empty_prompt(golden: Golden) -> None:
    prompts: list[str] = golden.values["text/prompts"]
    if "" not in prompts:
        pytest.skip("the folder records no empty prompt")
    hidden, _ = encode_text(golden.model, [""])
    close(hidden[0], golden["text/hidden_penultimate"][prompts.index("")])
