"""What is trained: the model of a stage on a worker's device, its optimizer and its average."""

from __future__ import annotations

from typing import Any

import torch

from meissonic.averaging import AveragedWeights
from meissonic.compiling import compile_parts
from meissonic.objective import ObjectiveConfig, parameter_groups
from meissonic.parallel import blocks, checkpoint_blocks, clip_gradients, parallelise
from meissonic.training import MaskedImageModel
from pipelines.training.job import StageJob
from pipelines.training.learning_rate import learning_rate
from pipelines.training.model import start_model
from pipelines.training.precision import DTYPES
from pipelines.training.state import gather_state, restore_state


class StageModel:
    """The state of training, at a stage's first step until it is restored.

    Attributes:
        parts: The whole model; its transformer and text tower are those that are trained.
        model: What is trained, its parameters this worker's.
        module: The same as all workers call it together.
        average: Of the trained weights.
        device: Where they are.
    """

    def __init__(self, job: StageJob, device: torch.device) -> None:
        config, workers, options = job.config, job.config.workers, job.config.optimizer
        self._stage, self._clip_norm, self.device = job.stage, options.clip_norm, device
        self.parts = start_model(job)
        self.model = MaskedImageModel(
            self.parts.transformer,
            self.parts.text_encoder,
            empty_ids_L=self.parts.tokenizer([""])[0],
            mask_token_id=self.parts.scheduler.mask_token_id,
            config=ObjectiveConfig(**config.objective.model_dump()),
            seed=config.seed,
            train_text=job.stage.train_text,
        ).to(device)
        if workers.checkpoint_every:
            checkpoint_blocks(self.model, workers.checkpoint_every)
        if workers.compile:
            compile_parts(blocks(self.model))
        self.module = parallelise(self.model, workers.parallel, DTYPES[config.precision], methods=["losses"])
        self._optimizer = torch.optim.AdamW(
            parameter_groups(self.model, options.weight_decay),
            lr=job.stage.learning_rate,
            betas=options.betas,
            eps=options.eps,
            fused=True,
        )
        self.average = AveragedWeights(self.model, options.average_decay)

    def update(self, step: int) -> torch.Tensor:
        """Apply the gradients as the optimizer's step of that number; gives their norm, not yet read."""
        norm = clip_gradients(self.model, self._clip_norm)
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate(self._stage, step)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        self.average.update(self.model)
        return norm

    def state(self) -> dict[str, Any]:
        """All of it, for a checkpoint."""
        return gather_state(self.model, self._optimizer, self.average)

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from what `state` gave."""
        restore_state(self.model, self._optimizer, self.average, state)
