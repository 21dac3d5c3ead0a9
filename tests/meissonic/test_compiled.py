"""Compiled blocks and captured graphs: the same tokens as without, up to the order of sums."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from meissonic import Meissonic, Sampler, SamplerConfig, SampleRequest
from meissonic.drawing import draw
from meissonic.inference.captured import Captured
from tests.meissonic.golden import FOLDER


def tokens_of(sampler: Sampler, count: int = 3) -> Tensor:
    side = 4 * sampler.model.vq.config.factor
    config = SamplerConfig(num_steps=4, guidance_scale=3.0)
    requests = [
        SampleRequest(prompt=f"prompt {i}", seed=i, width=side, height=side, config=config)
        for i in range(count)
    ]
    return torch.cat([tokens.cpu() for _, tokens in sampler.sample(requests, batch_size=2)])


@pytest.mark.reliability
@pytest.mark.timeout(900)
def test_compiled_on_the_cpu_it_makes_the_same_tokens() -> None:
    torch.set_num_threads(1)
    model = Meissonic.from_pretrained(FOLDER)
    expected = tokens_of(Sampler(model))
    assert torch.equal(tokens_of(Sampler(model, compiled=True)), expected)


@pytest.mark.gpu
def test_captured_on_a_gpu_it_makes_the_same_tokens_again_and_again() -> None:
    model = Meissonic.from_pretrained(FOLDER, torch.float32, "cuda")
    expected = tokens_of(Sampler(model))
    captured = Sampler(model, compiled=True)
    for _ in range(2):
        assert (tokens_of(captured) == expected).float().mean() > 0.99


@pytest.mark.gpu
def test_a_captured_function_computes_with_the_inputs_of_each_call() -> None:
    captured = Captured(lambda x, y: x * 2 + y)
    for shape in ((4,), (8,), (4,)):
        x, y = torch.rand(shape, device="cuda"), torch.rand(shape, device="cuda")
        assert torch.equal(captured(x, y), x * 2 + y)


@pytest.mark.gpu
def test_the_kernel_draws_the_codes_that_other_operations_draw() -> None:
    from meissonic.draw_kernel import draw_on_gpu

    generator = torch.Generator("cuda").manual_seed(0)
    logits = 4 * torch.randn(8, 300, 8192, generator=generator, device="cuda")
    uniform = torch.rand(8, 300, generator=generator, device="cuda")
    codes, log_probs = draw_on_gpu(logits, uniform)
    expected, of_expected = draw(logits.clone(), uniform)
    assert (codes == expected).float().mean() > 0.99  # sums in another order
    same = codes == expected
    torch.testing.assert_close(log_probs[same], of_expected[same], atol=1e-4, rtol=1e-4)
