"""Many workers train as one: gradients of two, of recomputed and of accumulated parts."""

from __future__ import annotations

import copy
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn
from torch._dynamo.utils import counters

from meissonic import Meissonic
from meissonic.averaging import AveragedWeights
from meissonic.compiling import compile_parts
from meissonic.objective import ObjectiveConfig, num_masked
from meissonic.parallel import (
    Parallel,
    blocks,
    checkpoint_blocks,
    clip_gradients,
    parallelise,
    without_sync,
)
from meissonic.training import MaskedImageModel, TrainingBatch
from tests.meissonic.golden import FOLDER

BATCH_SIZE, GRID, SEED, WORKERS, MAX_NORM = 4, 4, 3, 2, 0.5


def masked_image_model() -> MaskedImageModel:
    parts = Meissonic.from_pretrained(FOLDER)
    return MaskedImageModel(
        parts.transformer,
        parts.text_encoder,
        empty_ids_L=parts.tokenizer([""])[0],
        mask_token_id=parts.scheduler.mask_token_id,
        config=ObjectiveConfig(drop_rate=0.5),
        seed=SEED,
        train_text=False,
    )


def samples(first: int, count: int) -> TrainingBatch:
    """Some of the batch's samples."""
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(16, (BATCH_SIZE, GRID, GRID), generator=generator)
    ids = Meissonic.from_pretrained(FOLDER).tokenizer(["red", "green", "blue", "a fox"])
    rows = slice(first, first + count)
    return TrainingBatch(
        index=0,
        slots_B=torch.arange(BATCH_SIZE)[rows],
        tokens_BHW=tokens[rows],
        micro_conds_B5=torch.tensor([64.0, 64.0, 0.0, 0.0, 6.0]).repeat(count, 1),
        input_ids_BL=ids[rows],
        pooled_ids_BL=ids[rows],
    )


def backward(module: nn.Module, first: int, parts: tuple[int, ...], num_workers: int) -> None:
    """Gradients of the whole batch's mean loss; those of workers are averaged, so the loss is scaled up."""
    masked = num_masked(ObjectiveConfig(), SEED, 0, BATCH_SIZE, GRID**2)
    for number, count in enumerate(parts):
        with without_sync(module, number < len(parts) - 1):
            (module(samples(first, count))[0] * num_workers / masked).backward()
        first += count


def gradients(model: nn.Module) -> dict[str, Tensor]:
    """Whole ones, of all trained parameters, by name."""
    whole = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    return {n: g.full_tensor() if hasattr(g, "full_tensor") else g.clone() for n, g in whole.items()}


