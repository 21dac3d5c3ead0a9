"""A driver in a process of its own, on the Ray of the tests, that is killed at a known write.

    python -m tests.faults.driver ADDRESS OUTPUT SOURCE LOG STRIKE

STRIKE is a JSON object with the attributes of a `Strike`.
"""

import json
import os
import sys

import ray

from pipelines import ledger
from pipelines.storage import Storage, open_storage
from pipelines.units import run_units
from tests.faults.struck_storage import Strike, StruckStorage
from tests.pipelines.toys import Square, square_job, square_ledger


def main(address: str, output: str, source: str, log: str, strike: str) -> None:
    """Run the squaring job until it is struck."""
    ray.init(address, log_to_driver=False)
    struck = Strike(driver_pid=os.getpid(), **json.loads(strike))

    def open_struck(uri: str) -> Storage:
        return StruckStorage(open_storage(uri), struck)

    ledger.open_storage = open_struck
    run_units(square_job(source, Square, log=log), square_ledger(output, source))


if __name__ == "__main__":
    main(*sys.argv[1:])
