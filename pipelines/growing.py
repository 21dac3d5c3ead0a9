"""Waiting for the nodes that an autoscaling cluster adds when they are asked for."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from ray.util.placement_group import placement_group, remove_placement_group

from pipelines.budget import IO_CPUS, ClusterTooSmallError, actor_ranges, cluster_nodes, fewest_workers
from pipelines.config import Resources


def wait_for_nodes(
    stages: Sequence[Resources], num_units: int, tell: Callable[[str], None]
) -> list[tuple[int, int]]:
    """Wait until the fewest workers of all stages fit, as long as `node_timeout_s` allows.

    Args:
        stages: What a worker of each stage uses; `num_gpus` is a number.
        num_units: Units to be run.
        tell: Called with what is waited for, and with "" at the end.

    Returns:
        The fewest and most workers of each stage.

    Raises:
        ClusterTooSmallError: They do not fit, or not in time; the message has the numbers.
    """
    timeout_s = max(stage.node_timeout_s for stage in stages)
    try:
        return actor_ranges(stages, cluster_nodes(), num_units)
    except ClusterTooSmallError:
        if not timeout_s:
            raise
    fewest = [min(fewest_workers(stage), num_units) for stage in stages]
    tell(f"waiting for nodes for {sum(fewest)} workers")
    bundles = [Bundle(cpus=float(IO_CPUS))]
    for stage, count in zip(stages, fewest, strict=True):
        bundles += [Bundle(cpus=stage.num_cpus, gpus=float(stage.num_gpus), labels=stage.node_labels)] * count
    try:
        there_is_room = wait_for_room(bundles, timeout_s)
    finally:
        tell("")
    try:
        return actor_ranges(stages, cluster_nodes(), num_units)
    except ClusterTooSmallError:
        if not there_is_room:
            raise
        return [(count, count) for count in fewest]  # Ray has found the places that a sum over nodes did not


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """What a worker asks for."""

    cpus: float = 0.0
    gpus: float = 0.0
    labels: dict[str, str] = field(default_factory=dict)


def wait_for_room(bundles: Sequence[Bundle], timeout_s: float) -> bool:
    """Whether the cluster has room for all of these at once before the time is over; it is asked to grow.

    A placement group that has no place yet is what makes an autoscaler add nodes. It ends with the driver,
    and those of two jobs add up.
    """
    asked = [bundle for bundle in bundles if bundle.cpus or bundle.gpus]
    resources = [{name: n for name, n in (("CPU", b.cpus), ("GPU", b.gpus)) if n} for b in asked]
    group = placement_group(resources, bundle_label_selector=[bundle.labels for bundle in asked])
    try:
        return bool(group.wait(timeout_s))
    finally:
        remove_placement_group(group)
