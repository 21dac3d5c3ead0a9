"""Copies of weights in a folder or a bucket of one's own, so that the nodes of a cluster ask nobody else.

Each is read back after it was written; what is there already, and right, is left alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipelines.models import ModelError, fetch_model, file_digest, folder_digest
from pipelines.storage import Storage, child, open_storage
from pipelines.weights import fetch_weights_file
from pipelines.weights_catalog import Weights


@dataclass(frozen=True, kw_only=True)
class Copy:
    """One file, or a model's folder, in its new place.

    Attributes:
        path: Its path below that place.
        uri: Where it is, as a job's configuration names it.
        digest: SHA-256 of the file, or the folder's digest.
        written: Whether anything had to be written.
        weights: What the catalog says about it; None where it does not know it.
    """

    path: str
    uri: str
    digest: str
    written: bool
    weights: Weights | None = None


def fetch_copy(weights: Weights, place: str) -> Copy:
    """Fetch weights from their source to a place, unless they are there.

    Args:
        weights: Which.
        place: A folder, or a URI of object storage.

    Raises:
        ModelError: They cannot be fetched, are not the right ones, or something else has their name there.
    """
    storage = open_storage(place)
    uri = child(storage.uri, weights.path)
    if weights.files:
        model = fetch_model(weights.source, weights.sha256, names=weights.files)
        there = [name for name in weights.files if (model.folder / name).is_file()]
        if not there:
            raise ModelError(f"{weights.source}: it has none of the files {', '.join(weights.files)}")
        written = [_put(model.folder / name, storage, f"{weights.path}/{name}") for name in there]
        return Copy(path=weights.path, uri=uri, digest=model.digest, written=any(written), weights=weights)
    if (digest := _digest_there(weights, storage)) is not None:
        return Copy(path=weights.path, uri=uri, digest=digest, written=False, weights=weights)
    file = fetch_weights_file(weights.source, weights.sha256, weights.size_bytes)
    written_now = _put(file.path, storage, weights.path, file.digest)
    return Copy(path=weights.path, uri=uri, digest=file.digest, written=written_now, weights=weights)


def mirror(folder: Path, place: str, known: Sequence[Weights]) -> Iterator[Copy]:
    """Copy all files of a folder, one after the other, but for hidden ones; model folders last, as a whole.

    Args:
        folder: Of weights, as `fetch_copy` made it or laid out alike.
        place: A folder, or a URI of object storage.
        known: Weights whose size and digest are checked before anything is written.

    Raises:
        ModelError: There are no files, one is not what its name says, or another has its name at the place.
    """
    paths = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    paths = [path for path in paths if not any(part.startswith(".") for part in path.split("/"))]
    if not paths:
        raise ModelError(f"{folder}: no files to copy; name the folder that holds the weights")
    by_path = {weights.path: weights for weights in known}
    digests = {path: file_digest(folder / path) for path in paths}
    for path in paths:
        if path in by_path:
            _check(by_path[path], str(folder / path), digests[path], (folder / path).stat().st_size)
    storage = open_storage(place)
    written = {}
    for path in paths:
        written[path] = _put(folder / path, storage, path, digests[path])
        yield Copy(
            path=path,
            uri=child(storage.uri, path),
            digest=digests[path],
            written=written[path],
            weights=by_path.get(path),
        )
    for weights in known:
        inside = [f"{weights.path}/{name}" for name in weights.files]
        if any(path in written for path in inside):
            digest = folder_digest(folder / weights.path, weights.files)
            _check(weights, str(folder / weights.path), digest, None)
            yield Copy(
                path=weights.path,
                uri=child(storage.uri, weights.path),
                digest=digest,
                written=any(written.get(path, False) for path in inside),
                weights=weights,
            )


def _digest_there(weights: Weights, storage: Storage) -> str | None:
    """The digest of the file at the place; None where there is none.

    One whose right digest nobody knows is right where its size is: places hold whole files or none.
    """
    if not storage.exists(weights.path):
        return None
    digest = storage.sha256(weights.path)
    _check(weights, storage.uri_of(weights.path), digest, storage.size(weights.path))
    return digest


def _check(weights: Weights, uri: str, digest: str, size_bytes: int | None) -> None:
    remedy = "delete it, or choose another folder"
    if weights.sha256 is not None and digest != weights.sha256:
        raise ModelError(
            f"{uri}: its SHA-256 is {digest}, but that of {weights.name} {weights.sha256}; {remedy}"
        )
    if None not in (size_bytes, weights.size_bytes) and size_bytes != weights.size_bytes:
        raise ModelError(f"{uri}: {size_bytes} bytes, but {weights.name} has {weights.size_bytes}; {remedy}")


def _put(source: Path, storage: Storage, path: str, digest: str | None = None) -> bool:
    """Write a file unless it is there, and read it back; whether it was written."""
    digest = digest or file_digest(source)
    uri = storage.uri_of(path)
    if storage.exists(path):
        if (there := storage.sha256(path)) != digest:
            raise ModelError(
                f"{uri}: another file has this name (SHA-256 {there}, not {digest}); delete it, or choose "
                "another place"
            )
        return False
    storage.write_file(path, source)
    if (found := storage.sha256(path)) != digest:
        storage.delete(path)
        raise ModelError(
            f"{uri}: reading it back gave the SHA-256 {found}, not {digest}; it was removed again"
        )
    return True