def work(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/group", rank=rank, world_size=WORKERS)
    for parallel in ("ddp", "fsdp"):
        model = masked_image_model()
        module = parallelise(model, parallel, torch.float32)
        for name, parts in (("whole", (2,)), ("accumulated", (1, 1))):
            model.zero_grad()
            backward(module, rank * 2, parts, WORKERS)
            found = gradients(model)
            norm = clip_gradients(model, MAX_NORM)
            clipped = gradients(model)
            if rank == 0:
                torch.save((found, norm, clipped), folder / f"{parallel}_{name}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def two_workers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what two workers computed."""
    folder = tmp_path_factory.mktemp("two_workers")
    mp.spawn(work, args=(folder,), nprocs=WORKERS)
    return folder


@pytest.fixture(scope="module")
def alone() -> MaskedImageModel:
    """One process's model, with the gradients of the whole batch."""
    model = masked_image_model()
    backward(model, 0, (BATCH_SIZE,), 1)
    return model


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """But for rounding, of each gradient's own norm: those of the tiny model reach hundreds."""
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        assert (found[name] - gradient).norm() <= 2e-5 * gradient.norm(), name


@pytest.mark.slow
@pytest.mark.parametrize("parts", ["whole", "accumulated"])
@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_two_workers_have_the_gradients_of_one(
    two_workers: Path, alone: MaskedImageModel, parallel: Parallel, parts: str
) -> None:
    found, norm, clipped = torch.load(two_workers / f"{parallel}_{parts}.pt")
    one = copy.deepcopy(alone)
    for name, parameter in alone.named_parameters():
        one.get_parameter(name).grad = None if parameter.grad is None else parameter.grad.clone()
    assert_same(found, gradients(one))
    torch.testing.assert_close(norm, clip_gradients(one, MAX_NORM), rtol=1e-5, atol=1e-5)
    assert norm > MAX_NORM
    assert_same(clipped, gradients(one))


@pytest.mark.parametrize("every", [1, 2])
def test_recomputed_activations_give_the_same_gradients(alone: MaskedImageModel, every: int) -> None:
    model = masked_image_model()
    checkpoint_blocks(model, every)
    backward(model, 0, (BATCH_SIZE,), 1)
    assert_same(gradients(model), gradients(alone))


def test_accumulated_parts_give_the_gradients_of_the_whole(alone: MaskedImageModel) -> None:
    model = masked_image_model()
    backward(model, 0, (1, 3), 1)
    assert_same(gradients(model), gradients(alone))


@pytest.fixture
def one_worker(tmp_path: Path) -> Iterator[None]:
    """A process group of this process."""
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/group", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.usefixtures("one_worker")
def test_a_worker_alone_needs_no_wrapper_for_ddp() -> None:
    model = masked_image_model()
    assert parallelise(model, "ddp", torch.float32) is model


@pytest.mark.usefixtures("one_worker")
def test_shards_in_half_precision_leave_rotations_and_micro_conditions_exact() -> None:
    model = masked_image_model()
    module = parallelise(model, "fsdp", torch.bfloat16)
    seen: dict[str, Tensor] = {}

    def note_rope(_: nn.Module, arguments: tuple[Any, ...]) -> None:
        seen["cosines"], seen["sines"] = arguments[-1]

    next(blocks(model)).register_forward_pre_hook(note_rope)
    condition = model.transformer.condition

    def noted(pooled: Tensor, micro_conds: Tensor, timestep: Tensor) -> Tensor:
        seen["micro_conds"] = micro_conds
        return condition(pooled, micro_conds, timestep)

    model.transformer.condition = noted  # type: ignore[method-assign]
    batch = samples(0, 2)
    batch.micro_conds_B5[:, 0] = 1365.0  # half precision would make it 1368
    with torch.autocast("cpu", torch.bfloat16):
        assert module(batch)[0].isfinite()
    assert {name: value.dtype for name, value in seen.items()} == dict.fromkeys(seen, torch.float32)
    assert (seen["micro_conds"][:, 0] == 1365.0).all()


@pytest.mark.usefixtures("one_worker")
def test_shards_have_the_average_of_whole_weights() -> None:
    whole, sharded = masked_image_model(), masked_image_model()
    parallelise(sharded, "fsdp", torch.float32)
    averages = [AveragedWeights(model, decay=0.9) for model in (whole, sharded)]
    for model, average in zip((whole, sharded), averages, strict=True):
        with torch.no_grad():
            for parameter in model.transformer.parameters():
                parameter.mul_(2.0)
        average.update(model)
    with averages[0].applied_to(whole), averages[1].applied_to(sharded):
        for name, parameter in whole.transformer.named_parameters():
            shard: Any = sharded.transformer.get_parameter(name)
            assert torch.equal(shard.full_tensor(), parameter), name


@pytest.fixture
def without_code_generation(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What is compiled is traced, whole or not at all, and runs as it is; torch allows two versions."""
    compiled = functools.partialmethod(nn.Module.compile, backend="eager", fullgraph=True)
    monkeypatch.setattr(nn.Module, "compile", compiled)
    torch.compiler.reset()
    counters.clear()
    with torch._dynamo.config.patch(recompile_limit=2):
        yield
    torch.compiler.reset()


@pytest.mark.slow
@pytest.mark.usefixtures("without_code_generation")
@pytest.mark.parametrize("every", [0, 1])
def test_blocks_compile_whole_and_those_of_a_kind_once(alone: MaskedImageModel, every: int) -> None:
    model = masked_image_model()
    if every:
        checkpoint_blocks(model, every)
    compile_parts(blocks(model))
    backward(model, 0, (BATCH_SIZE,), 1)
    assert_same(gradients(model), gradients(alone))
    assert len(list(blocks(model))) == 4
    assert counters["stats"]["unique_graphs"] == 2
    assert not counters["graph_break"]


@pytest.mark.slow
@pytest.mark.usefixtures("without_code_generation")
def test_blocks_are_compiled_for_more_sizes_than_torch_allows() -> None:
    model = masked_image_model()
    compile_parts(blocks(model))
    sizes = (1, 2, 3)
    for count in sizes:
        ids = samples(0, 1).input_ids_BL.repeat(count, 1)
        batch = TrainingBatch(
            index=0,
            slots_B=torch.arange(count),
            tokens_BHW=torch.zeros(count, GRID, GRID, dtype=torch.int64),
            micro_conds_B5=torch.zeros(count, 5),
            input_ids_BL=ids,
            pooled_ids_BL=ids,
        )
        model(batch)
    assert counters["stats"]["unique_graphs"] == 2 * len(sizes)
