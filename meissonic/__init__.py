"""Meissonic, a non-autoregressive masked-image-modelling text-to-image model (arXiv 2410.08261)."""

from meissonic.checkpoint import Meissonic
from meissonic.config import SamplerConfig, SchedulerConfig, TextConfig, TransformerConfig, VQConfig
from meissonic.model_folder import CheckpointError
from meissonic.sampling import RequestError, SampleRequest, decode, sample
from meissonic.vq import to_uint8

__all__ = [
    "CheckpointError",
    "Meissonic",
    "RequestError",
    "SampleRequest",
    "SamplerConfig",
    "SchedulerConfig",
    "TextConfig",
    "TransformerConfig",
    "VQConfig",
    "decode",
    "sample",
    "to_uint8",
]
