"""Find and delete what no record can ever name: leftovers of killed attempts, and unfinished uploads."""

from dataclasses import dataclass

from pipelines.ledger import Ledger
from pipelines.plan import Plan, unit_key
from pipelines.records import Records
from pipelines.storage import TEMPORARY, StoredObject, Upload

_OUTPUTS = ("data/", "failed/")
DEFAULT_AGE_S = 24 * 3600.0


@dataclass(frozen=True, kw_only=True)
class Garbage:
    """What may go.

    Attributes:
        objects: Temporary ones, and those under data/ and failed/ that no record names.
        uploads: Multipart uploads that were begun and never completed.
    """

    objects: list[StoredObject]
    uploads: list[Upload]


def find_garbage(output: str, older_than_s: float = DEFAULT_AGE_S) -> Garbage:
    """What no record can ever name.

    What a killed attempt left of a unit that is not done is no garbage: the job takes it over or replaces it
    when it goes on, perhaps at this instant.

    Args:
        output: The run's folder.
        older_than_s: Age below which all is left alone: a running job writes objects first and names them
            afterwards. By the storage's own clock, so that no machine's wrong one can do harm.

    Raises:
        LedgerError: There is no run in the folder, or a commit record is damaged.
    """
    ledger = Ledger.load(output)
    storage, plan = ledger.storage, ledger.planned()
    latest = storage.now() - older_than_s
    # the records themselves: a rollup may be older than a record that was deleted and made again
    records = Records(storage, plan, rollups=False)
    named: set[str] = set()
    for commit in records.in_order():
        named.update(entry.path for entry in (*commit.outputs, commit.failed) if entry is not None)
    outputs = [entry for folder in _OUTPUTS for entry in storage.list(folder)]
    unnamed = [e for e in outputs if e.path not in named and not _is_pending(e.path, plan, records)]
    return Garbage(
        objects=[e for e in (*unnamed, *storage.list(TEMPORARY)) if e.modified_at <= latest],
        uploads=[upload for upload in storage.uploads() if upload.started_at <= latest],
    )


def collect_garbage(output: str, older_than_s: float = DEFAULT_AGE_S) -> Garbage:
    """Delete what `find_garbage` finds, and return it; a job may run meanwhile."""
    garbage = find_garbage(output, older_than_s)
    storage = Ledger.load(output).storage
    for entry in garbage.objects:
        storage.delete(entry.path)
    for upload in garbage.uploads:
        storage.abort(upload)
    return garbage


def _is_pending(path: str, plan: Plan, records: Records) -> bool:
    """Whether an output is of a unit that is not done, or of a retry that may be planned at this instant."""
    index = plan.index_of_output(path)
    if index is not None:
        return not bool(records.done[index])
    try:
        _, round = unit_key(path.split("/")[1].partition(".")[0])
    except ValueError:
        return False
    return round >= len(plan.rounds)
