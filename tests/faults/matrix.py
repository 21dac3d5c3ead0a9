"""The faults that the engine is tested under: what is struck, and what must come of it."""

from dataclasses import dataclass

from tests.servers.fault_proxy import Fault

RIDES, RESUMES, REFUSED = "rides it out", "stops; started again it ends the work", "refuses, and says why"


@dataclass(frozen=True, kw_only=True)
class Row:
    """A line of the table in docs/reliability.md.

    Attributes:
        name: The fault.
        outcome: RIDES, RESUMES or REFUSED.
    """

    name: str
    outcome: str = RIDES


@dataclass(frozen=True, kw_only=True)
class Kill(Row):
    """A process that dies at a write."""

    path: str
    moment: str
    victim: str = "driver"


@dataclass(frozen=True, kw_only=True)
class ServerFault(Row):
    """A server or network that fails: faults of the run, and of the run that follows it."""

    faults: tuple[Fault, ...]
    next_run: tuple[Fault, ...] = ()
    message: str = ""


def _driver(name: str, path: str, moment: str) -> Kill:
    return Kill(name=f"driver killed {name}", path=path, moment=moment, outcome=RESUMES)


def _writer(name: str, path: str, moment: str) -> Kill:
    return Kill(name=f"writing task killed {name}", path=path, moment=moment, victim="writer")


UNIT = "00000003-"  # the unit that is struck: it has results and a dead letter
KILLS = [
    _driver("before run.json", r"^run\.json", "before"),
    _driver("between run.json and the plan", r"^plan\.parquet", "before"),
    _driver("after the plan", r"^plan\.parquet", "after"),
    _driver("before a unit's data", f"^data/{UNIT}", "before"),
    _driver("between data and dead letters", f"^data/{UNIT}", "after"),
    _driver("between dead letters and commit", f"^failed/{UNIT}", "after"),
    _driver("after a commit", f"^commits/{UNIT}", "after"),
    _driver("before a rollup", "^rollups/", "before"),
    _driver("between rollup and manifest", r"^manifest\.json", "before"),
    _driver("after the manifest", r"^manifest\.json", "after"),
    _writer("before the data", f"^data/{UNIT}", "before"),
    _writer("in the middle of the data", f"^data/{UNIT}", "during"),
    _writer("between data and commit", f"^commits/{UNIT}", "before"),
    _writer("after the commit", f"^commits/{UNIT}", "after"),
]

DATA, COMMIT = "/data/", "/commits/"
SERVER = [
    ServerFault(
        name="500 for every third write",
        faults=tuple(Fault(action="internal_error", method="PUT", skip=n, times=1) for n in range(0, 24, 3)),
    ),
    ServerFault(name="503 SlowDown, ten in a row", faults=(Fault(action="slow_down", skip=12, times=10),)),
    ServerFault(
        name="connection reset while data is sent",
        faults=(Fault(action="reset_before", method="PUT", key=DATA, times=3),),
    ),
    ServerFault(
        name="data written, answer lost",
        faults=(Fault(action="lose_answer", method="PUT", key=DATA, times=3),),
    ),
    ServerFault(
        name="commit written, answer lost",
        faults=(Fault(action="lose_answer", method="PUT", key=COMMIT, times=3),),
    ),
    ServerFault(
        name="run.json written, answer lost",
        faults=(Fault(action="lose_answer", method="PUT", key=r"/run\.json", times=1),),
    ),
    ServerFault(
        name="body of an input or a record breaks off",
        faults=(Fault(action="truncate", method="GET", key="parquet|json", skip=2, times=4),),
    ),
    ServerFault(
        name="403 in the middle",
        faults=(Fault(action="denied", method="PUT", key=COMMIT, skip=2),),
        outcome=RESUMES,
        message="permission s3:PutObject is missing",
    ),
    ServerFault(
        name="credentials expire in the middle",
        faults=(Fault(action="expired", method="PUT", key=DATA, skip=3),),
        outcome=RESUMES,
        message="have expired .*start the job again",
    ),
    ServerFault(
        name="signature refused: a node's clock is wrong",
        faults=(Fault(action="skewed", method="PUT", key=DATA, skip=2),),
        outcome=RESUMES,
        message="the clock of .* is wrong",
    ),
    ServerFault(
        name="server out of reach for longer than retry_s",
        faults=(Fault(action="slow_down", method="PUT", key=COMMIT, skip=3),),
        outcome=RESUMES,
        message="answered SlowDown",
    ),
    ServerFault(
        name="listing that lags behind all commits",
        faults=(Fault(action="denied", method="PUT", key=COMMIT, skip=5),),
        next_run=(Fault(action="lag_listing", key=COMMIT),),
        outcome=RESUMES,
        message="s3:PutObject",
    ),
]
UNCONDITIONAL = ServerFault(
    name="server without conditional writes",
    faults=(Fault(action="ignore_conditions", method="PUT"),),
    outcome=REFUSED,
    message="single_writer=true",
)

ACTOR_KILLED = Row(name="worker killed in the middle of a batch")
NODE_LOST = Row(name="node lost with units in flight")
DISK_FULL = Row(name="local disk full", outcome=RESUMES)
TWO_DRIVERS = Row(name="two drivers on one output")
INPUT_CHANGED = Row(name="input changed between runs", outcome=REFUSED)
CONFIG_CHANGED = Row(name="configuration changed between runs", outcome=REFUSED)
WRONG_CLOCKS = Row(name="clocks of nodes wrong by days")
OTHERS = [ACTOR_KILLED, NODE_LOST, DISK_FULL, TWO_DRIVERS, INPUT_CHANGED, CONFIG_CHANGED, WRONG_CLOCKS]
ROWS: list[Row] = [*KILLS, *SERVER, UNCONDITIONAL, *OTHERS]
