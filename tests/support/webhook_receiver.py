"""A webhook receiver with scripted responses: valid, failing, slow, incomplete or none."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self


class ReceivedRequest(NamedTuple):
    """A request of a webhook."""

    line: str
    headers: dict[str, str]
    body: bytes


def make_response(status: int, body: bytes = b"ok", **headers: str) -> bytes:
    named = "".join(f"{name.replace('_', '-')}: {text}\r\n" for name, text in headers.items())
    return b"HTTP/1.1 %d x\r\ncontent-length: %d\r\n%s\r\n%s" % (status, len(body), named.encode(), body)


class WebhookReceiver:
    """Responds to each request with the next entry of ``script``, else with ``default_response``.

    An entry is a response in bytes, or a function that is called with the connection after the request is read.
    """

    def __init__(self) -> None:
        self.received: list[ReceivedRequest] = []
        self.script: deque[bytes | Callable[[socket.socket], object]] = deque()
        self.default_response: bytes | Callable[[socket.socket], object] = make_response(200)
        self.greeting: bytes | None = None  # sent before the request is read
        self.released = threading.Event()
        self._condition = threading.Condition()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.released.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def wait(self, count: int, seconds: float = 60.0) -> list[ReceivedRequest]:
        """Wait until ``count`` requests have arrived; return all of them."""
        with self._condition:
            assert self._condition.wait_for(lambda: len(self.received) >= count, seconds), self.received
            return list(self.received)

    def respond(self, _: ReceivedRequest) -> bytes | Callable[[socket.socket], object]:
        """Return the response to a request for which there is no script. It holds the lock of the receiver."""
        return self.default_response

    def hang(self, _: socket.socket) -> None:
        """Send no response."""
        self.released.wait(60)

    def trickle(self, connection: socket.socket) -> None:
        """Send an endless head, a byte at a time: no pause is long enough for a read timeout."""
        with contextlib.suppress(OSError):
            connection.sendall(b"HTTP/1.1 200 ok\r\nx: ")
            while not self.released.wait(0.05):
                connection.sendall(b"a")

    def flood(self, connection: socket.socket) -> None:
        """Send an endless body."""
        with contextlib.suppress(OSError):
            connection.sendall(b"HTTP/1.1 200 ok\r\n\r\n")
            end = time.monotonic() + 60
            while time.monotonic() < end and not self.released.is_set():
                connection.sendall(b"a" * 65536)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            connection.settimeout(30)
            if self.greeting is not None:
                connection.sendall(self.greeting)
            data = b""
            while b"\r\n\r\n" not in data:
                chunk = connection.recv(65536)
                if not chunk:
                    return
                data += chunk
            head, _, body = data.partition(b"\r\n\r\n")
            line, *lines = head.decode("latin-1").split("\r\n")
            headers = {name.lower(): text.strip() for name, _, text in (header.partition(":") for header in lines)}
            while len(body) < int(headers.get("content-length", 0)):
                chunk = connection.recv(65536)
                if not chunk:
                    return
                body += chunk
            with self._condition:
                self.received.append(ReceivedRequest(line, headers, body))
                response = self.script.popleft() if self.script else self.respond(self.received[-1])
                self._condition.notify_all()
            if callable(response):
                response(connection)
            else:
                connection.sendall(response)
