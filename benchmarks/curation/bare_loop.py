"""Curation without the pipeline: `python -m benchmarks.curation.bare_loop --images FOLDER --out FOLDER`.

What one would write in an hour for a folder of images on one machine, and what the pipeline is measured
against: processes that read, check, hash, resize and encode anew, then a search for near-duplicates over all
hashes. No ledger, no resuming, no storage but the disk, and a file that cannot be decoded is a line of the
result. Prints JSON.
"""

import argparse
import functools
import hashlib
import io
import json
import multiprocessing
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.curation.corpus import MAX_ASPECT, MIN_SIDE

HASH_SIDE, HASH_LOW = 32, 8
_FILES_A_TASK = 16
_ROWS_AT_ONCE = 512


@dataclass(frozen=True, kw_only=True)
class Row:
    """What became of a file.

    Attributes:
        key: Its name without suffix.
        status: "ok", "filtered" by size or aspect, or the error's type.
        finished_s: When, by a clock that all processes share.
        sha256: Of its bytes, in hexadecimal.
        phash: Where it is ok.
    """

    key: str
    status: str
    finished_s: float
    sha256: str
    phash: int | None = None


@dataclass(frozen=True, kw_only=True)
class LoopResult:
    """What a run did and how long it took.

    Attributes:
        rows: One a file.
        exact: Pairs of keys with equal bytes: each with the first of its group.
        near: Pairs of keys whose hashes are near.
        steady_images_per_s: From the first image done to the last one.
        end_to_end_images_per_s: From before the processes start to after the search.
        seconds: End to end.
        search_s: Of the search for near-duplicates alone.
    """

    rows: list[Row]
    exact: list[tuple[str, str]]
    near: list[tuple[str, str]]
    steady_images_per_s: float
    end_to_end_images_per_s: float
    seconds: float
    search_s: float


def run(
    images: Path,
    out: Path,
    *,
    side: int = 256,
    quality: int = 95,
    max_hamming: int = 6,
    num_processes: int = 2,
) -> LoopResult:
    """Curate a folder of JPEGs.

    Args:
        images: The folder.
        out: Where resized images go, under the same names.
        side: Of the shorter side after resizing, in pixels; smaller images are left as they are.
        quality: Of the JPEGs written.
        max_hamming: Bits in which near-duplicates may differ.
        num_processes: That decode.
    """
    start = time.monotonic()
    out.mkdir(parents=True, exist_ok=True)
    files = sorted(images.glob("*.jpg"))
    tasks = [files[n : n + _FILES_A_TASK] for n in range(0, len(files), _FILES_A_TASK)]
    curate = functools.partial(_curate, out=out, side=side, quality=quality)
    rows: list[Row] = []
    with multiprocessing.get_context("fork").Pool(num_processes) as pool:
        for found in pool.imap(curate, tasks):
            rows += found
    searching = time.monotonic()
    ok = [row for row in rows if row.phash is not None]
    near = near_pairs(np.array([row.phash for row in ok], np.uint64), max_hamming)
    end = time.monotonic()
    finished = [row.finished_s for row in rows]
    return LoopResult(
        rows=rows,
        exact=_equal_pairs(ok),
        near=[(ok[i].key, ok[j].key) for i, j in near],
        steady_images_per_s=(len(rows) - 1) / (max(finished) - min(finished)),
        end_to_end_images_per_s=len(rows) / (end - start),
        seconds=end - start,
        search_s=end - searching,
    )


def near_pairs(hashes: NDArray[np.uint64], max_hamming: int) -> list[tuple[int, int]]:
    """All pairs i < j of hashes that differ in at most that many bits, each compared with each."""
    pairs: list[tuple[int, int]] = []
    for top in range(0, len(hashes), _ROWS_AT_ONCE):
        distances = np.bitwise_count(hashes[top : top + _ROWS_AT_ONCE, None] ^ hashes[None, top:])
        first, second = np.nonzero(distances <= max_hamming)
        upper = first < second
        pairs += zip((first[upper] + top).tolist(), (second[upper] + top).tolist(), strict=True)
    return pairs


def _curate(files: Sequence[Path], out: Path, side: int, quality: int) -> list[Row]:
    rows: list[Row] = []
    lumas: list[NDArray[np.uint8]] = []
    for file in files:
        data = file.read_bytes()
        sha256 = hashlib.sha256(data).hexdigest()
        try:
            with Image.open(io.BytesIO(data)) as opened:
                width, height = opened.size
                if min(width, height) < MIN_SIDE or max(width, height) > MAX_ASPECT * min(width, height):
                    status = "filtered"
                else:
                    opened.draft("RGB", (side, side))
                    picture = opened.convert("RGB")
                    status = "ok"
        except OSError as error:  # what Pillow raises for files that are damaged
            status = type(error).__name__
        if status == "ok":
            grey = picture.convert("L").resize((HASH_SIDE, HASH_SIDE), Image.Resampling.BOX)
            lumas.append(np.asarray(grey))
            scale = side / min(picture.size)
            if scale < 1:
                size = (round(picture.width * scale), round(picture.height * scale))
                picture = picture.resize(size, Image.Resampling.LANCZOS, reducing_gap=2.0)
            picture.save(out / file.name, "JPEG", quality=quality)
        rows.append(Row(key=file.stem, status=status, finished_s=time.monotonic(), sha256=sha256))
    hashes = iter(_hashes(lumas))
    return [replace(row, phash=next(hashes)) if row.status == "ok" else row for row in rows]


def _hashes(lumas: Sequence[NDArray[np.uint8]]) -> list[int]:
    """PHashes of grey images, uint8 [32, 32] each."""
    if not lumas:
        return []
    low = (_DCT @ np.stack(lumas).astype(np.float64) @ _DCT.T).reshape(len(lumas), -1)
    bits = low > np.median(low[:, 1:], axis=1, keepdims=True)
    bits[:, 0] = False  # the mean brightness
    return [int(value) for value in np.packbits(bits, axis=1).view(">u8").ravel()]


_k, _n = np.arange(HASH_LOW)[:, None], np.arange(HASH_SIDE)[None]
_DCT = np.cos(np.pi * (2 * _n + 1) * _k / (2 * HASH_SIDE)) * np.where(_k == 0, 1, np.sqrt(2))


def _equal_pairs(rows: Sequence[Row]) -> list[tuple[str, str]]:
    first: dict[str, str] = {}
    return [(first[row.sha256], row.key) for row in rows if first.setdefault(row.sha256, row.key) != row.key]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the loop and print what it did."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--quality", type=int, default=95)
    parser.add_argument("--processes", type=int, default=2)
    given = parser.parse_args(arguments)
    result = run(
        given.images, given.out, side=given.side, quality=given.quality, num_processes=given.processes
    )
    statuses = [row.status for row in result.rows]
    summary = {
        "images": len(result.rows),
        "statuses": {status: statuses.count(status) for status in sorted(set(statuses))},
        "exact_pairs": len(result.exact),
        "near_pairs": len(result.near),
        "steady_images_per_s": round(result.steady_images_per_s, 1),
        "end_to_end_images_per_s": round(result.end_to_end_images_per_s, 1),
        "seconds": round(result.seconds, 2),
        "search_s": round(result.search_s, 3),
    }
    print(json.dumps(summary))


if __name__ == "__main__":
    main()
