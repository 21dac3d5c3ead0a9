"""A small image collection with planted defects: `python -m examples.shapes.defects --out FOLDER`.

    FOLDER/images/00000.tar    WebDataset: KEY.jpg, KEY.txt, KEY.json
    FOLDER/truth.parquet       what is wrong with each image, of schema TRUTH

Curation has to find each defect by the rule that is meant for it, and to keep every clean image. Pictures are
scenes of the world, larger than those that the model is trained on and on clouded, grainy paper, so that
measures of sharpness and perceptual hashes see what they would see in photographs.
"""

import argparse
import io
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from examples.shapes.drawing import BACKGROUND_RGB, OFFSET_PX, RADIUS_PX, RGB, SIDE, coverage
from examples.shapes.world import Scene, caption, scenes, spoken
from pipelines.scorers.phash import hamming, perceptual_hashes
from pipelines.webdataset import json_member, tar_bytes

SCALE = 4
"""Times the side of the world's own images."""
CLOUDS, GRAIN = 20.0, 4.0
"""Greatest change of level by the clouds; deviation of the grain."""
CONTRAST, BLACK = 0.8, 26.0
"""Levels are scaled and lifted so that neither clouds nor grain leave [0, 255]."""
MIN_DISTANCE = 12
"""Bits by which the perceptual hashes of different pictures differ at least."""
SHARD_ROWS = 200
CLEAN = "clean"
DEFECTS = (
    "exact duplicate",
    "re-encoded duplicate",
    "resized duplicate",
    "cropped duplicate",
    "blurred",
    "noisy",
    "over-compressed",
    "letterboxed",
    "over-exposed",
    "wrong caption",
    "too small",
    "truncated",
    "empty",
    "not an image",
)
DUPLICATES = DEFECTS[:4]
_DIRECTION = {"left": (-1, 0), "right": (1, 0), "top": (0, -1), "bottom": (0, 1), "middle": (0, 0)}
_QUALITY = 92
Pixels = NDArray[np.uint8]

TRUTH = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("defect", pa.string(), nullable=False),  # "clean" or one of DEFECTS
        pa.field("of", pa.string()),  # key of the image that a duplicate was made of
        pa.field("scene", pa.string(), nullable=False),  # what the picture shows, as JSON
    ]
)


@dataclass(frozen=True, kw_only=True)
class Sample:
    """An image of the collection.

    Attributes:
        key: Its name; of two duplicates, the clean one comes first.
        data: Encoded, or what stands in its place.
        caption: Its text.
        defect: "clean" or one of DEFECTS.
        of: Key of the image that it was made of.
        scene: What its picture shows.
    """

    key: str
    data: bytes
    caption: str
    defect: str
    of: str | None
    scene: Scene


def collection(*, num_clean: int = 420, num_each: int = 13, seed: int = 0) -> list[Sample]:
    """Make the collection, in order of key.

    Args:
        num_clean: Images with nothing wrong.
        num_each: Images with each of DEFECTS; none has two. At most `num_clean`, of which some are copied.
        seed: Of everything.

    Raises:
        ValueError: More defects than clean images, or than pictures that look unlike one another.
    """
    if num_each > num_clean:
        raise ValueError(f"{num_each} images with each defect; at most as many as clean ones, {num_clean}")
    rng = np.random.default_rng(seed)
    alone = [defect for defect in DEFECTS if defect not in DUPLICATES for _ in range(num_each)]
    drawn = _unlike_pictures(num_clean + len(alone), rng)
    placed: list[tuple[float, Sample]] = []  # each with its place in the order, in [0, 1)
    for defect in alone:
        # what is black does not become white by exposure
        place = next(n for n, (scene, _) in enumerate(drawn) if defect != "over-exposed" or _is_light(scene))
        scene, pixels = drawn.pop(place)
        placed.append((rng.random(), _sample(scene, _spoilt(pixels, defect, rng), defect, rng)))
    clean = [(rng.random(), _sample(scene, _jpeg(pixels), CLEAN, rng)) for scene, pixels in drawn]
    copied: dict[int, int] = {}
    for defect in DUPLICATES:
        for index in rng.choice(num_clean, num_each, replace=False):
            position, original = clean[index]
            copied[len(placed)] = int(index)
            copy = replace(original, data=_copied(original.data, defect, rng), defect=defect)
            placed.append((rng.uniform(position, 1), copy))
    return _named(clean, placed, copied)


