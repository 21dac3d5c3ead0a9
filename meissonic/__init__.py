"""Meissonic, a non-autoregressive masked-image-modelling text-to-image model (arXiv 2410.08261).

What needs torch is imported when it is asked for: configurations and file names can be read without it.
"""

import importlib
from typing import TYPE_CHECKING

from meissonic.config import SamplerConfig, SchedulerConfig, TextConfig, TransformerConfig, VQConfig
from meissonic.model_folder import CheckpointError
from meissonic.requests import RequestError, SampleRequest

if TYPE_CHECKING:
    from meissonic.checkpoint import Meissonic
    from meissonic.sampling import Sampler
    from meissonic.vq import to_uint8
else:
    _NEEDING_TORCH = {"Meissonic": "checkpoint", "Sampler": "sampling", "to_uint8": "vq"}

    def __getattr__(name: str) -> object:
        if name not in _NEEDING_TORCH:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(importlib.import_module(f"{__name__}.{_NEEDING_TORCH[name]}"), name)

    def __dir__() -> list[str]:
        return sorted(globals() | _NEEDING_TORCH)


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
