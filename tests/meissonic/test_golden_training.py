"""The training objective against recorded losses and gradients of the reference.

Every size, prompt and setting comes from the folder that `MEISSONIC_GOLDEN` names. Marked `golden`.
"""

from __future__ import annotations

import copy

import pytest
import torch

from meissonic.objective import (
    IGNORED,
    TIMESTEP_SCALE,
    mask_tokens,
    masked_cross_entropy,
    masking_rate,
    parameter_groups,
)
from tests.meissonic.golden import Golden, close, tolerance_at

pytestmark = pytest.mark.golden


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
    masked = labels != IGNORED
    loss = masked_cross_entropy(logits.permute(0, 2, 3, 1)[masked], labels[masked]).mean()
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
    model = golden.model.transformer.requires_grad_(True)
    names = {id(p): n for n, p in model.named_parameters()}
    _, undecayed = parameter_groups(model, weight_decay=0.1)
    assert {names[id(p)] for p in undecayed["params"]} == set(golden.values["train/no_decay_params"])  # type: ignore[attr-defined]
