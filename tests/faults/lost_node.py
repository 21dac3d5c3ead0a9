"""A job on a cluster of two nodes, of which one is lost while it holds units.

python -m tests.faults.lost_node OUTPUT SOURCE
"""

import sys
import time
from concurrent.futures import ThreadPoolExecutor

import ray
from ray.cluster_utils import Cluster

from pipelines.config import Resources
from pipelines.storage import open_storage
from pipelines.units import run_units
from tests.pipelines.toys import Square, square_job, square_ledger


def main(output: str, source: str) -> None:
    """Run the squaring job with a worker on each node; remove the second after the first commit."""
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "num_gpus": 1})
    second = cluster.add_node(num_cpus=1, num_gpus=1)
    ray.init(cluster.address, log_to_driver=False)
    resources = Resources(num_actors=(1, 2), num_gpus=1, num_cpus=0)
    job = square_job(source, Square, resources=resources, pause_s=1.0)
    with ThreadPoolExecutor(1) as pool:
        run = pool.submit(run_units, job, square_ledger(output, source))
        while not any(open_storage(output).list("commits/")):
            time.sleep(0.05)
        left = 8 - sum(1 for _ in open_storage(output).list("commits/"))
        cluster.remove_node(second, allow_graceful=False)
        assert left > 0
        print("removed a node with units in flight", flush=True)
        print(run.result())
    ray.shutdown()
    cluster.shutdown()


if __name__ == "__main__":
    main(*sys.argv[1:])
