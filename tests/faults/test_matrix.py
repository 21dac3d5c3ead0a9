"""The whole engine under every fault of the matrix: afterwards all is as if nothing had happened.

MEISSONIC_RELIABILITY=docs/reliability.md python -m pytest -m "" tests/faults tests/integration

Some of the faults are tried with the slow tests; the rest is marked `reliability`.
"""

import json
import shutil
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
import ray

from pipelines.errors import LedgerError
from pipelines.garbage import collect_garbage
from pipelines.ledger import Ledger
from pipelines.manifest import MANIFEST_PATH, read_entries
from pipelines.storage import ConditionalWriteError, Storage, child, open_storage
from pipelines.units import JobFailedError, run_units
from pipelines.verify import verify
from tests.faults import matrix
from tests.faults.matrix import KILLS, SERVER, UNCONDITIONAL, Kill, Row, ServerFault
from tests.faults.struck_storage import SkewedStorage, Strike, StruckStorage
from tests.pipelines.toys import Deadly, Square, finish_inline, square_job, square_ledger, write_input
from tests.servers.fault_proxy import Fault, FaultProxy

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("local_ray")]
NUM_ROWS, NUM_UNITS = 40, 8
OFTEN = ("driver killed between dead letters and commit", "commit written, answer lost")
"""Tried with the slow tests: a kill, and a fault of the real server."""
SERVERS = {
    "mock S3": ("s3_server", [pytest.mark.s3]),
    "Ceph": ("ceph_server", [pytest.mark.s3, pytest.mark.ceph]),
}
Told = Callable[[Row, str, int], None]


@dataclass(frozen=True, kw_only=True)
class Undisturbed:
    """What a run gives to which nothing happened, and the input of it."""

    source: str
    storage: Storage


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    folder = tmp_path_factory.mktemp("undisturbed")
    source = write_input(folder / "in", rows=NUM_ROWS, negative=(3, 17))
    return Undisturbed(source=source, storage=finish_inline(str(folder / "out"), source).storage)


@pytest.fixture
def tell(request: pytest.FixtureRequest) -> Told:
    """Records a line of the table: the fault, where it was made, finished units that were computed again."""

    def record(row: Row, place: str, num_again: int) -> None:
        request.node.user_properties.append(("fault", (row.name, place, row.outcome, num_again)))

    return record


def resume(output: str, undisturbed: Undisturbed, tmp_path: Path) -> int:
    """Run to the end and compare all bytes; gives how many rows of finished units were computed again."""
    log = tmp_path / "resumed.log"
    log.touch()
    storage = open_storage(output)
    finished = {entry.path.split("/")[1][:21] for entry in storage.list("commits/")}
    ledger = square_ledger(output, undisturbed.source)
    run_units(square_job(undisturbed.source, Square, log=str(log)), ledger)
    for path in [
        MANIFEST_PATH,
        *(e.path for name in ("data", "failed") for e in read_entries(storage, name)),
    ]:
        assert storage.read(path) == undisturbed.storage.read(path), path
    assert verify(output).problems == []
    return len(rows_of(ledger, finished) & set(log.read_text().split()))


def rows_of(ledger: Ledger, unit_ids: set[str]) -> set[str]:
    per_file = NUM_ROWS // 2
    units = [unit for unit in ledger.planned() if unit.id in unit_ids]
    return {f"row-{int(u.path[5]) * per_file + row}" for u in units for row in u.row_numbers}


def run_struck(kill: Kill, output: str, undisturbed: Undisturbed, tmp_path: Path) -> None:
    """Run until the process is dead that the kill is for; a driver in a process of its own."""
    marker = tmp_path / "mark"
    strike = {"path": kill.path, "moment": kill.moment, "victim": kill.victim, "marker": str(marker)}
    if kill.victim == "driver":
        address = ray.get_runtime_context().gcs_address
        arguments = [address, output, undisturbed.source, str(tmp_path / "log"), json.dumps(strike)]
        driver = subprocess.run(
            [sys.executable, "-m", "tests.faults.driver", *arguments], capture_output=True, text=True
        )
        assert driver.returncode == -9, driver.stderr
    else:
        storage = StruckStorage(open_storage(output), Strike(**strike))  # type: ignore[arg-type]
        ledger = square_ledger(output, undisturbed.source)
        run_units(square_job(undisturbed.source, Square), Ledger(storage=storage, spec=ledger.spec))
    assert marker.exists()


