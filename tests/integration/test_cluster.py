"""Jobs on clusters of several nodes: they grow, lose nodes, are shared, and have no common disk."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import boto3
import pyarrow.parquet as pq
import pytest
import yaml
from moto.server import ThreadedMotoServer
from ray.util.state import list_actors, list_nodes, list_placement_groups
from ray.util.state.exception import ServerUnavailable

from examples.shapes.prompts import choose_scenes, prompt_table
from pipelines.models import PROJECT
from pipelines.verify import verify
from tests.pipelines.toys import write_input
from tests.servers.networks import OWN_ADDRESS, Machine, NoNetworksError, machines
from tests.servers.processes import kill
from tests.servers.ray_head import RAY, RayHead, running_head, running_node

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(400)]

ALIVE = [("state", "=", "ALIVE")]
SPOT = ("--num-cpus=1", "--num-gpus=1", "--labels=market=spot")
ON_DEMAND = ("--num-cpus=1", "--num-gpus=1", "--labels=market=on-demand")
ONE_GPU = {"num_actors": [1, 2], "num_gpus": 1, "num_cpus": 0, "node_timeout_s": 120}


def node_types(*names: str, most: int) -> dict[str, Any]:
    """Of `ray_cluster.yaml`, without what only AWS knows."""
    known = yaml.safe_load((PROJECT / "ray_cluster.yaml").read_text())["available_node_types"]
    return {
        name: {
            "resources": known[name]["resources"] | {"CPU": 2},  # all of them are on this machine
            "labels": known[name]["labels"],
            "min_workers": known[name]["min_workers"],
            "max_workers": most,
            "node_config": {},
        }
        for name in names
    }


@contextmanager
def squaring(
    head: RayHead,
    output: Path,
    source: str,
    resources: dict[str, Any],
    worker: str = "Square",
    pause_s: float = 1.0,
) -> Iterator[subprocess.Popen[str]]:
    """A squaring job on a cluster, with its driver in a process of its own."""
    arguments = [head.ray_address, str(output), source, worker, json.dumps(resources), str(pause_s)]
    command = [sys.executable, "-m", "tests.integration.squaring", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as driver:
        try:
            yield driver
        finally:
            driver.kill()


def write_prompts(path: Path, count: int) -> None:
    pq.write_table(prompt_table(choose_scenes("test", count, two_object_share=0.5, seed=0)), path)


def wait_until(is_so: Callable[[], bool], what: str, seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while True:
        # a head that has much to do drops a request now and then
        with suppress(ServerUnavailable):
            if is_so():
                return
        assert time.monotonic() < end, what
        time.sleep(0.3)


def num_commits(output: Path) -> int:
    return len(list(output.glob("commits/[!.]*.json")))


def assert_squared(output: Path, rows: int) -> None:
    """Every row has its result, once."""
    tables = [pq.read_table(path) for path in sorted(output.glob("data/*.parquet"))]
    squares = sorted(value for table in tables for value in table["square"].to_pylist())
    assert squares == [n * n for n in range(rows)]


def gpu_nodes(head: RayHead) -> list[Any]:
    alive = list_nodes(address=head.address, filters=ALIVE, raise_on_missing_output=False)
    return [node for node in alive if node.resources_total.get("GPU")]


def workers(head: RayHead) -> list[Any]:
    """The living actors that hold a worker."""
    return [actor for actor in actors(head) if actor.class_name.startswith("MapWorker")]


def groups(head: RayHead) -> list[Any]:
    """The placement groups that are there or asked for."""
    known = list_placement_groups(address=head.address, raise_on_missing_output=False)
    return [group for group in known if group.state != "REMOVED"]


def actors(head: RayHead) -> list[Any]:
    """Those that live."""
    return list(list_actors(address=head.address, filters=ALIVE, raise_on_missing_output=False))


@pytest.mark.reliability
def test_a_pool_grows_with_the_queue_and_its_nodes_go_at_its_end(tmp_path: Path) -> None:
    source = write_input(tmp_path / "in", rows=100)
    types = node_types("gpu_spot", most=2)
    with running_head(num_cpus=0, node_types=types) as head:
        assert gpu_nodes(head) == []
        with squaring(head, tmp_path / "out", source, ONE_GPU, pause_s=2.0) as driver:
            wait_until(lambda: len(gpu_nodes(head)) == 2, "a second GPU node for the second worker")
            assert {node.labels["market"] for node in gpu_nodes(head)} == {"spot"}
            wait_until(lambda: len(workers(head)) == 2, "a worker on each")
            assert driver.wait(200) == 0
        assert_squared(tmp_path / "out", 100)
        wait_until(lambda: gpu_nodes(head) == [], "the nodes to go")


@pytest.mark.reliability
def test_a_preempted_node_costs_only_its_units_in_flight(tmp_path: Path) -> None:
    source = write_input(tmp_path / "in", rows=100)
    two = {"num_actors": 2, "num_gpus": 1, "num_cpus": 0}
    with (
        running_head(num_cpus=2, num_gpus=1) as head,
        running_node(head, *SPOT) as spot,
        squaring(head, tmp_path / "out", source, two) as driver,
    ):
        wait_until(lambda: len(workers(head)) == 2, "a worker on each node")
        wait_until(lambda: num_commits(tmp_path / "out") >= 4, "some units")
        (node,) = [node for node in gpu_nodes(head) if node.labels.get("market") == "spot"]
        notice = ["--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "notice"]
        address = ["--address", head.ray_address, "--node-id", node.node_id]
        drain = [RAY, "drain-node", *address, *notice, "--deadline-remaining-seconds", "2"]
        subprocess.run(drain, check=True, capture_output=True)
        time.sleep(2)
        kill(spot)
        assert driver.wait(200) == 0
    assert_squared(tmp_path / "out", 100)
    commits = [json.loads(path.read_text()) for path in (tmp_path / "out").glob("commits/[!.]*.json")]
    assert sum(commit["attempts"] - 1 for commit in commits) <= 2


@pytest.mark.reliability
def test_gpu_workers_are_on_gpu_nodes_with_the_labels_that_they_ask_for(tmp_path: Path) -> None:
    source = write_input(tmp_path / "in")
    resources = ONE_GPU | {"num_actors": 1, "node_labels": {"market": "on-demand"}}
    with running_head(num_cpus=4) as head, running_node(head, *SPOT), running_node(head, *ON_DEMAND):
        (wanted,) = [node for node in gpu_nodes(head) if node.labels["market"] == "on-demand"]
        with squaring(head, tmp_path / "out", source, resources) as driver:
            wait_until(lambda: num_commits(tmp_path / "out") >= 1, "a unit")
            assert [worker.node_id for worker in workers(head)] == [wanted.node_id]
            assert driver.wait(200) == 0
    assert_squared(tmp_path / "out", 40)


@pytest.fixture
def two_machines() -> Iterator[list[Machine]]:
    try:
        with machines(2) as made:
            yield made
    except NoNetworksError as error:
        pytest.skip(f"may not make networks here: {error}")


@pytest.mark.reliability
def test_nodes_with_nothing_but_addresses_in_common(two_machines: list[Machine], tmp_path: Path) -> None:
    """Submitted over HTTP from a third machine; inputs and outputs are on S3, the second alone has a GPU."""
    server = ThreadedMotoServer(ip_address=OWN_ADDRESS, port=0, verbose=False)
    server.start()
    endpoint = f"endpoint_url=http://{OWN_ADDRESS}:{server.get_host_and_port()[1]}"
    client = boto3.client("s3", endpoint_url=endpoint.removeprefix("endpoint_url="))
    client.create_bucket(Bucket="bucket")
    write_prompts(tmp_path / "prompts.parquet", 8)
    client.upload_file(str(tmp_path / "prompts.parquet"), "bucket", "prompts/prompts.parquet")
    first, second = two_machines
    output = f"s3://bucket/out?{endpoint}"
    settings = [f"prompts=s3://bucket/prompts?{endpoint}", f"output={output}", "unit_rows=2", "batch_size=2"]
    settings.append("resources={num_gpus: 1, num_cpus: 0, num_actors: 1}")
    with running_head(num_cpus=1, machine=first) as head, running_node(head, *SPOT, machine=second):
        assert {node.node_ip for node in gpu_nodes(head)} == {second.address}
        command = [sys.executable, "-m", "jobs", "submit", "generate", "--config", "jobs/configs/demo.yaml"]
        command += [part for setting in settings for part in ("--set", setting)]
        command += ["--address", head.address, "--python", sys.executable]
        submitted = subprocess.run(command, capture_output=True, text=True)
        assert submitted.returncode == 0, submitted.stdout + submitted.stderr
    report = verify(output)
    server.stop()
    assert not report.problems
    assert report.rows_out == 8


@pytest.mark.reliability
def test_jobs_share_a_cluster_and_leave_nothing_on_it(tmp_path: Path) -> None:
    source = write_input(tmp_path / "in")
    one = {"num_actors": 1, "num_cpus": 0.5}
    with running_head(num_cpus=3) as head:
        with (
            squaring(head, tmp_path / "a", source, one) as a,
            squaring(head, tmp_path / "b", source, one) as b,
            squaring(head, tmp_path / "c", source, one, worker="Faulty") as faulty,
            squaring(head, tmp_path / "d", source, ONE_GPU) as waiting,  # for a node that does not come
        ):
            assert [a.wait(200), b.wait(200)] == [0, 0]
            assert faulty.wait(200) != 0
            assert faulty.stderr is not None
            assert "no such model" in faulty.stderr.read()
            wait_until(lambda: groups(head) != [], "the fourth to ask for a node")
            waiting.kill()
        wait_until(lambda: workers(head) == [], "no workers left")
        assert [actor for actor in actors(head) if "Attempts" in actor.class_name] == []
        wait_until(lambda: groups(head) == [], "nothing to be asked for")
    assert_squared(tmp_path / "a", 40)
    assert_squared(tmp_path / "b", 40)
    assert {path.name for path in tmp_path.iterdir()} == {"in", "a", "b", "c", "d"}
