"""The files for clusters: what Ray, EC2 and Kubernetes say of them, and what their users rely on."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import boto3
import kubernetes_validate
import pytest
import yaml
from moto import mock_aws
from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel
from ray._private.resource_and_label_spec import ResourceAndLabelSpec
from ray.autoscaler._private.aws.config import bootstrap_aws
from ray.autoscaler._private.aws.node_provider import AWSNodeProvider
from ray.autoscaler._private.command_runner import _with_environment_variables
from ray.autoscaler._private.kuberay.autoscaling_config import _derive_autoscaling_config_from_ray_cr
from ray.autoscaler._private.util import prepare_config, validate_config
from ray.scripts.scripts import start

from pipelines.config import load_config
from pipelines.generation_config import GenerateConfig
from pipelines.models import PROJECT

HOME = "/home/ubuntu"
MANIFESTS = PROJECT / "jobs" / "kuberay"
KUBERNETES = "1.33"


@pytest.fixture
def cluster() -> dict[str, Any]:
    """`ray_cluster.yaml`, as Ray completes it."""
    return prepare_config(yaml.safe_load((PROJECT / "ray_cluster.yaml").read_text()))


@pytest.fixture
def workers(cluster: dict[str, Any]) -> dict[str, Any]:
    types = cluster["available_node_types"]
    return {name: types[name] for name in types if name != cluster["head_node_type"]}


def manifests(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((MANIFESTS / name).read_text()))


def pinned(package: str) -> str:
    (version,) = re.findall(rf"^{package}==(.+)$", (PROJECT / "constraints.txt").read_text(), re.MULTILINE)
    return version


# Ray's cluster launcher


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


# KubeRay


class _Part(BaseModel):
    """A part of KubeRay 1.7's custom resources: the fields that we use, as its API reference has them."""

    model_config = ConfigDict(extra="forbid", strict=True, alias_generator=to_camel)


Count = Annotated[int, Field(ge=0, lt=2**31)]
Labels = dict[str, Annotated[str, Field(pattern=r"^[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$")]]
Template = dict[str, Any]  # of a pod; Kubernetes' own schema judges it


class _AuthOptions(_Part):
    mode: Literal["disabled", "token"]


class _AutoscalerOptions(_Part):
    version: Literal["v1", "v2"]
    idle_timeout_seconds: Count
    resources: dict[Literal["requests", "limits"], dict[str, str]]


class _HeadGroup(_Part):
    ray_start_params: dict[str, str]
    labels: Labels
    template: Template


class _WorkerGroup(_Part):
    group_name: str
    replicas: Count
    min_replicas: Count
    max_replicas: Count
    priority: Count = 0
    ray_start_params: dict[str, str]
    labels: Labels
    template: Template


class _ClusterSpec(_Part):
    ray_version: str
    auth_options: _AuthOptions
    enable_in_tree_autoscaling: bool
    autoscaler_options: _AutoscalerOptions
    head_group_spec: _HeadGroup
    worker_group_specs: list[_WorkerGroup]


class _JobSpec(_Part):
    entrypoint: str
    submission_mode: Literal["K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"]
    backoff_limit: Count
    shutdown_after_job_finishes: bool
    ttl_seconds_after_finished: Count
    submitter_pod_template: Template
    ray_cluster_spec: _ClusterSpec


class _Metadata(_Part):
    name: Annotated[str, Field(max_length=50)] = ""
    generate_name: Annotated[str, Field(max_length=40)] = ""


class _Cluster(_Part):
    api_version: Literal["ray.io/v1"]
    kind: Literal["RayCluster"]
    metadata: _Metadata
    spec: _ClusterSpec


class _Job(_Part):
    api_version: Literal["ray.io/v1"]
    kind: Literal["RayJob"]
    metadata: _Metadata
    spec: _JobSpec


@pytest.fixture
def ray_cluster() -> dict[str, Any]:
    (cluster,) = manifests("raycluster.yaml")
    return cluster


