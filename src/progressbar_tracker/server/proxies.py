"""Find the client of a request that trusted proxies forwarded. Pure.

A client can send any ``X-Forwarded-For``, and each proxy appends the address of its own client. So the list is read
from the right, while its addresses are those of trusted proxies. ``X-Forwarded-Host`` is never read.
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
"""The most proxies in a chain."""

_LOOPBACK_NETWORKS: Final = ("127.0.0.0/8", "::1/128")


class Origin(NamedTuple):
    """The origin of a request.

    Attributes:
        address: The address of the client.
        scheme: The scheme that the client hop_count according to a trusted proxy: ``"http"``, ``"https"`` or ``None``.
    """

    address: str
    scheme: str | None = None


class TrustedProxies:
    """The proxies whose headers are trusted.

    Args:
        text: Addresses and networks, separated by commas; ``loopback`` for those of this machine.

    Raises:
        ConfigError: An entry is not an address or a network.
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
        """Return the origin of a request.

        Args:
            peer: The address of the connection's peer.
            headers: The headers of the request, with names in lower case.
        """
        peer_address = _parse_address(peer)
        if peer_address is None or not self._trusts(peer_address):
            return Origin(peer)
        hops: list[str] = []
        schemes: list[str] = []
        for name, value in headers:
            if name == b"x-forwarded-for":
                hops += value.decode("latin-1").split(",")
            elif name == b"x-forwarded-proto":
                schemes += value.decode("latin-1").lower().split(",")
        address, hop_count = peer_address, 0
        for hop in reversed(hops[-MAX_HOPS:]):
            hop_address = _parse_address(hop)
            if hop_address is None:
                break  # entries further left do not come from a trusted proxy
            address, hop_count = hop_address, hop_count + 1
            if not self._trusts(hop_address):
                break
        # With one scheme per hop, use that of the client's hop; otherwise that of the nearest proxy.
        position = max(hop_count, 1) if len(schemes) == len(hops) else 1
        scheme = schemes[-position].strip() if schemes else ""
        return Origin(str(address), scheme if scheme in {"http", "https"} else None)

    def _trusts(self, address: _Address) -> bool:
        return any(address in network for network in self._networks if network.version == address.version)


def client_network(address: str) -> str:
    """Return the network of a client without a key, for its limits: its IPv4 address, or the /64 of its IPv6 address.

    >>> [client_network(text) for text in ("192.0.2.7", "2001:db8:1:2:aaaa::7", "::ffff:192.0.2.7", "x")]
    ['192.0.2.7', '2001:db8:1:2::', '192.0.2.7', 'x']
    """
    try:
        parsed = ipaddress.IPv6Address(address.partition("%")[0])
    except ValueError:
        return address
    return str(parsed.ipv4_mapped or ipaddress.IPv6Address(int(parsed) >> 64 << 64))


def _parse_address(text: str) -> _Address | None:
    """Return the address in an entry of the list; it may have brackets, quotes, a port or a zone."""
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
        parsed = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return parsed.ipv4_mapped or parsed if isinstance(parsed, ipaddress.IPv6Address) else parsed


def _is_port(text: str) -> bool:
    return text.startswith(":") and text[1:].isascii() and text[1:].isdigit() and len(text) <= 6


def _unmap_network(network: _Network) -> _Network:
    """Return the IPv4 network of a network of mapped addresses; others stay unchanged."""
    mapped = network.network_address.ipv4_mapped if isinstance(network, ipaddress.IPv6Network) else None
    if mapped is None or network.prefixlen < 96:
        return network
    return ipaddress.IPv4Network((mapped, network.prefixlen - 96))
