"""The VQ model of a token store, as its run.json describes it."""

from __future__ import annotations

from dataclasses import dataclass

from meissonic.model_folder import VQ_NAMES, CheckpointError
from pipelines.models import ModelError, fetch_model

MAX_CODES = 2**16
"""Tokens are stored as uint16."""


@dataclass(frozen=True, kw_only=True)
class VQFacts:
    """What tokens mean.

    Attributes:
        digest: SHA-256 over the VQ model's files, in hexadecimal.
        factor: Pixels that a token stands for in each direction.
        codebook_size: Tokens are less.
    """

    digest: str
    factor: int
    codebook_size: int


def vq_facts(uri: str, expected_digest: str | None = None) -> VQFacts:
    """Fetch the VQ model of a model folder to this node, and look at it.

    Raises:
        ModelError: There is none, it is not complete, not the one expected, or has too many codes.
    """
    from meissonic.checkpoint import load_vq  # imports torch, which those who are told the facts do not need

    fetched = fetch_model(uri, expected_digest, VQ_NAMES)
    try:
        config = load_vq(fetched.folder).config
    except CheckpointError as error:
        raise ModelError(f"{uri}: {error}") from error
    if config.num_vq_embeddings > MAX_CODES:
        raise ModelError(
            f"{uri}: {config.num_vq_embeddings} codes; tokens are stored as uint16, {MAX_CODES} at most"
        )
    return VQFacts(digest=fetched.digest, factor=config.factor, codebook_size=config.num_vq_embeddings)
