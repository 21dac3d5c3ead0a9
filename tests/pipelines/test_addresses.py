"""Addresses that a stranger may name, and those he may not."""

import pytest

from pipelines.addresses import reach


@pytest.mark.parametrize(
    "address",
    ["8.8.8.8", "1.1.1.1", "2606:4700::1111", "64:ff9b::808:808", "2002:808:808::1", "::ffff:8.8.8.8"],
)
def test_hosts_of_the_internet_are_public(address: str) -> None:
    assert reach(address) == "public"


@pytest.mark.parametrize(
    "address",
    [
        "10.0.0.1",
        "172.31.255.255",
        "192.168.1.1",
        "100.64.0.1",
        "127.0.0.1",
        "127.255.255.254",
        "::1",
        "fd12:3456::1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "64:ff9b::7f00:1",
        "64:ff9b::10.1.2.3",
        "2002:7f00:1::",
        "2002:c0a8:1::1",
    ],
)
def test_private_networks_and_this_machine_are_private_however_they_are_written(address: str) -> None:
    assert reach(address) == "private"


@pytest.mark.parametrize(
    "address",
    [
        "169.254.169.254",
        "::ffff:169.254.169.254",
        "64:ff9b::a9fe:a9fe",
        "2002:a9fe:a9fe::1",
        "fe80::1",
        "fe80::1%eth0",
        "fec0::1",
        "100.100.100.200",
        "168.63.129.16",
        "fd00:ec2::254",
        "fd20:ce::254",
        "0.0.0.0",
        "::",
        "::127.0.0.1",
        "::ffff:0:127.0.0.1",
        "64:ff9b:1::808:808",
        "192.0.0.192",
        "192.88.99.1",
        "224.0.0.1",
        "255.255.255.255",
        "ff02::1",
        "2001:0:7f00:1::",
        "2001:db8::1",
        "3fff::1",
        "4000::1",
    ],
)
def test_all_others_are_special(address: str) -> None:
    assert reach(address) == "special"
