"""Train a module on many workers: DDP and FSDP2, recomputed activations, compiled blocks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp import (
    FSDPModule,
    MixedPrecisionPolicy,
    fully_shard,
    register_fsdp_forward_method,
)
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint

from meissonic.transformer import DoubleBlock, SingleBlock

Parallel = Literal["ddp", "fsdp"]


def blocks(module: nn.Module) -> Iterator[nn.Module]:
    """The transformer's blocks in a module, in order."""
    return (part for part in module.modules() if isinstance(part, DoubleBlock | SingleBlock))


def checkpoint_blocks(module: nn.Module, every: int) -> None:
    """Recompute the activations of every n-th block in the backward pass instead of keeping them."""
    for number, block in enumerate(blocks(module)):
        if number % every == 0:
            block.forward = _recomputed(block.forward)


def _recomputed(forward: Callable[..., Any]) -> Callable[..., Any]:
    def run(*arguments: Any) -> Any:
        return checkpoint(forward, *arguments, use_reentrant=False)

    return run


def parallelise(
    module: nn.Module, parallel: Parallel, dtype: torch.dtype, methods: Sequence[str] = ()
) -> nn.Module:
    """The module as all workers call it together, each with its own samples.

    Args:
        module: On its device; with fsdp its parameters become this worker's shards.
        parallel: `ddp`: each worker has all weights, gradients are averaged. `fsdp`: each has a share of
            weights, gradients and moments, and gathers a block's weights while it runs; not of frozen ones.
        dtype: With fsdp, of gathered weights; gradients are averaged in float32. Products are in the dtype of
            the caller's autocast.
        methods: Other methods of the module, beside its forward, that compute with its parameters.
    """
    if parallel == "ddp":
        if dist.get_world_size() == 1:
            return module
        device = next(module.parameters()).device
        return DistributedDataParallel(module, device_ids=[device] if device.type == "cuda" else None)
    policy = MixedPrecisionPolicy(
        param_dtype=None if dtype == torch.float32 else dtype,
        reduce_dtype=torch.float32,
        # rotations and micro-conditions are float32: 1,365 pixels would become 1,368
        cast_forward_inputs=False,
    )
    for block in blocks(module):
        fully_shard(block, mp_policy=policy)
    frozen = {parameter for parameter in module.parameters() if not parameter.requires_grad}
    # also after a forward pass without a backward one: what was gathered must not outlive a change of weights
    fully_shard(module, mp_policy=policy, reshard_after_forward=True, ignored_params=frozen)
    for name in methods:
        register_fsdp_forward_method(module, name)
    return module


def without_sync(module: nn.Module, skip: bool) -> AbstractContextManager[None]:
    """A block whose backward pass, if `skip`, adds to the gradients without averaging them."""
    if isinstance(module, FSDPModule):
        module.set_requires_gradient_sync(not skip)
        return nullcontext()
    if isinstance(module, DistributedDataParallel) and skip:
        return module.no_sync()
    return nullcontext()


def clip_gradients(module: nn.Module, max_norm: float) -> Tensor:
    """Scale the gradients down to a norm; gives the norm that they had, over all workers, without waiting."""
    norm = nn.utils.clip_grad_norm_(module.parameters(), max_norm, foreach=True)
    return norm.full_tensor() if hasattr(norm, "full_tensor") else norm
