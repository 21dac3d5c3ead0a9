"""What the engine costs at full size, by simulation: `python -m benchmarks.engine [--part NAME …]`.

    planning    a table of up to 100 million rows cut into units; plan.parquet written and read back
    resume      a driver that starts on a run of up to a million units, all of them done, with all of the
                rollups, with 90 % of them and with none: on a folder, and on a mock S3 server for as many
                units as it bears
    manifest    the manifest of such runs
    prompts     opening prompt tables of up to ten million rows, with ids, without, and with repeated rows
    scheduling  how busy 16 actors are whose units take 1 to 10 s, and what a unit costs the driver

Each measurement runs in a process of its own. `memory_mib` has its peak, what imports take of it, and the
difference. `relative_cost` is the CPU-seconds a row or unit by those of the next smaller size: 1 is linear,
less where the smaller one mostly pays for what a run pays once. CPU-seconds, because others use the machine.
"""

from __future__ import annotations

import argparse
import dataclasses
import logging
import os
import tempfile
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import boto3
from moto.server import ThreadedMotoServer

from benchmarks.engine.process import measured
from benchmarks.engine.sizes import FULL, SMALL, Sizes
from benchmarks.record import RESULTS, load_average, write_result
from benchmarks.timing import significant, spread

BUCKET = "bucket"


def planning(sizes: Sizes, scratch: Path) -> dict[str, Any]:
    """Cut tables into units."""
    del scratch
    settings = {"object_rows": sizes.object_rows, "unit_rows": 64}
    return series(
        "rows",
        [repeat(sizes.repetitions, "engine.planning.measure", rows=n, **settings) for n in sizes.plan_rows],
        at=100_000_000,
    )


def resume(sizes: Sizes, scratch: Path) -> dict[str, Any]:
    """Start on runs that are done."""
    folder: dict[str, list[dict[str, Any]]] = {
        name: [] for name in ("no_rollups", "all_rolled_up", "nine_tenths_rolled_up")
    }
    for units in sizes.units:
        output = run_of(units, scratch)
        folder["no_rollups"].append(repeat(1, "engine.resuming.resume", output=output, missing_rollups=1))
        for name, missing in (("all_rolled_up", 0), ("nine_tenths_rolled_up", 0.1)):
            folder[name].append(
                repeat(sizes.repetitions, "engine.resuming.resume", output=output, missing_rollups=missing)
            )
    return {
        "folder": {name: series("units", results, at=1_000_000) for name, results in folder.items()},
        "mock_s3": mock_s3(sizes),
    }


def mock_s3(sizes: Sizes) -> dict[str, Any]:
    """The same on moto, whose listing and memory are its own; what a million units take is extrapolated."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        os.environ.setdefault(name, "mock")
    os.environ.setdefault("AWS_DEFAULT_REGION", "us-east-1")
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # else a line a request
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    boto3.session.Session().client("s3", endpoint_url=url).create_bucket(Bucket=BUCKET)
    results: dict[str, list[dict[str, Any]]] = {"no_rollups": [], "all_rolled_up": []}
    for units in sizes.s3_units:
        output = f"s3://{BUCKET}/run-{units}?endpoint_url={url}"
        measured("engine.resuming.set_up", output=output, units=units)
        results["no_rollups"].append(repeat(1, "engine.resuming.resume", output=output, missing_rollups=1))
        results["all_rolled_up"].append(repeat(1, "engine.resuming.resume", output=output, missing_rollups=0))
    server.stop()
    return {name: series("units", found, at=1_000_000) for name, found in results.items()}


def manifest(sizes: Sizes, scratch: Path) -> dict[str, Any]:
    """Write manifests."""
    outputs = [run_of(units, scratch) for units in sizes.units]
    results = [
        repeat(sizes.repetitions, "engine.resuming.write_manifest", output=output) for output in outputs
    ]
    return series("units", results, at=1_000_000)


def prompts(sizes: Sizes, scratch: Path) -> dict[str, Any]:
    """Open prompt tables."""
    tables = {"with_ids": (True, 0.0), "without_ids": (False, 0.0), "some_repeated": (False, sizes.repeated)}
    results: dict[str, list[dict[str, Any]]] = {name: [] for name in tables}
    for name, (with_ids, repeated) in tables.items():
        for rows in sizes.prompt_rows:
            folder = str(scratch / f"{name}-{rows}")
            settings = {"file_rows": sizes.prompt_file_rows, "with_ids": with_ids, "repeated": repeated}
            size = measured("engine.prompt_tables.set_up", folder=folder, rows=rows, **settings)["bytes"]
            found = repeat(sizes.repetitions, "engine.prompt_tables.measure", folder=folder)
            results[name].append({"parquet_bytes": size} | found)
    return {name: series("rows", found, at=100_000_000) for name, found in results.items()}


def scheduling(sizes: Sizes, scratch: Path) -> dict[str, Any]:
    """Keep actors busy; then units without any work, for what one costs the driver."""
    del scratch
    cluster = {"actors": sizes.actors, "cpus": sizes.cpus}
    busy = [
        measured("engine.scheduling.measure", unit_s=unit_s, units=units * sizes.actors, **cluster)
        for unit_s, units in sizes.unit_s
    ]
    driver = [
        measured("engine.scheduling.measure", actors=2, cpus=sizes.cpus, unit_s=0.0, units=units)
        for units in sizes.driver_units
    ]
    few, many = driver
    units = many["units"] - few["units"]
    cpu_s = many["cpu_seconds"]["run_units"] - few["cpu_seconds"]["run_units"]
    added_mib = many["driver_mib_added_by_run"] - few["driver_mib_added_by_run"]
    return {
        "busy": busy,
        "driver": driver,
        "driver_cpu_s_per_unit": significant(cpu_s / units, 3),
        "driver_kib_per_unit_of_a_wave": significant(1024 * added_mib / units, 3),
    }


PARTS: dict[str, Callable[[Sizes, Path], dict[str, Any]]] = {
    "planning": planning,
    "resume": resume,
    "manifest": manifest,
    "prompts": prompts,
    "scheduling": scheduling,
}


def run_of(units: int, scratch: Path) -> str:
    """A folder with a run of so many units, all done; made the first time."""
    output = scratch / f"run-{units}"
    if not output.exists():
        measured("engine.resuming.set_up", output=str(output), units=units)
    return str(output)


def repeat(repetitions: int, function: str, **settings: Any) -> dict[str, Any]:
    """Measure again and again: the last result, with all repetitions' seconds and the highest peak."""
    results = [measured(function, **settings) for _ in range(repetitions)]
    for kind in ("seconds", "cpu_seconds"):
        results[-1][kind] = {
            step: spread([result[kind][step] for result in results]) for step in results[-1][kind]
        }
    results[-1]["memory_mib"] = max((r["memory_mib"] for r in results), key=lambda memory: memory["peak"])
    return results[-1]


