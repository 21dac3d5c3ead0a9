"""What the tests of the files for clusters read."""

from __future__ import annotations

import re
from typing import Any

import yaml
from ray.autoscaler._private.util import prepare_config

from pipelines.models import PROJECT

HOME = "/home/ubuntu"
MANIFESTS = PROJECT / "jobs" / "kuberay"


def launcher_config() -> dict[str, Any]:
    """`ray_cluster.yaml`, as Ray completes it."""
    return prepare_config(yaml.safe_load((PROJECT / "ray_cluster.yaml").read_text()))


def manifests(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((MANIFESTS / name).read_text()))


def pinned(package: str) -> str:
    (version,) = re.findall(rf"^{package}==(.+)$", (PROJECT / "constraints.txt").read_text(), re.MULTILINE)
    return version
