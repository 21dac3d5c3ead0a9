"""Find and delete what a run's records do not name: leftovers of killed attempts."""

import time

from pipelines.ledger import Ledger
from pipelines.manifest import MANIFEST_PATH, read_manifest
from pipelines.records import Records
from pipelines.storage import TEMPORARY, Storage, StoredObject

_KEPT_CLEAN = ("data/", "failed/", "manifest/", TEMPORARY)
DEFAULT_AGE_S = 24 * 3600.0


def find_garbage(output: str, older_than_s: float = DEFAULT_AGE_S) -> list[StoredObject]:
    """Objects under data/, failed/, manifest/ and .tmp/ that no record names.

    Args:
        output: The run's folder.
        older_than_s: Age below which an object is left alone: a running job writes objects first and names
            them afterwards.

    Raises:
        LedgerError: There is no run in the folder, or a commit record is damaged.
    """
    ledger = Ledger.load(output)
    named: set[str] = set()
    # the records themselves: a rollup may be older than a record that was deleted and made again
    for commit in Records(ledger.storage, ledger.planned(), rollups=False).in_order():
        named.update(entry.path for entry in (*commit.outputs, commit.failed) if entry is not None)
    named |= _manifest_parts(ledger.storage)
    latest = time.time() - older_than_s
    entries = [entry for prefix in _KEPT_CLEAN for entry in ledger.storage.list(prefix)]
    return [entry for entry in entries if entry.path not in named and entry.modified_at <= latest]


def collect_garbage(output: str, older_than_s: float = DEFAULT_AGE_S) -> list[StoredObject]:
    """Delete what `find_garbage` finds; returns it."""
    garbage = find_garbage(output, older_than_s)
    storage = Ledger.load(output).storage
    for entry in garbage:
        storage.delete(entry.path)
    return garbage


def _manifest_parts(storage: Storage) -> set[str]:
    if not storage.exists(MANIFEST_PATH):
        return set()
    manifest = read_manifest(storage)
    sections = (manifest, manifest["failed"])
    return {part["path"] for section in sections for part in section.get("parts", [])}
