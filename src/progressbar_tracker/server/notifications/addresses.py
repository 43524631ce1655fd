"""Which addresses the server may connect to on its own account.

An address is public only if it is unicast of the open internet. Both tables are our own: Python's ``is_global`` differs
between its versions, and knows neither the addresses at which clouds keep a machine's credentials nor all forms in
which an address of version 6 stands for one of version 4. Source: the IANA registries of special-purpose addresses.
"""

from __future__ import annotations

import enum
import ipaddress
from typing import Final, TypeAlias

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address


class AddressScope(enum.IntEnum):
    """Where an address leads; of two, the lesser counts."""

    NEVER = 0
    """To nothing that a connection may be made to: a link, a multicast group, a cloud's metadata, nowhere."""
    PRIVATE = 1
    """To this machine, or to one that only a network of its own knows."""
    PUBLIC = 2


def _parse_networks(text: str) -> tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]:
    return tuple(map(ipaddress.ip_network, text.split()))


_METADATA_ADDRESSES: Final = frozenset(
    ipaddress.ip_address(text)
    for text in (
        "169.254.169.254",  # Amazon and most others
        "100.100.100.200",  # Alibaba
        "192.0.0.192",  # Oracle
        "168.63.129.16",  # Azure
    )
)

_METADATA_NETWORKS: Final = _parse_networks("fd00:ec2::/32 fd20:ce::/32 fd00:c1::/32 fd00:42::/32")
"""Amazon, Google, Oracle, Scaleway: more than one address of each hands out credentials."""

_PRIVATE_NETWORKS: Final = _parse_networks(
    "10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 172.16.0.0/12 192.168.0.0/16 198.18.0.0/15 ::1/128 fc00::/7"
)

_SPECIAL_NETWORKS: Final = _parse_networks(
    "0.0.0.0/8 169.254.0.0/16 192.0.0.0/24 192.0.2.0/24 192.88.99.0/24 198.51.100.0/24 203.0.113.0/24 224.0.0.0/3 "
    "2001::/23 2001:db8::/32 3fff::/20"
)

_UNICAST_NETWORK: Final = ipaddress.IPv6Network("2000::/3")
"""All of version 6 that is assigned for the open internet; the rest is refused without a table."""

_NAT64_NETWORK: Final = ipaddress.IPv6Network("64:ff9b::/96")

_ISATAP_PREFIXES: Final = frozenset({0x0000_5EFE, 0x0100_5EFE, 0x0200_5EFE, 0x0300_5EFE})
"""The upper half of an interface identifier of which the lower half is an address of version 4."""


def classify_address(text: str) -> AddressScope:
    """Return where an address leads; what is no address leads nowhere.

    >>> [classify_address(text).name for text in ("1.1.1.1", "::ffff:10.0.0.1", "169.254.169.254")]
    ['PUBLIC', 'PRIVATE', 'NEVER']
    """
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return AddressScope.NEVER
    return _classify(address)


def _classify(address: Address) -> AddressScope:
    if isinstance(address, ipaddress.IPv6Address):
        # Carried to the address of version 4 by the system or by a gateway.
        inner = address.ipv4_mapped or address.sixtofour
        if inner is None and address in _NAT64_NETWORK:
            inner = _last_32_bits(address)
        if inner is not None:
            return _classify(inner)
    if address in _METADATA_ADDRESSES or any(
        address in network for network in (*_SPECIAL_NETWORKS, *_METADATA_NETWORKS)
    ):
        return AddressScope.NEVER
    if any(address in network for network in _PRIVATE_NETWORKS):
        found = AddressScope.PRIVATE
    elif isinstance(address, ipaddress.IPv4Address) or address in _UNICAST_NETWORK:
        found = AddressScope.PUBLIC
    else:
        return AddressScope.NEVER
    if isinstance(address, ipaddress.IPv6Address) and (int(address) >> 32) & 0xFFFF_FFFF in _ISATAP_PREFIXES:
        return min(found, _classify(_last_32_bits(address)))
    return found


def _last_32_bits(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address:
    return ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
