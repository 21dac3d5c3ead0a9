"""Which network addresses a job may connect to when somebody else chose them.

The tables are those of IANA's special-purpose registries (RFC 6890 and its successors), written out because
what `ipaddress` calls global differs between patch releases of Python.
"""

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Literal

Reach = Literal["public", "private", "special"]

_PRIVATE = [
    ip_network(text)
    for text in (
        "10.0.0.0/8",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "100.64.0.0/10",  # shared address space, which clusters give to their pods
        "127.0.0.0/8",
        "::1/128",
        "fc00::/7",
    )
]
_SPECIAL = [
    ip_network(text)
    for text in (
        # addresses within other ranges that give a machine's credentials to whoever asks from it
        "100.100.100.200/32",  # Alibaba Cloud
        "168.63.129.16/32",  # Azure
        "fd00:ec2::/32",  # Amazon
        "fd20:ce::/32",  # Google
        "0.0.0.0/8",
        "169.254.0.0/16",  # link-local; 169.254.169.254 is most clouds' metadata service
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",
        "2001::/23",  # protocol assignments, with Teredo
        "2001:db8::/32",
        "3fff::/20",
    )
]
_GLOBAL_UNICAST = ip_network("2000::/3")
_NAT64 = ip_network("64:ff9b::/96")
_6TO4 = ip_network("2002::/16")


def reach(address: str) -> Reach:
    """How far a numeric address is from this machine.

    Returns:
        "public" for hosts of the internet; "private" for loopback and private networks; "special" for all
        else: link-local, multicast, reserved and unspecified addresses, and those of cloud metadata. An IPv6
        address that carries an IPv4 one (mapped, NAT64, 6to4) is what that one is.

    Raises:
        ValueError: It is not an address.
    """
    parsed = ip_address(address)
    if isinstance(parsed, IPv6Address) and (carried := _carried(parsed)) is not None:
        parsed = carried
    if any(parsed in network for network in _SPECIAL):
        return "special"
    if any(parsed in network for network in _PRIVATE):
        return "private"
    # of IPv6 only this block is given to hosts; the rest is reserved, link-local or multicast
    return "public" if isinstance(parsed, IPv4Address) or parsed in _GLOBAL_UNICAST else "special"


def _carried(address: IPv6Address) -> IPv4Address | None:
    """The IPv4 address that a gateway would go on to.

    A network's own NAT64 prefix cannot be told from other addresses: its gateway must refuse private ones.
    """
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFF_FFFF)
    return address.sixtofour if address in _6TO4 else None
