"""How long `view` takes to read an output, and then for a page of it.

    python -m benchmarks.viewing [--rows 100000 1000000]

A made-up output of `generate` in a folder: all its columns, three scores, one small image for all rows. A
page is a whole one: conditions, order, histograms, HTML; each is one that was not asked for before. Another
process on the same CPUs makes it slower: the CPU time of all threads is told beside.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pyarrow as pa

from benchmarks.record import load_average, write_result
from benchmarks.timing import significant, spread
from pipelines.ledger import Ledger, RunSpec
from pipelines.pages.rendering import environment
from pipelines.plan import InputObject, plan_units
from pipelines.shards import parquet_shard
from pipelines.unit_result import UnitResult, commit_unit
from pipelines.viewing import server
from pipelines.viewing.outputs import open_output
from pipelines.viewing.pages import Pages
from pipelines.viewing.rows import OutputRows
from pipelines.viewing.view import Filter, View
from schemas.failed import FAILED
from schemas.generations import generations_schema

UNIT_ROWS = 1000
SEED = 0
REPETITIONS = 10
_SCORES = [pa.field(f"score_{name}", pa.float32()) for name in ("clip", "aesthetic", "preference")]
_SCHEMA = generations_schema(
    tokens=False, scores=_SCORES, ranks=False, passed_through=[pa.field("split", pa.string())]
)
_TEXT = "a fox in the snow under red northern lights with two small green houses and an old boat"
_WORDS = _TEXT.split()


def write_output(uri: str, count: int) -> None:
    """A finished run of `generate` but for its manifest."""
    rng = np.random.default_rng(SEED)
    plan = plan_units([InputObject(path="p.parquet", fingerprint="made", rows=count)], UNIT_ROWS, "")
    spec = RunSpec(job="generate", config={}, row_id="prompt_id", unique_id="sample_id")
    ledger = Ledger.open(uri, spec, plan)
    with mock.patch("os.fsync"):  # what is timed is reading
        for unit in plan:
            table = _rows(rng, unit.row_start, unit.num_rows)
            result = UnitResult(
                unit=unit,
                row_ids=table["prompt_id"].combine_chunks(),
                table=table,
                failed=FAILED.empty_table(),
                attempts=1,
                started_at=0.0,
                seconds={},
            )
            commit_unit(ledger, result, parquet_shard(unit, table))


def _rows(rng: np.random.Generator, start: int, count: int) -> pa.Table:
    ids = [f"{number:09d}" for number in range(start, start + count)]
    texts = [" ".join(rng.permutation(_WORDS)) for _ in ids]
    same: dict[str, Any] = {
        "negative_prompt": "",
        "width": 1024,
        "height": 1024,
        "num_steps": 48,
        "guidance_scale": 9.0,
        "temperature": 2.0,
        "temperature_end": 0.0,
        "softmax_temperature": 1.0,
        "masking_schedule": "cosine",
        "score": 6.0,
        "model_id": "made",
        "model_digest": "0" * 64,
        "sample_index": 0,
        "image": {"bytes": bytes(64), "path": "i.png"},
    }
    columns: dict[str, Any] = {name: [value] * count for name, value in same.items()}
    columns |= {"sample_id": [f"s{name}" for name in ids], "prompt_id": ids, "prompt": texts}
    columns |= {"seed": rng.integers(0, 2**62, count), "split": rng.choice(["train", "test"], count)}
    columns |= {field.name: rng.normal(size=count) for field in _SCORES}
    nothing = [None] * count
    return pa.table({f.name: pa.array(columns.get(f.name, nothing), f.type) for f in _SCHEMA}, schema=_SCHEMA)


def measure(uri: str, folder: Path) -> dict[str, Any]:
    """Time the reading and each kind of page."""
    start = time.perf_counter()
    rows = OutputRows(open_output(uri), folder)
    rows.refresh()
    read = time.perf_counter()
    pages = Pages(rows)
    pages.prepare()
    result: dict[str, Any] = {
        "read_s": significant(read - start),
        "prepare_s": significant(time.perf_counter() - read),
        "index_bytes": sum(file.stat().st_size for file in folder.iterdir()),
    }
    _page(pages, View())  # templates are read
    for name, make in _KINDS.items():
        times = [_page(pages, make(number)) for number in range(REPETITIONS)]
        result[f"{name}_s"] = spread([wall for wall, _ in times])
        result[f"{name}_cpu_s"] = spread([cpu for _, cpu in times])
    rows.index.close()
    return result


def _filtered(number: int) -> View:
    least = Filter(part="min", column="score_clip", value=str(number / 10))
    split = Filter(part="is", column="split", value="test")
    return View(filters=(least, split), sort="score_aesthetic", descending=True)


_KINDS: dict[str, Callable[[int], View]] = {
    "filter_and_sort": _filtered,
    "search_and_sort": lambda n: View(text=f"{_WORDS[n]} {_WORDS[n + 1]} fox", sort="score_clip"),
    "where_and_sort": lambda n: View(where=f"score_clip + score_aesthetic > {n / 10}", sort="seed"),
    "deep_page": lambda n: replace(_filtered(n), page=200),
}


def _page(pages: Pages, view: View) -> tuple[float, float]:
    """Seconds that a page takes, and those of all threads' CPUs."""
    wall, cpu = time.perf_counter(), time.process_time()
    template = environment(Path(server.__file__).parent).get_template("gallery.html.j2")
    template.render(pages.gallery(view))
    return time.perf_counter() - wall, time.process_time() - cpu


def main() -> None:
    """Measure each number of rows."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 1_000_000])
    arguments = parser.parse_args()
    measures: dict[str, Any] = {}
    for count in arguments.rows:
        with tempfile.TemporaryDirectory() as output, tempfile.TemporaryDirectory() as index:
            write_output(output, count)
            load = load_average()[0]
            measures[str(count)] = measure(output, Path(index)) | {"load_before": load}
            print(count, measures[str(count)], flush=True)
    settings = {"unit_rows": UNIT_ROWS, "repetitions": REPETITIONS, "seed": SEED}
    print(write_result("viewing", settings=settings, measures=measures))


if __name__ == "__main__":
    main()
