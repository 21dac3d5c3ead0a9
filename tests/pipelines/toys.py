"""Small workers and jobs for the tests of the engine; no models."""

import os
import signal
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipelines.commit import Commit
from pipelines.config import Resources
from pipelines.inputs import find_parquet, read_unit
from pipelines.ledger import Ledger, RunSpec
from pipelines.plan import Unit, plan_units
from pipelines.records import Records
from pipelines.shards import Shard, parquet_shard
from pipelines.unit_job import Stage, UnitJob
from pipelines.unit_result import UnitResult, commit_unit
from pipelines.worker import DeadLetter, Worker, WorkerResult, failed_table

RESULT = pa.schema([("name", pa.string()), ("sample_id", pa.string()), ("square", pa.int64())])
ONE_CPU = Resources(num_actors=1, num_cpus=1)


def write_input(folder: Path, rows: int = 40, files: int = 2, negative: tuple[int, ...] = ()) -> str:
    """Parquet files of rows with `name` row-N and `value` N, or -N, which the worker refuses."""
    folder.mkdir(parents=True, exist_ok=True)
    for file in range(files):
        numbers = range(file * rows // files, (file + 1) * rows // files)
        values = [-n if n in negative else n for n in numbers]
        table = pa.table({"name": [f"row-{n}" for n in numbers], "value": values})
        pq.write_table(table, folder / f"part-{file}.parquet", row_group_size=7)
    return str(folder)


def square_ledger(output: str, source: str, unit_rows: int = 5, scale: int = 1) -> Ledger:
    """The run of a squaring job in `output`."""
    units = plan_units(find_parquet(source).objects, unit_rows, f"scale {scale}")
    spec = RunSpec(
        job="square", config={"scale": scale, "unit_rows": unit_rows}, row_id="name", unique_id="sample_id"
    )
    return Ledger.open(output, spec, units)


def square_job(
    source: str, worker: type[Worker] | str, *, resources: Resources = ONE_CPU, **worker_args: object
) -> UnitJob:
    """The job that squares the input's values."""
    read = partial(read_unit, find_parquet(source).storage)
    return UnitJob(stages=(Stage(worker=worker, worker_args=worker_args, resources=resources),), read=read)


def commit_inline(ledger: Ledger, units: Iterable[Unit], source: str) -> dict[str, Commit]:
    """Run the squaring job over these units without Ray."""
    read = partial(read_unit, find_parquet(source).storage)
    commits = {}
    for unit in units:
        rows = read(unit)
        result = Square().process(rows)
        commits[unit.id] = commit_rows(ledger, unit, rows["name"].to_pylist(), result.table, result.failed)
    return commits


def commit_rows(
    ledger: Ledger,
    unit: Unit,
    ids: Sequence[str],
    table: pa.Table,
    letters: Sequence[DeadLetter] = (),
    *,
    pack: Callable[[Unit, pa.Table], list[Shard]] = parquet_shard,
    started_at: float = 0.0,
    seconds: Mapping[str, float] = MappingProxyType({}),
) -> Commit:
    """Commit a unit as a job does, without Ray.

    Args:
        ledger: Of the run.
        unit: The unit.
        ids: Of its input rows.
        table: Their results.
        letters: Those of its rows that failed.
        pack: What encodes the results, if there are any.
        started_at: Unix time.
        seconds: Where the time went.
    """
    row_ids = pa.array(ids, pa.string())
    result = UnitResult(
        unit=unit,
        row_ids=row_ids,
        table=table,
        failed=failed_table(unit, row_ids, [(letter.row, letter) for letter in letters]),
        attempts=1,
        started_at=started_at,
        seconds=dict(seconds),
    )
    return commit_unit(ledger, result, pack(unit, table) if table.num_rows else [])


def finish_inline(output: str, source: str) -> Ledger:
    """A whole finished run of the squaring job, made without Ray."""
    ledger = square_ledger(output, source)
    commit_inline(ledger, list(ledger.planned()), source)
    write_manifest(ledger)
    return ledger


def write_manifest(ledger: Ledger) -> None:
    """The manifest of a run whose units are all done."""
    ledger.write_manifest(Records(ledger.storage, ledger.planned()))


def once_committed(read: Callable[[Unit], pa.Table], ledger: Ledger, last: Unit, unit: Unit) -> pa.Table:
    """Read a unit; the last one only when a tenth of all have been committed."""
    units = ledger.planned()
    if unit == last:
        deadline = time.monotonic() + 120
        while len(ledger.committed(units)) < len(units) // 10:
            assert time.monotonic() < deadline, "nothing is committed before everything is read"
            time.sleep(0.2)
    return read(unit)


class Square:
    """Squares each value; a negative one is a fault of its row. Notes each call in a log, one line a row."""

    def __init__(self, log: str | None = None, pause_s: float = 0.0) -> None:
        self.log, self.pause_s = log, pause_s

    def process(self, rows: pa.Table) -> WorkerResult:
        values = rows["value"].to_pylist()
        if self.log is not None:
            with open(self.log, "a") as log:
                log.write("".join(f"{name}\n" for name in rows["name"].to_pylist()))
        time.sleep(self.pause_s)
        failed = [DeadLetter.of(i, "square", ValueError("negative")) for i, v in enumerate(values) if v < 0]
        good = rows.filter(pc.greater_equal(rows["value"], 0))
        ids = [f"{name}-0" for name in good["name"].to_pylist()]
        table = pa.table([good["name"], ids, pc.power(good["value"], 2)], schema=RESULT)
        return WorkerResult(table=table, failed=failed, seconds={"square": self.pause_s})


class Expand:
    """Gives each row three results, and tells on which GPU and with how many threads it ran."""

    def process(self, rows: pa.Table) -> WorkerResult:
        names = [name for name in rows["name"].to_pylist() for _ in range(3)]
        columns = {"name": names, "sample_id": [f"{name}-{n % 3}" for n, name in enumerate(names)]}
        columns["gpu"] = [os.environ["CUDA_VISIBLE_DEVICES"]] * len(names)
        columns["threads"] = [os.environ["OMP_NUM_THREADS"]] * len(names)
        columns["rows"] = [str(rows.num_rows)] * len(names)
        time.sleep(1)  # so that one worker cannot take all units before the other has started
        return WorkerResult(table=pa.table(columns))


class Deadly(Square):
    """Squares, but some values kill the process, as a segmentation fault would."""

    def __init__(self, deadly: list[int], once: str | None = None) -> None:
        super().__init__()
        self.deadly, self.once = set(deadly), once

    def process(self, rows: pa.Table) -> WorkerResult:
        died = self.once is not None and Path(self.once).exists()
        if self.deadly.intersection(rows["value"].to_pylist()) and not died:
            if self.once is not None:
                Path(self.once).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().process(rows)


class Poisoned(Square):
    """Squares, but some values raise, ask for memory that no machine has, or never come to an end."""

    def process(self, rows: pa.Table) -> WorkerResult:
        values = set(rows["value"].to_pylist())
        if 11 in values:
            raise KeyError(f"unforeseen in {object()}")
        if 22 in values:
            np.zeros(1 << 55)
        if 33 in values:
            time.sleep(3600)
        return super().process(rows)


class Faulty:
    """A worker with a program fault."""

    def process(self, rows: pa.Table) -> WorkerResult:
        raise KeyError("no such model")


class DeadlyToBuild(Square):
    """A worker whose process dies while it loads its model, as for want of memory."""

    def __init__(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


class Unloadable:
    """A worker whose model cannot be loaded."""

    def __init__(self) -> None:
        raise FileNotFoundError("weights.safetensors is missing")

    def process(self, rows: pa.Table) -> WorkerResult:
        raise AssertionError("never built")


class Forgiving(Square):
    """Squares row-33 even though it is negative."""

    def process(self, rows: pa.Table) -> WorkerResult:
        values = [33 if value == -33 else value for value in rows["value"].to_pylist()]
        return super().process(rows.set_column(1, "value", pa.array(values)))


class Halve(Square):
    """An earlier stage: halves even values; negative ones fail, and 28 becomes a value that fails later."""

    def process(self, rows: pa.Table) -> WorkerResult:
        values = rows["value"].to_pylist()
        failed = [DeadLetter.of(i, "halve", ValueError("negative")) for i, v in enumerate(values) if v < 0]
        good = rows.filter(pc.greater_equal(rows["value"], 0))
        halves = [-1 if v == 28 else v // 2 for v in good["value"].to_pylist()]
        return WorkerResult(table=good.set_column(1, "value", pa.array(halves)), failed=failed)


class Lossy(Square):
    """An earlier stage that loses a row."""

    def process(self, rows: pa.Table) -> WorkerResult:
        return WorkerResult(table=rows.slice(1))
