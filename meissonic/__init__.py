"""Meissonic, a non-autoregressive masked-image-modelling text-to-image model (arXiv 2410.08261)."""

from meissonic.checkpoint import Meissonic
from meissonic.config import SamplerConfig, SchedulerConfig, TextConfig, TransformerConfig, VQConfig
from meissonic.model_folder import CheckpointError
from meissonic.requests import RequestError, SampleRequest
from meissonic.sampling import Sampler
from meissonic.vq import to_uint8

__all__ = [
    "CheckpointError",
    "Meissonic",
    "RequestError",
    "SampleRequest",
    "Sampler",
    "SamplerConfig",
    "SchedulerConfig",
    "TextConfig",
    "TransformerConfig",
    "VQConfig",
    "to_uint8",
]
