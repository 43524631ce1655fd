"""The network under the synchronous client: that of httpcore, with one deadline for a whole exchange.

httpx has a timeout for each single operation on a socket, which begins again with every byte that arrives: a head that
trickles in, or interim answers without end, would hold a thread for as long as the server likes. Here the timeout that
travels down to the socket is a ``Deadline``, and each operation gets what is left of it. The asynchronous client has
no need of this, for its exchanges are cancelled as a whole.

The time that ``getaddrinfo`` takes is not bounded: nothing can interrupt it. What the system's resolver waits at most
is set in ``resolv.conf`` (``options timeout:1 attempts:1``), or by the operating system.
"""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING, Any, Final, Self

import httpcore

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterable

WRITE_CHUNK_BYTES: Final = 1 << 14  # that are written between two looks at the clock


class Deadline(float):
    """A timeout in seconds that knows the monotonic instant at which it is over.

    What knows nothing of this takes it for the seconds that were left when it was made.
    """

    at: float

    def __new__(cls, at: float) -> Self:
        """Return the deadline at a monotonic instant."""
        made = super().__new__(cls, max(at - time.monotonic(), 0.001))
        made.at = at
        return made


def _remaining_seconds(timeout: float | None, error_type: type[httpcore.TimeoutException]) -> float | None:
    if not isinstance(timeout, Deadline):
        return timeout
    left = timeout.at - time.monotonic()
    if left <= 0:
        raise error_type("timed out")
    return left


class DeadlineBackend(httpcore.NetworkBackend):
    """Makes connections whose operations end at the deadline of their exchange."""

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
        """Connect to one of a host's addresses. Each has an equal share of the time that is left."""
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError as error:
            raise httpcore.ConnectError(str(error)) from error
        addresses = list(dict.fromkeys(str(info[4][0]) for info in found))
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
