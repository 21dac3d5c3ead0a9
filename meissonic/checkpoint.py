"""A whole model on disk: the released folder layout, read and written. Only safetensors is read."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import safetensors.torch
import torch
from torch import Tensor

from meissonic.config import (
    GenerationConfig,
    SchedulerConfig,
    TextConfig,
    TransformerConfig,
    VQConfig,
)
from meissonic.model_folder import GENERATION_CONFIG, WEIGHTS, CheckpointError, read_json
from meissonic.text import TextEncoder, Tokenizer
from meissonic.transformer import Transformer
from meissonic.vq import VQModel

IGNORED_KEYS = ("text_model.embeddings.position_ids",)
"""Buffers that old text-encoder files carry."""

# What the loader of the reference needs beyond the fields of our configurations.
CONFIG_EXTRAS: dict[str, dict[str, Any]] = {
    "transformer": {"_class_name": "Transformer2DModel", "guidance_embeds": False, "patch_size": 1},
    "vqvae": {
        "_class_name": "VQModel",
        "act_fn": "silu",
        "force_upcast": True,
        "lookup_from_codebook": True,
        "mid_block_add_attention": False,
        "norm_type": "group",
        "sample_size": 32,
        "scaling_factor": 0.18215,
        "vq_embed_dim": None,
    },
    "text_encoder": {
        "architectures": ["CLIPTextModelWithProjection"],
        "model_type": "clip_text_model",
        "attention_dropout": 0.0,
        "bos_token_id": 0,
        "pad_token_id": 1,
        "initializer_factor": 1.0,
        "initializer_range": 0.02,
    },
    "scheduler": {"_class_name": "Scheduler"},
}
MODEL_INDEX = {
    "_class_name": "Pipeline",
    "scheduler": ["scheduler", "Scheduler"],
    "text_encoder": ["transformers", "CLIPTextModelWithProjection"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "transformer": ["transformer", "Transformer2DModel"],
    "vqvae": ["diffusers", "VQModel"],
}


@dataclasses.dataclass(kw_only=True)
class Meissonic:
    """The parts of a text-to-image model."""

    transformer: Transformer
    vq: VQModel
    text_encoder: TextEncoder
    tokenizer: Tokenizer
    scheduler: SchedulerConfig
    other_fields: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    """By part, what its `config.json` held beyond our configuration: kept for `save_pretrained`."""

    @classmethod
    def from_pretrained(
        cls,
        folder: str | Path,
        dtype: torch.dtype = torch.float32,
        device: str | torch.device = "cpu",
        transformer: Transformer | None = None,
    ) -> Self:
        """Load a folder of the released layout from a local path, in evaluation mode.

        Args:
            folder: holds `transformer/`, `vqvae/`, `text_encoder/`, `tokenizer/` and `scheduler/`; what
                else is in it is not looked at.
            dtype: of the weights. With float16 the VQ model stays in float32: its decoder overflows.
            device: where the weights go.
            transformer: takes the place of the folder's, which is not looked at then.

        Raises:
            CheckpointError: a file, field or tensor is missing, extra or of another shape; all are listed.
        """
        folder = Path(folder)
        scheduler_values = read_json(folder, "scheduler", "scheduler_config.json")
        text_encoder = _load(folder, "text_encoder", TextEncoder, TextConfig)
        if transformer is None:
            transformer = _load(folder, "transformer", Transformer, TransformerConfig)
        vq = _load(folder, "vqvae", VQModel, VQConfig)
        try:
            scheduler = SchedulerConfig.from_json(scheduler_values)
            tokenizer = Tokenizer(folder / "tokenizer", text_encoder.config.max_position_embeddings)
        except (KeyError, ValueError, FileNotFoundError) as error:
            raise CheckpointError(f"{folder}: {error}") from error
        model = cls(
            transformer=transformer,
            vq=vq,
            text_encoder=text_encoder,
            tokenizer=tokenizer,
            scheduler=scheduler,
            other_fields={
                part: read_json(folder, part, "config.json")
                for part in WEIGHTS
                if (folder / part / "config.json").is_file()
            },
        )
        model._check_parts(folder)
        for module in (model.transformer, model.vq, model.text_encoder):
            upcast = module is model.vq and dtype == torch.float16
            module.to(device=device, dtype=torch.float32 if upcast else dtype).eval().requires_grad_(False)
        return model

    def save_pretrained(
        self,
        folder: str | Path,
        dtype: torch.dtype | None = None,
        generation: GenerationConfig | None = None,
    ) -> None:
        """Write the released folder layout, weights in `dtype` (None: as they are)."""
        folder = Path(folder)
        parts: dict[str, tuple[Mapping[str, Tensor], dict[str, Any]]] = {
            "transformer": (
                self.transformer.state_dict(),
                {"in_channels": self.transformer.config.width}
                | self.other_fields.get("transformer", {})
                | self.transformer.config.to_json(),
            ),
            "vqvae": (self.vq.state_dict(), self.vq.config.to_json() | _vq_block_types(self.vq.config)),
            "text_encoder": (
                self.text_encoder.to_huggingface(),
                self.text_encoder.config.to_json()
                | {"torch_dtype": str(dtype or self.dtype).removeprefix("torch.")},
            ),
        }
        for part, (weights, config) in parts.items():
            (folder / part).mkdir(parents=True, exist_ok=True)
            others = CONFIG_EXTRAS[part] | self.other_fields.get(part, {})
            _write_json(folder / part / "config.json", others | config)
            cast = {k: w.detach().to("cpu", dtype or w.dtype).contiguous() for k, w in weights.items()}
            safetensors.torch.save_file(cast, folder / part / WEIGHTS[part], metadata={"format": "pt"})
        self.tokenizer.save(folder / "tokenizer")
        (folder / "scheduler").mkdir(exist_ok=True)
        _write_json(
            folder / "scheduler" / "scheduler_config.json",
            self.scheduler.to_json() | CONFIG_EXTRAS["scheduler"],
        )
        _write_json(folder / "model_index.json", MODEL_INDEX)
        if generation is not None:
            _write_json(folder / GENERATION_CONFIG, generation.to_json())

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.transformer.project_to_hidden.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """Of the transformer's weights."""
        return self.transformer.project_to_hidden.weight.dtype

    def _check_parts(self, folder: Path) -> None:
        """That the parts fit each other."""
        transformer, text, vq = self.transformer.config, self.text_encoder.config, self.vq.config
        pairs = {
            "text hidden_size, transformer joint_attention_dim": (
                text.hidden_size,
                transformer.joint_attention_dim,
            ),
            "text projection_dim, transformer pooled_projection_dim": (
                text.projection_dim,
                transformer.pooled_projection_dim,
            ),
            "vqvae num_vq_embeddings, transformer codebook_size": (
                vq.num_vq_embeddings,
                transformer.codebook_size,
            ),
        }
        wrong = [f"{names} differ: {a}, {b}" for names, (a, b) in pairs.items() if a != b]
        if not transformer.codebook_size <= self.scheduler.mask_token_id < transformer.vocab_size:
            wrong.append(
                f"mask_token_id {self.scheduler.mask_token_id} is not between codebook_size "
                f"{transformer.codebook_size} and vocab_size {transformer.vocab_size}"
            )
        if wrong:
            raise CheckpointError(f"{folder}: the parts do not fit: " + "; ".join(wrong))


