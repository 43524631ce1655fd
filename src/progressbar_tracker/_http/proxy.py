"""Selects the proxy of a request: a pure function of a URL and the environment.

httpx reads the same variables. But it raises for an entry of ``NO_PROXY`` that it cannot parse, and for a SOCKS proxy
that it does not need. It also sends loopback traffic to a proxy. ``urllib.request.proxy_bypass_environment`` supports
no networks, ``requests`` no networks of IPv6. This module gives the variables the meaning that curl gives them:

* ``http_proxy``, ``https_proxy`` and ``all_proxy`` are read in lower and upper case; lower case has priority. Under CGI
  (``REQUEST_METHOD`` is set) only lower case ``http_proxy`` is read: there ``HTTP_PROXY`` is the ``Proxy`` header of a
  client (CVE-2016-5385).
* ``no_proxy`` lists names (subdomains included), addresses and networks of both families, or ``*`` for all. Entries
  are separated by commas or spaces and may have a port. Invalid entries are ignored.

A loopback address is never reached through a proxy: the proxy would connect to itself, and would receive the key.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias
from urllib.parse import urlsplit

from progressbar_tracker._errors import ConfigError
from progressbar_tracker._models import has_control

if TYPE_CHECKING:
    from collections.abc import Mapping

    Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

PROXY_SCHEMES: Final = ("http", "https", "socks5", "socks5h")
DEFAULT_PORTS: Final = {"http": 80, "https": 443}

_BRACKETED_ENTRY: Final = re.compile(r"\[([^\]]*)\](/\d+)?(?::(\d+))?", re.ASCII)
_LEGACY_IPV4: Final = re.compile(r"[0-9a-fx.]+", re.ASCII | re.IGNORECASE)  # such as 127.1 or 0x7f000001


class Proxy(NamedTuple):
    """A proxy and the variable that sets it. ``repr`` hides the URL, which may have a password."""

    url: str
    variable: str

    def __repr__(self) -> str:
        return f"Proxy(url=<hidden>, variable={self.variable!r})"


def find_proxy(url: str, environ: Mapping[str, str]) -> Proxy | None:
    """Return the proxy for requests to ``url``, or ``None`` for a direct connection.

    Raises:
        ConfigError: The value of the variable is not the URL of a proxy. The message does not show it.

    >>> find_proxy("http://server:8989/", {"http_proxy": "proxy:3128"}).url
    'http://proxy:3128'
    >>> find_proxy("http://127.0.0.1:8989/", {"http_proxy": "proxy:3128"})
    """
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or DEFAULT_PORTS.get(parts.scheme)
    variables = _read_variables(environ)
    setting = variables.get(parts.scheme) or variables.get("all")
    if setting is None or is_local(host) or _is_bypassed(host, port, variables.get("no", ("", ""))[0]):
        return None
    value, variable = setting
    return Proxy(_check_proxy_url(value, variable), variable)


def is_local(host: str) -> bool:
    """Return whether a host is this machine, judged by its name or address only.

    >>> [is_local(host) for host in ("localhost", "a.localhost.", "127.1", "::ffff:127.0.0.1", "localhost.de")]
    [True, True, True, True, False]
    """
    name = _normalize_name(host)
    address = _parse_address(name)
    if address is not None:
        return address.is_loopback or address.is_unspecified
    return name == "localhost" or name.endswith(".localhost")


def _read_variables(environ: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """Map each scheme, and ``no``, to the value and name of its variable. Lower case has priority."""
    variables: dict[str, tuple[str, str]] = {}
    cgi = "REQUEST_METHOD" in environ
    for name, value in sorted(environ.items()):  # upper case sorts first and is replaced
        scheme = name.lower().removesuffix("_proxy")
        if scheme == name.lower() or (cgi and scheme == "http" and name != "http_proxy"):
            continue
        if name.islower() or scheme not in variables:
            variables[scheme] = value.strip(), name
    # An empty variable in lower case turns off the one in upper case.
    return {scheme: (value, name) for scheme, (value, name) in variables.items() if value}


def _check_proxy_url(value: str, variable: str) -> str:
    url = value if "://" in value else f"http://{value}"
    try:
        parts = urlsplit(url)
        is_valid = bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        is_valid = False
    if not is_valid or has_control(url) or any(c.isspace() for c in url):
        raise ConfigError(f"{variable} is not the URL of a proxy, such as http://proxy:3128")
    if parts.scheme not in PROXY_SCHEMES:
        raise ConfigError(
            f"{variable} names a proxy of a kind that is not supported: use one of {', '.join(PROXY_SCHEMES)}"
        )
    return url


def _is_bypassed(host: str, port: int | None, no_proxy: str) -> bool:
    name = _normalize_name(host)
    address = _parse_address(name)
    for entry in re.split(r"[\s,]+", no_proxy):
        if entry == "*":
            return True
        pattern, entry_port = _split_port(entry)
        if pattern and (entry_port is None or entry_port == port) and _matches(pattern, name, address):
            return True
    return False


def _split_port(entry: str) -> tuple[str, int | None]:
    """Return an entry's host and port; an empty host if the entry is invalid."""
    if entry.startswith("["):
        match = _BRACKETED_ENTRY.fullmatch(entry)
        host, digits = ("", None) if match is None else ((match[1] + (match[2] or "")), match[3])
    elif entry.count(":") == 1:
        host, _, digits = entry.partition(":")
    else:
        host, digits = entry, None
    if digits is None:
        return host, None
    return (host, int(digits)) if digits.isascii() and digits.isdigit() and len(digits) <= 5 else ("", None)


def _matches(pattern: str, name: str, address: Address | None) -> bool:
    if "/" in pattern:
        try:
            network = ipaddress.ip_network(pattern, strict=False)
        except ValueError:
            return False
        return address is not None and any(form in network for form in _equivalent_addresses(address))
    suffix = _normalize_name(pattern.removeprefix("*").removeprefix("."))
    if address is not None:
        return address == _parse_address(suffix)
    return bool(suffix) and (name == suffix or name.endswith(f".{suffix}"))


def _equivalent_addresses(address: Address) -> tuple[Address, ...]:
    if isinstance(address, ipaddress.IPv6Address):
        return (address,)
    return address, ipaddress.IPv6Address(b"\x00" * 10 + b"\xff\xff" + address.packed)


def _normalize_name(host: str) -> str:
    """Return a host in lower case and in IDNA, without brackets, zone and final dot."""
    name = host.strip("[]").partition("%")[0].rstrip(".").lower()
    if name.isascii():
        return name
    try:
        return name.encode("idna").decode("ascii")
    except UnicodeError:
        return name


def _parse_address(name: str) -> Address | None:
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        if not _LEGACY_IPV4.fullmatch(name):
            return None
        try:
            return ipaddress.IPv4Address(socket.inet_aton(name))
        except (OSError, ValueError):
            return None
    return getattr(address, "ipv4_mapped", None) or address
