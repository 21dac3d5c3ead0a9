"""What is wrong with the nodes of a cluster, whatever job is to run there."""

from __future__ import annotations

import math
import uuid
from collections.abc import Iterator

from pipelines.cluster.check import Check
from pipelines.cluster.node_facts import PACKAGES, SHM, NodeFacts, ask_nodes
from pipelines.models import PROJECT
from pipelines.storage import TEMPORARY, open_storage

MAX_CLOCK_S = 5.0
"""S3 refuses requests that are 15 minutes off; ages of objects tell garbage from work."""
MIN_FREE_BYTES = 5 << 30
_GIB = 1 << 30
_SHOWN_HOSTS = 3


def check_nodes(output: str) -> Iterator[Check]:
    """Versions, clocks, disks, and the permissions on the output, on every node.

    Raises:
        StorageError: The driver itself cannot write to the output.
    """
    storage, marker = open_storage(output), f"{TEMPORARY}doctor-{uuid.uuid4().hex}"
    storage.write(marker, b"the driver was here")
    try:
        nodes, silent = ask_nodes(output, marker)
    finally:
        storage.delete(marker)
    yield from judge(nodes, silent, output)


def judge(nodes: list[NodeFacts], silent: dict[str, str], output: str) -> Iterator[Check]:
    """What is wrong with the nodes, by what they answered, or why they did not."""
    for host, fault in silent.items():
        found = f"{host} does not answer: {fault}; look at it in Ray's dashboard, or replace it"
        yield Check(name="nodes", is_ok=False, found=found)
    if nodes:
        yield from _versions(nodes)
        yield from _clocks(nodes)
        yield from _disks(nodes)
        yield from _storage(output, nodes)


def _versions(nodes: list[NodeFacts]) -> Iterator[Check]:
    pinned = _pinned()
    for package in ("python", *PACKAGES):
        hosts: dict[str, list[str]] = {}
        for node in nodes:
            hosts.setdefault(node.versions[package] or "none", []).append(node.host)
        if len(hosts) > 1 or "none" in hosts:
            found = "; ".join(f"{version} on {_few(where)}" for version, where in hosts.items())
            found = f"{package} is {found}: install constraints.txt on all nodes, or submit with --pip"
            yield Check(name="versions", is_ok=False, found=found)
    first = nodes[0].versions
    shown = ", ".join(f"{name} {version}" for name, version in first.items())
    other = [n for n in PACKAGES if first[n].partition("+")[0] != pinned.get(n, first[n]).partition("+")[0]]
    note = "".join(f"; {name} {pinned[name]} is what the tests ran with" for name in other)
    yield Check(
        name="versions",
        is_ok=True,
        found=f"{len(nodes)} {'nodes' if len(nodes) > 1 else 'node'}: {shown}{note}",
    )


def _clocks(nodes: list[NodeFacts]) -> Iterator[Check]:
    worst = max(nodes, key=lambda node: node.clock_s)
    if worst.clock_s > MAX_CLOCK_S:
        found = f"{worst.host} is {worst.clock_s:.0f} s off the driver's clock: run chrony or ntpd there"
        yield Check(name="clocks", is_ok=False, found=found)
    else:
        yield Check(name="clocks", is_ok=True, found=f"within {MAX_CLOCK_S:g} s of the driver's")


def _disks(nodes: list[NodeFacts]) -> Iterator[Check]:
    for node in nodes:
        for folder, free in node.free_bytes.items():
            if (fault := _lack_of_space(node, folder, free)) is not None:
                yield Check(name="disks", is_ok=False, found=f"{node.host}: {fault}")
    least: dict[str, float] = {}
    for node in nodes:  # caches and temporary folders may be elsewhere on each
        for folder, free in node.free_bytes.items():
            least[folder] = min(least.get(folder, math.inf), free / _GIB)
    found = ", ".join(f"{folder} {free:.1f} GiB" for folder, free in least.items())
    yield Check(name="disks", is_ok=True, found=f"free at least: {found}")


def _lack_of_space(node: NodeFacts, folder: str, free_bytes: int) -> str | None:
    free, store = f"{free_bytes / _GIB:.1f} GiB", f"{node.object_store_bytes / _GIB:.1f} GiB"
    if folder == str(SHM):
        if free_bytes >= node.object_store_bytes // 2:
            return None
        return (
            f"{folder} has {free} for an object store of {store}, the rest would be on disk and slow: start "
            "the container with a larger --shm-size, or Ray with a smaller --object-store-memory"
        )
    if free_bytes >= MIN_FREE_BYTES:
        return None
    return f"{free} are free in {folder}, for weights and what Ray spills: free some, or take a larger disk"


def _storage(output: str, nodes: list[NodeFacts]) -> Iterator[Check]:
    faults: dict[str, list[str]] = {}
    for node in nodes:
        if node.storage_fault:
            faults.setdefault(node.storage_fault, []).append(node.host)
    for fault, hosts in faults.items():
        yield Check(name="storage", is_ok=False, found=f"on {_few(hosts)}: {fault}")
    if not faults:
        found = f"{output}: every node writes, reads, lists, and creates what is not there"
        yield Check(name="storage", is_ok=True, found=found)


def _pinned() -> dict[str, str]:
    """The versions that the tests ran with."""
    lines = (PROJECT / "constraints.txt").read_text().splitlines()
    return dict(line.split("==") for line in lines if "==" in line)


def _few(hosts: list[str]) -> str:
    more = f" and {len(hosts) - _SHOWN_HOSTS} more" if len(hosts) > _SHOWN_HOSTS else ""
    return ", ".join(hosts[:_SHOWN_HOSTS]) + more
