"""From a curated set to a token store: crops of images become VQ codes with captions and micro-conditions."""

from pipelines.tokenization.job import (
    TokenizationError,
    TokenizationJob,
    open_tokenization_retry,
    plan_tokenization,
)
from pipelines.tokenization.settings import TokenizeConfig

__all__ = [
    "TokenizationError",
    "TokenizationJob",
    "TokenizeConfig",
    "open_tokenization_retry",
    "plan_tokenization",
]