def draw_large(scene: Scene, rng: np.random.Generator) -> Pixels:
    """Draw a complete scene as uint8 pixels [SCALE * SIDE, SCALE * SIDE, 3]."""
    assert scene.background is not None
    side = SCALE * SIDE
    canvas = np.full((side, side, 3), BACKGROUND_RGB[scene.background], np.float64)
    for thing in scene.things:
        assert thing.shape is not None
        assert thing.color is not None
        assert thing.place is not None
        size = thing.size or "small"
        right, down = _DIRECTION[thing.place]
        alpha = coverage(
            thing.shape,
            center_x=SCALE * (SIDE / 2 + right * OFFSET_PX[size]),
            center_y=SCALE * (SIDE / 2 + down * OFFSET_PX[size]),
            radius=SCALE * RADIUS_PX[size],
            side=side,
        )
        canvas += alpha[..., None] * (np.array(RGB[thing.color]) - canvas)
    canvas = BLACK + CONTRAST * canvas + (_clouds(rng, side) + rng.normal(0, GRAIN, (side, side)))[..., None]
    return _levels(canvas)


def write_collection(folder: Path, samples: Sequence[Sample]) -> None:
    """Write the collection as WebDataset shards, and its truth."""
    images = folder / "images"
    images.mkdir(parents=True, exist_ok=True)
    for first in range(0, len(samples), SHARD_ROWS):
        shard = [member for sample in samples[first : first + SHARD_ROWS] for member in _members(sample)]
        (images / f"{first // SHARD_ROWS:05d}.tar").write_bytes(tar_bytes(shard))
    rows = [
        {"key": sample.key, "defect": sample.defect, "of": sample.of, "scene": sample.scene.to_json()}
        for sample in samples
    ]
    pq.write_table(pa.Table.from_pylist(rows, TRUTH), folder / "truth.parquet")


def confusion_table(decisions: Sequence[Mapping[str, Any]], truth: Mapping[str, str]) -> str:
    """What became of each defect, as a Markdown table: a row a defect, a column a rule.

    Args:
        decisions: Mappings with `key`, `kept` and, where it is not kept, `rule`.
        truth: Defect by key.

    Raises:
        ValueError: Decisions and truth are not about the same images, each once.
    """
    keys = [decision["key"] for decision in decisions]
    if sorted(keys) != sorted(truth):
        odd = sorted(set(keys) ^ set(truth)) or [key for key, count in Counter(keys).items() if count > 1]
        raise ValueError(f"{len(keys)} decisions on {len(truth)} images; look at {', '.join(odd[:3])}")
    kept = "kept"
    outcomes = Counter(
        (truth[decision["key"]], kept if decision["kept"] else decision["rule"]) for decision in decisions
    )
    rules = [kept, *sorted({outcome for _, outcome in outcomes} - {kept})]
    lines = [f"| planted | images | {' | '.join(rules)} |", f"|---|{'--:|' * (len(rules) + 1)}"]
    for defect in (CLEAN, *DEFECTS):
        counts = [outcomes[defect, rule] for rule in rules]
        if any(counts):
            cells = " | ".join(str(count) if count else "" for count in counts)
            lines.append(f"| {defect} | {sum(counts)} | {cells} |")
    return "\n".join(lines)


def _unlike_pictures(count: int, rng: np.random.Generator) -> list[tuple[Scene, Pixels]]:
    """Pictures of different scenes of which no two are near-duplicates."""
    pool = _scenes()
    chosen: list[tuple[Scene, Pixels]] = []
    hashes = np.zeros(0, np.uint64)
    for index in rng.permutation(len(pool)):
        pixels = draw_large(pool[index], rng)
        (found,) = perceptual_hashes([pixels])
        if not len(hashes) or hamming(hashes, found).min() >= MIN_DISTANCE:
            chosen.append((pool[index], pixels))
            hashes = np.append(hashes, found)
        if len(chosen) == count:
            return chosen
    raise ValueError(
        f"{len(chosen)} pictures that look unlike one another, not {count}; ask for fewer images"
    )


def _clouds(rng: np.random.Generator, side: int) -> NDArray[np.float64]:
    """Levels [side, side] in [-CLOUDS, CLOUDS], that change slowly."""
    coarse = Image.fromarray(rng.uniform(-CLOUDS, CLOUDS, (8, 8)).astype(np.float32))
    return np.asarray(coarse.resize((side, side), Image.Resampling.BICUBIC), np.float64)


def _sample(scene: Scene, data: bytes, defect: str, rng: np.random.Generator) -> Sample:
    shown = _other_scene(scene, rng) if defect == "wrong caption" else scene
    return Sample(key="", data=data, caption=caption(spoken(shown)), defect=defect, of=None, scene=scene)