@pytest.fixture
def ray_job() -> dict[str, Any]:
    (job,) = manifests("rayjob.yaml")
    return job


def test_kuberay_takes_cluster_and_job(ray_cluster: dict[str, Any], ray_job: dict[str, Any]) -> None:
    _Cluster.model_validate(ray_cluster)
    _Job.model_validate(ray_job)


def test_a_jobs_own_cluster_is_the_cluster(ray_cluster: dict[str, Any], ray_job: dict[str, Any]) -> None:
    assert ray_job["spec"]["rayClusterSpec"] == ray_cluster["spec"]


def test_kubernetes_takes_all_pods_and_objects(ray_job: dict[str, Any]) -> None:
    text = (MANIFESTS / "rayjob.yaml").read_text()
    with_volume = yaml.safe_load(re.sub(r"# (?=- {name: weights)", "", text))  # as weights.yaml says
    mounted = with_volume["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]
    assert "weights" in {volume["name"] for volume in mounted["volumes"]}
    assert "/weights" in {mount["mountPath"] for mount in mounted["containers"][0]["volumeMounts"]}
    for job in (ray_job, with_volume):
        spec = job["spec"]["rayClusterSpec"]
        groups = [spec["headGroupSpec"], *spec["workerGroupSpecs"]]
        for template in [job["spec"]["submitterPodTemplate"], *(group["template"] for group in groups)]:
            pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod"}, **template}
            kubernetes_validate.validate(pod, KUBERNETES, strict=True)
    for item in [*manifests("serviceaccount.yaml"), *manifests("weights.yaml")]:
        kubernetes_validate.validate(item, KUBERNETES, strict=True)


def test_rays_autoscaler_reads_the_same_nodes_as_on_aws(
    ray_cluster: dict[str, Any], cluster: dict[str, Any]
) -> None:
    ray_cluster["metadata"]["namespace"] = "default"
    derived = _derive_autoscaling_config_from_ray_cr(ray_cluster)
    validate_config(derived)
    pods = derived["available_node_types"]
    assert pods.pop(derived["head_node_type"])["resources"]["CPU"] == 0
    machines = {name.replace("_", "-"): facts for name, facts in cluster["available_node_types"].items()}
    assert pods.keys() == machines.keys() - {"head"}
    for name, pod in pods.items():
        machine = machines[name]
        for fact in ("labels", "min_workers", "max_workers"):
            assert pod[fact] == machine[fact], (name, fact)
        assert pod.get("priority") == machine.get("priority")
        assert pod["resources"].get("GPU") == machine["resources"].get("GPU")


def test_gpu_pods_keep_a_cpu_for_their_gpu_workers(ray_cluster: dict[str, Any]) -> None:
    for group in ray_cluster["spec"]["workerGroupSpecs"]:
        (container,) = group["template"]["spec"]["containers"]
        gpus = container["resources"]["limits"].get("nvidia.com/gpu", "0")
        declared = int(group["rayStartParams"]["num-cpus"])
        assert group["rayStartParams"].get("num-gpus", "0") == gpus
        assert declared <= int(container["resources"]["requests"]["cpu"]) - (gpus != "0")


def test_a_pod_may_drain_before_kubernetes_kills_it(ray_cluster: dict[str, Any]) -> None:
    for group in ray_cluster["spec"]["workerGroupSpecs"]:
        spec = group["template"]["spec"]
        values = {entry["name"]: entry["value"] for entry in spec["containers"][0]["env"]}
        drain_s = float(values["RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S"])
        assert drain_s < spec["terminationGracePeriodSeconds"] < 120  # the notice that AWS gives


def test_one_image_and_one_ray_everywhere(ray_cluster: dict[str, Any]) -> None:
    assert ray_cluster["spec"]["rayVersion"] == pinned("ray")
    images = {
        image
        for path in MANIFESTS.glob("*.yaml")
        for image in re.findall(r"image: (?:&\w+ )?(\S*/\S+)", path.read_text())
    }
    assert len(images) == 1


def test_the_jobs_of_manifest_and_guide_are_jobs_of_ours(ray_job: dict[str, Any], tmp_path: Path) -> None:
    python, _, module, _, job, *options = shlex.split(ray_job["spec"]["entrypoint"])
    assert (python, module, job) == ("python", "jobs.supervise", "generate")
    assert options[:2] == ["--config", "/app/jobs/configs/generate.yaml"]
    assert options[2::2] == ["--set"] * len(options[3::2])
    of_manifest = load_config(GenerateConfig, PROJECT / "jobs" / "configs" / "generate.yaml", options[3::2])
    (tmp_path / "job.yaml").write_text(written_by_guide()["job.yaml"].replace("$BUCKET", "bucket"))
    of_guide = load_config(GenerateConfig, tmp_path / "job.yaml")
    assert of_manifest.resources.num_actors == of_guide.resources.num_actors == (1, 8)
    assert of_manifest.resources.num_cpus == of_guide.resources.num_cpus == 0


# The image and the guide


def test_the_image_has_the_pinned_packages_and_an_ordinary_user() -> None:
    lines = (PROJECT / "Dockerfile").read_text().replace("\\\n", "")
    assert "--requirement /app/constraints.txt" in lines
    assert not re.search(r"pip install(?!.*--requirement)", lines)  # no other version of Ray
    assert re.search(r"^USER 1000$", lines, re.MULTILINE)
    assert "RAY_AUTH_MODE=token" in lines
    cuda = pinned("nvidia-cuda-runtime").split(".")[0]
    assert re.search(rf"^FROM nvidia/cuda:{cuda}\.", lines, re.MULTILINE)


def test_the_image_gets_the_code_and_not_the_rest() -> None:
    allowed = re.findall(r"^!(\S+)$", (PROJECT / ".dockerignore").read_text(), re.MULTILINE)
    assert (PROJECT / ".dockerignore").read_text().count("\n*\n") == 1  # all else is left out
    assert all((PROJECT / path).exists() for path in allowed)
    assert {"constraints.txt", "jobs", "meissonic", "pipelines", "schemas"} <= set(allowed)
    assert not {"tests", ".git", "out"} & set(allowed)


def commands_of_guide() -> list[str]:
    text = (PROJECT / "docs" / "cluster.md").read_text()
    return re.findall(r"^```\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def written_by_guide() -> dict[str, str]:
    """Contents by name of the files that the guide has one write."""
    text = "".join(commands_of_guide())
    return dict(re.findall(r"^cat >(\S+) <<END\n(.*?)^END$", text, re.MULTILINE | re.DOTALL))


def test_what_the_guide_has_one_type_is_shell_and_what_it_writes_is_json() -> None:
    for block in commands_of_guide():
        subprocess.run(["bash", "-n"], input=block, text=True, check=True)
    policies = [text for name, text in written_by_guide().items() if name.endswith(".json")]
    assert len(policies) == 3
    assert all(json.loads(text)["Statement"] for text in policies)


def test_files_that_the_guide_names_exist() -> None:
    text = (PROJECT / "docs" / "cluster.md").read_text()
    links = {link.partition("#")[0] for link in re.findall(r"\]\(([^)]+)\)", text)}
    typed = set(re.findall(r"jobs/(?:kuberay|configs)/\w+\.yaml", text))
    paths = [*(PROJECT / "docs" / link for link in links), *(PROJECT / path for path in typed)]
    assert [path for path in paths if not path.exists()] == []


def test_roles_of_the_guide_are_those_of_the_files(cluster: dict[str, Any]) -> None:
    text = "".join(commands_of_guide())
    for node_type in cluster["available_node_types"].values():
        assert node_type["node_config"]["IamInstanceProfile"]["Name"] in text
    assert "role/meissonic-pods" in (MANIFESTS / "serviceaccount.yaml").read_text()
    assert "--role-name meissonic-pods" in text
