"""A Ray head with its HTTP address, as on a cluster of one node, in processes of its own."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests
from ray.autoscaler._private.fake_multi_node.node_provider import FAKE_HEAD_NODE_ID
from ray.util.state import list_nodes

from tests.servers.networks import Machine
from tests.servers.processes import kill

_START_S = 120
RAY = str(Path(sys.executable).parent / "ray")


@dataclass(frozen=True, kw_only=True)
class RayHead:
    """A running head.

    Attributes:
        address: Of its dashboard.
        ray_address: For nodes and drivers.
        folder: Of its logs.
    """

    address: str
    ray_address: str
    folder: Path
    process: subprocess.Popen[bytes]

    def kill(self) -> None:
        """End all its processes at once, those of its jobs too."""
        kill(self.process)


@contextmanager
def running_head(
    num_cpus: int = 4,
    num_gpus: int = 0,
    env: dict[str, str] | None = None,
    node_types: dict[str, Any] | None = None,
    machine: Machine | None = None,
) -> Iterator[RayHead]:
    """A head that ends with the block.

    Args:
        num_cpus: That it offers.
        num_gpus: That it offers, by name only.
        env: Added to its environment.
        node_types: Of nodes that an autoscaler adds and removes, as in `ray_cluster.yaml`; they are processes
            of this machine.
        machine: Where it runs; None for here.
    """
    host = "127.0.0.1" if machine is None else machine.address
    folder = Path(tempfile.mkdtemp(prefix="ray-"))  # sockets lie in it: their paths must be short
    port, dashboard, *others = _free_ports(6)
    names = (
        "dashboard-agent-listen-port",
        "dashboard-agent-grpc-port",
        "metrics-export-port",
        "ray-client-server-port",
    )
    ports = [f"--{name}={value}" for name, value in zip(names, others, strict=True)]
    prefix = () if machine is None else machine.prefix
    command = [
        *prefix,
        RAY,
        "start",
        "--head",
        "--block",
        f"--port={port}",
        f"--dashboard-port={dashboard}",
        *ports,
    ]
    command += [f"--num-cpus={num_cpus}", f"--num-gpus={num_gpus}"]
    command += [f"--temp-dir={folder}", "--include-dashboard=true"]
    if machine is not None:
        command += [f"--node-ip-address={host}", "--dashboard-host=0.0.0.0"]
    if node_types is not None:
        config = _autoscaling(node_types, {"CPU": num_cpus, "GPU": num_gpus}, f"127.0.0.1:{port}")
        (folder / "autoscaling.json").write_text(json.dumps(config))
        command.append(f"--autoscaling-config={folder / 'autoscaling.json'}")
        env = (env or {}) | {"RAY_FAKE_CLUSTER": "1", "AUTOSCALER_UPDATE_INTERVAL_S": "1"}
    address = f"http://{host}:{dashboard}"
    with (folder / "start.log").open("wb") as log:
        process = subprocess.Popen(
            command, env=os.environ | (env or {}), start_new_session=True, stdout=log, stderr=log
        )
    head = RayHead(address=address, ray_address=f"{host}:{port}", folder=folder, process=process)
    try:
        _wait_for_jobs(head)
        yield head
    finally:
        head.kill()
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def running_node(
    head: RayHead, *options: str, machine: Machine | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """A further node of the cluster, with these options of `ray start`; killed at the end of the block.

    Args:
        head: The cluster's head.
        options: Such as `--num-gpus=1`.
        machine: Where it runs; None for here.
    """
    prefix: tuple[str, ...] = ()
    if machine is not None:
        prefix, options = machine.prefix, (*options, f"--node-ip-address={machine.address}")
    before = max(_num_nodes(head), 1)  # the head may not be listed yet
    command = [*prefix, RAY, "start", "--block", f"--address={head.ray_address}", *options]
    with (head.folder / "node.log").open("ab") as log:
        process = subprocess.Popen(command, start_new_session=True, stdout=log, stderr=log)
    try:
        end = time.monotonic() + _START_S
        while _num_nodes(head) <= before:
            if time.monotonic() > end or process.poll() is not None:
                raise RuntimeError((head.folder / "node.log").read_text())
            time.sleep(0.3)
        yield process
    finally:
        kill(process)


def _num_nodes(head: RayHead) -> int:
    alive = [("state", "=", "ALIVE")]
    return len(list_nodes(address=head.address, filters=alive, raise_on_missing_output=False))


def _autoscaling(node_types: dict[str, Any], head: dict[str, Any], gcs_address: str) -> dict[str, Any]:
    """What `--autoscaling-config` reads; Ray's own example is not in its wheel."""
    launcher = ("initialization", "setup", "head_setup", "worker_setup", "head_start_ray", "worker_start_ray")
    return {
        "cluster_name": "test",
        "max_workers": 8,
        "upscaling_speed": 100.0,
        "idle_timeout_minutes": 0.1,
        "provider": {
            "type": "fake_multinode",
            "gcs_address": gcs_address,
            "head_node_id": FAKE_HEAD_NODE_ID,
            "use_node_id_as_ip": True,  # all have this machine's
            "disable_node_updaters": True,
            "disable_launch_config_check": True,
        },
        "auth": {},
        "docker": {},
        "available_node_types": node_types
        | {"ray.head.default": {"resources": head, "node_config": {}, "max_workers": 0}},
        "head_node_type": "ray.head.default",
        "head_node": {},
        "worker_nodes": {},
        "file_mounts": {},
        "cluster_synced_files": [],
        "file_mounts_sync_continuously": False,
        "rsync_exclude": [],
        "rsync_filter": [],
        **{f"{name}_commands": [] for name in launcher},
    }


def _wait_for_jobs(head: RayHead) -> None:
    """Until the head takes jobs; a token is not needed to see that it wants one."""
    end = time.monotonic() + _START_S
    while time.monotonic() < end:
        try:
            if requests.get(f"{head.address}/api/jobs/", timeout=5).status_code in (200, 401):
                return
        except requests.RequestException:
            pass
        if head.process.poll() is not None:
            break
        time.sleep(0.3)
    raise RuntimeError((head.folder / "start.log").read_text())


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [int(each.getsockname()[1]) for each in sockets]
    for each in sockets:
        each.close()
    return ports
