"""Connections: joined writes, pipelining, and how a connection ends."""

from __future__ import annotations

import asyncio
import re
import time
from typing import TYPE_CHECKING

import httpx
import pytest

from progressbar_tracker.server import run
from progressbar_tracker.server.http import connection
from progressbar_tracker.server.http.joining_transport import JoiningTransport
from tests.support.connections import RawConnection, encode_request

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.server import RunningServer

RESPONSE_HEAD = b"HTTP/1.1 200 OK\r\n\r\n"


class FakeTransport:
    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.closed = False
        self.abort = self.close
        self.get_write_buffer_size = lambda: 0
        self.get_extra_info = self.is_closing = self.pause_reading = self.resume_reading = lambda *_: None

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def close(self) -> None:
        self.closed = True


def write_all(*writes: bytes) -> tuple[list[bytes], list[bytes]]:
    """Return what the transport received at once, and after a turn of the event loop."""

    async def main() -> tuple[list[bytes], list[bytes]]:
        transport = FakeTransport()
        joining = JoiningTransport(transport, asyncio.get_running_loop())
        for data in writes:
            joining.write(data)
        at_once = list(transport.written)
        await asyncio.sleep(0)
        return at_once, transport.written

    return asyncio.run(main())


def test_head_and_body_are_written_together() -> None:
    assert write_all(RESPONSE_HEAD, b"body") == ([RESPONSE_HEAD + b"body"], [RESPONSE_HEAD + b"body"])


def test_head_without_body_is_flushed_in_the_next_turn() -> None:
    assert write_all(RESPONSE_HEAD) == ([], [RESPONSE_HEAD])


def test_later_chunks_are_written_at_once() -> None:
    assert write_all(RESPONSE_HEAD, b"1", b"2", b"3")[0] == [RESPONSE_HEAD + b"1", b"2", b"3"]


def test_close_flushes_a_held_head() -> None:
    async def main() -> FakeTransport:
        transport = FakeTransport()
        joining = JoiningTransport(transport, asyncio.get_running_loop())
        joining.write(RESPONSE_HEAD)
        joining.close()
        await asyncio.sleep(0)
        return transport

    transport = asyncio.run(main())
    assert (transport.written, transport.closed) == ([RESPONSE_HEAD], True)


# Against a server


def test_pipelined_requests_are_answered_in_order(module_server: RunningServer) -> None:
    with RawConnection(module_server.url) as client:
        names = [f"r{number}" for number in range(5)]
        client.send(b"".join(encode_request("GET", "/healthz", f"X-Request-ID: {name}") for name in names))
        client.send(encode_request("GET", "/healthz", "Connection: close"))
        received = client.read_all().decode()
    assert re.findall("x-request-id: (r.)", received) == names
    assert received.count("HTTP/1.1 200 OK\r\n") == received.count("date: ") == received.count('"status"') == 6


@pytest.mark.parametrize(
    "last",
    [encode_request("GET", "/healthz", "Connection: close"), encode_request("GET", "/healthz", version="1.0")],
    ids=["close", "HTTP/1.0"],
)
def test_last_response_announces_and_closes_the_connection(module_server: RunningServer, last: bytes) -> None:
    with RawConnection(module_server.url) as client:
        client.send(last)
        received = client.read_all()
    assert received.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"\r\nconnection: close\r\n" in received


def test_response_is_the_same_without_the_extension(module_server: RunningServer) -> None:
    """The application may run in another ASGI server, which has no such extension."""

    async def main() -> httpx.Response:
        network = httpx.ASGITransport(module_server.background.app)
        async with httpx.AsyncClient(transport=network, base_url="http://localhost") as http:
            return await http.get("/progress", headers=headers)

    headers = {"X-API-KEY": module_server.keys["read"], "X-Request-ID": "same"}
    through_asgi, full = asyncio.run(main()), module_server.client().get("/progress", headers=headers)
    assert full.content == through_asgi.content
    full_headers = {**full.headers}
    del full_headers["date"]  # added by the server
    assert full_headers == {**through_asgi.headers}


def test_idle_connection_is_closed_after_keep_alive(
    make_server: Callable[..., RunningServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "KEEP_ALIVE_TIMEOUT", 2)
    monkeypatch.setattr(connection, "REQUEST_READ_TIMEOUT", 0.3)
    with RawConnection(make_server().url) as client:
        client.send(encode_request("GET", "/healthz"))
        started_at = time.monotonic()
        received = client.read_all()
        seconds = time.monotonic() - started_at
    assert received.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"408" not in received
    assert seconds > 1.5
