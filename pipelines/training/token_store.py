"""Read token stores, outputs of `tokenize`: their manifests once, then shard by shard."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from meissonic.config import ScoreCondition
from pipelines.errors import LedgerError, RefusalError
from pipelines.inputs import open_parquet
from pipelines.ledger import Ledger
from pipelines.manifest import MANIFEST_PATH, read_entries
from pipelines.storage import Storage
from schemas.manifest import json_bytes
from schemas.tokens import MICRO_CONDITIONS, Grid, parse_shard_path

_JOB = "tokenize"
_COLUMNS = ("caption", "captions", *MICRO_CONDITIONS, "tokens")


class TokenStoreError(RefusalError):
    """A token store cannot be trained on; the message says why."""


@dataclass(frozen=True, kw_only=True)
class TokenBlock:
    """One shard.

    Attributes:
        storage: The token store's folder.
        path: The shard, relative to it.
        num_rows: Samples in it.
        sha256: Of its bytes, in hexadecimal.
    """

    storage: Storage
    path: str
    num_rows: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class TokenStore:
    """One or more token stores that are trained on together.

    Attributes:
        vq_digest: Of the VQ model that made the tokens.
        factor: Pixels that a token stands for in each direction.
        codebook_size: Of that model: tokens are less.
        score: How scores became the fifth micro-condition; None where there were none.
        digest: SHA-256 over the shards that the manifests name, in hexadecimal.
        blocks: Shards to train on by grid (rows, columns), store by store in the order of the manifests.
        validation: Shards that are held out, likewise.
    """

    vq_digest: str
    factor: int
    codebook_size: int
    score: ScoreCondition | None
    digest: str
    blocks: dict[Grid, tuple[TokenBlock, ...]]
    validation: dict[Grid, tuple[TokenBlock, ...]]


@dataclass(frozen=True, kw_only=True)
class Columns:
    """The samples of a shard. Shapes: n samples, N tokens in reading order.

    Attributes:
        tokens: uint16 [n, N].
        micro_conds: The micro-conditions in the released order: float32 [n, 5].
        captions: One a sample.
        alternatives: Other captions of each sample, perhaps none.
    """

    tokens: NDArray[np.uint16]
    micro_conds: NDArray[np.float32]
    captions: list[str]
    alternatives: list[list[str]]

    @property
    def size_bytes(self) -> int:
        """What they take in memory, about."""
        texts = sum(map(sys.getsizeof, self.captions))
        texts += sum(sys.getsizeof(row) + sum(map(sys.getsizeof, row)) for row in self.alternatives)
        return self.tokens.nbytes + self.micro_conds.nbytes + texts


def open_token_stores(uris: Sequence[str]) -> TokenStore:
    """Read the manifests of the token stores.

    Raises:
        TokenStoreError: One is no token store, not finished or empty, or they do not fit each other.
        StorageError: One cannot be read.
    """
    blocks: dict[Grid, list[TokenBlock]] = {}
    validation: dict[Grid, list[TokenBlock]] = {}
    named: list[list[dict[str, Any]]] = []
    ledgers = [_load(uri) for uri in uris]
    first = ledgers[0].spec.config
    for uri, ledger in zip(uris, ledgers, strict=True):
        _refuse_other(uris[0], first, uri, ledger.spec.config)
        storage, entries = ledger.storage, read_entries(ledger.storage)
        named.append([entry.to_json() for entry in entries])
        num_rows = 0
        for entry in entries:
            parsed = parse_shard_path(entry.path)
            if parsed is None:
                raise TokenStoreError(
                    f"{storage.uri_of(entry.path)}: not the name of a shard of tokens; make the token store "
                    "again with this version"
                )
            grid, held_out = parsed
            block = TokenBlock(storage=storage, path=entry.path, num_rows=entry.rows, sha256=entry.sha256)
            (validation if held_out else blocks).setdefault(grid, []).append(block)
            num_rows += 0 if held_out else entry.rows
        if num_rows == 0:
            raise TokenStoreError(
                f"{uri}: no images to train on; `python -m jobs status` says what failed, and a lower "
                "validation_share holds fewer of them out"
            )
    score = first["score_condition"]
    return TokenStore(
        vq_digest=first["vq"]["digest"],
        factor=first["vq"]["factor"],
        codebook_size=first["vq"]["codebook_size"],
        score=None if score is None else ScoreCondition.from_json(score),
        digest=hashlib.sha256(json_bytes(named)).hexdigest(),
        blocks={grid: tuple(found) for grid, found in blocks.items()},
        validation={grid: tuple(found) for grid, found in validation.items()},
    )


def read_block(store: TokenStore, block: TokenBlock, grid: Grid) -> Columns:
    """The samples of a shard.

    Raises:
        TokenStoreError: It is not the shard that the manifest names, or has codes that the VQ model lacks.
        StorageError: It cannot be read.
    """
    uri = block.storage.uri_of(block.path)
    data = block.storage.read(block.path)
    if hashlib.sha256(data).hexdigest() != block.sha256:
        raise TokenStoreError(
            f"{uri}: not the bytes that its manifest names; restore the file, or make the token store again"
        )
    table = open_parquet(pa.BufferReader(data), uri).read(columns=list(_COLUMNS)).combine_chunks()
    tokens = table["tokens"].combine_chunks().flatten().to_numpy().reshape(-1, grid[0] * grid[1])
    outside = tokens >= store.codebook_size
    if outside.any():
        row = int(outside.any(axis=1).argmax())
        raise TokenStoreError(
            f"{uri}: row {row}: token {tokens[row].max()}, but the VQ model has {store.codebook_size} codes; "
            "make the token store again"
        )
    micro_conds = [table[name].to_numpy().astype(np.float32) for name in MICRO_CONDITIONS]
    return Columns(
        tokens=tokens,
        micro_conds=np.stack(micro_conds, axis=1),
        captions=table["caption"].to_pylist(),
        alternatives=table["captions"].to_pylist(),
    )


def _load(uri: str) -> Ledger:
    """The finished job behind a token store."""
    try:
        ledger = Ledger.load(uri)
    except LedgerError as error:
        raise TokenStoreError(f"{error}; token stores are those of `{_JOB}`") from error
    if ledger.spec.job != _JOB:
        raise TokenStoreError(f"{uri}: the output of `{ledger.spec.job}`; name that of `{_JOB}`")
    if not ledger.storage.exists(MANIFEST_PATH):
        raise TokenStoreError(f"{uri}: `{_JOB}` has not finished it; start it again, and it goes on")
    return ledger


def _refuse_other(first_uri: str, first: dict[str, Any], uri: str, config: dict[str, Any]) -> None:
    if config["vq"] != first["vq"]:
        raise TokenStoreError(
            f"{uri}: its tokens are of another VQ model than those of {first_uri}: {config['vq']}, not "
            f"{first['vq']}; tokenize one of them again"
        )
    if config["score_condition"] != first["score_condition"]:
        raise TokenStoreError(
            f"{uri}: its scores became micro-conditions in another way than those of {first_uri}: "
            f"{config['score_condition']}, not {first['score_condition']}; tokenize one of them again"
        )
