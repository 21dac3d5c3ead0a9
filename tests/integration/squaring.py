"""A driver of the squaring job in a process of its own; `main` says what it is called with."""

import json
import sys

import ray

from pipelines.config import Resources
from pipelines.units import run_units
from tests.pipelines import toys


def main(address: str, output: str, source: str, worker: str, resources: str, pause_s: str) -> None:
    """Run it with so long a pause a unit."""
    ray.init(address, log_to_driver=False)
    arguments = {"pause_s": float(pause_s)} if worker == "Square" else {}
    job = toys.square_job(
        source, getattr(toys, worker), resources=Resources(**json.loads(resources)), **arguments
    )
    print(run_units(job, toys.square_ledger(output, source)))


if __name__ == "__main__":
    main(*sys.argv[1:])
