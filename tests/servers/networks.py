"""Machines of their own, as far as the network goes: namespaces on one bridge. Their disk is this one's."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

BRIDGE, OWN_ADDRESS = "mray0", "10.213.7.254"


@dataclass(frozen=True, kw_only=True)
class Machine:
    """A namespace.

    Attributes:
        address: Its address on the bridge; its loopback is nobody else's.
        prefix: Runs a command in it.
    """

    address: str
    prefix: tuple[str, ...]


class NoNetworksError(Exception):
    """This process may not make networks."""


@contextmanager
def machines(count: int) -> Iterator[list[Machine]]:
    """So many machines, which reach each other and this process (at OWN_ADDRESS) by their addresses alone.

    Raises:
        NoNetworksError: This process may not.
    """
    names = [f"mray{number}" for number in range(1, count + 1)]
    _remove(names)  # what a run that was killed has left
    try:
        _ip(f"link add {BRIDGE} type bridge")
    except (OSError, subprocess.CalledProcessError) as error:
        raise NoNetworksError(str(error)) from error
    try:
        _ip(f"addr add {OWN_ADDRESS}/24 dev {BRIDGE}")
        _ip(f"link set {BRIDGE} up")
        found = []
        for number, name in enumerate(names, 1):
            machine = Machine(address=f"10.213.7.{number}", prefix=("ip", "netns", "exec", name))
            _ip(f"netns add {name}")
            _ip(f"link add {name} type veth peer name eth0 netns {name}")
            _ip(f"link set {name} master {BRIDGE} up")
            for command in (f"addr add {machine.address}/24 dev eth0", "link set eth0 up", "link set lo up"):
                _ip(f"-netns {name} {command}")
            _ip(f"-netns {name} route add default via {OWN_ADDRESS}")
            found.append(machine)
        yield found
    finally:
        _remove(names)


def _remove(names: list[str]) -> None:
    with suppress(FileNotFoundError):  # there is no `ip`
        for name in names:
            subprocess.run(["ip", "netns", "del", name], capture_output=True)
        subprocess.run(["ip", "link", "del", BRIDGE], capture_output=True)


def _ip(command: str) -> None:
    subprocess.run(["ip", *command.split()], check=True, capture_output=True)
