"""A connection: what of an answer leaves together, and what comes before, beside and after it."""

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
    """Return what was written at once, and what a turn of the loop later."""

    async def main() -> tuple[list[bytes], list[bytes]]:
        transport = FakeTransport()
        joining = JoiningTransport(transport, asyncio.get_running_loop())
        for data in writes:
            joining.write(data)
        at_once = list(transport.written)
        await asyncio.sleep(0)
        return at_once, transport.written

    return asyncio.run(main())


def test_head_and_body_leave_in_one_piece() -> None:
    assert write_all(RESPONSE_HEAD, b"body") == ([RESPONSE_HEAD + b"body"], [RESPONSE_HEAD + b"body"])


def test_the_head_of_a_stream_that_has_nothing_to_say_leaves_by_itself() -> None:
    assert write_all(RESPONSE_HEAD) == ([], [RESPONSE_HEAD])


def test_what_a_stream_goes_on_with_is_not_held_back() -> None:
    assert write_all(RESPONSE_HEAD, b"1", b"2", b"3")[0] == [RESPONSE_HEAD + b"1", b"2", b"3"]


def test_closing_takes_what_was_held_along() -> None:
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


def test_requests_that_come_at_once_are_answered_in_their_order(module_server: RunningServer) -> None:
    with RawConnection(module_server.url) as opened:
        names = [f"r{number}" for number in range(5)]
        opened.send(b"".join(encode_request("GET", "/healthz", f"X-Request-ID: {name}") for name in names))
        opened.send(encode_request("GET", "/healthz", "Connection: close"))
        said = opened.read_all().decode()
    assert re.findall("x-request-id: (r.)", said) == names
    assert said.count("HTTP/1.1 200 OK\r\n") == said.count("date: ") == said.count('"status"') == 6


@pytest.mark.parametrize(
    "last",
    [encode_request("GET", "/healthz", "Connection: close"), encode_request("GET", "/healthz", version="1.0")],
    ids=["asked to close", "HTTP/1.0"],
)
def test_the_last_answer_on_a_connection_says_so_and_is_followed_by_its_end(
    module_server: RunningServer, last: bytes
) -> None:
    with RawConnection(module_server.url) as opened:
        opened.send(last)
        said = opened.read_all()
    assert said.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"\r\nconnection: close\r\n" in said


def test_an_answer_is_the_same_whether_its_server_takes_it_whole_or_not(module_server: RunningServer) -> None:
    """Another ASGI server may run the application, and has no extension of ours."""

    async def main() -> httpx.Response:
        network = httpx.ASGITransport(module_server.background.app)
        async with httpx.AsyncClient(transport=network, base_url="http://localhost") as client:
            return await client.get("/progress", headers=asking)

    asking = {"X-API-KEY": module_server.keys["read"], "X-Request-ID": "same"}
    usual, whole = asyncio.run(main()), module_server.client().get("/progress", headers=asking)
    assert whole.content == usual.content
    told = {**whole.headers}
    del told["date"]  # the server's own
    assert told == {**usual.headers}


def test_a_connection_with_nothing_to_ask_is_closed_in_time_and_none_before(
    make_server: Callable[..., RunningServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "KEEP_ALIVE_TIMEOUT", 2)
    monkeypatch.setattr(connection, "REQUEST_READ_TIMEOUT", 0.3)
    with RawConnection(make_server().url) as opened:
        opened.send(encode_request("GET", "/healthz"))
        begun = time.monotonic()
        said = opened.read_all()
        took = time.monotonic() - begun
    assert said.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"408" not in said
    assert took > 1.5
