"""Network backend of the synchronous client: httpcore's, with one deadline for a whole exchange.

The timeouts of httpx apply to a single socket operation and restart with every byte. A slow head or endless interim
responses could block a thread without limit. Here the timeout that reaches the socket is a ``Deadline``, and each
operation gets the seconds that are left. The asynchronous client cancels its exchanges, so it needs no deadline here.

The time of ``getaddrinfo`` is not bounded, because no call can interrupt it. The system's resolver has its own limit,
for example in ``resolv.conf`` (``options timeout:1 attempts:1``).
"""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING, Any, Final, Self

import httpcore

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterable

WRITE_CHUNK_BYTES: Final = 1 << 14  # written between two checks of the deadline


class Deadline(float):
    """A timeout in seconds that also has the monotonic instant at which it expires.

    As a float it is the seconds that were left at its creation.
    """

    at: float

    def __new__(cls, at: float) -> Self:
        """Return the deadline at a monotonic instant."""
        deadline = super().__new__(cls, max(at - time.monotonic(), 0.001))
        deadline.at = at
        return deadline


def _remaining_seconds(timeout: float | None, error_type: type[httpcore.TimeoutException]) -> float | None:
    if not isinstance(timeout, Deadline):
        return timeout
    left = timeout.at - time.monotonic()
    if left <= 0:
        raise error_type("timed out")
    return left


class DeadlineBackend(httpcore.NetworkBackend):
    """Opens connections whose operations end at the deadline of their exchange."""

    def __init__(self) -> None:
        self._backend = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        """Connect to one of a host's addresses. Each attempt gets an equal share of the time that is left."""
        try:
            infos = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError as error:
            raise httpcore.ConnectError(str(error)) from error
        addresses = list(dict.fromkeys(str(info[4][0]) for info in infos))
        failure: Exception = httpcore.ConnectError(f"{host} has no address")
        for tried, address in enumerate(addresses):
            left = _remaining_seconds(timeout, httpcore.ConnectTimeout)
            share = None if left is None else left / (len(addresses) - tried)
            try:
                stream = self._backend.connect_tcp(address, port, share, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
            else:
                return _DeadlineStream(stream)
        raise failure


class _DeadlineStream(httpcore.NetworkStream):
    def __init__(self, stream: httpcore.NetworkStream) -> None:
        self._stream = stream

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, _remaining_seconds(timeout, httpcore.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        for start in range(0, len(buffer), WRITE_CHUNK_BYTES):
            self._stream.write(
                buffer[start : start + WRITE_CHUNK_BYTES], _remaining_seconds(timeout, httpcore.WriteTimeout)
            )

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        left = _remaining_seconds(timeout, httpcore.ConnectTimeout)
        return _DeadlineStream(self._stream.start_tls(ssl_context, server_hostname, left))

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)
