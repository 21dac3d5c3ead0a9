"""Training steps of the released configuration, by micro-batch: samples/s, share of the dense rate, memory.

A frozen text tower in bfloat16; the transformer's weights in float32, its products in bfloat16; gradients,
their clipping, the optimizer's step and the weights' average are all in a step.
"""

from __future__ import annotations

import dataclasses
import gc
import time
from functools import partial
from typing import Any

import torch

from benchmarks.gpu.kernels import profiled
from benchmarks.gpu.memory import peak_memory, unless_out_of_memory
from benchmarks.gpu.scale import DTYPE, Scale, main_model
from benchmarks.matmul import SquareProduct
from benchmarks.random_models import TOKENIZER, random_module, random_text_encoder
from benchmarks.timing import interleaved, ratios, significant, spread
from meissonic import cost
from meissonic.averaging import AveragedWeights
from meissonic.compiling import compile_parts
from meissonic.objective import ObjectiveConfig, num_masked, parameter_groups
from meissonic.parallel import blocks, checkpoint_blocks, clip_gradients
from meissonic.text import Tokenizer
from meissonic.training import MaskedImageModel, TrainingBatch
from meissonic.transformer import Transformer

LIMIT_S = 130.0
"""Cases that would begin later are left out."""
STEPS = 4
"""Timed together, so that what starts them is ahead of the device, as in training."""
SHOWN = 15
OBJECTIVE = ObjectiveConfig()
SEED = 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
    """A way to train."""

    batch_size: int
    compiled: bool = True
    checkpoint_every: int | None = None

    @property
    def name(self) -> str:
        """Its name in the results."""
        how = "compiled" if self.compiled else "eager"
        return f"{how}_{self.batch_size}" + ("_checkpointed" if self.checkpoint_every else "")


def measure(scale: Scale, device: str) -> dict[str, Any]:
    """All cases, the most important first; one that fails says why, and the others go on."""
    main_model.cache_clear()
    began = time.monotonic()
    result: dict[str, Any] = {}
    for case in _cases(scale):
        _free(device)
        case_began = time.monotonic()
        if case_began - began > LIMIT_S:
            result[case.name] = {"left_out": f"{LIMIT_S:g} s had passed"}
            continue
        try:
            result[case.name] = unless_out_of_memory(partial(_at, scale, device, case))
        except Exception as error:  # a compiler may fail in any way
            result[case.name] = {"error": f"{type(error).__name__}: {error}"}
        result[case.name]["elapsed_s"] = significant(time.monotonic() - case_began)
    if all("samples_per_s" not in case for case in result.values()):
        raise RuntimeError(f"no case could be measured: {result}")
    return result


def _cases(scale: Scale) -> list[Case]:
    sizes = scale.training_batch_sizes
    if not scale.compiles:
        eager = [Case(batch_size=size, compiled=False) for size in sizes]
        return [*eager, Case(batch_size=max(sizes), compiled=False, checkpoint_every=1)]
    return [
        *(Case(batch_size=size) for size in sizes),
        Case(batch_size=max(sizes), checkpoint_every=1),
        Case(batch_size=sizes[0], compiled=False),
    ]


def _free(device: str) -> None:
    """Drop what the case before has made, compiled code too."""
    torch.compiler.reset()
    gc.collect()
    if torch.device(device).type == "cuda":
        torch.cuda.empty_cache()


class _Trainer:
    """A model and what trains it; call it to do `STEPS` steps."""

    def __init__(self, scale: Scale, device: str, case: Case) -> None:
        self.device, self.grid, self.batch_size = device, scale.side // scale.vq.factor, case.batch_size
        self.model = MaskedImageModel(
            random_module(Transformer, scale.transformer, device=device),
            random_text_encoder(scale.text, DTYPE, device),
            empty_ids_L=Tokenizer.from_folder(TOKENIZER)([""])[0].to(device),
            mask_token_id=scale.transformer.vocab_size - 1,
            config=OBJECTIVE,
            seed=SEED,
            train_text=False,
        )
        if case.checkpoint_every is not None:
            checkpoint_blocks(self.model, case.checkpoint_every)
        if case.compiled:
            compile_parts(blocks(self.model))
        self.optimizer = torch.optim.AdamW(parameter_groups(self.model, 0.01), lr=1e-4, fused=True)
        self.average = AveragedWeights(self.model, 0.9999)
        generator = torch.Generator(device).manual_seed(SEED)
        ids = (case.batch_size, scale.text.max_position_embeddings)
        codes = (case.batch_size, self.grid, self.grid)
        pixels = float(scale.side)
        conditions = torch.tensor([pixels, pixels, 0.0, 0.0, 6.0], device=device)
        input_ids = torch.randint(scale.text.vocab_size, ids, generator=generator, device=device)
        self.batch = TrainingBatch(
            index=0,
            slots_B=torch.arange(case.batch_size, device=device),
            tokens_BHW=torch.randint(
                scale.transformer.codebook_size, codes, generator=generator, device=device
            ),
            micro_conds_B5=conditions.expand(case.batch_size, -1),
            input_ids_BL=input_ids,
            pooled_ids_BL=input_ids,
        )
        self.masked: list[int] = []

    def __call__(self) -> None:
        for _ in range(STEPS):
            self.step()

    def step(self) -> None:
        """A whole step, without waiting for it."""
        index = len(self.masked)
        count = num_masked(OBJECTIVE, SEED, index, self.batch_size, self.grid**2)
        self.masked.append(count)
        with torch.autocast(torch.device(self.device).type, DTYPE):
            summed, _ = self.model(dataclasses.replace(self.batch, index=index))
        (summed / count).backward()
        clip_gradients(self.model, 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.average.update(self.model)


def _at(scale: Scale, device: str, case: Case) -> dict[str, Any]:
    trainer = _Trainer(scale, device, case)
    began = time.monotonic()
    trainer.step()
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)
    first_step_s = time.monotonic() - began
    memory = peak_memory(device, trainer.step)
    product = SquareProduct(max(scale.matmul_sizes), DTYPE, device, products=scale.matmul_products)
    seconds = interleaved(
        {"matmul": product, "train": trainer}, repetitions=scale.repetitions, device=device
    ).wall
    steps = [s / STEPS for s in seconds["train"]]
    masked = trainer.masked[-scale.repetitions * STEPS :]
    share_of_batch = sum(masked) / len(masked) / case.batch_size
    flops = case.batch_size * (
        cost.training_flops(scale.transformer, trainer.grid, trainer.grid, share_of_batch)
        + cost.text_flops(scale.text)
    )
    samples = [case.batch_size / s for s in steps]
    return memory | {
        "first_step_s": significant(first_step_s),
        "step_seconds": spread(steps),
        "samples_per_s": spread(samples),
        "tokens_per_s": spread([trainer.grid**2 * rate for rate in samples]),
        "masked_per_sample": significant(share_of_batch),
        "tflops_per_step": significant(flops / 1e12),
        "tflop_per_s": spread([flops / s / 1e12 for s in steps]),
        "fraction_of_matmul_rate": spread(
            ratios([flops / s for s in steps], [product.flops / s for s in seconds["matmul"]])
        ),
        "operations_of_a_step": profiled(trainer.step, device, SHOWN),
    }
