"""The draw's GPU kernel, without a GPU: interpreted it draws as the CPU does, and it compiles for one."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

from meissonic.drawing import draw, draw_from_softmax

INTERPRETED = """
import torch
from meissonic.draw_kernel import draw_on_gpu
from meissonic.drawing import draw
generator = torch.Generator().manual_seed(0)
for num_codes in (1, 7, 64, 300):
    logits = 4 * torch.randn(2, 9, num_codes, generator=generator)
    uniform = torch.rand(2, 9, generator=generator)
    uniform[0, 0], uniform[0, 1] = 0.0, 1 - 2.0**-24
    codes, log_probs = draw_on_gpu(logits, uniform)
    expected, of_expected = draw(logits, uniform)
    assert torch.equal(codes, expected)
    torch.testing.assert_close(log_probs, of_expected)
broken = torch.full((1, 1, 8), float("nan"))
assert draw_on_gpu(broken, torch.rand(1, 1))[1].isnan().all()
"""


@pytest.mark.slow
def test_interpreted_it_draws_what_the_cpu_draws() -> None:
    pytest.importorskip("triton")
    environment = os.environ | {"TRITON_INTERPRET": "1"}
    subprocess.run([sys.executable, "-c", INTERPRETED], check=True, env=environment)


@pytest.mark.parametrize("architecture", [80, 90])
def test_it_compiles_for_gpus(architecture: int) -> None:
    triton = pytest.importorskip("triton")
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from meissonic.draw_kernel import _draw

    names = {"logits": "*fp32", "uniform": "*fp32", "codes": "*i64", "log_probs": "*fp32"}
    source = ASTSource(
        fn=_draw,
        signature=names | {"num_codes": "i32", "block": "constexpr"},
        constexprs={"block": 8192},
    )
    compiled = triton.compile(source, target=GPUTarget("cuda", architecture, 32), options={"num_warps": 8})
    assert compiled.asm["cubin"]


def test_both_ways_draw_the_same_codes() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = 5 * torch.randn(4, 500, 64, generator=generator)
    uniform = torch.rand(4, 500, generator=generator)
    codes, log_probs = draw(logits.clone(), uniform)
    expected, of_expected = draw_from_softmax(logits, uniform)
    assert torch.equal(codes, expected)
    torch.testing.assert_close(log_probs, of_expected, atol=1e-5, rtol=1e-5)


def test_the_last_code_is_drawn_where_rounding_passes_it() -> None:
    codes, _ = draw(torch.zeros(1, 1, 4), torch.tensor([[1.0]]))
    assert codes.item() == 3
