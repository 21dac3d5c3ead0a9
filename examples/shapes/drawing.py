"""Draw a scene as a small anti-aliased image."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from examples.shapes.world import Scene, Thing

SIDE = 64
RGB = {
    "red": (205, 30, 40),
    "green": (40, 150, 60),
    "blue": (35, 75, 215),
    "yellow": (250, 220, 60),
    "purple": (145, 35, 165),
    "pink": (245, 120, 190),
}
BACKGROUND_RGB = {"white": (245, 245, 245), "black": (20, 20, 20), "gray": (140, 140, 140)}
RADIUS_PX = {"small": 11.0, "large": 18.0}
OFFSET_PX = {"small": 15.0, "large": 10.0}
"""How far from the centre a shape that is not in the middle stands."""

JITTER_PX = 1.5
JITTER_SCALE = 0.05
_DIRECTION = {"left": (-1, 0), "right": (1, 0), "top": (0, -1), "bottom": (0, 1), "middle": (0, 0)}

Pixels = NDArray[np.uint8]
Plane = NDArray[np.float64]


def _box(x: Plane, y: Plane, half_width: float, half_height: float) -> Plane:
    return np.maximum(np.abs(x) - half_width, np.abs(y) - half_height)


def _circle(x: Plane, y: Plane, radius: float) -> Plane:
    return np.hypot(x, y) - radius


def _square(x: Plane, y: Plane, radius: float) -> Plane:
    return _box(x, y, 0.88 * radius, 0.88 * radius)


def _cross(x: Plane, y: Plane, radius: float) -> Plane:
    return np.minimum(_box(x, y, radius, 0.36 * radius), _box(x, y, 0.36 * radius, radius))


def _triangle(x: Plane, y: Plane, radius: float) -> Plane:
    # The apex is (0, -radius), the lower corners are (-radius, radius) and (radius, radius).
    slanted: Plane = (2 * np.abs(x) - y - radius) / np.sqrt(5)
    return np.maximum(slanted, y - radius)


_DISTANCE: dict[str, Callable[[Plane, Plane, float], Plane]] = {
    "circle": _circle,
    "square": _square,
    "triangle": _triangle,
    "cross": _cross,
}
HALF_EXTENT = {"circle": 1.0, "square": 0.88, "triangle": 1.0, "cross": 1.0}
"""Half the width and height of a shape of radius one."""


def coverage(shape: str, *, center_x: float, center_y: float, radius: float, side: int = SIDE) -> Plane:
    """Return how much of each pixel [side, side] a shape covers, from its signed distance."""
    y, x = np.mgrid[0:side, 0:side] + 0.5
    return np.clip(0.5 - _DISTANCE[shape](x - center_x, y - center_y, radius), 0, 1)


def draw(scene: Scene, rng: np.random.Generator | None = None) -> Pixels:
    """Draw a complete scene as uint8 pixels [SIDE, SIDE, 3].

    Args:
        scene: every attribute but the size must be set; a size left unsaid is small.
        rng: moves and scales each shape a little; without it every shape is exactly in its place.
    """
    assert scene.background is not None
    canvas = np.full((SIDE, SIDE, 3), BACKGROUND_RGB[scene.background], dtype=np.float64)
    for thing in scene.things:
        alpha = _thing_coverage(thing, rng)[..., None]
        assert thing.color is not None
        canvas += alpha * (np.array(RGB[thing.color]) - canvas)
    return canvas.round().astype(np.uint8)


def _thing_coverage(thing: Thing, rng: np.random.Generator | None) -> Plane:
    assert thing.shape is not None
    assert thing.place is not None
    size = thing.size or "small"
    dx, dy, scale = (0.0, 0.0, 0.0) if rng is None else rng.uniform(-1, 1, 3)
    right, down = _DIRECTION[thing.place]
    return coverage(
        thing.shape,
        center_x=SIDE / 2 + right * OFFSET_PX[size] + dx * JITTER_PX,
        center_y=SIDE / 2 + down * OFFSET_PX[size] + dy * JITTER_PX,
        radius=RADIUS_PX[size] * (1 + scale * JITTER_SCALE),
    )
