"""Under which names the server answers.

A page of another site can have its own name lead to this machine (DNS rebinding), and then the browser lets it read
what the server shows to everybody. Its requests carry that name in ``Host``, and are refused.
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
"""The most values of ``Host`` whose verdict is remembered, and the most that are logged."""

_HOST_PATTERN: Final = re.compile(r"\*|(\*?\.)?[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?(\.[A-Za-z0-9_-]+)*")


class AllowedHosts:
    """The names under which the server answers.

    Args:
        text: Names and addresses with commas between them: ``*.example.org`` and ``.example.org`` stand for a name and
            all below it, ``*`` for every name. Empty: loopback names only where ``listens_on`` is a loopback address,
            and else every name, because the names of the machine are not known.
        listens_on: The address that the server listens on, or a name for it, which is allowed then, too.
        public_url: Its host is allowed, too; may be empty.

    Raises:
        ConfigError: One of them is no name.
    """

    def __init__(self, text: str, *, listens_on: str, public_url: str = "") -> None:
        given = [part.strip() for part in text.split(",") if part.strip()]
        for part in given:
            if _parse_address(part) is None and not _HOST_PATTERN.fullmatch(part):
                raise ConfigError(
                    "PROGRESSBAR_ALLOWED_HOSTS must be names such as progress.example.org or *.example.org, without "
                    f"a scheme or a port and with commas between them, not {part!r}"
                )
        is_name = _parse_address(listens_on) is None
        self._allows_any = "*" in given or (not given and not all(map(_is_loopback, _resolve_addresses(listens_on))))
        names = [part.lower().rstrip(".") for part in given if part != "*"]
        if is_name and not given:
            names.append(listens_on.lower().rstrip("."))
        if public_url and (public := urlsplit(public_url).hostname):
            names.append(public)
        self._suffixes = tuple(name.lstrip("*") for name in names if name.startswith((".", "*.")))
        self._names = {_normalize_address(name.lstrip("*").lstrip(".")) for name in names}
        self._allowed_by_host: dict[bytes, bool] = {}

    def check(self, host: bytes | None) -> None:
        """Return if the server answers under the name in a ``Host`` header.

        Raises:
            ProblemError: ``bad-request`` if there is none, ``misdirected`` for another name.
        """
        verdict = self._allowed_by_host.get(host) if host else None
        if verdict is None:
            if not host:
                raise ProblemError("bad-request", "the request names no Host")
            verdict = self._evaluate(host)
        if not verdict:
            raise ProblemError(
                "misdirected", "the server does not answer under the name in Host: its operator may add it to "
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
    """Return an address in its usual form, without brackets; a name as it is."""
    found = _parse_address(name)
    return name if found is None else str(found)


def _parse_address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text[1:-1] if text.startswith("[") and text.endswith("]") else text)
    except ValueError:
        return None


def _resolve_addresses(host: str) -> list[str]:
    """Return the addresses that a server listens on; a name of this machine may lead to loopback, as Debian's does."""
    if _parse_address(host) is not None:
        return [host]
    try:
        return [str(found[4][0]) for found in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)]
    except (OSError, UnicodeError):
        return [host]  # the server says why when it tries to listen


def _is_loopback(host: str) -> bool:
    found = _parse_address(host)
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is not None:
        found = found.ipv4_mapped
    return host == "localhost" or (found is not None and found.is_loopback)