def series(name: str, results: Sequence[dict[str, Any]], *, at: int) -> dict[str, Any]:
    """The results by size, how they grow, and what the largest amounts to at this size.

    Args:
        name: What their size is called.
        results: From the smallest to the largest.
        at: The size of interest.
    """
    sizes, last = [result[name] for result in results], results[-1]
    totals = {
        kind: [sum(step["median"] for step in result[kind].values()) for result in results]
        for kind in ("seconds", "cpu_seconds")
    }
    costs = [cpu / size for cpu, size in zip(totals["cpu_seconds"], sizes, strict=True)]
    added = [result["memory_mib"]["added"] for result in results]
    mib_each = (added[-1] - added[0]) / (sizes[-1] - sizes[0])
    return {
        "sizes": list(results),
        "total_seconds": [significant(seconds) for seconds in totals["seconds"]],
        "relative_cost": [significant(after / before, 3) for before, after in pairwise(costs)],
        f"at_{at}_{name}": {
            "extrapolated": last[name] != at,
            "peak_mib": significant(last["memory_mib"]["peak"] + mib_each * (at - last[name])),
        }
        | {kind: significant(total[-1] * at / last[name], 3) for kind, total in totals.items()},
    }


def lines(name: str, measures: dict[str, Any]) -> list[str]:
    """The results for people, a line a series."""
    if "total_seconds" in measures:
        peaks = [f"{result['memory_mib']['peak']:.0f}" for result in measures["sizes"]]
        costs = " ".join(f"{cost:g}" for cost in measures["relative_cost"])
        seconds = " ".join(f"{s:g}" for s in measures["total_seconds"])
        return [f"{name:<36} {seconds} s, {' '.join(peaks)} MiB, relative cost {costs}"]
    if name == "scheduling":
        shown = [
            f"{name}, {busy['actors']} actors, {busy['unit_s']:g} s a unit: {busy['busy_share']:.1%} busy"
            for busy in measures["busy"]
        ]
        cost, memory = measures["driver_cpu_s_per_unit"], measures["driver_kib_per_unit_of_a_wave"]
        return [*shown, f"{name}, driver: {cost:g} CPU-seconds and {memory:g} KiB a unit"]
    return [line for part, inner in measures.items() for line in lines(f"{name}.{part}", inner)]


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line, measure, write and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--part", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--out", type=Path, default=RESULTS / "engine.json")
    parser.add_argument("--small", action="store_true", help="toy sizes, whose numbers mean nothing")
    options = parser.parse_args(arguments)
    sizes = SMALL if options.small else FULL
    measures = {}
    with tempfile.TemporaryDirectory() as scratch:
        for part in options.part:
            before = load_average()
            measures[part] = PARTS[part](sizes, Path(scratch))
            print("\n".join(lines(part, measures[part])), flush=True)
            measures[part]["load_average"] = {"before": before, "after": load_average()}
    settings = dataclasses.asdict(sizes)
    print(write_result("engine", settings=settings, measures=measures, path=options.out))


if __name__ == "__main__":
    main()