def seldom_or_often(often: bool) -> pytest.MarkDecorator:
    return pytest.mark.slow if often else pytest.mark.reliability


@pytest.mark.parametrize(
    "kill",
    [pytest.param(k, id=k.name, marks=seldom_or_often(k.name in OFTEN)) for k in KILLS],
)
def test_a_process_dies_at_a_write(kill: Kill, undisturbed: Undisturbed, tmp_path: Path, tell: Told) -> None:
    output = str(tmp_path / "out")
    run_struck(kill, output, undisturbed, tmp_path)
    tell(kill, "folder", resume(output, undisturbed, tmp_path))


@pytest.fixture
def proxy(request: pytest.FixtureRequest) -> Iterator[FaultProxy]:
    with FaultProxy(request.getfixturevalue(request.param)) as proxy:
        yield proxy


def copied(source: str, uri: str) -> str:
    """The input on the server too, so that reading it meets the faults."""
    for file in Path(source).iterdir():
        open_storage(uri).write(file.name, file.read_bytes())
    return uri


@pytest.mark.parametrize(
    ("proxy", "place", "row"),
    [
        pytest.param(
            server,
            place,
            row,
            id=f"{place}-{row.name}",
            marks=[*marks, seldom_or_often(place == "Ceph" and row.name in OFTEN)],
        )
        for place, (server, marks) in SERVERS.items()
        for row in SERVER
    ],
    indirect=["proxy"],
)
def test_a_server_fails(
    row: ServerFault, proxy: FaultProxy, place: str, undisturbed: Undisturbed, tmp_path: Path, tell: Told
) -> None:
    root = f"s3://bucket/{uuid.uuid4().hex}?endpoint_url={proxy.url}&retry_s="
    root += "2" if "retry_s" in row.name else "60"
    source, output = copied(undisturbed.source, child(root, "in")), child(root, "out")
    # units are named for their input's entity tags here
    there = Undisturbed(source=source, storage=finish_inline(child(root, "undisturbed"), source).storage)
    inject(proxy, row.faults)
    if row.outcome == matrix.RIDES:
        run_units(square_job(source, Square), square_ledger(output, source))
    else:
        with pytest.raises(JobFailedError, match=row.message):
            run_units(square_job(source, Square), square_ledger(output, source))
    assert proxy.hits > 0
    proxy.clear()
    inject(proxy, row.next_run)
    tell(row, place, resume(output, there, tmp_path))
    assert not row.next_run or proxy.hits > 0


def inject(proxy: FaultProxy, faults: Iterable[Fault]) -> None:
    for fault in faults:
        proxy.inject(fault)


@pytest.mark.reliability
@pytest.mark.s3
@pytest.mark.parametrize("proxy", ["s3_server"], indirect=True)
def test_a_server_without_conditional_writes(
    proxy: FaultProxy, undisturbed: Undisturbed, tmp_path: Path, tell: Told
) -> None:
    inject(proxy, UNCONDITIONAL.faults)
    output = f"s3://bucket/{uuid.uuid4().hex}?endpoint_url={proxy.url}"
    with pytest.raises(ConditionalWriteError, match=UNCONDITIONAL.message):
        square_ledger(output, undisturbed.source)
    assert list(open_storage(output).list("run")) == []
    tell(UNCONDITIONAL, "mock S3", resume(f"{output}&single_writer=true", undisturbed, tmp_path))


