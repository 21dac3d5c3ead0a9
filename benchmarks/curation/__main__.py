"""Measure curation against a bare loop on a generated corpus: `python -m benchmarks.curation [--out FILE]`.

Both do the same work in turn, some times over: decode, filter by size and aspect, SHA-256, perceptual hash,
near-duplicates, resize to 256, encode, write. Reported are the pipeline's share of the loop's steady rate,
the rates with all starts included, how many planted duplicates and faults were found, and the driver's memory
for more and fewer images.
"""

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from benchmarks.curation.corpus import write_corpus
from benchmarks.curation.near_duplicates import judge_faults, judge_pairs, measure_hash
from benchmarks.record import write_result

NUM_PROCESSES = 2


def run_both(images: Path, work: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The loop and then the pipeline, each in a process of its own; with the seconds of the whole process."""
    results = []
    for module in ("bare_loop", "pipeline"):
        shutil.rmtree(work, ignore_errors=True)
        began = time.monotonic()
        command = [sys.executable, "-m", f"benchmarks.curation.{module}", "--images", images, "--out", work]
        done = subprocess.run(list(map(str, command)), stdout=subprocess.PIPE, text=True, check=True)
        result = json.loads(done.stdout.splitlines()[-1])
        results.append(result | {"process_s": round(time.monotonic() - began, 2)})
    return results[0], results[1]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and write the result."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--corpus", type=Path, help="FOLDER of benchmarks.curation.corpus; made where left out."
    )
    parser.add_argument("--count", type=int, default=4000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        corpus = given.corpus or Path(folder, "corpus")
        if given.corpus is None:
            write_corpus(corpus, count=given.count, seed=0, formats=["folder"], num_processes=NUM_PROCESSES)
        truth = pq.read_table(corpus / "truth.parquet")
        rounds = [run_both(corpus / "images", Path(folder, "work")) for _ in range(given.rounds)]
        few = Path(folder, "few")
        write_corpus(few, count=given.count // 4, seed=1, formats=["folder"], num_processes=NUM_PROCESSES)
        _, fewer = run_both(few / "images", Path(folder, "work"))
        hash_alone = measure_hash(corpus, 6)
    ours = rounds[-1][1]
    pairs = {kind: [tuple(pair) for pair in found] for kind, found in ours["found"].items()}
    measures = {
        "images": truth.num_rows,
        "steady_share": _spread([p["steady_images_per_s"] / b["steady_images_per_s"] for b, p in rounds]),
        "steady_images_per_s": {
            "loop": _spread([b["steady_images_per_s"] for b, _ in rounds]),
            "pipeline": _spread([p["steady_images_per_s"] for _, p in rounds]),
        },
        "whole_process_images_per_s": {
            "loop": _spread([truth.num_rows / b["process_s"] for b, _ in rounds]),
            "pipeline": _spread([truth.num_rows / p["process_s"] for _, p in rounds]),
        },
        "pipeline_seconds": [p["seconds"] for _, p in rounds],
        "exact": judge_pairs(pairs["exact"], truth, "exact"),
        "near": judge_pairs(pairs["exact"] + pairs["near"], truth, "near"),
        "hash_alone": hash_alone,
        "faults": judge_faults(ours["failed"], truth),
        "kept": ours["kept"],
        "driver_peak_mib": {
            str(truth.num_rows): ours["driver_peak_mib"],
            str(fewer["images"]): fewer["driver_peak_mib"],
        },
    }
    settings = {"count": truth.num_rows, "rounds": given.rounds, "processes": NUM_PROCESSES, "side": 256}
    path = write_result("curation", settings=settings, measures=measures, path=given.out)
    print(json.dumps(measures, indent=2))
    print(path)


def _spread(values: Sequence[float]) -> dict[str, Any]:
    return {"median": round(statistics.median(values), 3), "all": [round(value, 3) for value in values]}


if __name__ == "__main__":
    main()
