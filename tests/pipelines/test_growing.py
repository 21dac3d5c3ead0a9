"""A job waits for the nodes of an autoscaling cluster as long as it is told to."""

import time

import pytest
import ray

from pipelines.budget import ClusterTooSmallError
from pipelines.config import Resources
from pipelines.growing import wait_for_nodes

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("local_ray")]

THREE_GPUS = Resources(num_actors=3, num_gpus=1, num_cpus=0)  # the tests' Ray has two


def test_what_fits_is_not_waited_for() -> None:
    told: list[str] = []
    resources = Resources(num_actors=(2, 5), num_gpus=1, num_cpus=0, node_timeout_s=60)
    assert wait_for_nodes([resources], 100, told.append) == [(2, 5)]
    assert told == []


def test_without_a_timeout_what_does_not_fit_is_refused_at_once() -> None:
    with pytest.raises(ClusterTooSmallError, match="room for 2 such workers"):
        wait_for_nodes([THREE_GPUS], 100, lambda _: None)


def test_nodes_that_do_not_come_are_waited_for_and_told() -> None:
    told: list[str] = []
    began = time.monotonic()
    with pytest.raises(ClusterTooSmallError, match="room for 2 such workers"):
        wait_for_nodes([THREE_GPUS.model_copy(update={"node_timeout_s": 1.0})], 100, told.append)
    assert time.monotonic() - began >= 1
    assert told == ["waiting for nodes for 3 workers", ""]
    groups = ray.util.placement_group_table().values()
    assert {group["state"] for group in groups} <= {"REMOVED"}  # nothing goes on asking


def test_nodes_must_have_the_labels_that_workers_ask_for() -> None:
    labelled = Resources(num_gpus=1, num_cpus=0, node_labels={"market": "on-demand"})
    with pytest.raises(ClusterTooSmallError, match="room for 0 such workers where nodes are market"):
        wait_for_nodes([labelled], 100, lambda _: None)
