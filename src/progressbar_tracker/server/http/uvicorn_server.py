"""Run uvicorn with our own shutdown, and open the socket that it listens on."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import sys
import threading
import time
from typing import TYPE_CHECKING, Final

import uvicorn

from progressbar_tracker._errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

SHUTDOWN_NOTICE_SECONDS: Final = 0.25
"""Seconds between a signal and the end of listening. Responses in this time ask the client to reconnect."""

SHUTDOWN_TIMEOUT: Final = 2
"""Seconds for requests in flight at shutdown. With messages in flight and the rest it takes five at most."""

TCP_USER_TIMEOUT: Final = 30_000
"""Milliseconds in which the peer of a connection must acknowledge sent data."""

UNSENT_BYTES: Final = 128 * 1024
"""The most bytes of a connection that the system buffers before it sends them."""

LISTEN_BACKLOG: Final = 2048
"""The most connections that wait to be accepted."""


class UvicornServer(uvicorn.Server):
    """uvicorn without its signal handlers: they end the process before queued writes are flushed.

    Args:
        config: uvicorn's configuration.
        at_shutdown: Is called before uvicorn waits for connections to end.
        drain_seconds: Seconds for which a server continues to serve after SIGTERM.
        at_drain: Is called at the start of this time.
        monotonic: Monotonic seconds.

    Attributes:
        ready: Is set once the server accepts connections, or has failed.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        *,
        at_shutdown: Callable[[], None],
        drain_seconds: float = 0.0,
        at_drain: Callable[[], None] = lambda: None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(config)
        self._drain_seconds = drain_seconds
        self._at_drain = at_drain
        self._monotonic = monotonic
        self._drained_at: float | None = None
        self._is_draining = False
        self.ready = threading.Event()
        self._at_shutdown = at_shutdown
        self._is_signalled = False
        logging.getLogger("uvicorn.error").addFilter(_drop_stream_errors)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then set :attr:`ready`."""
        await super().startup(sockets)
        self.ready.set()

    async def on_tick(self, counter: int) -> bool:
        """Return whether the server has to stop; uvicorn asks ten times a second."""
        if self._drained_at is not None:
            if not self._is_draining:
                self._is_draining = True
                self._at_drain()
            if self._monotonic() >= self._drained_at:
                self.should_exit = True
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End streams, then shut down; after a signal, stop listening a moment later."""
        self._at_shutdown()  # uvicorn would wait for streams that do not end
        if self._is_signalled and not self.force_exit:
            # A load balancer notices the shutdown, and requests that have just been sent are answered.
            await asyncio.sleep(SHUTDOWN_NOTICE_SECONDS)
        await super().shutdown(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Install no handler: :meth:`handle_signals` does."""
        yield

    @contextlib.contextmanager
    def handle_signals(self) -> Iterator[None]:
        """Stop on SIGINT and SIGTERM; only the main thread can handle signals."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        former = {number: signal.signal(number, self._stop) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in former.items():
                signal.signal(number, handler)

    def _stop(self, number: int, _frame: FrameType | None) -> None:
        self._is_signalled = True
        if number == signal.SIGTERM and self._drain_seconds and self._drained_at is None and not self.should_exit:
            self._drained_at = self._monotonic() + self._drain_seconds
            return
        # One more signal skips the rest of the drain, and the next one the wait for requests in flight.
        self.force_exit = self.should_exit
        self.should_exit = True


def _drop_stream_errors(record: logging.LogRecord) -> bool:
    """Drop uvicorn's error about a stream that was aborted because its client did not read."""
    return not record.getMessage().startswith("ASGI callable returned without completing response")


def open_listening_socket(host: str, port: int) -> socket.socket:
    """Return a socket that listens on an address.

    Raises:
        ConfigError: The address or the port cannot be used.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listener = socket.socket(family, socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise ConfigError(f"cannot listen on {host}: it is not an address of this machine ({error})") from error
    try:
        if sys.platform != "win32":
            # Otherwise a restart would have to wait for the connections of the former process.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            # Connections inherit it: one whose peer reads nothing is closed, whatever its buffers hold.
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, TCP_USER_TIMEOUT)
        if hasattr(socket, "TCP_NOTSENT_LOWAT"):
            # Inherited too: the system buffers little unread data, so a revoked key can read little more.
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES)
        listener.bind(address)
        listener.listen(LISTEN_BACKLOG)
    except OSError as error:
        listener.close()
        raise ConfigError(f"cannot listen on {host} port {port}: {error.strerror}") from error
    return listener
