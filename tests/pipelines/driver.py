"""A job in a process of its own, for tests that kill it.

    python -m tests.pipelines.driver OUTPUT SOURCE LOG PAUSE_S

PAUSE_S is how long a worker takes for a unit.
"""

import sys

import ray

from pipelines.units import run_units
from tests.pipelines.toys import Square, square_job, square_ledger


def main(output: str, source: str, log: str, pause_s: str) -> None:
    """Run the squaring job on a Ray of this process alone."""
    ray.init("local", num_cpus=3, include_dashboard=False, log_to_driver=False)
    job = square_job(source, Square, log=log, pause_s=float(pause_s))
    run_units(job, square_ledger(output, source))


if __name__ == "__main__":
    main(*sys.argv[1:])
