"""Clients and raw sockets for servers on the loopback."""

from __future__ import annotations

import contextlib
import itertools
import re
import select
import socket
import ssl
import struct
import threading
from typing import TYPE_CHECKING, Final, Self
from urllib.parse import urlsplit

import httpx

if TYPE_CHECKING:
    from collections.abc import Iterator

# No test server uses TLS, and loading the system's certificates takes longer than most tests.
TLS_CONTEXT = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def open_client(url: str, key: str | None = None, *, timeout: float = 60.0, **headers: str) -> httpx.Client:
    """Return a client that sends ``key`` and ``headers`` with each request."""
    if key is not None:
        headers["X-API-KEY"] = key
    return httpx.Client(base_url=url, headers=headers, timeout=timeout, verify=TLS_CONTEXT)


def list_items(http: httpx.Client) -> dict[str, dict[str, object]]:
    """Return the items of the board by id."""
    return {item["id"]: item for item in http.get("/progress").raise_for_status().json()}


def list_history(http: httpx.Client) -> list[dict[str, object]]:
    """Return the runs of all history pages, newest first."""
    path, runs = "/api/v1/history?limit=1000", []
    while path:
        response = http.get(path).raise_for_status()
        runs += response.json()["items"]
        path = response.url.join(response.links["next"]["url"]) if "next" in response.links else None
    return runs


FIRST_PORT, LAST_PORT, BLOCK_SIZE = 16_000, 32_000, 100
BLOCK_STARTS: Final = range(FIRST_PORT, LAST_PORT, BLOCK_SIZE)
"""Below the ports that the system chooses for connections and for port 0: a port stays free until a test binds it."""


def _listen(port: int) -> socket.socket | None:
    with contextlib.suppress(OSError):
        return socket.create_server(("127.0.0.1", port))
    return None


def _reserve_ports() -> Iterator[int]:
    """Yield the free ports of a block, in turn. No other process of tests uses the block while this one runs."""
    locks = filter(None, map(_listen, BLOCK_STARTS))
    with next(locks) as lock:  # the listening socket on the first port reserves the block
        first = lock.getsockname()[1] + 1
        for port in itertools.cycle(range(first, first + BLOCK_SIZE - 1)):
            if (probe := _listen(port)) is not None:
                probe.close()
                yield port


_free_ports = _reserve_ports()
_free_ports_lock = threading.Lock()


def find_free_port() -> int:
    """Return a port on which nothing listens. It stays free for the next dozens of calls, also after a server on it."""
    with _free_ports_lock:
        return next(_free_ports)


class RawConnection:
    """A connection whose bytes the test writes itself. Usable as a context manager.

    Args:
        url: The server's base URL.
        timeout: Seconds that connecting, sending and receiving may take.
        buffer: The size of the receive buffer in bytes.
        source: The local address, to appear as another client.
    """

    def __init__(
        self, url: str, *, timeout: float = 20.0, buffer: int | None = None, source: str | None = None
    ) -> None:
        address = urlsplit(url)
        self.socket = socket.socket()
        self.socket.settimeout(timeout)
        if buffer is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        if source is not None:
            self.socket.bind((source, 0))
        self.socket.connect((address.hostname, address.port))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.socket.close()

    def reset(self) -> None:
        """Close with a RST instead of a FIN."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def send(self, data: bytes) -> bool:
        """Return whether the server still accepted the data."""
        try:
            self.socket.sendall(data)
        except OSError:
            return False
        return True

    def is_readable(self) -> bool:
        return bool(select.select([self.socket], [], [], 0)[0])

    def read_response(self) -> bytes:
        """Return the next response, which has a ``Content-Length``; its head and its body may come one by one."""
        received = b""
        while b"\r\n\r\n" not in received:
            received += self._receive()
        head, _, body = received.partition(b"\r\n\r\n")
        length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
        assert length is not None, head
        while len(body) < int(length[1]):
            body += self._receive()
        return head + b"\r\n\r\n" + body

    def _receive(self) -> bytes:
        data = self.socket.recv(65536)
        assert data, "the server closed the connection"
        return data

    def read_all(self) -> bytes:
        """Return all bytes until the server closes the connection."""
        received = b""
        with contextlib.suppress(ConnectionError):
            while chunk := self.socket.recv(65536):
                received += chunk
        return received


def encode_request(
    method: str, path: str, *headers: str, key: str | None = None, version: str = "1.1", body: str = ""
) -> bytes:
    """Return a request to ``localhost``, with a ``Content-Length`` if it has a body."""
    lines = [f"{method} {path} HTTP/{version}", "Host: localhost", *headers]
    if key is not None:
        lines.append(f"X-API-KEY: {key}")
    if body:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", body]).encode()


def parse_statuses(data: bytes) -> list[int]:
    """Return the status codes of all responses in ``data``."""
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d+)", data)]
