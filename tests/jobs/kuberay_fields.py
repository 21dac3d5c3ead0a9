"""The fields of KubeRay 1.7's custom resources that our manifests use, as its API reference has them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel


class _Part(BaseModel):
    """No other field, and no other type, passes."""

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


class RayCluster(_Part):
    api_version: Literal["ray.io/v1"]
    kind: Literal["RayCluster"]
    metadata: _Metadata
    spec: _ClusterSpec


class RayJob(_Part):
    api_version: Literal["ray.io/v1"]
    kind: Literal["RayJob"]
    metadata: _Metadata
    spec: _JobSpec
