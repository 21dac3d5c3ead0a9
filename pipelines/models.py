"""Model folders by URI: a local folder, `s3://…` or `hf://owner/name[@revision]`, fetched to a node once.

What is loaded is known by its digest, which covers exactly the files that the loader reads.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import filelock
import huggingface_hub

from meissonic.model_folder import RELEASED_NAMES
from pipelines.errors import RefusalError
from pipelines.storage import StorageError, open_storage, without_options

PROJECT = Path(__file__).parents[1]
_CHUNK_BYTES = 1 << 20


class ModelError(RefusalError):
    """A model that cannot be fetched, or is not the one expected."""


@dataclass(frozen=True, kw_only=True)
class LocalModel:
    """A model folder on this node.

    Attributes:
        folder: Where it is.
        digest: SHA-256 over the names and contents of the files that its loader reads.
    """

    folder: Path
    digest: str


def fetch_model(
    uri: str, expected_digest: str | None = None, names: Sequence[str] | None = RELEASED_NAMES
) -> LocalModel:
    """Bring a model to this node's cache, unless it is there.

    Args:
        uri: A folder, relative ones also to the project's root; `s3://bucket/folder`; or `hf://owner/name`,
            with `@revision` to pin one.
        expected_digest: What the model must be.
        names: The files that count, relative to the folder; None for all.

    Raises:
        ModelError: There is no such model, or its digest is another.
    """
    if uri.startswith("hf://"):
        folder = _from_hub(uri, names)
    elif "://" in uri and not uri.startswith("file://"):
        folder = _from_storage(uri, expected_digest, names)
    else:
        folder = _local(uri)
    digest = folder_digest(folder, names)
    if expected_digest is not None and digest != expected_digest:
        raise ModelError(
            f"{uri}: its digest on this node is {digest}, but the job was started with {expected_digest}; "
            "the model changed, or the nodes hold different copies"
        )
    return LocalModel(folder=folder, digest=digest)


def folder_digest(folder: Path, names: Sequence[str] | None = RELEASED_NAMES) -> str:
    """SHA-256, in hexadecimal, over the relative paths and contents of the files that count."""
    if names is None:
        names = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    total = hashlib.sha256()
    for name in sorted(names):
        if (folder / name).is_file():
            total.update(f"{name}\0{file_digest(folder / name)}\n".encode())
    return total.hexdigest()


def file_digest(path: Path) -> str:
    """SHA-256 of a local file's bytes, in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def model_id(uri: str) -> str:
    """The model's name in the output: its URI without scheme, options and revision."""
    return without_options(uri).partition("://")[2].partition("@")[0] if "://" in uri else uri


def cache_folder() -> Path:
    """Where models from object storage are kept: MEISSONIC_CACHE, or `~/.cache/meissonic`."""
    return Path(os.environ.get("MEISSONIC_CACHE", Path.home() / ".cache" / "meissonic"))


def _local(uri: str) -> Path:
    for folder in (Path(uri.removeprefix("file://")).expanduser(), PROJECT / uri):
        if folder.is_dir():
            return folder.absolute()
    raise ModelError(f"{uri}: no such folder on this node; give a folder that every node has, s3:// or hf://")


def _from_hub(uri: str, names: Sequence[str] | None) -> Path:
    repository, _, revision = uri.removeprefix("hf://").partition("@")
    allowed = None if names is None else list(names)
    try:
        return Path(
            huggingface_hub.snapshot_download(repository, revision=revision or None, allow_patterns=allowed)
        )
    except (
        huggingface_hub.errors.HfHubHTTPError,
        huggingface_hub.errors.HFValidationError,
        huggingface_hub.errors.LocalEntryNotFoundError,
    ) as error:
        raise ModelError(f"{uri}: cannot fetch it from the hub: {error}") from error


def _from_storage(uri: str, expected_digest: str | None, names: Sequence[str] | None) -> Path:
    """Download under a lock of the node, so that its actors share one copy."""
    models = cache_folder() / "models"
    models.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(models / f"{hashlib.sha256(uri.encode()).hexdigest()[:16]}.lock"):
        if expected_digest is not None and (models / expected_digest).is_dir():
            return models / expected_digest
        temporary = Path(tempfile.mkdtemp(dir=models, prefix=".download-"))
        try:
            _download(uri, temporary, names)
            target = models / folder_digest(temporary, names)
            if not target.is_dir():
                temporary.rename(target)
        except StorageError as error:
            raise ModelError(f"{uri}: {error}") from error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return target


def _download(uri: str, folder: Path, names: Sequence[str] | None) -> None:
    storage = open_storage(uri)
    wanted = [e.path for e in storage.list() if names is None or e.path in names]
    if not wanted:
        raise ModelError(f"{uri}: no model files; name the folder that holds model_index.json")
    for name in wanted:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        with storage.open(name) as source, (folder / name).open("wb") as target:
            shutil.copyfileobj(source, target, _CHUNK_BYTES)
