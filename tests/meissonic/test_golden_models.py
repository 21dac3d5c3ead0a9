"""Text encoder, transformer and VQ against recorded outputs of the reference.

Every size, prompt and setting comes from the folder that `MEISSONIC_GOLDEN` names. Marked `golden`.
"""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

from meissonic.layers import rope_table
from meissonic.sampling import Sampler
from meissonic.transformer import position_ids
from tests.meissonic import golden as recorded
from tests.meissonic.golden import Golden, close, tolerance_at

pytestmark = pytest.mark.golden


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


def test_vq_encodes_and_decodes(golden: Golden) -> None:
    vq = golden.model.vq
    latents = vq.latents(golden["vqvae/pixels"])
    close(latents, golden["vqvae/latents"])
    assert torch.equal(vq.encode(golden["vqvae/pixels"]), golden["vqvae/token_ids"])
    close(vq.lookup(golden["vqvae/token_ids"]), golden["vqvae/quantized"])
    close(vq.decode(golden["vqvae/decode_tokens"]), golden["vqvae/decode_raw"])


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
    hidden, _ = Sampler(golden.model).encode_text([""])
    close(hidden[0], golden["text/hidden_penultimate"][prompts.index("")])