def load_vq(
    folder: str | Path, dtype: torch.dtype = torch.float32, device: str | torch.device = "cpu"
) -> VQModel:
    """The VQ model of a folder that needs to hold nothing else, in evaluation mode.

    Raises:
        CheckpointError: a file, field or tensor is missing, extra or of another shape.
    """
    vq: VQModel = _load(Path(folder), "vqvae", VQModel, VQConfig)
    return vq.to(device, dtype).eval().requires_grad_(False)


def _load(folder: Path, part: str, module_class: Any, config_class: Any) -> Any:
    """One module, its weights memory-mapped and assigned without a random initialisation first."""
    try:
        config = config_class.from_json(read_json(folder, part, "config.json"))
    except ValueError as error:
        raise CheckpointError(f"{folder / part / 'config.json'}: {error}") from error
    path = folder / part / WEIGHTS[part]
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file; only safetensors weights are read")
    try:
        weights = safetensors.torch.load_file(path)
    except safetensors.SafetensorError as error:
        raise CheckpointError(f"{path}: no readable safetensors file: {error}") from error
    with torch.device("meta"):
        module = module_class(config)
    expected = module.to_huggingface() if part == "text_encoder" else module.state_dict()
    weights = {k: w for k, w in weights.items() if k not in IGNORED_KEYS}
    if faults := tensor_faults(weights, expected):
        raise CheckpointError(
            f"{path}: {len(faults)} tensors do not fit its config:\n  " + "\n  ".join(faults)
        )
    if part == "text_encoder":
        weights = module.from_huggingface(weights)
        # a buffer that is in no file
        module.tower.attn_mask = module.tower.build_causal_mask()
    module.load_state_dict(weights, assign=True)
    return module


def tensor_faults(weights: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> list[str]:
    """What is missing, extra or of another shape in `weights`, a line each."""
    missing = [f"missing {k} {tuple(expected[k].shape)}" for k in sorted(expected.keys() - weights.keys())]
    extra = [f"extra {k} {tuple(weights[k].shape)}" for k in sorted(weights.keys() - expected.keys())]
    shapes = [
        f"{k} is {tuple(weights[k].shape)}, should be {tuple(expected[k].shape)}"
        for k in sorted(weights.keys() & expected.keys())
        if weights[k].shape != expected[k].shape
    ]
    return missing + extra + shapes


def _vq_block_types(config: VQConfig) -> dict[str, list[str]]:
    levels = len(config.block_out_channels)
    return {
        "down_block_types": ["DownEncoderBlock2D"] * levels,
        "up_block_types": ["UpDecoderBlock2D"] * levels,
    }


def _write_json(path: Path, values: dict[str, Any]) -> None:
    path.write_text(json.dumps(values, indent=2, sort_keys=True) + "\n", "utf-8")
