"""The host names under which the server answers.

A page of another site can resolve its own name to this machine (DNS rebinding). The browser then lets it read all that
the server shows without a key. Such requests carry the foreign name in ``Host``, and are rejected.
"""

from __future__ import annotations

import ipaddress
import logging
import re
import socket
from typing import Final
from urllib.parse import urlsplit

from progressbar_tracker._errors import ConfigError

from .problems import ProblemError

logger = logging.getLogger("progressbar_tracker.server")

MAX_KNOWN_HOSTS: Final = 1000
"""The most values of ``Host`` whose verdict is cached, and the most that are logged."""

_HOST_PATTERN: Final = re.compile(r"\*|(\*?\.)?[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?(\.[A-Za-z0-9_-]+)*")


class AllowedHosts:
    """Checks the ``Host`` header of requests.

    Args:
        text: Names and addresses, separated by commas. ``*.example.org`` and ``.example.org`` match a name and all its
            subdomains, ``*`` matches every name. If empty and ``listens_on`` is a loopback address, only loopback names
            are allowed. If empty otherwise, every name is allowed, because the names of the machine are not known.
        listens_on: The address or name that the server listens on. The name is allowed if ``text`` is empty.
        public_url: The public base URL, or ``""``; its host is allowed, too.

    Raises:
        ConfigError: An entry is not a name.
    """

    def __init__(self, text: str, *, listens_on: str, public_url: str = "") -> None:
        entries = [part.strip() for part in text.split(",") if part.strip()]
        for part in entries:
            if _parse_address(part) is None and not _HOST_PATTERN.fullmatch(part):
                raise ConfigError(
                    "PROGRESSBAR_ALLOWED_HOSTS must be names such as progress.example.org or *.example.org, without "
                    f"a scheme or a port and with commas between them, not {part!r}"
                )
        is_name = _parse_address(listens_on) is None
        self._allows_any = "*" in entries or (
            not entries and not all(map(_is_loopback, _resolve_addresses(listens_on)))
        )
        names = [part.lower().rstrip(".") for part in entries if part != "*"]
        if is_name and not entries:
            names.append(listens_on.lower().rstrip("."))
        if public_url and (public := urlsplit(public_url).hostname):
            names.append(public)
        self._suffixes = tuple(name.lstrip("*") for name in names if name.startswith((".", "*.")))
        self._names = {_normalize_address(name.lstrip("*").lstrip(".")) for name in names}
        self._allowed_by_host: dict[bytes, bool] = {}

    def check(self, host: bytes | None) -> None:
        """Check the value of a ``Host`` header.

        Raises:
            ProblemError: ``bad-request`` without a value, ``misdirected`` for another name.
        """
        verdict = self._allowed_by_host.get(host) if host else None
        if verdict is None:
            if not host:
                raise ProblemError("bad-request", "the request has no Host header")
            verdict = self._evaluate(host)
        if not verdict:
            raise ProblemError(
                "misdirected", "the server does not answer under the name in Host: its operator can add it to "
                "--allowed-hosts (PROGRESSBAR_ALLOWED_HOSTS)",
            )  # fmt: skip

    def _evaluate(self, host: bytes) -> bool:
        verdict = self._allows(host.decode("latin-1"))
        if len(self._allowed_by_host) < MAX_KNOWN_HOSTS:
            self._allowed_by_host[host] = verdict
            if not verdict:
                logger.warning(
                    "a request for the host %r was refused: add it to --allowed-hosts if it is a name of this server",
                    host[:100].decode("latin-1"),
                )
        return verdict

    def _allows(self, host: str) -> bool:
        name = re.sub(r":\d{1,5}\Z", "", host).lower()
        if name.startswith("[") is not name.endswith("]"):
            return False
        name = _normalize_address(name.rstrip("."))
        if self._allows_any or name in self._names or name.endswith(self._suffixes):
            return True
        return name == "localhost" or name.endswith(".localhost") or _is_loopback(name)


def _normalize_address(name: str) -> str:
    """Return an address in its canonical form, without brackets; a name stays unchanged."""
    address = _parse_address(name)
    return name if address is None else str(address)


def _parse_address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text[1:-1] if text.startswith("[") and text.endswith("]") else text)
    except ValueError:
        return None


def _resolve_addresses(host: str) -> list[str]:
    """Return the addresses that a server listens on. The machine's own name can be a loopback name, as on Debian."""
    if _parse_address(host) is not None:
        return [host]
    try:
        return [str(address[4][0]) for address in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)]
    except (OSError, UnicodeError):
        return [host]  # the server reports the error when it listens


def _is_loopback(host: str) -> bool:
    address = _parse_address(host)
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return host == "localhost" or (address is not None and address.is_loopback)


def find_own_address() -> str | None:
    """Return the address of this machine in its network, or ``None`` without a network. Nothing is sent."""
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            # An address of no machine (RFC 5737): the system chooses the interface for it.
            probe.connect(("192.0.2.1", 9))
            address = str(probe.getsockname()[0])
    except OSError:
        return None
    return None if _is_loopback(address) else address
