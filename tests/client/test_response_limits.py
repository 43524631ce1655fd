"""A reply that is too long, too slow or compressed raises in time, with bounded memory."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import socket
import threading
import time
import tracemalloc

import httpx
import pytest

from progressbar_tracker import AsyncProgressBar, ProgressBar, TransportError
from progressbar_tracker._http.exchanges import request_json
from progressbar_tracker._http.messages import MAX_LIST_BYTES, MAX_REPLY_BYTES, Request
from progressbar_tracker._http.transport import HttpTransport

RESPONSE_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
BODY_PIECE = b" " * (1 << 20)


class StreamingServer:
    """A server that sends a head and then repeats one chunk."""

    def __init__(self, piece, pause=0.0):
        self._piece, self._pause = piece, pause
        self._stopped = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.sent = 0
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self):
        connection, _ = self._listener.accept()
        with connection, contextlib.suppress(OSError):
            connection.recv(65536)
            connection.sendall(RESPONSE_HEAD + b"Content-Length: 999999999999\r\n\r\n")
            while not self._stopped.wait(self._pause):
                connection.sendall(self._piece)
                self.sent += len(self._piece)

    def close(self):
        self._stopped.set()
        self._thread.join(60)
        self._listener.close()
        assert not self._thread.is_alive(), "the client did not close the connection"


def call_get_all(url, timeout, awaited):
    """Return the error of a call and its duration."""

    async def call_async():
        async with AsyncProgressBar(url, "key", auto_detect=False, timeout=timeout) as pb:
            await pb.get_all()

    started_at = time.perf_counter()
    with pytest.raises(TransportError) as caught:
        if awaited:
            asyncio.run(call_async())
        else:
            with ProgressBar(url, "key", auto_detect=False, timeout=timeout) as pb:
                pb.get_all()
    return caught.value, time.perf_counter() - started_at


@pytest.mark.parametrize("awaited", [False, True], ids=["sync", "async"])
def test_slow_body_ends_at_deadline(awaited):
    with contextlib.closing(StreamingServer(b" ", 0.02)) as server:
        error, seconds = call_get_all(server.url, 0.3, awaited)
    assert "not complete after 0.3 seconds" in str(error)
    assert (error.method, error.url) == ("GET", server.url + "/progress")
    assert seconds < 20.0  # endless and slow


def test_endless_body_ends_at_size_limit():
    transport = None
    with contextlib.closing(StreamingServer(BODY_PIECE)) as server:
        transport = HttpTransport(server.url, "key", timeout=10)
        tracemalloc.start()
        try:
            with pytest.raises(TransportError, match="more than 4 MiB"):
                transport.run(request_json(Request("POST", "api/v1/items:batch", b"{}")))
            peak_bytes = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
            transport.close()
    assert peak_bytes < 3 * MAX_REPLY_BYTES


def make_transport(size, sent):
    def pieces():
        for _ in range(size >> 20):
            sent.append(1)
            yield BODY_PIECE
        yield b"[]"

    return httpx.MockTransport(lambda request: httpx.Response(200, content=pieces()))


def test_list_has_larger_size_limit():
    sent = []
    with ProgressBar("http://h", "key", auto_detect=False, transport=make_transport(60 << 20, sent)) as pb:
        assert pb.get_all() == []
    sent = []
    with ProgressBar("http://h", "key", auto_detect=False, transport=make_transport(10 * MAX_LIST_BYTES, sent)) as pb:
        with pytest.raises(TransportError, match="more than 128 MiB"):
            pb.get_all()
    assert len(sent) == (MAX_LIST_BYTES >> 20) + 1


def test_slow_long_list_ends_at_deadline(monkeypatch):
    now = 0.0
    monkeypatch.setattr("progressbar_tracker._http.transport.time.monotonic", lambda: now)

    def pieces():
        nonlocal now
        for _ in range(20):
            now += 0.9
            yield BODY_PIECE
        yield b"[]"

    network = httpx.MockTransport(lambda request: httpx.Response(200, content=pieces()))
    with ProgressBar("http://h", "key", auto_detect=False, timeout=1.0, transport=network) as pb:
        with pytest.raises(TransportError, match="not complete after 1 seconds"):
            pb.get_all()


def test_compressed_body_is_refused():
    encodings = []

    def answer(request):
        encodings.append(request.headers["accept-encoding"])
        return httpx.Response(200, content=iter([gzip.compress(b"[]")]), headers={"content-encoding": "gzip"})

    with ProgressBar("http://h", "key", auto_detect=False, transport=httpx.MockTransport(answer)) as pb:
        with pytest.raises(TransportError, match="encoded as 'gzip'"):
            pb.get_all()
    assert encodings == ["identity"]


def test_connection_is_reused_after_complete_reply(server_with_one_connection):
    with ProgressBar(server_with_one_connection, "key", auto_detect=False) as pb:
        assert [pb.get_all(), pb.get_all()] == [[], []]


@pytest.fixture
def server_with_one_connection():
    """Answers all requests on the first connection and accepts no other."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve():
        connection, _ = listener.accept()
        listener.close()
        with connection, contextlib.suppress(OSError):
            while connection.recv(65536):
                connection.sendall(RESPONSE_HEAD + b"Content-Length: 2\r\n\r\n[]")

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    thread.join(60)
