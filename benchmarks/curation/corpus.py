"""Make a corpus with planted faults: `python -m benchmarks.curation.corpus --out FOLDER`.

    FOLDER/truth.parquet            what each image is, of schema TRUTH
    FOLDER/images/000000.jpg        --format folder
    FOLDER/tars/00000.tar           --format tars: WebDataset, with a caption each
    FOLDER/parquet/00000.parquet    --format parquet: key, caption, image struct<bytes, path>

Equal seeds and counts give equal bytes, however many processes make them. An original and what was made of it
lie anywhere in the order.
"""

import argparse
import io
import json
import math
import multiprocessing
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from benchmarks.curation.pictures import Size, picture
from pipelines.shards import parquet_bytes
from pipelines.webdataset import tar_bytes

FORMATS = ("folder", "tars", "parquet")
SHARD_ROWS = 500
MIN_SIDE, MAX_ASPECT = 256, 3.0
"""What an image must have in order not to be too small or too long: only those planted so have less."""
SIDES = (400, 1200)
EDITS = ("reencoded", "resized", "cropped", "resized and cropped")
FAULTS = ("truncated", "empty", "wrong magic")
SHARES = {"exact": 0.03, "near": 0.12, "corrupt": 0.015, "too small": 0.01, "too long": 0.01}
"""Of all images; the rest are originals."""
MAX_CROP = 0.02
"""Of a side, cut off at each of its ends."""
_GROUPS_A_TASK = 16

TRUTH = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),  # name without suffix
        pa.field("kind", pa.string(), nullable=False),  # "original" or one of SHARES
        pa.field("of", pa.string()),  # key of the original that a duplicate was made of
        pa.field("edit", pa.string()),  # how: one of EDITS for near-duplicates, of FAULTS for corrupt files
        pa.field("size_bytes", pa.int64(), nullable=False),
    ]
)


@dataclass(frozen=True, kw_only=True)
class Planned:
    """An image to be made.

    Attributes:
        key: Its name.
        kind: "original" or one of SHARES.
        of: Key of the original, for duplicates.
        edit: One of EDITS or FAULTS.
    """

    key: str
    kind: str
    of: str | None = None
    edit: str | None = None


def plan(count: int, seed: int) -> list[list[Planned]]:
    """What to make: groups of an original, first, and its duplicates; what has none is alone."""
    rng = np.random.default_rng((seed, 0))
    keys = [f"{number:06d}" for number in rng.permutation(count)]
    number_of = {kind: round(share * count) for kind, share in SHARES.items()}
    originals = [keys.pop() for _ in range(count - sum(number_of.values()))]
    groups = {key: [Planned(key=key, kind="original")] for key in originals}
    for kind in ("exact", "near"):
        for index in range(number_of[kind]):
            of = originals[int(rng.integers(len(originals)))]
            edit = EDITS[index % len(EDITS)] if kind == "near" else None
            groups[of].append(Planned(key=keys.pop(), kind=kind, of=of, edit=edit))
    alone = [
        Planned(key=keys.pop(), kind=kind, edit=FAULTS[index % len(FAULTS)] if kind == "corrupt" else None)
        for kind in ("corrupt", "too small", "too long")
        for index in range(number_of[kind])
    ]
    return [*groups.values(), *([single] for single in alone)]


def make_group(group: Sequence[Planned], seed: int) -> Iterator[tuple[Planned, bytes]]:
    """The encoded images of a group; duplicates are made of the original's encoded bytes."""
    first = group[0]
    rng = np.random.default_rng((seed, 1, int(first.key)))
    drawn = picture((seed, 2, int(first.key)), _size(first.kind, rng))
    original = _jpeg(drawn, int(rng.integers(82, 95)))
    yield first, _damaged(original, first.edit, rng) if first.kind == "corrupt" else original
    for copy in group[1:]:
        if copy.kind == "exact":
            yield copy, original
        else:
            assert copy.edit is not None
            with Image.open(io.BytesIO(original)) as decoded:
                yield copy, _edited(decoded, copy.edit, np.random.default_rng((seed, 3, int(copy.key))))


def write_corpus(
    folder: Path,
    *,
    count: int = 4000,
    seed: int = 0,
    formats: Sequence[str] = FORMATS,
    num_processes: int = 2,
) -> pa.Table:
    """Write a corpus and return its truth, in order of key.

    Args:
        folder: Made if need be.
        count: Images of all kinds.
        seed: Of everything.
        formats: Some of FORMATS.
        num_processes: That make images.
    """
    images = folder / "images"
    images.mkdir(parents=True, exist_ok=True)
    groups = plan(count, seed)
    tasks = [(groups[n : n + _GROUPS_A_TASK], seed, images) for n in range(0, len(groups), _GROUPS_A_TASK)]
    with multiprocessing.get_context("spawn").Pool(num_processes) as pool:
        rows = [row for found in pool.starmap(_write_groups, tasks, chunksize=1) for row in found]
    truth = pa.Table.from_pylist(rows, TRUTH).sort_by("key")
    pq.write_table(truth, folder / "truth.parquet")
    keys = truth["key"].to_pylist()
    shards = [keys[n : n + SHARD_ROWS] for n in range(0, count, SHARD_ROWS)]
    if "tars" in formats:
        _write_tars(folder / "tars", images, shards)
    if "parquet" in formats:
        _write_parquet(folder / "parquet", images, shards)
    if "folder" not in formats:
        for key in keys:
            _file(images, key).unlink()
        images.rmdir()
    return truth


