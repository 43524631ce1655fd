"""Classify the addresses that the server may connect to.

Only unicast addresses of the open internet are public. Python's ``is_global`` is not used: it differs between versions,
and lacks cloud metadata addresses and some IPv6 forms of IPv4 addresses. Source: the IANA registries of
special-purpose addresses.
"""

from __future__ import annotations

import enum
import ipaddress
from typing import Final, TypeAlias

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address


class AddressScope(enum.IntEnum):
    """Reach of an address. If two apply, the lower one counts."""

    NEVER = 0
    """Link-local, multicast, cloud metadata, unspecified or invalid: no connection is allowed."""
    PRIVATE = 1
    """This machine, or a private network."""
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
"""Amazon, Google, Oracle, Scaleway: several addresses of each serve credentials."""

_PRIVATE_NETWORKS: Final = _parse_networks(
    "10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 172.16.0.0/12 192.168.0.0/16 198.18.0.0/15 ::1/128 fc00::/7"
)

_SPECIAL_NETWORKS: Final = _parse_networks(
    "0.0.0.0/8 169.254.0.0/16 192.0.0.0/24 192.0.2.0/24 192.88.99.0/24 198.51.100.0/24 203.0.113.0/24 224.0.0.0/3 "
    "2001::/23 2001:db8::/32 3fff::/20"
)

_UNICAST_NETWORK: Final = ipaddress.IPv6Network("2000::/3")
"""The IPv6 space assigned to the open internet. All other IPv6 addresses are refused."""

_NAT64_NETWORK: Final = ipaddress.IPv6Network("64:ff9b::/96")

_ISATAP_PREFIXES: Final = frozenset({0x0000_5EFE, 0x0100_5EFE, 0x0200_5EFE, 0x0300_5EFE})
"""Upper halves of an interface identifier whose lower half is an IPv4 address."""


def classify_address(text: str) -> AddressScope:
    """Return the scope of an address; invalid text is ``NEVER``.

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
        # The system or a gateway forwards these to the embedded IPv4 address.
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
        scope = AddressScope.PRIVATE
    elif isinstance(address, ipaddress.IPv4Address) or address in _UNICAST_NETWORK:
        scope = AddressScope.PUBLIC
    else:
        return AddressScope.NEVER
    if isinstance(address, ipaddress.IPv6Address) and (int(address) >> 32) & 0xFFFF_FFFF in _ISATAP_PREFIXES:
        return min(scope, _classify(_last_32_bits(address)))
    return scope


def _last_32_bits(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address:
    return ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
