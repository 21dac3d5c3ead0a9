"""A job that cannot run on the cluster is refused with numbers before it starts."""

import pytest

from pipelines.budget import ClusterTooSmallError, Node, actor_range, actor_ranges, io_share
from pipelines.config import Resources

TWO_GPU_NODES = [Node(num_cpus=4, num_gpus=2), Node(num_cpus=4, num_gpus=2)]
LAPTOP = [Node(num_cpus=2, num_gpus=0)]


@pytest.mark.parametrize(
    ("resources", "nodes", "expected"),
    [
        (Resources(num_gpus=1), TWO_GPU_NODES, (4, 4)),
        (Resources(num_gpus=0.5, num_cpus=0), TWO_GPU_NODES, (8, 8)),
        (Resources(num_gpus=2, num_cpus=0), [Node(num_cpus=8, num_gpus=3)] * 2, (2, 2)),
        (Resources(num_gpus=1, num_cpus=4), [Node(num_cpus=4, num_gpus=4)], None),
        (Resources(num_gpus=1), LAPTOP, None),
        (Resources(), LAPTOP, (1, 1)),
        (Resources(num_actors=2), LAPTOP, None),
        (Resources(num_actors=(1, 8)), LAPTOP, (1, 1)),
        (Resources(num_actors=(1, 8), num_gpus=1, num_cpus=0), TWO_GPU_NODES, (1, 8)),
        (Resources(num_actors=3, num_cpus=0), [Node(num_cpus=4, num_gpus=0)], (3, 3)),
        (Resources(num_cpus=3), [Node(num_cpus=2, num_gpus=0)] * 4, None),
        (Resources(num_cpus=0, num_gpus=1), [Node(num_cpus=2, num_gpus=2)], (2, 2)),
        (Resources(num_cpus=1, num_gpus=1), [Node(num_cpus=2, num_gpus=2)], (1, 1)),
    ],
)
def test_range_of_workers(resources: Resources, nodes: list[Node], expected: tuple[int, int] | None) -> None:
    if expected is None:
        with pytest.raises(ClusterTooSmallError, match=r"do not fit: the cluster has \d+ CPUs and \d+ GPUs"):
            actor_range(resources, nodes, 100)
    else:
        assert actor_range(resources, nodes, 100) == expected


def test_labels_count_for_workers_that_ask_for_nothing_else() -> None:
    labelled = Resources(num_actors=2, num_cpus=0, node_labels={"market": "on-demand"})
    with pytest.raises(
        ClusterTooSmallError, match="room for 0 such workers where nodes are market=on-demand"
    ):
        actor_range(labelled, LAPTOP, 100)
    there = [Node(num_cpus=4, num_gpus=0, labels={"market": "on-demand"})]
    assert actor_range(labelled, there, 100) == (2, 2)


def test_no_more_workers_than_units() -> None:
    assert actor_range(Resources(num_gpus=1), TWO_GPU_NODES, 3) == (3, 3)
    assert actor_range(Resources(num_actors=4, num_cpus=0), LAPTOP, 1) == (1, 1)


@pytest.mark.parametrize(
    ("num_cpus", "num_actors", "expected"),
    [(1, 0, (0.5, 1)), (2, 1, (0.5, 1)), (4, 1, (1.0, 1)), (64, 8, (1.0, 28))],
)
def test_readers_never_take_all_that_the_workers_leave(
    num_cpus: int, num_actors: int, expected: tuple[float, int]
) -> None:
    assert io_share([Resources()], [Node(num_cpus=num_cpus, num_gpus=0)], [num_actors]) == expected


@pytest.mark.parametrize(
    ("nodes", "expected"),
    [
        (LAPTOP, [(1, 1), (1, 1)]),
        ([Node(num_cpus=8, num_gpus=1)], [(6, 6), (1, 1)]),
        ([Node(num_cpus=1, num_gpus=1)], None),
    ],
)
def test_workers_of_an_earlier_stage_get_what_the_last_leaves(
    nodes: list[Node], expected: list[tuple[int, int]] | None
) -> None:
    gpus = float(nodes[0].num_gpus)
    stages = [Resources(num_cpus=1 if gpus else 0.5), Resources(num_gpus=gpus, num_cpus=0.5)]
    if expected is None:
        with pytest.raises(ClusterTooSmallError, match="do not fit"):
            actor_ranges(stages, nodes, 100)
    else:
        assert actor_ranges(stages, nodes, 100) == expected
