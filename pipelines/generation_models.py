"""What the workers of `generate` load."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class GenerationModels:
    """What a worker loads: names and digests.

    Attributes:
        model_digest: Of the model named in the config.
        scorer_digests: Of each scorer's weights, by the scorer's name.
    """

    model_digest: str
    scorer_digests: dict[str, str]
