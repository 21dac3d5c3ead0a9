"""Prove that a storage can hold a run, before any GPU is taken."""

import logging
import uuid

from pipelines.storage.interface import TEMPORARY, ConditionalWriteError, Storage, StorageError

PATIENCE_S = 20.0
"""A job that never began need not wait long for its server."""
_log = logging.getLogger(__name__)


def probe(storage: Storage) -> None:
    """Write an object, read it back, list it, fail to create it again, and delete it.

    Raises:
        ConditionalWriteError: A second writer could replace an object; the message has the remedy.
        StorageError: One of the steps fails; the message names the permission that is missing.
    """
    storage = storage.retrying_for(PATIENCE_S)
    path = f"{TEMPORARY}probe-{uuid.uuid4().hex}"
    first, second = b"first writer", b"second writer"
    storage.write(path, first)
    if storage.read(path) != first:
        raise StorageError(
            f"{storage.uri_of(path)}: what was written is not what is read back; use another storage"
        )
    if not any(entry.path == path for entry in storage.list(path)):
        raise StorageError(f"{storage.uri_of(path)}: written, but not listed; use another storage")
    _check_conditional(storage, path, first, second)
    try:
        storage.delete(path)
    except StorageError as error:
        _log.warning("%s; jobs run without it, `gc --delete` does not", error)


def _check_conditional(storage: Storage, path: str, first: bytes, second: bytes) -> None:
    try:
        ignored = storage.create(path, second) or storage.read(path) != first
    except ConditionalWriteError as error:
        raise _remedy(storage, str(error)) from error
    if ignored:
        raise _remedy(
            storage, f"{storage.uri_of('')}: the server ignores If-None-Match: a second writer would win"
        )


def _remedy(storage: Storage, what: str) -> ConditionalWriteError:
    return ConditionalWriteError(
        f"{what}.\nTwo drivers on one output could then mix their results. If you make sure that only one "
        f"runs at a time, say so in the URI: {storage.single_writer_uri}"
    )
