"""`ray_cluster.yaml`: what Ray's launcher and EC2 say of it, and what its users rely on."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto import mock_aws
from ray._private.resource_and_label_spec import ResourceAndLabelSpec
from ray.autoscaler._private.aws.config import bootstrap_aws
from ray.autoscaler._private.aws.node_provider import AWSNodeProvider
from ray.autoscaler._private.command_runner import _with_environment_variables
from ray.autoscaler._private.util import validate_config
from ray.scripts.scripts import start

from pipelines.models import PROJECT
from tests.jobs.cluster_files import HOME, MANIFESTS, launcher_config


@pytest.fixture
def cluster() -> dict[str, Any]:
    return launcher_config()


@pytest.fixture
def workers(cluster: dict[str, Any]) -> dict[str, Any]:
    types = cluster["available_node_types"]
    return {name: types[name] for name in types if name != cluster["head_node_type"]}


def test_rays_launcher_takes_the_cluster(cluster: dict[str, Any]) -> None:
    validate_config(cluster)


def test_the_head_does_no_work_and_nothing_runs_before_a_job_asks(
    cluster: dict[str, Any], workers: dict[str, Any]
) -> None:
    head = cluster["available_node_types"][cluster["head_node_type"]]
    assert head["resources"] == {"CPU": 0}
    assert "InstanceMarketOptions" not in head["node_config"]
    assert all(worker["min_workers"] == 0 for worker in workers.values())
    assert not cluster["provider"]["cache_stopped_nodes"]


def test_eight_gpus_can_come_from_spot_and_few_from_on_demand(workers: dict[str, Any]) -> None:
    gpus = {name: worker for name, worker in workers.items() if worker["resources"].get("GPU")}
    most = {worker["labels"]["market"]: worker["max_workers"] for worker in gpus.values()}
    assert most["spot"] == 8
    assert most["on-demand"] <= 2
    priorities = {worker["labels"]["market"]: worker["priority"] for worker in gpus.values()}
    assert priorities["spot"] > priorities["on-demand"]


def test_a_market_is_what_its_label_says(cluster: dict[str, Any]) -> None:
    for name, node_type in cluster["available_node_types"].items():
        options = node_type["node_config"].get("InstanceMarketOptions", {"MarketType": "on-demand"})
        assert node_type["labels"] == {"market": options["MarketType"]}, name


def test_roles_and_not_keys_are_in_the_files(cluster: dict[str, Any]) -> None:
    assert all(t["node_config"]["IamInstanceProfile"] for t in cluster["available_node_types"].values())
    for path in [PROJECT / "ray_cluster.yaml", PROJECT / "Dockerfile", *MANIFESTS.glob("*.yaml")]:
        text = path.read_text()
        assert not re.search(r"\bAKIA[0-9A-Z]{16}\b|PRIVATE KEY|aws_secret_access_key *[=:]", text)
        assert "RAY_AUTH_MODE=disabled" not in text


def test_what_is_copied_to_nodes_exists(cluster: dict[str, Any]) -> None:
    mounts = cluster["file_mounts"]
    # where Ray looks for it, at both ends
    assert mounts.pop(f"{HOME}/.ray/auth_token") == "~/.ray/auth_token"
    assert mounts[f"{HOME}/constraints.txt"] == "constraints.txt"
    assert all((PROJECT / source).is_file() for source in mounts.values())


@pytest.mark.parametrize("commands", ["head_start_ray_commands", "worker_start_ray_commands"])
def test_ray_start_knows_every_option_that_it_is_given(cluster: dict[str, Any], commands: str) -> None:
    (command,) = [text for text in cluster[commands] if "ray start" in text]
    arguments = shlex.split(command.partition("ray start")[2].replace("$OBJECT_STORE_BYTES", "1000000000"))
    options = start.make_context("start", arguments).params
    assert options["object_store_memory"] == 1_000_000_000
    assert options["object_spilling_directory"] == "$SPILL_DIRECTORY"
    assert options["head"] == (commands == "head_start_ray_commands")
    if options["head"]:
        assert options["dashboard_host"] == "127.0.0.1"
        assert options["autoscaling_config"] == f"{HOME}/ray_bootstrap_config.yaml"
    else:
        assert options["address"] == "$RAY_HEAD_IP:6379"


@pytest.fixture
def node(cluster: dict[str, Any], tmp_path: Path) -> Callable[[str], str]:
    """Runs a command as a node would, whose home is a temporary folder and whose environment is set up."""

    def run(command: str) -> str:
        text = command.replace(HOME, str(tmp_path))
        environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
        result = subprocess.run(
            ["bash", "-c", text], env=environment, cwd=tmp_path, capture_output=True, text=True, check=True
        )
        return result.stdout

    (write_environment,) = [text for text in cluster["setup_commands"] if "environment.sh <<" in text]
    run(write_environment)
    run(write_environment)  # set up again, as `ray up` does
    return run


def test_jobs_find_python_the_token_and_a_disk_on_a_node(node: Callable[[str], str], tmp_path: Path) -> None:
    printed = node(f". {HOME}/environment.sh && env").splitlines()
    values = dict(line.split("=", 1) for line in printed if "=" in line)
    assert values["PATH"].startswith(f"{tmp_path}/venv/bin:")
    assert values["RAY_AUTH_MODE"] == "token"
    assert 0 < int(values["OBJECT_STORE_BYTES"]) <= 32 * 2**30
    assert Path(values["SPILL_DIRECTORY"]).is_dir()
    assert Path(values["MEISSONIC_CACHE"]).is_dir()
    assert (tmp_path / ".bashrc").read_text().count("environment.sh") == 1  # for `ray exec` and `ray attach`


def test_the_watcher_of_spot_notices_runs_on_spot_nodes_alone_and_once(
    cluster: dict[str, Any], workers: dict[str, Any], node: Callable[[str], str], tmp_path: Path
) -> None:
    (command,) = [text for text in cluster["worker_start_ray_commands"] if "watch_preemption" in text]
    python = tmp_path / "venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\necho "$@" >>{tmp_path}/started\nexec sleep 2\n')
    python.chmod(0o755)
    started = tmp_path / "started"
    for name in sorted(workers, key=lambda name: workers[name]["labels"]["market"] == "spot"):
        spot = workers[name]["labels"]["market"] == "spot"
        node(_with_environment_variables(command, {"RAY_OVERRIDE_LABELS": workers[name]["labels"]}))
        deadline = time.monotonic() + 10
        while spot and not started.exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        assert started.exists() == spot
    assert started.read_text() == f"{tmp_path}/watch_preemption.py\n"


def test_a_node_has_the_labels_of_its_type_without_an_option(
    workers: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for worker in workers.values():
        monkeypatch.setenv("RAY_OVERRIDE_LABELS", json.dumps(worker["labels"]))
        monkeypatch.setenv("RAY_OVERRIDE_RESOURCES", json.dumps(worker["resources"]))
        spec = ResourceAndLabelSpec(num_cpus=8, num_gpus=0, object_store_memory=10**9, memory=10**9)
        spec.resolve(is_head=False, node_ip_address="10.0.0.1")
        assert spec.labels.items() >= worker["labels"].items()
        assert spec.num_cpus == worker["resources"].get("CPU", 8)


@pytest.fixture
def aws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("HOME", str(tmp_path))  # Ray keeps the private half of its SSH key there
    with mock_aws():
        yield


@pytest.mark.slow
@pytest.mark.usefixtures("aws")
def test_ec2_starts_each_node_as_it_is_described(cluster: dict[str, Any]) -> None:
    iam = boto3.client("iam")
    for role in ("meissonic-head", "meissonic-worker"):
        iam.create_instance_profile(InstanceProfileName=role)
    complete = bootstrap_aws(AWSNodeProvider.fillout_available_node_types_resources(cluster))
    ec2 = boto3.client("ec2", region_name=complete["provider"]["region"])
    provider = AWSNodeProvider(complete["provider"], complete["cluster_name"])
    for name, node_type in complete["available_node_types"].items():
        provider.create_node(node_type["node_config"], {"ray-user-node-type": name}, 1)
        (instance,) = [
            instance
            for reservation in ec2.describe_instances(
                Filters=[{"Name": "tag:ray-user-node-type", "Values": [name]}]
            )["Reservations"]
            for instance in reservation["Instances"]
        ]
        assert instance.get("InstanceLifecycle", "on-demand") == node_type["labels"]["market"]
        role = "meissonic-head" if name == complete["head_node_type"] else "meissonic-worker"
        assert instance["IamInstanceProfile"]["Arn"].endswith(f"/{role}")
        (kind,) = ec2.describe_instance_types(InstanceTypes=[instance["InstanceType"]])["InstanceTypes"]
        gpus = sum(gpu["Count"] for gpu in kind.get("GpuInfo", {}).get("Gpus", []))
        assert node_type["resources"].get("GPU", 0) == gpus
        cpus = kind["VCpuInfo"]["DefaultVCpus"]
        assert node_type["resources"]["CPU"] <= (cpus - 2 if gpus else cpus)  # two to feed the GPU with
        assert node_type["node_config"]["ImageId"].startswith("resolve:ssm:/aws/service/")
