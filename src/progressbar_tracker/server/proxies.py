"""Which client a request comes from, where trusted proxies pass requests on. Pure.

A client can write any ``X-Forwarded-For``, and each proxy appends the address that it was called from. So the list is
read from the right, as long as the addresses are those of trusted proxies. ``X-Forwarded-Host`` is never read.
"""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from progressbar_tracker._errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable

_Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
_Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

MAX_HOPS: Final = 32
"""The most proxies in a row that are believed."""

_LOOPBACK_NETWORKS: Final = ("127.0.0.0/8", "::1/128")


class Origin(NamedTuple):
    """Where a request comes from.

    Attributes:
        address: The client's address.
        scheme: What a trusted proxy says that the client used, ``"http"`` or ``"https"``; ``None`` if none says so.
    """

    address: str
    scheme: str | None = None


class TrustedProxies:
    """The proxies whose word is taken.

    Args:
        text: Addresses and networks with commas between them; ``loopback`` for this machine's.

    Raises:
        ConfigError: One of them is no address.
    """

    def __init__(self, text: str) -> None:
        networks: list[_Network] = []
        for part in filter(None, (part.strip() for part in text.split(","))):
            for each in _LOOPBACK_NETWORKS if part.lower() == "loopback" else (part,):
                try:
                    networks.append(_unmap_network(ipaddress.ip_network(each, strict=False)))
                except ValueError:
                    raise ConfigError(
                        "PROGRESSBAR_TRUSTED_PROXIES must be addresses such as 127.0.0.1, networks such as "
                        f"10.0.0.0/8, or loopback, with commas between them, not {part!r}"
                    ) from None
        self._networks = tuple(networks)

    def __bool__(self) -> bool:
        return bool(self._networks)

    def find_origin(self, peer: str, headers: Iterable[tuple[bytes, bytes]]) -> Origin:
        """Return where a request comes from.

        Args:
            peer: The address of the other end of the connection.
            headers: The headers of the request, with names in lower case.
        """
        found = _parse_address(peer)
        if found is None or not self._trusts(found):
            return Origin(peer)
        hops: list[str] = []
        schemes: list[str] = []
        for name, value in headers:
            if name == b"x-forwarded-for":
                hops += value.decode("latin-1").split(",")
            elif name == b"x-forwarded-proto":
                schemes += value.decode("latin-1").lower().split(",")
        address, used = found, 0
        for hop in reversed(hops[-MAX_HOPS:]):
            before = _parse_address(hop)
            if before is None:
                break  # what is further left was not written by a proxy that we know
            address, used = before, used + 1
            if not self._trusts(before):
                break
        # A scheme for each hop tells what that hop's client used; else the nearest proxy's word counts.
        at = max(used, 1) if len(schemes) == len(hops) else 1
        scheme = schemes[-at].strip() if schemes else ""
        return Origin(str(address), scheme if scheme in {"http", "https"} else None)

    def _trusts(self, address: _Address) -> bool:
        return any(address in network for network in self._networks if network.version == address.version)


def client_network(address: str) -> str:
    """Return what a client without a key is counted by: its address, or the /64 of its address of version 6.

    >>> [client_network(text) for text in ("192.0.2.7", "2001:db8:1:2:aaaa::7", "::ffff:192.0.2.7", "x")]
    ['192.0.2.7', '2001:db8:1:2::', '192.0.2.7', 'x']
    """
    try:
        found = ipaddress.IPv6Address(address.partition("%")[0])
    except ValueError:
        return address
    return str(found.ipv4_mapped or ipaddress.IPv6Address(int(found) >> 64 << 64))


def _parse_address(text: str) -> _Address | None:
    """Return the address in an entry of the list, which may have brackets, quotes, a port or a zone."""
    text = text.strip().strip('"').strip()
    if text.startswith("["):
        inside, closing, port = text[1:].partition("]")
        if not closing or (port and not _is_port(port)):
            return None
        text = inside
    elif text.count(":") == 1:
        text, _, port = text.partition(":")
        if not _is_port(f":{port}"):
            return None
    try:
        found = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return found.ipv4_mapped or found if isinstance(found, ipaddress.IPv6Address) else found


def _is_port(text: str) -> bool:
    return text.startswith(":") and text[1:].isascii() and text[1:].isdigit() and len(text) <= 6


def _unmap_network(network: _Network) -> _Network:
    """Return the network of version 4 for one of mapped addresses."""
    mapped = network.network_address.ipv4_mapped if isinstance(network, ipaddress.IPv6Network) else None
    if mapped is None or network.prefixlen < 96:
        return network
    return ipaddress.IPv4Network((mapped, network.prefixlen - 96))
