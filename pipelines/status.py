"""How far a run is, from its folder alone: from any machine, without Ray."""

from collections import Counter
from dataclasses import dataclass

from pipelines.ledger import Ledger
from pipelines.manifest import MANIFEST_PATH
from pipelines.progress import duration
from pipelines.records import Records
from pipelines.tally import Tally

_WINDOW_S = 600.0


@dataclass(frozen=True, kw_only=True)
class RunStatus:
    """A run as its records tell it.

    Attributes:
        output: URI of the folder.
        job: The job's name.
        code_version: Of the program that began it.
        finished: Whether there is a manifest and nothing is left to do.
        units: Units of the plan and its retries.
        units_done: Those that are done.
        units_repeated: Those of them that a worker had to begin more than once.
        rows: Input rows of the plan.
        rows_done: Rows with results.
        rows_failed: Rows that are dead letters.
        rows_left: Rows to run.
        rows_out: Result rows.
        bytes_out: Bytes of the data objects.
        failures: Dead letters by "stage: error type".
        events: What workers noted, and how often.
        seconds: Where the time of all workers and tasks went.
        hosts: Units by the node that committed them.
        rows_per_s: Rows a second in the ten minutes before the last commit; 0 where there were too few.
        idle_s: Seconds since the last commit; None before the first.
    """

    output: str
    job: str
    code_version: str
    finished: bool
    units: int
    units_done: int
    units_repeated: int
    rows: int
    rows_done: int
    rows_failed: int
    rows_left: int
    rows_out: int
    bytes_out: int
    failures: dict[str, int]
    events: dict[str, int]
    seconds: dict[str, float]
    hosts: dict[str, int]
    rows_per_s: float
    idle_s: float | None


def run_status(output: str) -> RunStatus:
    """Read a run's records.

    Raises:
        LedgerError: There is no run in the folder.
    """
    ledger = Ledger.load(output)
    plan = ledger.planned()
    records = Records(ledger.storage, plan)
    tally = Tally(plan)
    hosts: Counter[str] = Counter()
    ends: list[tuple[float, int]] = []
    repeated = 0
    for commit in records.in_order():
        tally.add_earlier([commit])
        hosts[commit.host] += 1
        ends.append((commit.committed_at, commit.rows_in))
        repeated += commit.attempts > 1
    totals, now = tally.summary(ledger.storage.uri), tally.progress()
    return RunStatus(
        output=ledger.storage.uri,
        job=ledger.spec.job,
        code_version=ledger.spec.code_version,
        finished=now.rows_left == 0 and ledger.storage.exists(MANIFEST_PATH),
        units=now.units_total,
        units_done=now.units_done,
        units_repeated=repeated,
        rows=totals.rows,
        rows_done=totals.rows_done,
        rows_failed=totals.rows_failed,
        rows_left=now.rows_left,
        rows_out=totals.rows_out,
        bytes_out=totals.bytes_out,
        failures=totals.failures,
        events=totals.events,
        seconds=totals.seconds,
        hosts=dict(hosts),
        rows_per_s=_rate(ends),
        idle_s=max(ledger.storage.now() - max(ends)[0], 0.0) if ends else None,
    )


def status_text(status: RunStatus) -> str:
    """The status for people, some lines."""
    share = (status.rows_done + status.rows_failed) / status.rows
    lines = [
        f"{status.output}: {status.job}, {'finished' if status.finished else 'not finished'}",
        f"  units  {status.units_done:,} of {status.units:,} done, {status.units_repeated:,} begun again",
        f"  rows   {status.rows_done:,} done, {status.rows_failed:,} failed of {status.rows:,} ({share:.1%})",
        f"  output {status.rows_out:,} rows, {status.bytes_out:,} bytes",
    ]
    if status.idle_s is not None:
        hosts = ", ".join(f"{host} {count:,}" for host, count in sorted(status.hosts.items()))
        lines.append(f"  last   commit {duration(status.idle_s)} ago; units by node: {hosts}")
    if status.rows_left and status.rows_per_s:
        left = duration(status.rows_left / status.rows_per_s)
        lines.append(f"  rate   {status.rows_per_s:,.1f} rows/s of late, {left} left at that rate")
    spent = sum(status.seconds.values())
    if spent > 0:
        stages = sorted(status.seconds.items(), key=lambda item: -item[1])
        lines.append("  time   " + ", ".join(f"{name} {seconds / spent:.0%}" for name, seconds in stages))
    lines += [f"  noted  {kind}, {count:,} times" for kind, count in sorted(status.events.items())]
    lines += [
        f"  failed {count:,} {kind}"
        for kind, count in sorted(status.failures.items(), key=lambda item: -item[1])
    ]
    return "\n".join(lines)


def _rate(ends: list[tuple[float, int]]) -> float:
    """Rows a second of the units that ended in the window before the last end; the first only starts it."""
    if not ends:
        return 0.0
    last = max(ends)[0]
    lately = sorted(end for end in ends if end[0] > last - _WINDOW_S)
    seconds = last - lately[0][0]
    return sum(rows for _, rows in lately[1:]) / seconds if seconds > 0 else 0.0
