"""Read the attributes of a scene back from pixels, and check an image against its caption's scene.

Works without a model: the border gives the background, connected regions that differ from it are the shapes,
each region's colour is the nearest one of the palette, and its outline, stretched to a unit square, is
compared with the four shapes.
"""

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from examples.shapes.drawing import (
    BACKGROUND_RGB,
    HALF_EXTENT,
    OFFSET_PX,
    RADIUS_PX,
    RGB,
    SIDE,
    Pixels,
    coverage,
)
from examples.shapes.world import SHAPES, Scene, Thing

_MIN_AREA_PX = 24  # smaller regions are noise; the smallest shape, a small triangle, covers 218 px
_REGION_DISTANCE = 50.0  # in RGB; the nearest colour and background, purple and gray, are 110 apart
_COLOR_DISTANCE = 70.0  # a region farther than this from every palette colour has no colour
_OUTLINE_ERROR = 0.10  # mean square error against the best template above which a region has no shape
_GRID = 24

Mask = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Which attributes of an image agree with its scene; an attribute that the scene leaves unsaid agrees."""

    count: bool
    shape: bool
    color: bool
    size: bool
    place: bool
    background: bool

    @property
    def right(self) -> bool:
        """Whether everything agrees."""
        return all(getattr(self, field.name) for field in fields(self))


def check(pixels: Pixels, scene: Scene) -> Verdict:
    """Compare an image, uint8 [64, 64, 3], with what its caption says."""
    seen = read(pixels)
    background = scene.background in (None, seen.background)
    if len(seen.things) != len(scene.things):
        return Verdict(count=False, shape=False, color=False, size=False, place=False, background=background)

    def agrees(name: str) -> bool:
        pairs = zip(seen.things, scene.things, strict=True)
        return all(getattr(said, name) in (None, getattr(found, name)) for found, said in pairs)

    return Verdict(
        count=True,
        shape=agrees("shape"),
        color=agrees("color"),
        size=agrees("size"),
        place=agrees("place"),
        background=background,
    )


def read(pixels: Pixels) -> Scene:
    """Return the scene that an image shows; what cannot be recognised is None.

    Raises:
        ValueError: the image does not have the world's size.
    """
    if pixels.shape != (SIDE, SIDE, 3):
        raise ValueError(f"pixels have shape {pixels.shape}; the shapes world draws ({SIDE}, {SIDE}, 3)")
    image = pixels.astype(np.float64)
    border = np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])
    background_rgb = np.median(border, axis=0)
    differs = np.linalg.norm(image - background_rgb, axis=-1) > _REGION_DISTANCE
    regions = [region for region in _regions(differs) if region.sum() >= _MIN_AREA_PX]
    things = [_read_thing(image, region, background_rgb) for region in regions]
    if len(things) == 2:
        things.sort(key=lambda thing: thing.place in ("right", "bottom"))
    return Scene(things=tuple(things), background=_nearest(background_rgb, BACKGROUND_RGB))


def _nearest(rgb: NDArray[np.float64], palette: dict[str, tuple[int, int, int]]) -> str | None:
    distances = {name: float(np.linalg.norm(rgb - np.array(color))) for name, color in palette.items()}
    name = min(distances, key=lambda key: distances[key])
    return name if distances[name] < _COLOR_DISTANCE else None


def _regions(mask: Mask) -> list[Mask]:
    """Split a mask into its connected regions (four neighbours), in reading order."""
    remaining = mask.copy()
    regions = []
    while remaining.any():
        region = np.zeros_like(mask)
        stack = [divmod(int(remaining.argmax()), mask.shape[1])]
        while stack:
            row, column = stack.pop()
            inside = 0 <= row < mask.shape[0] and 0 <= column < mask.shape[1]
            if not inside or not remaining[row, column]:
                continue
            remaining[row, column] = False
            region[row, column] = True
            stack += [(row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1)]
        regions.append(region)
    return regions


def _read_thing(image: NDArray[np.float64], region: Mask, background_rgb: NDArray[np.float64]) -> Thing:
    rgb = np.median(image[region], axis=0)
    # How far each pixel has gone from the background to the shape's colour: its coverage, as drawn.
    axis = rgb - background_rgb
    alpha = ((image - background_rgb) @ axis / (axis @ axis)).clip(0, 1) * _grown(region)
    rows, columns = (np.flatnonzero((alpha > 0.5).any(axis=other)) for other in (1, 0))
    if len(rows) < 4 or len(columns) < 4:
        return Thing(color=_nearest(rgb, RGB))
    top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
    outline = _stretched(alpha[top:bottom, left:right])
    errors = {shape: float(((outline - template) ** 2).mean()) for shape, template in _TEMPLATES.items()}
    shape = min(errors, key=lambda key: errors[key])
    radius = (bottom - top + right - left) / 4 / HALF_EXTENT[shape]
    size = min(RADIUS_PX, key=lambda name: abs(RADIUS_PX[name] - radius))
    place = _read_place((left + right - SIDE) / 2, (top + bottom - SIDE) / 2, size)
    return Thing(
        shape=shape if errors[shape] < _OUTLINE_ERROR else None,
        color=_nearest(rgb, RGB),
        size=size,
        place=place,
    )


def _grown(mask: Mask) -> Mask:
    """Add the pixels next to a mask, where a shape's anti-aliased rim may lie."""
    grown = np.pad(mask, 1)
    grown = grown | np.roll(grown, 1, 0) | np.roll(grown, -1, 0)
    grown = grown | np.roll(grown, 1, 1) | np.roll(grown, -1, 1)
    return grown[1:-1, 1:-1]


def _stretched(patch: NDArray[np.float64]) -> NDArray[np.float64]:
    """Resample a patch to [_GRID, _GRID] by averaging 4x4 nearest samples a cell."""
    fine = (np.arange(_GRID * 4) + 0.5) / (_GRID * 4)
    sampled = patch[(fine * patch.shape[0]).astype(int)][:, (fine * patch.shape[1]).astype(int)]
    cells: NDArray[np.float64] = sampled.reshape(_GRID, 4, _GRID, 4).mean(axis=(1, 3))
    return cells


def _read_place(right_px: float, down_px: float, size: str) -> str:
    if max(abs(right_px), abs(down_px)) < OFFSET_PX[size] / 2:
        return "middle"
    if abs(right_px) >= abs(down_px):
        return "right" if right_px > 0 else "left"
    return "bottom" if down_px > 0 else "top"


_TEMPLATES = {
    shape: _stretched(coverage(shape, center_x=32, center_y=32, radius=32 / HALF_EXTENT[shape]))
    for shape in SHAPES
}
