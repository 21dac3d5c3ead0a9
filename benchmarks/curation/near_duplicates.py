"""How many planted duplicates and faults were found; alone, how good the perceptual hash is at it.

    python -m benchmarks.curation.near_duplicates --corpus FOLDER [--max-hamming 6]

FOLDER is what `benchmarks.curation.corpus` wrote with `--format folder`. Prints JSON.
"""

import argparse
import json
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from benchmarks.curation.bare_loop import near_pairs
from pipelines.decoding import DecodeError, DecodeLimits, decode
from pipelines.scorers.phash import PHash, hamming, perceptual_hashes

Pair = tuple[str, str]
_THREADS = 2
_HASHES_AT_ONCE = 64


def judge_pairs(pairs: Collection[Pair], truth: pa.Table, kind: str) -> dict[str, Any]:
    """How right pairs of duplicates are.

    Args:
        pairs: Keys. Chains count: a is found to be a duplicate of c through (a, b) and (b, c).
        truth: Of schema `corpus.TRUTH`.
        kind: "exact" or "near". Near-duplicates may be told by pairs of equal images, too.

    Returns:
        `precision`: share of the pairs whose images are of one original. `recall`: share of the planted
        duplicates of that kind that are joined to their original; `recall_by_edit` the same for each edit.
        Null where there is nothing to divide by. Besides, the counts behind them.
    """
    rows = truth.to_pylist()
    original = {row["key"]: row["of"] or row["key"] for row in rows}
    right = sum(original[a] == original[b] for a, b in pairs)
    joined = _groups(pairs)
    planted: Counter[str] = Counter()
    found: Counter[str] = Counter()
    for row in rows:
        if row["kind"] == kind:
            edit = row["edit"] or "copied"
            planted[edit] += 1
            found[edit] += joined.get(row["key"]) is not None and joined[row["key"]] == joined.get(row["of"])
    return {
        "pairs": len(pairs),
        "right_pairs": right,
        "planted": planted.total(),
        "found": found.total(),
        "precision": _share(right, len(pairs)),
        "recall": _share(found.total(), planted.total()),
        "recall_by_edit": {edit: _share(found[edit], planted[edit]) for edit in sorted(planted)},
    }


def judge_faults(recorded: Iterable[str], truth: pa.Table) -> dict[str, Any]:
    """Whether dead letters are the corrupt files: how many are, which are missing, which others are there."""
    corrupt = {row["key"] for row in truth.to_pylist() if row["kind"] == "corrupt"}
    keys = list(recorded)
    return {
        "planted": len(corrupt),
        "recorded": len(corrupt & set(keys)),
        "missing": sorted(corrupt - set(keys)),
        "not_corrupt": sorted(set(keys) - corrupt),
        "repeated": len(keys) - len(set(keys)),
    }


def measure_hash(corpus: Path, max_hamming: int) -> dict[str, Any]:
    """Precision and recall of the perceptual hash alone, and how far apart images are.

    Args:
        corpus: A corpus with its folder of images.
        max_hamming: Bits in which near-duplicates may differ.
    """
    truth = pq.read_table(corpus / "truth.parquet")
    rows = truth.filter(pc.is_in(truth["kind"], pa.array(["original", "exact", "near"]))).to_pylist()
    hashes = hashes_of([corpus / "images" / f"{row['key']}.jpg" for row in rows])
    keys = [row["key"] for row in rows]
    pairs = [(keys[i], keys[j]) for i, j in near_pairs(hashes, max_hamming)]
    place = {key: number for number, key in enumerate(keys)}
    distances: dict[str, list[int]] = {}
    for row in rows:
        if row["kind"] == "near":
            distance = int(hamming(hashes[place[row["key"]]], hashes[place[row["of"]]]))
            distances.setdefault(row["edit"], []).append(distance)
    originals = hashes[[row["kind"] == "original" for row in rows]]
    return {
        "max_hamming": max_hamming,
        **judge_pairs(pairs, truth, "near"),
        "planted_distances": {edit: _percentiles(found) for edit, found in sorted(distances.items())},
        "unrelated_distances": _unrelated(originals),
    }


def hashes_of(files: Sequence[Path]) -> NDArray[np.uint64]:
    """Perceptual hashes of files that can be decoded, at the scale that the scorer asks for."""
    hashes: list[NDArray[np.uint64]] = []
    with ThreadPoolExecutor(_THREADS) as threads:
        for n in range(0, len(files), _HASHES_AT_ONCE):
            pixels = threads.map(_pixels, files[n : n + _HASHES_AT_ONCE])
            hashes.append(perceptual_hashes(list(pixels)))
    return np.concatenate(hashes)


def _pixels(file: Path) -> NDArray[np.uint8]:
    try:
        return decode(file.read_bytes(), DecodeLimits(), PHash.min_side).pixels
    except DecodeError as error:
        raise ValueError(
            f"{file}: {error}; the truth says that it is sound, so make the corpus anew"
        ) from error


def _groups(pairs: Iterable[Pair]) -> dict[str, str]:
    """By key, one key that stands for all that pairs join to it."""
    parent: dict[str, str] = {}

    def top(key: str) -> str:
        parent.setdefault(key, key)
        while parent[key] != key:
            parent[key] = parent[parent[key]]
            key = parent[key]
        return key

    for a, b in pairs:
        parent[top(a)] = top(b)
    return {key: top(key) for key in list(parent)}


def _unrelated(hashes: NDArray[np.uint64]) -> dict[str, float]:
    """Least, mean and deviation of the distances between all pairs of originals."""
    counts = np.zeros(65, np.int64)
    for number, value in enumerate(hashes[:-1]):
        counts += np.bincount(hamming(hashes[number + 1 :], value), minlength=65)
    bits, share = np.arange(65), counts / counts.sum()
    mean = float(bits @ share)
    return {
        "least": float(np.nonzero(counts)[0][0]),
        "mean": round(mean, 2),
        "deviation": round(float(np.sqrt((bits - mean) ** 2 @ share)), 2),
    }


def _percentiles(values: Sequence[int]) -> dict[str, float]:
    return {f"p{percent}": float(np.percentile(values, percent)) for percent in (50, 90, 99, 100)}


def _share(part: int, whole: int) -> float | None:
    return round(part / whole, 4) if whole else None


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure the hash on a corpus and print it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--max-hamming", type=int, default=6)
    given = parser.parse_args(arguments)
    print(json.dumps(measure_hash(given.corpus, given.max_hamming), indent=2))


if __name__ == "__main__":
    main()
