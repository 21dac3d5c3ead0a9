"""Draw how a loss fell."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure


def write_loss_curve(points: Sequence[tuple[int, float]], path: Path) -> None:
    """Write a picture of a line through (step, loss)."""
    figure = Figure(figsize=(6.4, 3.2), layout="constrained")
    axes = figure.subplots()
    axes.plot(*zip(*points, strict=True))
    axes.set(xlabel="step", ylabel="loss")
    axes.margins(x=0)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path)
