"""The world: scenes of one or two coloured shapes, their captions and which scenes training never sees.

An attribute that is None is left unsaid: the scene's caption does not mention it and a check ignores it.
"""

import hashlib
import itertools
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace

import numpy as np

SHAPES = ("circle", "square", "triangle", "cross")
COLORS = ("red", "green", "blue", "yellow", "purple", "pink")
SIZES = ("small", "large")
PLACES = {
    "left": "on the left",
    "right": "on the right",
    "top": "at the top",
    "bottom": "at the bottom",
    "middle": "in the middle",
}
BACKGROUNDS = ("white", "black", "gray")
LAYOUTS = (("left", "right"), ("top", "bottom"))
"""Where the two shapes of a two-object scene may be; both are small."""

UNSEEN_PAIRS = (("circle", "yellow"), ("square", "purple"), ("triangle", "red"), ("cross", "blue"))
"""(shape, colour) pairs that training never sees together, in any scene."""

SPLITS = ("train", "validation", "test", "unseen")
_VALIDATION_PERCENT, _TEST_PERCENT = 8, 12


@dataclass(frozen=True, kw_only=True)
class Thing:
    """One shape of a scene.

    Attributes:
        shape: one of SHAPES.
        color: one of COLORS.
        size: one of SIZES.
        place: one of PLACES.
    """

    shape: str | None = None
    color: str | None = None
    size: str | None = None
    place: str | None = None


@dataclass(frozen=True, kw_only=True)
class Scene:
    """What an image shows.

    Attributes:
        things: one shape, or two in the order of a layout (left before right, top before bottom).
        background: one of BACKGROUNDS.
    """

    things: tuple[Thing, ...]
    background: str | None = None

    def to_json(self) -> str:
        """Return the scene as canonical JSON; attributes left unsaid are absent."""
        things = [{key: value for key, value in asdict(thing).items() if value} for thing in self.things]
        return json.dumps({"things": things, "background": self.background}, sort_keys=True)

    @staticmethod
    def from_json(text: str) -> "Scene":
        """Return the scene that `to_json` wrote."""
        record = json.loads(text)
        things = tuple(Thing(**thing) for thing in record["things"])
        return Scene(things=things, background=record["background"])


def one_object_scenes() -> Iterator[Scene]:
    """Yield every scene of one shape."""
    for shape, color, size, place, background in itertools.product(
        SHAPES, COLORS, SIZES, PLACES, BACKGROUNDS
    ):
        yield Scene(things=(Thing(shape=shape, color=color, size=size, place=place),), background=background)


def two_object_scenes() -> Iterator[Scene]:
    """Yield every scene of two small shapes."""
    looks = list(itertools.product(SHAPES, COLORS))
    for first, second, places, background in itertools.product(looks, looks, LAYOUTS, BACKGROUNDS):
        things = tuple(
            Thing(shape=shape, color=color, size="small", place=place)
            for (shape, color), place in zip((first, second), places, strict=True)
        )
        yield Scene(things=things, background=background)


def split_of(scene: Scene) -> str:
    """Return which of SPLITS a complete scene belongs to; a pure function of the scene."""
    if any((thing.shape, thing.color) in UNSEEN_PAIRS for thing in scene.things):
        return "unseen"
    percent = int(hashlib.sha256(scene.to_json().encode()).hexdigest(), 16) % 100
    if percent < _VALIDATION_PERCENT:
        return "validation"
    return "test" if percent < _VALIDATION_PERCENT + _TEST_PERCENT else "train"


def scenes(split: str, *, num_objects: int) -> list[Scene]:
    """Return all scenes of a split with one or two objects, in a fixed order."""
    everything = one_object_scenes() if num_objects == 1 else two_object_scenes()
    return [scene for scene in everything if split_of(scene) == split]


def spoken(scene: Scene) -> Scene:
    """Return the scene as its full caption tells it; of two shapes, always small, no size is said."""
    if len(scene.things) == 1:
        return scene
    return replace(scene, things=tuple(replace(thing, size=None) for thing in scene.things))


def forget(scene: Scene, rng: np.random.Generator, rate: float) -> Scene:
    """Leave each attribute unsaid with probability `rate`; two shapes keep their places."""

    def keep(value: str | None) -> str | None:
        return None if rng.random() < rate else value

    alone = len(scene.things) == 1
    things = tuple(
        Thing(
            shape=keep(thing.shape),
            color=keep(thing.color),
            size=keep(thing.size) if alone else None,
            place=keep(thing.place) if alone else thing.place,
        )
        for thing in scene.things
    )
    return Scene(things=things, background=keep(scene.background))


def caption(scene: Scene) -> str:
    """Return the sentence for a scene, e.g. "a small red circle on the left, on a white background"."""
    phrases = []
    for thing in scene.things:
        words = ["a", thing.size, thing.color, thing.shape or "shape"]
        words.append(PLACES[thing.place] if thing.place else None)
        phrases.append(" ".join(word for word in words if word))
    sentence = " and ".join(phrases)
    return f"{sentence}, on a {scene.background} background" if scene.background else sentence


def caption_words() -> list[str]:
    """Return every word that a caption can hold, sorted."""
    words = {"a", "and", "on", "shape", "background"}
    words |= {*SHAPES, *COLORS, *SIZES, *BACKGROUNDS}
    for phrase in PLACES.values():
        words |= set(phrase.split())
    return sorted(words)
