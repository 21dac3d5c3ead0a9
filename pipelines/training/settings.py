"""The configuration of `train`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, field_validator

from meissonic.config import TransformerConfig
from pipelines.config import Config, Operational
from pipelines.generation_config import SamplerSettings

Precision = Literal["float32", "bfloat16"]


class TransformerSettings(Config):
    """A transformer to be trained from nothing; what the tokenizers decide is not asked for.

    Attributes:
        num_layers: Double-stream blocks.
        num_single_layers: Single-stream blocks.
        attention_head_dim: Width of a head; heads x this is the text encoder's projected width.
        num_attention_heads: Heads.
        axes_dims_rope: Rotary dimensions of the axes (text, row, column); their sum is the head's width.
        compression: Whether 2x2 tokens share a position inside the blocks.
    """

    num_layers: PositiveInt = 14
    num_single_layers: PositiveInt = 28
    attention_head_dim: PositiveInt = 128
    num_attention_heads: PositiveInt = 8
    axes_dims_rope: tuple[int, int, int] = (16, 56, 56)
    compression: bool = False

    def config(
        self, *, text_width: int, pooled_width: int, codebook_size: int, vocab_size: int
    ) -> TransformerConfig:
        """The model's configuration.

        Raises:
            ValueError: The numbers do not fit each other.
        """
        return TransformerConfig(
            num_layers=self.num_layers,
            num_single_layers=self.num_single_layers,
            attention_head_dim=self.attention_head_dim,
            num_attention_heads=self.num_attention_heads,
            axes_dims_rope=self.axes_dims_rope,
            downsample=self.compression,
            upsample=self.compression,
            joint_attention_dim=text_width,
            pooled_projection_dim=pooled_width,
            codebook_size=codebook_size,
            vocab_size=vocab_size,
        )


class StageSettings(Config):
    """A stretch of the training with data of its own; it starts from the averaged weights of the one before.

    Attributes:
        name: Of its folder.
        datasets: Token stores, made by `tokenize` with one VQ model.
        num_steps: Optimizer steps.
        batch_size: Images a step, over all workers.
        learning_rate: At its peak.
        warmup_steps: Steps of its linear rise from 0.
        decay: How it falls after that: not at all, or by a cosine or a line to `final_rate`.
        decay_from: Fraction of the steps at which it begins to fall.
        final_rate: What is left of it at the end, as a fraction.
        compression: Whether compression layers are added where the model has none.
        train_text: Whether the text tower learns too.
    """

    name: str = Field(default="main", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    datasets: tuple[str, ...] = Field(min_length=1)
    num_steps: PositiveInt
    batch_size: PositiveInt
    learning_rate: PositiveFloat = 1e-4
    warmup_steps: NonNegativeInt = 0
    decay: Literal["constant", "cosine", "linear"] = "constant"
    decay_from: float = Field(default=0.0, ge=0, lt=1)
    final_rate: float = Field(default=0.0, ge=0, le=1)
    compression: bool = False
    train_text: bool = False


class ObjectiveSettings(Config):
    """See `meissonic.objective.ObjectiveConfig`.

    Attributes:
        min_masking_rate: Lower rates are raised to it.
        masking_rate_power: The rate is cos(u^power pi/2): more than 1 draws high ones more often.
        drop_rate: How often a sample has the empty prompt instead of its own, for guidance.
        label_smoothing: Of the cross-entropy.
        sampler_timesteps: Share of samples that see the sampler's timestep (steps that remain) instead of the
            objective's, 1000 x rate.
        sampler_steps: Fewest and most steps of the schedules that those are of.
    """

    min_masking_rate: float = Field(default=0.0, ge=0, le=1)
    masking_rate_power: PositiveFloat = 1.0
    drop_rate: float = Field(default=0.1, ge=0, le=1)
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    sampler_timesteps: float = Field(default=0.0, ge=0, le=1)
    sampler_steps: tuple[PositiveInt, PositiveInt] = (6, 24)


class CaptionSettings(Config):
    """Which of an image's captions a step sees.

    Attributes:
        alternative_share: How often it is one of the alternatives that the token store has.
        separate_pooled: Whether the pooled output is of a caption drawn apart, which costs a second encoding.
    """

    alternative_share: float = Field(default=0.0, ge=0, le=1)
    separate_pooled: bool = False


class OptimizerSettings(Config):
    """AdamW.

    Attributes:
        betas: Decay of the moments.
        eps: Added to the root of the second.
        weight_decay: Of all but biases, some norms and the token embedding.
        clip_norm: Gradients are scaled down to this norm.
        average_decay: Of the averaged weights that are exported.
    """

    betas: tuple[float, float] = (0.9, 0.99)
    eps: PositiveFloat = 1e-8
    weight_decay: NonNegativeFloat = 0.01
    clip_norm: PositiveFloat = 1.0
    average_decay: float = Field(default=0.9999, ge=0, lt=1)


class WorkerSettings(Config):
    """The workers of Ray Train. How many there are changes the order of sums, and no sample.

    Attributes:
        num_workers: Each holds the model, or with fsdp its share.
        num_gpus: GPUs a worker, 0 or 1; "auto" is 1 where the cluster has any.
        num_cpus: CPUs a worker.
        threads: Threads of a worker's CPU arithmetic; null is Ray's choice, as many as its CPUs.
        parallel: `ddp` copies the model to each worker, `fsdp` shards it.
        micro_batch_size: Images at once; the rest of a step's are accumulated. Null is all of them.
        compile: Compile each block; takes a minute, once.
        checkpoint_every: Recompute the activations of every n-th block instead of keeping them; 0 keeps all.
        max_restarts: Deaths of workers until the job stops.
        timeout_s: Seconds that workers wait for one that does not answer.
    """

    num_workers: PositiveInt = 1
    num_gpus: Literal["auto", 0, 1] = "auto"
    num_cpus: PositiveFloat = 1.0
    threads: PositiveInt | None = None
    parallel: Literal["ddp", "fsdp"] = "ddp"
    micro_batch_size: PositiveInt | None = None
    compile: bool = False
    checkpoint_every: NonNegativeInt = 0
    max_restarts: NonNegativeInt = 8
    timeout_s: PositiveFloat = 600.0


class CheckpointSettings(Config):
    """When the state is written, and how long it stays.

    Attributes:
        every_steps: Steps between two; the last step's is always written.
        keep_last: How many of the newest stay.
        keep_every: Those of every so many steps stay besides; null for none.
    """

    every_steps: PositiveInt = 1000
    keep_last: PositiveInt = 2
    keep_every: PositiveInt | None = None


class ValidationSettings(Config):
    """What is measured meanwhile, with the averaged weights.

    Attributes:
        every_steps: Steps between two; the last step's is always done. Null for none at all.
        num_images: Held-out images of the loss.
        masking_rates: At which it is told.
        prompts: Of the sample grids.
        num_images_per_prompt: Columns of a grid.
        sampler: Of the grids; null stands for the model's own.
        seed: Of masks and samples.
    """

    every_steps: PositiveInt | None = 1000
    num_images: PositiveInt = 256
    masking_rates: tuple[float, ...] = (0.1, 0.3, 0.5, 0.7, 0.9, 1.0)
    prompts: tuple[str, ...] = ()
    num_images_per_prompt: PositiveInt = 4
    sampler: SamplerSettings = SamplerSettings()
    seed: int = 0

    @field_validator("masking_rates")
    @classmethod
    def _rates(cls, rates: tuple[float, ...]) -> tuple[float, ...]:
        if not all(0 < rate <= 1 for rate in rates):
            raise ValueError("masking rates are in (0, 1]")
        return rates


class LoggingSettings(Config):
    """Where the measures go, beside JSON lines and TensorBoard in the output.

    Attributes:
        every_steps: Steps between two lines of rates; also when losses are looked at for what is not finite.
        tensorboard: Write event files.
        wandb_project: Project of Weights & Biases; null for none.
        mlflow_uri: Tracking server of MLflow; null for none.
        peak_flop_per_s: Of a worker's device, for the utilisation; null measures a matrix product.
    """

    every_steps: PositiveInt = 20
    tensorboard: bool = True
    wandb_project: str | None = None
    mlflow_uri: str | None = None
    peak_flop_per_s: PositiveFloat | None = None


class TrainConfig(Config):
    """Train a transformer on token stores.

    Attributes:
        init: Model folder of the released layout: its VQ model, text tower and tokenizer are used, and its
            transformer, unless `transformer` says how to make a new one.
        transformer: A transformer to be trained from nothing; null goes on with that of `init`.
        output: Folder of the run, local or s3://.
        stages: One after the other.
        objective: The objective.
        captions: Which of an image's captions a step sees.
        optimizer: AdamW and the average.
        precision: Of the products; weights, moments and the average stay in float32.
        seed: Of the new weights, the order of the samples and all that is drawn.
        window_blocks: Shards of a token store that are shuffled together; all workers hold them in memory.
        max_skipped_batches: Batches that may be left out since their loss or gradient was not finite.
        workers: The workers.
        checkpoints: When the state is written.
        validation: What is measured meanwhile.
        logging: Where the measures go.
    """

    init: Annotated[str, Operational()]
    transformer: TransformerSettings | None = None
    output: Annotated[str, Operational()]
    stages: tuple[StageSettings, ...] = Field(min_length=1)
    objective: ObjectiveSettings = ObjectiveSettings()
    captions: CaptionSettings = CaptionSettings()
    optimizer: OptimizerSettings = OptimizerSettings()
    precision: Precision = "bfloat16"
    seed: int = Field(default=0, ge=0, lt=2**63)
    window_blocks: PositiveInt = 64
    max_skipped_batches: NonNegativeInt = 10
    workers: Annotated[WorkerSettings, Operational()] = WorkerSettings()
    checkpoints: Annotated[CheckpointSettings, Operational()] = CheckpointSettings()
    validation: Annotated[ValidationSettings, Operational()] = ValidationSettings()
    logging: Annotated[LoggingSettings, Operational()] = LoggingSettings()

    @field_validator("stages")
    @classmethod
    def _names_differ(cls, stages: tuple[StageSettings, ...]) -> tuple[StageSettings, ...]:
        if len({stage.name for stage in stages}) < len(stages):
            raise ValueError("stages need names that differ")
        return stages
