"""Files of weights by URI: a local file, `s3://…`, `https://…` or `hf://owner/name[@revision]/file`.

What comes from elsewhere is kept once a node, under its digest.
"""

from __future__ import annotations

import hashlib
import tempfile
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

import filelock
import huggingface_hub
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

from pipelines.downloads import download
from pipelines.models import PROJECT, ModelError, cache_folder, file_digest
from pipelines.storage import StorageError, split_uri

_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, kw_only=True)
class LocalFile:
    """A file of weights on this node.

    Attributes:
        path: Where it is.
        digest: SHA-256 of its bytes, in hexadecimal.
    """

    path: Path
    digest: str


def fetch_weights_file(
    uri: str, expected_digest: str | None = None, expected_bytes: int | None = None
) -> LocalFile:
    """Bring a file of weights to this node, unless it is there.

    Args:
        uri: A path, relative ones also to the project's root; a URI of object storage; an http or https URL;
            or `hf://owner/name/file`, with `@revision` after the name to pin one.
        expected_digest: SHA-256 that it must have.
        expected_bytes: Size that it must have.

    Raises:
        ModelError: There is no such file, or its digest or size is another.
    """
    if "://" in uri and not uri.startswith("file://"):
        path, digest = _from_elsewhere(uri, expected_digest, expected_bytes)
    else:
        path = _local(uri)
        digest = file_digest(path)
    if expected_digest is not None and digest != expected_digest:
        raise ModelError(
            f"{uri}: its SHA-256 is {digest}, not {expected_digest}; the file changed, or is another one"
        )
    size_bytes = path.stat().st_size
    if expected_bytes is not None and size_bytes != expected_bytes:
        raise ModelError(f"{uri}: it has {size_bytes} bytes, not {expected_bytes}; it is another file")
    return LocalFile(path=path, digest=digest)


def _local(uri: str) -> Path:
    path = unquote(urlsplit(uri).path) if uri.startswith("file://") else uri
    for candidate in (Path(path).expanduser(), PROJECT / path):
        if candidate.is_file():
            return candidate.absolute()
    raise ModelError(f"{uri}: no such file on this node; give a file that every node has, s3:// or hf://")


def _from_elsewhere(uri: str, digest: str | None, size_bytes: int | None) -> tuple[Path, str]:
    """The file and its digest; fetched under a lock of the node, so that its actors share one copy."""
    folder = cache_folder() / "weights"
    folder.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(folder / f"{_key(uri)}.lock"):
        if digest is not None and (folder / digest).is_file() and file_digest(folder / digest) == digest:
            return folder / digest, digest
        if uri.startswith("hf://"):
            path = _from_hub(uri)
            return path, file_digest(path)
        if uri.startswith(("http://", "https://")):
            return _from_web(uri, folder, digest, size_bytes)
        return _from_storage(uri, folder)


def _key(uri: str) -> str:
    return hashlib.sha256(uri.encode()).hexdigest()[:16]


def _from_hub(uri: str) -> Path:
    """Kept in the hub's own cache."""
    parts = uri.removeprefix("hf://").split("/", 2)
    if len(parts) < 3:
        raise ModelError(f"{uri}: write hf://owner/name/file, with @revision after the name to pin one")
    name, _, revision = parts[1].partition("@")
    try:
        return Path(
            huggingface_hub.hf_hub_download(f"{parts[0]}/{name}", parts[2], revision=revision or None)
        )
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError) as error:
        raise ModelError(f"{uri}: cannot fetch it from the hub: {error}") from error


def _from_web(uri: str, folder: Path, digest: str | None, size_bytes: int | None) -> tuple[Path, str]:
    """What an earlier, interrupted call left is gone on from, where the digest tells if that was right."""
    partial = folder / f".partial-{_key(uri)}"
    if digest is None:
        partial.unlink(missing_ok=True)
    download(uri, partial, size_bytes=size_bytes, resume=digest is not None)
    found = file_digest(partial)
    if digest is not None and found != digest:
        partial.unlink()
        raise ModelError(
            f"{uri}: what was downloaded has the SHA-256 {found}, not {digest}; the file changed, or a proxy "
            "answered in the server's place. Nothing was kept"
        )
    partial.replace(folder / found)
    return folder / found, found


def _from_storage(uri: str, folder: Path) -> tuple[Path, str]:
    storage, name = split_uri(uri)
    digest = hashlib.sha256()
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".download-", delete=False) as target:
        temporary = Path(target.name)
        try:
            with storage.open(name) as source:
                while chunk := source.read(_CHUNK_BYTES):
                    digest.update(chunk)
                    target.write(chunk)
            target.flush()
            temporary.replace(folder / digest.hexdigest())
        except StorageError as error:
            raise ModelError(f"{uri}: {error}") from error
        finally:
            temporary.unlink(missing_ok=True)
    return folder / digest.hexdigest(), digest.hexdigest()
