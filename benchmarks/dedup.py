"""How long the search for near-duplicates takes, and whether it finds what was planted.

    python -m benchmarks.dedup [--images 10000 100000 1000000]

Random hashes, one in a hundred with a copy of which 1 to 6 bits are turned. Measured are the block tables
alone in one process, and the whole job on a local Ray: it reads scores, finds equals and near pairs, writes.
"""

import argparse
import math
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import ray
from numpy.typing import NDArray

from benchmarks.record import load_average, write_result
from benchmarks.timing import significant
from pipelines.dedup import DedupSettings, NearSettings, find_duplicates
from pipelines.dedup.near import block_tables, near_pairs, num_blocks
from pipelines.manifest import read_entries
from pipelines.shards import parquet_bytes
from pipelines.storage import open_storage
from schemas.manifest import FORMAT, ObjectEntry, json_bytes

MAX_HAMMING = 6
SEED = 0
_NONE = np.zeros(0, np.uint64)
_FILE_ROWS = 16_384


def planted_hashes(count: int, seed: int) -> tuple[NDArray[np.uint64], int]:
    """Hashes of which the last ones are copies of the first ones, and how many those are."""
    rng = np.random.default_rng(seed)
    num_copies = count // 100
    originals = rng.integers(0, 2**64, count - num_copies, dtype=np.uint64)
    bits = rng.permuted(np.tile(np.arange(64, dtype=np.uint64), (num_copies, 1)), axis=1)[:, :MAX_HAMMING]
    turned = np.arange(MAX_HAMMING) < rng.integers(1, MAX_HAMMING + 1, num_copies)[:, None]
    flips = np.bitwise_xor.reduce(np.where(turned, np.uint64(1) << bits, np.uint64(0)), axis=1)
    return np.concatenate([originals, originals[:num_copies] ^ flips]), num_copies


def measure_tables(hashes: NDArray[np.uint64]) -> dict[str, Any]:
    """Time all block tables in this process."""
    distinct = np.unique(hashes)
    blocks = num_blocks(len(distinct), MAX_HAMMING)
    wall, cpu, pairs = time.perf_counter(), time.process_time(), 0
    for table in block_tables(blocks, MAX_HAMMING):
        pairs += sum(len(first) for first, _, _ in near_pairs(distinct, _NONE, table, MAX_HAMMING))
    return {
        "blocks": blocks,
        "tables": math.comb(blocks, MAX_HAMMING),
        "pairs": pairs,
        "tables_s": significant(time.perf_counter() - wall),
        "tables_cpu_s": significant(time.process_time() - cpu),
    }


def measure_job(hashes: NDArray[np.uint64], num_copies: int, folder: Path) -> dict[str, Any]:
    """Time the job, and count the planted pairs that it found."""
    source, output = str(folder / "scores"), folder / "pairs"
    _write_scores(source, hashes)
    settings = DedupSettings(exact=False, near=NearSettings(max_hamming=MAX_HAMMING))
    start = time.perf_counter()
    find_duplicates(source, str(output), settings)
    elapsed = time.perf_counter() - start
    found: set[tuple[str, str]] = set()
    for entry in read_entries(open_storage(str(output))):
        pairs = pq.read_table(output / entry.path)
        found.update(zip(pairs["a"].to_pylist(), pairs["b"].to_pylist(), strict=True))
    first_copy = len(hashes) - num_copies
    planted = {(_row_id(number), _row_id(first_copy + number)) for number in range(num_copies)}
    return {"job_s": significant(elapsed), "planted": num_copies, "planted_found": len(planted & found)}


def _write_scores(uri: str, hashes: NDArray[np.uint64]) -> None:
    storage = open_storage(uri)
    entries = []
    for start in range(0, len(hashes), _FILE_ROWS):
        own = hashes[start : start + _FILE_ROWS]
        ids = [_row_id(number) for number in range(start, start + len(own))]
        path, data = f"data/{start:09d}.parquet", parquet_bytes(pa.table({"row_id": ids, "phash": own}))
        storage.write(path, data)
        entries.append(ObjectEntry.of(path, data, len(own)).to_json())
    manifest = {"format": FORMAT, "job": "score", "objects": entries, "failed": {"objects": []}}
    storage.write("manifest.json", json_bytes(manifest))


def _row_id(number: int) -> str:
    return f"images-{number // 10_000:05d}.tar:{number:09d}"


def main() -> None:
    """Measure each number of images."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--cpus", type=int, default=2)
    arguments = parser.parse_args()
    ray.init("local", num_cpus=arguments.cpus, include_dashboard=False, log_to_driver=False)
    measures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        measure_job(*planted_hashes(1000, SEED), Path(folder) / "warm")  # starts Ray's workers
        for count in arguments.images:
            hashes, num_copies = planted_hashes(count, SEED)
            load = load_average()[0]
            result = measure_tables(hashes) | measure_job(hashes, num_copies, Path(folder) / str(count))
            measures[str(count)] = result | {"load_before": load}
            print(count, measures[str(count)], flush=True)
    settings = {"max_hamming": MAX_HAMMING, "seed": SEED, "cpus": arguments.cpus}
    print(write_result("dedup", settings=settings, measures=measures))


if __name__ == "__main__":
    main()
