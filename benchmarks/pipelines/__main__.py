"""Where the seconds of whole jobs go: `python -m benchmarks.pipelines [--part NAME …] [--small]`.

generate  the demo's command from its start to its exit, by phase; when its first image is committed
curate    the same of curating drawn images
busy      the share of the time that GPUs would be busy, which are simulated: workers that only sleep, with
          rows as large as images; and the real workers of `generate`, whose model is not run
imports   what each kind of process imports, some times in turns
"""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.engine.process import measured
from benchmarks.pipelines import imports, runs
from benchmarks.pipelines.simulated_gpu import Simulation
from benchmarks.record import RESULTS, load_average, write_result
from benchmarks.timing import spread


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sizes:
    """How much of everything.

    Attributes:
        repetitions: Of imports and whole commands.
        prompts: Rows of the prompt table.
        unit_prompts: Prompts a unit.
        images: To curate.
        unit_images: Images a unit.
        sleeping: Of `benchmarks.engine.scheduling.measure`.
        simulation: Of the workers whose model is not run.
    """

    repetitions: int
    prompts: int
    unit_prompts: int
    images: int
    unit_images: int
    sleeping: dict[str, float]
    simulation: Simulation


FULL = Sizes(
    repetitions=3,
    prompts=96,
    unit_prompts=16,
    images=2_000,
    unit_images=256,
    sleeping={"actors": 8, "cpus": 4, "unit_s": 26.0, "units": 32, "row_bytes": 1_500_000},
    simulation=Simulation(actors=2, cpus=2, image_s=1.0, side=1024, batch_size=8, unit_rows=32, units=4),
)
SMALL = Sizes(
    repetitions=1,
    prompts=4,
    unit_prompts=2,
    images=40,
    unit_images=20,
    sleeping={"actors": 2, "cpus": 2, "unit_s": 0.2, "units": 8, "row_bytes": 1_000},
    simulation=Simulation(actors=2, cpus=2, image_s=0.05, side=64, batch_size=2, unit_rows=4, units=3),
)


def import_times(sizes: Sizes, scratch: Path) -> dict[str, Any]:
    """What imports take."""
    del scratch
    return imports.measure(sizes.repetitions)


def generate(sizes: Sizes, scratch: Path) -> dict[str, Any]:
    """The demo's command."""
    prompts = scratch / "prompts.parquet"
    runs.write_prompts(prompts, sizes.prompts)
    return joined([runs.generate(prompts, sizes.unit_prompts) for _ in range(sizes.repetitions)])


def curate(sizes: Sizes, scratch: Path) -> dict[str, Any]:
    """The command that curates."""
    images = scratch / "raw"
    runs.write_raw_images(images, sizes.images)
    return joined([runs.curate(images, sizes.unit_images) for _ in range(sizes.repetitions)])


def busy(sizes: Sizes, scratch: Path) -> dict[str, Any]:
    """Simulated GPUs."""
    del scratch
    return {
        "sleeping": measured("engine.scheduling.measure", **sizes.sleeping),
        "generate": measured(
            "pipelines.simulated_gpu.measure", settings=dataclasses.asdict(sizes.simulation)
        ),
    }


PARTS: dict[str, Callable[[Sizes, Path], dict[str, Any]]] = {
    "generate": generate,
    "curate": curate,
    "busy": busy,
    "imports": import_times,
}


def joined(results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Repeated runs as one: the spread of each number."""

    def join(values: Sequence[Any]) -> Any:
        if isinstance(values[0], dict):
            return {name: join([value.get(name, 0.0) for value in values]) for name in values[0]}
        if len(set(values)) == 1:
            return values[0]
        return spread(values)

    found: dict[str, Any] = join(results)
    return found


def lines(part: str, measures: dict[str, Any]) -> list[str]:
    """The results for people."""
    if part == "imports":
        return [
            f"imports of {name:<28} {_middle(found['cpu_seconds']):6.2f} CPU s {found['mib']:6.0f} MiB"
            f"{', with torch' if found['torch'] else ''}"
            for name, found in measures.items()
        ]
    if part == "busy":
        return [f"GPUs busy, {name}: {found['busy_share']:.1%}" for name, found in measures.items()]
    found = [f"{part}: {name:<18} {_middle(seconds):7.2f} s" for name, seconds in measures["phases"].items()]
    if "first_image_s" in measures:
        found.append(f"{part}: first image committed after {_middle(measures['first_image_s']):.1f} s")
    return [*found, f"{part}: {_middle(measures['total_s']):.1f} s in all"]


def _middle(value: Any) -> float:
    return float(value["median"] if isinstance(value, dict) else value)


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line, measure, write and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--part", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--out", type=Path, default=RESULTS / "pipelines.json")
    parser.add_argument("--small", action="store_true", help="toy sizes, whose numbers mean nothing")
    options = parser.parse_args(arguments)
    sizes = SMALL if options.small else FULL
    settings, measures = dataclasses.asdict(sizes), {}
    with tempfile.TemporaryDirectory() as scratch:
        for part in options.part:
            before = load_average()
            found = PARTS[part](sizes, Path(scratch))
            print("\n".join(lines(part, found)), flush=True)
            measures[part] = found | {"load_average": {"before": before, "after": load_average()}}
            write_result("pipelines", settings=settings, measures=measures, path=options.out)
    print(options.out)


if __name__ == "__main__":
    main()
