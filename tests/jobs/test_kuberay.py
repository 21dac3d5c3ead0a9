"""The manifests for Kubernetes: what KubeRay, Kubernetes and Ray's autoscaler say of them."""

from __future__ import annotations

import re
from typing import Any

import kubernetes_validate
import pytest
import yaml
from ray.autoscaler._private.kuberay.autoscaling_config import _derive_autoscaling_config_from_ray_cr
from ray.autoscaler._private.util import validate_config

from tests.jobs.cluster_files import MANIFESTS, launcher_config, manifests, pinned
from tests.jobs.kuberay_fields import RayCluster, RayJob

KUBERNETES = "1.33"


@pytest.fixture
def ray_cluster() -> dict[str, Any]:
    (cluster,) = manifests("raycluster.yaml")
    return cluster


@pytest.fixture
def ray_job() -> dict[str, Any]:
    (job,) = manifests("rayjob.yaml")
    return job


def test_kuberay_takes_cluster_and_job(ray_cluster: dict[str, Any], ray_job: dict[str, Any]) -> None:
    RayCluster.model_validate(ray_cluster)
    RayJob.model_validate(ray_job)


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
    ray_cluster: dict[str, Any],
) -> None:
    ray_cluster["metadata"]["namespace"] = "default"
    derived = _derive_autoscaling_config_from_ray_cr(ray_cluster)
    validate_config(derived)
    pods = derived["available_node_types"]
    assert pods.pop(derived["head_node_type"])["resources"]["CPU"] == 0
    cluster = launcher_config()
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
