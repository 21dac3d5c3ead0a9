"""Waiting for the nodes that an autoscaling cluster adds when they are asked for."""

from collections.abc import Callable, Sequence

from ray.util.placement_group import placement_group, remove_placement_group

from pipelines.budget import IO_CPUS, ClusterTooSmallError, actor_ranges, cluster_nodes, fewest_workers
from pipelines.config import Resources


def wait_for_nodes(
    stages: Sequence[Resources], num_units: int, tell: Callable[[str], None]
) -> list[tuple[int, int]]:
    """Wait until the fewest workers of all stages fit, as long as `node_timeout_s` allows.

    A placement group that has no place yet is what makes an autoscaler add nodes. It ends with the
    driver, and those of two jobs add up.

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
    workers = [stage for stage in stages for _ in range(min(fewest_workers(stage), num_units))]
    tell(f"waiting for nodes for {len(workers)} workers")
    selectors = [*(stage.node_labels for stage in workers), {}]
    wanted = [*({"CPU": w.num_cpus, "GPU": float(w.num_gpus)} for w in workers), {"CPU": float(IO_CPUS)}]
    bundles = [{name: count for name, count in bundle.items() if count} for bundle in wanted]
    placed = [(b, s) for b, s in zip(bundles, selectors, strict=True) if b]
    group = placement_group([b for b, _ in placed], bundle_label_selector=[s for _, s in placed])
    try:
        group.wait(timeout_s)
    finally:
        remove_placement_group(group)
        tell("")
    return actor_ranges(stages, cluster_nodes(), num_units)