def _named(
    clean: Sequence[tuple[float, Sample]], others: Sequence[tuple[float, Sample]], of: Mapping[int, int]
) -> list[Sample]:
    """All samples by their place in the order, named by it; `of` tells which clean one some others copy."""
    everything = [*others, *clean]
    order = sorted(range(len(everything)), key=lambda number: everything[number][0])
    keys = {number: f"{rank:05d}" for rank, number in enumerate(order)}
    return [
        replace(
            everything[number][1],
            key=keys[number],
            of=keys[len(others) + of[number]] if number in of else None,
        )
        for number in order
    ]


def _spoilt(pixels: Pixels, defect: str, rng: np.random.Generator) -> bytes:
    """The picture with a defect that needs no other picture."""
    picture = Image.fromarray(pixels)
    if defect == "blurred":
        return _jpeg(picture.filter(ImageFilter.GaussianBlur(rng.uniform(3, 6))))
    if defect == "noisy":
        return _jpeg(_levels(pixels + rng.normal(0, rng.uniform(25, 40), pixels.shape)))
    if defect == "over-compressed":
        return _jpeg(picture, quality=int(rng.integers(2, 6)))
    if defect == "letterboxed":
        bar = int(rng.integers(28, 44))
        squeezed = picture.resize((picture.width, picture.height - 2 * bar), Image.Resampling.LANCZOS)
        picture.paste((0, 0, 0), (0, 0, *picture.size))
        picture.paste(squeezed, (0, bar))
        return _jpeg(picture)
    if defect == "over-exposed":
        return _jpeg(_levels(pixels.astype(np.float64) * rng.uniform(2.4, 3)))
    if defect == "too small":
        side = int(rng.integers(40, 100))
        return _jpeg(picture.resize((side, side), Image.Resampling.LANCZOS))
    data = _jpeg(picture)
    if defect == "truncated":
        return data[: int(len(data) * rng.uniform(0.2, 0.8))]
    return {"empty": b"", "not an image": b"<!DOCTYPE html><title>404</title>"}.get(defect, data)


def _copied(original: bytes, defect: str, rng: np.random.Generator) -> bytes:
    """A duplicate of an encoded picture, no larger than it."""
    if defect == "exact duplicate":
        return original
    picture = Image.open(io.BytesIO(original))
    if defect == "resized duplicate":
        side = int(picture.width * rng.uniform(0.6, 0.9))
        return _jpeg(picture.resize((side, side), Image.Resampling.LANCZOS))
    if defect == "cropped duplicate":
        left, top, right, bottom = (int(edge) for edge in rng.integers(1, 4, 4))
        return _jpeg(picture.crop((left, top, picture.width - right, picture.height - bottom)))
    return _jpeg(picture, quality=int(rng.integers(60, 86)))


def _other_scene(scene: Scene, rng: np.random.Generator) -> Scene:
    """A scene that has neither background nor shape, colour or place in common with this one."""

    def looks(one: Scene) -> set[str | None]:
        return {value for t in one.things for value in (t.shape, t.color, t.place)} | {one.background}

    pool = [other for other in _scenes() if not looks(other) & looks(scene)]
    return pool[int(rng.integers(len(pool)))]


@cache
def _scenes() -> tuple[Scene, ...]:
    return tuple(scene for number in (1, 2) for scene in scenes("train", num_objects=number))


def _is_light(scene: Scene) -> bool:
    return scene.background != "black"


def _levels(values: NDArray[np.float64]) -> Pixels:
    return np.clip(values.round(), 0, 255).astype(np.uint8)


def _jpeg(picture: Image.Image | Pixels, quality: int = _QUALITY) -> bytes:
    buffer = io.BytesIO()
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    image.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def _members(sample: Sample) -> Iterator[tuple[str, bytes]]:
    facts = {"key": sample.key, "caption": sample.caption, "background": sample.scene.background}
    yield f"{sample.key}.jpg", sample.data
    yield f"{sample.key}.txt", sample.caption.encode()
    yield f"{sample.key}.json", json_member(facts)


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the collection and say what is in it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--clean", type=int, default=420)
    parser.add_argument("--each", type=int, default=13, help="images with each defect")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)
    samples = collection(num_clean=given.clean, num_each=given.each, seed=given.seed)
    write_collection(given.out, samples)
    for defect, count in Counter(sample.defect for sample in samples).most_common():
        print(f"{count:5d} {defect}")


if __name__ == "__main__":
    main()