def test_a_worker_is_killed_in_the_middle(undisturbed: Undisturbed, tmp_path: Path, tell: Told) -> None:
    output = str(tmp_path / "out")
    job = square_job(undisturbed.source, Deadly, deadly=[19], once=str(tmp_path / "died"))
    run_units(job, square_ledger(output, undisturbed.source))
    assert (tmp_path / "died").exists()
    tell(matrix.ACTOR_KILLED, "folder", resume(output, undisturbed, tmp_path))


@pytest.mark.reliability
def test_a_node_is_lost(undisturbed: Undisturbed, tmp_path: Path, tell: Told) -> None:
    output = str(tmp_path / "out")
    command = [sys.executable, "-m", "tests.faults.lost_node", output, undisturbed.source]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    assert "removed a node with units in flight" in done.stdout
    tell(matrix.NODE_LOST, "folder", resume(output, undisturbed, tmp_path))


@pytest.mark.slow
def test_a_disk_is_full(small_disk: Path, undisturbed: Undisturbed, tmp_path: Path, tell: Told) -> None:
    output = str(small_disk / "out")
    ledger = square_ledger(output, undisturbed.source)
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(shutil.disk_usage(small_disk).free))
    with pytest.raises(JobFailedError, match=r"No space left on device.*free space"):
        run_units(square_job(undisturbed.source, Square), ledger)
    ballast.unlink()
    tell(matrix.DISK_FULL, "folder", resume(output, undisturbed, tmp_path))


@pytest.mark.slow
def test_two_drivers_share_an_output(undisturbed: Undisturbed, tmp_path: Path, tell: Told) -> None:
    output, log = str(tmp_path / "out"), tmp_path / "log"

    def drive(_: int) -> int:
        job = square_job(undisturbed.source, Square, log=str(log), pause_s=0.1)
        return run_units(job, square_ledger(output, undisturbed.source)).rows_done

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(drive, range(2))) == [NUM_ROWS - 2] * 2
    assert max(Counter(log.read_text().split()).values()) <= 2  # each unit at most once a driver
    tell(matrix.TWO_DRIVERS, "folder", resume(output, undisturbed, tmp_path))


@pytest.mark.slow
def test_the_input_changes(undisturbed: Undisturbed, tmp_path: Path, tell: Told) -> None:
    source, output = tmp_path / "in", str(tmp_path / "out")
    write_input(source, rows=NUM_ROWS, negative=(3, 17))
    square_ledger(output, str(source))
    write_input(source, rows=NUM_ROWS, negative=(3, 18))
    with pytest.raises(LedgerError, match=r"another input:\n  part-0\.parquet: "):
        square_ledger(output, str(source))
    tell(matrix.INPUT_CHANGED, "folder", resume(output, undisturbed, tmp_path))


@pytest.mark.slow
def test_the_configuration_changes(undisturbed: Undisturbed, tmp_path: Path, tell: Told) -> None:
    output = str(tmp_path / "out")
    square_ledger(output, undisturbed.source)
    with pytest.raises(LedgerError, match=r"config\.scale: 1 -> 2\n.*another output folder"):
        square_ledger(output, undisturbed.source, scale=2)
    tell(matrix.CONFIG_CHANGED, "folder", resume(output, undisturbed, tmp_path))


@pytest.mark.slow
def test_clocks_are_wrong(undisturbed: Undisturbed, tmp_path: Path, tell: Told) -> None:
    output = str(tmp_path / "out")
    ledger = square_ledger(output, undisturbed.source)
    storage = SkewedStorage(ledger.storage, days=-3)
    run_units(square_job(undisturbed.source, Square), Ledger(storage=storage, spec=ledger.spec))
    records = ledger.committed(ledger.planned()).values()
    assert all(record.committed_at < time.time() - 2 * 86_400 for record in records)
    assert collect_garbage(output).objects == []
    tell(matrix.WRONG_CLOCKS, "folder", resume(output, undisturbed, tmp_path))


def test_the_table_of_the_documentation_is_this_matrix() -> None:
    text = Path("docs/reliability.md").read_text()
    assert [row.name for row in matrix.ROWS if f"| {row.name} |" not in text] == []