def _write_groups(groups: Sequence[Sequence[Planned]], seed: int, images: Path) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for planned, data in (made for group in groups for made in make_group(group, seed)):
        _file(images, planned.key).write_bytes(data)
        row = {"key": planned.key, "kind": planned.kind, "of": planned.of, "edit": planned.edit}
        rows.append({**row, "size_bytes": len(data)})
    return rows


def _write_tars(folder: Path, images: Path, shards: Sequence[Sequence[str]]) -> None:
    folder.mkdir(exist_ok=True)
    for number, keys in enumerate(shards):
        members: list[tuple[str, bytes]] = []
        for key in keys:
            members.append((f"{key}.jpg", _file(images, key).read_bytes()))
            members.append((f"{key}.txt", _caption(key).encode()))
            members.append((f"{key}.json", json.dumps({"caption": _caption(key), "key": key}).encode()))
        (folder / f"{number:05d}.tar").write_bytes(tar_bytes(members))


def _write_parquet(folder: Path, images: Path, shards: Sequence[Sequence[str]]) -> None:
    folder.mkdir(exist_ok=True)
    for number, keys in enumerate(shards):
        encoded = [{"bytes": _file(images, key).read_bytes(), "path": f"{key}.jpg"} for key in keys]
        image = pa.array(encoded, pa.struct([("bytes", pa.binary()), ("path", pa.string())]))
        columns = {"key": list(keys), "caption": [_caption(key) for key in keys], "image": image}
        (folder / f"{number:05d}.parquet").write_bytes(parquet_bytes(pa.table(columns)))


def _caption(key: str) -> str:
    return f"picture number {int(key)}"


def _file(images: Path, key: str) -> Path:
    return images / f"{key}.jpg"


def _size(kind: str, rng: np.random.Generator) -> Size:
    if kind == "too small":
        width, height = rng.integers(64, MIN_SIDE, 2)
    elif kind == "too long":
        width, height = rng.permutation([rng.integers(270, 320), rng.integers(1000, SIDES[1])])
    else:
        width, height = np.exp(rng.uniform(math.log(SIDES[0]), math.log(SIDES[1]), 2)).round()
        width, height = max(width, height / (MAX_ASPECT - 0.5)), max(height, width / (MAX_ASPECT - 0.5))
    return Size(width=int(width), height=int(height))


def _damaged(data: bytes, fault: str | None, rng: np.random.Generator) -> bytes:
    if fault == "empty":
        return b""
    if fault == "truncated":
        return data[: int(len(data) * rng.uniform(0.1, 0.8))]
    return b"<!DOCTYPE html>" + data[15:]


def _edited(original: Image.Image, edit: str, rng: np.random.Generator) -> bytes:
    """Edited and encoded anew; the sides stay within [MIN_SIDE, 1600]."""
    picture = original
    if "cropped" in edit:
        left, top, right, bottom = rng.uniform(0.005, MAX_CROP, 4)
        width, height = picture.size
        box = (
            round(left * width),
            round(top * height),
            round((1 - right) * width),
            round((1 - bottom) * height),
        )
        picture = picture.crop(box)
    if "resized" in edit:
        least = max(0.5, (MIN_SIDE + 4) / min(picture.size))
        greatest = min(2.0, 1600 / max(picture.size))
        scale = math.exp(rng.uniform(math.log(least), math.log(greatest)))
        size = (round(picture.width * scale), round(picture.height * scale))
        picture = picture.resize(size, Image.Resampling.BICUBIC)
    return _jpeg(picture, int(rng.integers(60, 96)))


def _jpeg(picture: Image.Image, quality: int) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def main(arguments: Sequence[str] | None = None) -> None:
    """Write a corpus and say what is in it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--count", type=int, default=4000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--format", nargs="+", choices=FORMATS, default=list(FORMATS))
    parser.add_argument("--processes", type=int, default=2)
    given = parser.parse_args(arguments)
    start = time.perf_counter()
    truth = write_corpus(
        given.out, count=given.count, seed=given.seed, formats=given.format, num_processes=given.processes
    )
    kinds = {
        row["values"]: row["counts"] for row in truth["kind"].combine_chunks().value_counts().to_pylist()
    }
    sizes = truth["size_bytes"].to_numpy()
    summary = {
        "images": truth.num_rows,
        "kinds": kinds,
        "bytes": int(sizes.sum()),
        "median_bytes": int(np.median(sizes)),
        "seconds": round(time.perf_counter() - start, 1),
    }
    print(json.dumps(summary))


if __name__ == "__main__":
    main()
