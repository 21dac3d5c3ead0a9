"""What is measured during training, with the averaged weights: held-out loss by masking rate, and samples."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

from meissonic import Meissonic, Sampler, SampleRequest, to_uint8
from meissonic.config import SamplerConfig
from meissonic.model_folder import read_generation_config
from meissonic.text import Tokenizer
from meissonic.training import TrainingBatch
from pipelines.generation_config import with_own
from pipelines.models import fetch_model
from pipelines.training.job import StageJob
from pipelines.training.precision import computing
from pipelines.training.sample_grid import sample_grid
from pipelines.training.stage_model import StageModel
from pipelines.training.token_store import TokenStore, read_block
from pipelines.training.weights import below

_INDEX = 2**62
"""Of the held-out batch in the order of the data: masks that no step draws."""


class Validation:
    """Measures on all workers together."""

    def __init__(self, job: StageJob, store: TokenStore, trained: StageModel) -> None:
        self._job, self._trained, self._device = job, trained, trained.device
        self._rank, self._world_size = dist.get_rank(), dist.get_world_size()
        self._batch_size = job.config.workers.micro_batch_size or 32
        self._batches = list(self._held_out(store, trained.parts.tokenizer))

    def losses(self) -> dict[str, float]:
        """Mean cross-entropy of masked positions for each masking rate; empty without held-out images."""
        if not self._batches:
            return {}
        with self._trained.average.applied_to(self._trained.model):
            return {f"{rate:g}": self._loss(rate) for rate in self._job.config.validation.masking_rates}

    def _loss(self, rate: float) -> float:
        sums = torch.zeros(2, dtype=torch.float64, device=self._device)
        for batch, is_own_B in self._batches:
            rates_B = torch.full((len(is_own_B),), rate, device=self._device)
            with computing(self._job.config.precision, self._device):
                loss_B, count_B = self._trained.model.losses(batch, rates_B)
            sums += torch.stack([(loss_B * is_own_B).sum(), (count_B * is_own_B).sum()])
        dist.all_reduce(sums)
        return (sums[0] / sums[1]).item()

    def samples(self) -> NDArray[np.uint8] | None:
        """Samples of the prompts, RGB, uint8 [height, width, 3], on the first worker; None elsewhere."""
        if not self._job.config.validation.prompts:
            return None
        with self._trained.average.applied_to(self._trained.model):
            options = StateDictOptions(full_state_dict=True, cpu_offload=True, ignore_frozen_params=True)
            weights: dict[str, Any] = get_model_state_dict(self._trained.model, options=options)
        return self._sampled(self._model(weights)) if self._rank == 0 else None

    def _held_out(
        self, store: TokenStore, tokenizer: Tokenizer
    ) -> Iterator[tuple[TrainingBatch, torch.Tensor]]:
        """This worker's batches, as many as every other's: filled up with images that do not count."""
        left = self._job.config.validation.num_images
        slot = 0
        for grid, blocks in store.validation.items():
            for block in blocks:
                columns = read_block(store, block, grid)
                count = min(left, len(columns.captions))
                left -= count
                for start in range(0, count, self._batch_size * self._world_size):
                    rows = start + self._rank * self._batch_size + np.arange(self._batch_size)
                    is_own = torch.from_numpy(rows < count)
                    rows = rows.clip(max=count - 1)
                    captions = [columns.captions[row] for row in rows]
                    ids = tokenizer(captions)
                    batch = TrainingBatch(
                        index=_INDEX,
                        slots_B=torch.from_numpy(slot + rows),
                        tokens_BHW=torch.from_numpy(columns.tokens[rows].astype(np.int64)).view(-1, *grid),
                        micro_conds_B5=torch.from_numpy(columns.micro_conds[rows]),
                        input_ids_BL=ids,
                        pooled_ids_BL=ids,
                    )
                    yield batch.to(self._device), is_own.to(self._device)
                slot += count

    def _model(self, weights: dict[str, Any]) -> Meissonic:
        """A copy of the whole model with these weights, on the device."""
        parts = self._trained.parts
        with torch.device("meta"):
            transformer = type(parts.transformer)(parts.transformer.config)
        transformer.load_state_dict(below(weights, "transformer"), assign=True)
        text_encoder = parts.text_encoder
        if text := below(weights, "text_encoder"):  # it is trained too
            text_encoder = type(text_encoder)(text_encoder.config)
            text_encoder.load_state_dict(text)
            text_encoder.to(self._device).eval().requires_grad_(False)
        return dataclasses.replace(
            parts,
            transformer=transformer.to(self._device).eval().requires_grad_(False),
            vq=parts.vq.to(self._device),
            text_encoder=text_encoder,
        )

    def _sampled(self, model: Meissonic) -> NDArray[np.uint8]:
        job, settings = self._job, self._job.config.validation
        factor = model.vq.config.factor
        own = read_generation_config(fetch_model(job.config.init, job.init_digest).folder)
        config = SamplerConfig(**with_own(settings.sampler, own.sampler).model_dump(exclude={"preset"}))
        requests = [
            SampleRequest(
                prompt=prompt,
                seed=settings.seed + number,
                width=job.grid[1] * factor,
                height=job.grid[0] * factor,
                config=config,
            )
            for prompt in settings.prompts
            for number in range(settings.num_images_per_prompt)
        ]
        images: dict[int, NDArray[np.uint8]] = {}
        batch_size = min(self._batch_size, len(requests))
        with torch.compiler.set_stance("force_eager"), computing(job.config.precision, self._device):
            sampler = Sampler(model)
            for indices, tokens in sampler.sample(requests, batch_size=batch_size):
                pixels = to_uint8(sampler.decode(tokens, batch_size=batch_size))
                images.update(zip(indices, pixels.cpu().numpy(), strict=True))
        columns = settings.num_images_per_prompt
        rows = [
            [images[number * columns + column] for column in range(columns)]
            for number in range(len(settings.prompts))
        ]
        return sample_grid(rows, settings.prompts)
