"""What each node of a cluster says of itself: versions, clock, disks, and whether it can use the output."""

from __future__ import annotations

import importlib.metadata
import platform
import shutil
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from pipelines.errors import RefusalError
from pipelines.models import cache_folder
from pipelines.storage import open_storage
from pipelines.storage.probe import probe

PACKAGES = ("ray", "torch", "torchvision", "pyarrow", "numpy", "pydantic", "boto3", "open-clip-torch")
"""Whose versions change results, or must agree for Ray's objects to be read."""
_ANSWER_S = 180.0
SHM = Path("/dev/shm")  # noqa: S108  # Ray's object store is there, and we write nothing to it


@dataclass(frozen=True, kw_only=True)
class NodeFacts:
    """A node.

    Attributes:
        host: Its name.
        versions: Of Python and of PACKAGES; "" for one that is not there.
        clock_s: Its clock; as `ask_nodes` gives it, how far it is from the driver's at least.
        free_bytes: What is free on the file system of each folder.
        object_store_bytes: Of Ray's object store.
        storage_fault: Why it cannot use the output; "" where it can.
    """

    host: str
    versions: dict[str, str]
    clock_s: float
    free_bytes: dict[str, int]
    object_store_bytes: int
    storage_fault: str


def ask_nodes(output: str, marker: str) -> tuple[list[NodeFacts], dict[str, str]]:
    """Ask all live nodes at once.

    Args:
        output: URI of the job's output.
        marker: Path in it of an object that the driver has written.

    Returns:
        What they say; and of those that did not answer, why, by host.
    """
    asked_at = time.time()
    asked = [
        (node["NodeManagerHostname"], _asked(node, output, marker))
        for node in ray.nodes()  # type: ignore[no-untyped-call]
        if node["Alive"]
    ]
    answers, silent, end = list[NodeFacts](), dict[str, str](), time.monotonic() + _ANSWER_S
    for host, reference in asked:
        try:
            facts: NodeFacts = ray.get(reference, timeout=max(end - time.monotonic(), 0.1))
        except (RayError, GetTimeoutError) as error:
            silent[host] = str(error).strip().splitlines()[-1]
            continue
        ahead, behind = facts.clock_s - time.time(), asked_at - facts.clock_s
        answers.append(replace(facts, clock_s=max(ahead, behind, 0.0)))
    return answers, silent


def _asked(node: dict[str, Any], output: str, marker: str) -> Any:
    there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
    question = ray.remote(node_facts).options(num_cpus=0, scheduling_strategy=there)
    store = int(node["Resources"].get("object_store_memory", 0))
    return question.remote(node["NodeManagerHostname"], store, output, marker)


def node_facts(host: str, object_store_bytes: int, output: str, marker: str) -> NodeFacts:
    """What this node says; arguments as in NodeFacts and `ask_nodes`."""
    versions = {"python": platform.python_version()} | {name: _version(name) for name in PACKAGES}
    folders = [Path(tempfile.gettempdir()), cache_folder()] + ([SHM] if SHM.is_dir() else [])
    return NodeFacts(
        host=host,
        versions=versions,
        clock_s=time.time(),
        free_bytes={str(folder): _free_bytes(folder) for folder in folders},
        object_store_bytes=object_store_bytes,
        storage_fault=_storage_fault(output, marker),
    )


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _free_bytes(folder: Path) -> int:
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def _storage_fault(output: str, marker: str) -> str:
    try:
        storage = open_storage(output)
        probe(storage)
        if not storage.exists(marker):
            return f"{output}: what the driver wrote is not there: nodes do not share this folder; use s3://"
    except RefusalError as error:
        return str(error)
    return ""
