"""The draw as one GPU kernel: each row of logits is read once, and two numbers are written for it."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor


@triton.jit  # type: ignore[untyped-decorator]
def _draw(logits, uniform, codes, log_probs, num_codes, block: tl.constexpr):  # type: ignore[no-untyped-def]
    row = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, block)
    x = tl.load(logits + row * num_codes + column, mask=column < num_codes, other=float("-inf"))
    largest = tl.max(x, axis=0)
    weight = tl.exp(x - largest)
    cumulative = tl.cumsum(weight, axis=0)
    total = tl.sum(weight, axis=0)
    threshold = tl.load(uniform + row) * total
    code = tl.sum(((cumulative <= threshold) & (column < num_codes)).to(tl.int32), axis=0)
    code = tl.minimum(code, num_codes - 1)
    chosen = tl.load(logits + row * num_codes + code)
    tl.store(codes + row, code.to(tl.int64))
    tl.store(log_probs + row, chosen - largest - tl.log(total))


def draw_on_gpu(logits_BMV: Tensor, uniform_BM: Tensor) -> tuple[Tensor, Tensor]:
    """See `meissonic.drawing.draw`."""
    logits_BMV = logits_BMV.contiguous()
    codes = torch.empty(uniform_BM.shape, dtype=torch.int64, device=logits_BMV.device)
    log_probs = torch.empty(uniform_BM.shape, dtype=torch.float32, device=logits_BMV.device)
    num_codes = logits_BMV.shape[-1]
    block = triton.next_power_of_2(num_codes)
    _draw[(codes.numel(),)](
        logits_BMV, uniform_BM.contiguous(), codes, log_probs, num_codes, block=block, num_warps=8
    )
    return codes, log_probs
