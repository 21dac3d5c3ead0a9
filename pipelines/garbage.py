"""Find and delete what a run's records do not name: leftovers of killed attempts, and unfinished uploads."""

from dataclasses import dataclass

from pipelines.ledger import Ledger
from pipelines.manifest import MANIFEST_PATH, read_manifest
from pipelines.records import Records
from pipelines.storage import TEMPORARY, Storage, StoredObject, Upload

_KEPT_CLEAN = ("data/", "failed/", "manifest/", TEMPORARY)
DEFAULT_AGE_S = 24 * 3600.0


@dataclass(frozen=True, kw_only=True)
class Garbage:
    """What may go.

    Attributes:
        objects: Under data/, failed/, manifest/ and .tmp/, that no record names.
        uploads: Multipart uploads that were begun and never completed.
    """

    objects: list[StoredObject]
    uploads: list[Upload]


def find_garbage(output: str, older_than_s: float = DEFAULT_AGE_S) -> Garbage:
    """What no record names.

    Args:
        output: The run's folder.
        older_than_s: Age below which all is left alone: a running job writes objects first and names them
            afterwards. By the storage's own clock, so that no machine's wrong one can do harm.

    Raises:
        LedgerError: There is no run in the folder, or a commit record is damaged.
    """
    ledger = Ledger.load(output)
    storage = ledger.storage
    latest = storage.now() - older_than_s
    named = _manifest_parts(storage)
    # the records themselves: a rollup may be older than a record that was deleted and made again
    for commit in Records(storage, ledger.planned(), rollups=False).in_order():
        named.update(entry.path for entry in (*commit.outputs, commit.failed) if entry is not None)
    entries = [entry for prefix in _KEPT_CLEAN for entry in storage.list(prefix)]
    return Garbage(
        objects=[entry for entry in entries if entry.path not in named and entry.modified_at <= latest],
        uploads=[upload for upload in storage.uploads() if upload.started_at <= latest],
    )


def collect_garbage(output: str, older_than_s: float = DEFAULT_AGE_S) -> Garbage:
    """Delete what `find_garbage` finds; returns it.

    A job may run meanwhile: what it takes over from a killed attempt it writes again, and what is young by
    then is left alone.
    """
    garbage = find_garbage(output, older_than_s)
    storage = Ledger.load(output).storage
    latest = storage.now() - older_than_s
    deleted = []
    for entry in garbage.objects:
        now = next((found for found in storage.list(entry.path) if found.path == entry.path), None)
        if now is not None and now.modified_at <= latest:
            storage.delete(entry.path)
            deleted.append(entry)
    for upload in garbage.uploads:
        storage.abort(upload)
    return Garbage(objects=deleted, uploads=garbage.uploads)


def _manifest_parts(storage: Storage) -> set[str]:
    if not storage.exists(MANIFEST_PATH):
        return set()
    manifest = read_manifest(storage)
    sections = (manifest, manifest["failed"])
    return {part["path"] for section in sections for part in section.get("parts", [])}
