"""Whether a cluster can run a job's stages at once: decided before the job starts, with numbers.

Ray Data starts what fits and waits for the rest. Workers that hold every CPU leave none to read with, and
the job would wait for ever without a word.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import ray

from pipelines.config import Resources
from pipelines.errors import RefusalError

IO_CPUS = 1  # reading and writing take turns on it at worst


class ClusterTooSmallError(RefusalError):
    """The cluster cannot run the job as configured; the message has the numbers."""


@dataclass(frozen=True, kw_only=True)
class Node:
    """What one node of the cluster offers."""

    num_cpus: float
    num_gpus: float
    object_store_bytes: int = 0
    labels: dict[str, str] = field(default_factory=dict)

    def suits(self, resources: Resources) -> bool:
        """Whether its labels are those that the workers ask for."""
        return resources.node_labels.items() <= self.labels.items()


def cluster_nodes() -> list[Node]:
    """The live nodes of the cluster that this driver is connected to."""
    return [
        Node(
            num_cpus=node["Resources"].get("CPU", 0.0),
            num_gpus=node["Resources"].get("GPU", 0.0),
            object_store_bytes=int(node["Resources"].get("object_store_memory", 0)),
            labels=node["Labels"],
        )
        for node in ray.nodes()  # type: ignore[no-untyped-call]
        if node["Alive"]
    ]


def on_cluster(resources: Resources, nodes: list[Node]) -> Resources:
    """With a number for `num_gpus: auto`: 1 where a node has a GPU, else 0."""
    if resources.num_gpus != "auto":
        return resources
    has_gpu = any(node.num_gpus >= 1 for node in nodes if node.suits(resources))
    return resources.model_copy(update={"num_gpus": 1.0 if has_gpu else 0.0})


def actor_ranges(stages: Sequence[Resources], nodes: list[Node], num_units: int) -> list[tuple[int, int]]:
    """The fewest and most workers of each stage, at most one a unit; the last stage chooses first.

    Raises:
        ClusterTooSmallError: Not even the fewest of all stages fit beside one CPU for reading and writing.
    """
    ranges: list[tuple[int, int]] = []
    for number in reversed(range(len(stages))):
        resources = stages[number]
        for_earlier = sum(fewest_workers(stage) * stage.num_cpus for stage in stages[:number])
        fewest, most = actor_range(resources, _without_cpus(nodes, for_earlier), num_units)
        nodes = _without_cpus(nodes, most * resources.num_cpus)
        ranges.insert(0, (fewest, most))
    return ranges


def fewest_workers(resources: Resources) -> int:
    """Without which a stage does not run."""
    wanted = resources.num_actors
    return 1 if wanted == "auto" else wanted if isinstance(wanted, int) else wanted[0]


def _without_cpus(nodes: list[Node], num_cpus: float) -> list[Node]:
    """The nodes with so many CPUs taken in all, from each its share."""
    total = sum(node.num_cpus for node in nodes)
    left = max(total - num_cpus, 0.0) / total if total else 0.0
    return [replace(node, num_cpus=node.num_cpus * left) for node in nodes]


def actor_range(resources: Resources, nodes: list[Node], num_units: int) -> tuple[int, int]:
    """The fewest and most workers to run, at most one a unit.

    Raises:
        ClusterTooSmallError: Not even the fewest fit beside one CPU for reading and writing.
    """
    fits = _places(resources, nodes)
    wanted = resources.num_actors
    if wanted == "auto":
        fewest, most = max(fits, 1), max(fits, 1)
    elif isinstance(wanted, int):
        fewest, most = wanted, wanted
    else:
        fewest, most = wanted
    if resources.num_cpus and most > fewest:
        most = max(fewest, min(most, fits))  # more would take the last CPU from reading
    fewest, most = min(fewest, num_units), min(most, num_units)
    if fewest > fits:
        cpus, gpus = sum(n.num_cpus for n in nodes), sum(n.num_gpus for n in nodes)
        raise ClusterTooSmallError(
            f"{fewest} workers of {resources.num_cpus:g} CPUs and {float(resources.num_gpus):g} GPUs, and "
            f"{IO_CPUS} CPU for reading and writing, do not fit: the cluster has {cpus:g} CPUs and {gpus:g} "
            f"GPUs on {len(nodes)} nodes, room for {fits} such workers{_where(resources)}; "
            "lower resources.num_actors, set resources.num_cpus (0 is allowed), add nodes, or let the "
            "job wait for those of an autoscaling cluster with resources.node_timeout_s"
        )
    return fewest, most


def _where(resources: Resources) -> str:
    labels = ", ".join(f"{name}={value}" for name, value in resources.node_labels.items())
    return f" where nodes are {labels}" if labels else ""


def io_share(stages: Sequence[Resources], nodes: list[Node], num_actors: Sequence[int]) -> tuple[float, int]:
    """CPUs of one task that reads or writes, and how many tasks may read at once.

    Readers get half of what the workers leave. Without that limit Ray Data gives a small cluster's last CPU
    to them again and again, and nothing is committed before everything is read.
    """
    taken = sum(count * stage.num_cpus for count, stage in zip(num_actors, stages, strict=True))
    free = max(sum(node.num_cpus for node in nodes) - taken, IO_CPUS)
    cpus = min(1.0, free / 2)
    return cpus, int(free / 2 // cpus)


def _places(resources: Resources, nodes: list[Node]) -> int:
    """How many workers fit, each on one node, beside the CPU for reading and writing."""
    total_cpus = sum(node.num_cpus for node in nodes)
    if total_cpus < IO_CPUS or not any(node.suits(resources) for node in nodes):
        return 0
    limits: list[float] = []
    if resources.num_gpus or resources.num_cpus:
        limits.append(sum(places_on(resources, node) for node in nodes))
    if resources.num_cpus:
        limits.append((total_cpus - IO_CPUS) // resources.num_cpus)
    return int(min(limits, default=max(total_cpus - IO_CPUS, 1)))


def places_on(resources: Resources, node: Node) -> int:
    """How many workers that ask for a CPU or a GPU fit on a node."""
    if not node.suits(resources):
        return 0
    places = []
    if resources.num_gpus:
        places.append(_gpu_places(float(resources.num_gpus), node.num_gpus))
    if resources.num_cpus:
        places.append(int(node.num_cpus // resources.num_cpus))
    return min(places)


def _gpu_places(wanted: float, there: float) -> int:
    """Workers on a node's GPUs; a fraction never spans two of them."""
    return int(there // wanted) if wanted >= 1 else int(there) * int(1 // wanted)
