"""A close during the work of another thread or task leaves no connection open."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading

import anyio
import httpx
import pytest

from progressbar_tracker._http.exchanges import request_json
from progressbar_tracker._http.messages import Request
from progressbar_tracker._http.transport import AsyncHttpTransport, HttpTransport
from progressbar_tracker._sender.sender import Sender
from tests.support.tracking import FakeSource

RESPONSE_BYTES = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n[]"
GET_REQUEST = Request("GET", "progress", None)


class OneRequestServer:
    """Answers one request, then waits until the client closes the connection."""

    def __init__(self):
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.closed = False
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self):
        connection, _ = self._listener.accept()
        with connection:
            connection.settimeout(60)
            connection.recv(65536)
            connection.sendall(RESPONSE_BYTES)
            with contextlib.suppress(TimeoutError):
                self.closed = connection.recv(1) == b""

    def close(self):
        self._thread.join(60)
        self._listener.close()


@pytest.fixture
def server():
    """A server that serves one request."""
    with contextlib.closing(OneRequestServer()) as server:
        yield server


class BlockingStep:
    """A step that signals its start and blocks until it is released."""

    def __init__(self, step):
        self._step = step
        self.reached = threading.Event()
        self.released = threading.Event()

    def __call__(self, *args, **kwargs):
        connection = self._step(*args, **kwargs)
        self.reached.set()
        assert self.released.wait(60)
        return connection


def test_close_during_connect_closes_it_after_reply(server, monkeypatch):
    connecting = BlockingStep(socket.create_connection)
    monkeypatch.setattr(socket, "create_connection", connecting)
    transport = HttpTransport(server.url, "key", timeout=10)
    answers = []
    call = threading.Thread(target=lambda: answers.append(transport.run(request_json(GET_REQUEST))))
    call.start()
    assert connecting.reached.wait(60)
    transport.close()
    connecting.released.set()
    call.join(60)
    server.close()
    assert (answers, server.closed) == ([[]], True)


def test_async_close_during_connect_closes_it_after_reply(server, monkeypatch):
    connect = anyio.connect_tcp

    async def main():
        reached, leave = asyncio.Event(), asyncio.Event()

        async def connecting(*args, **kwargs):
            connection = await connect(*args, **kwargs)
            reached.set()
            await leave.wait()
            return connection

        monkeypatch.setattr(anyio, "connect_tcp", connecting)
        transport = AsyncHttpTransport(server.url, "key", timeout=10)
        call = asyncio.create_task(transport.run(request_json(GET_REQUEST)))
        await reached.wait()
        await transport.close()
        leave.set()
        reply = await call
        # While the loop still runs: its end closes everything.
        await asyncio.to_thread(server.close)
        return reply

    assert (asyncio.run(main()), server.closed) == ([], True)


def test_close_during_build_closes_http_client(monkeypatch):
    building = BlockingStep(httpx.Client)
    monkeypatch.setattr(httpx, "Client", building)
    transport = HttpTransport("http://h", "key", timeout=10)
    built = []
    opening = threading.Thread(target=lambda: built.append(transport.open()))
    opening.start()
    assert building.reached.wait(60)
    transport.close()
    building.released.set()
    opening.join(60)
    assert built[0].is_closed


class FakeDelivery:
    unbatched = False
    boot_id = ""

    def __init__(self):
        self.closed = False
        self.request_count = 0

    def __call__(self, ops, timeout):
        self.request_count += 1
        return []

    def close(self):
        self.closed = True


def test_sender_close_before_connect_closes_connection():
    delivery = FakeDelivery()
    connecting = BlockingStep(lambda: delivery)
    sender = Sender(connecting)
    sender.add(FakeSource())
    assert connecting.reached.wait(60)
    thread = next(thread for thread in threading.enumerate() if thread.name == "progressbar-sender")
    assert not sender.close(0.05)
    connecting.released.set()
    thread.join(60)
    assert (delivery.closed, delivery.request_count) == (True, 0)
