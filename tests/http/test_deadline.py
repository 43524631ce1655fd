"""Each exchange has one deadline: a slow server cannot extend a call."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import itertools
import socket
import threading
import time
from pathlib import Path

import pytest

from progressbar_tracker import AsyncProgressBar, ProgressBar, TransportError
from progressbar_tracker._http.messages import Request
from progressbar_tracker._http.network import DeadlineBackend
from progressbar_tracker._http.transport import HttpTransport

CALL_TIMEOUT = 0.5
MAX_CALL_SECONDS = 60.0  # generous for a busy machine: the servers never end their replies

RESPONSE_STARTS = {
    "accepts only": (b"", b""),
    "head trickles": (b"", b"H"),
    "status line trickles": (b"HTTP/1.1 200 OK", b"K"),
    "headers trickle": (b"HTTP/1.1 200 OK\r\nX-A: ", b"a"),
    "headers without end": (b"HTTP/1.1 200 OK\r\n", b"X-A: b\r\n"),
    "interim answers": (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "early hints": (b"", b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"),
    "body trickles": (b"HTTP/1.1 200 OK\r\nContent-Length: 999999\r\n\r\n", b" "),
    "chunks trickle": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
    "chunk size trickles": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"0"),
    "head and silence": (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", b""),
    "trailers without end": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", b"A: b\r\n"),
}


class TricklingServer:
    """Sends the start of a reply, then repeats a chunk until the client disconnects."""

    def __init__(self, start, piece, pause):
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._stopped = threading.Event()
        self._args = start, piece, pause
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self):
        start, piece, pause = self._args
        with contextlib.suppress(OSError):
            connection, _ = self._listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(start)
                while not self._stopped.wait(pause):
                    connection.sendall(piece)

    def close(self):
        self._stopped.set()
        self._listener.close()
        self._thread.join(60)


# trio warns about generators inside httpx after a partly read body. They hold no resources.
IGNORE_UNCLOSED_GENERATOR = pytest.mark.filterwarnings("ignore:Async generator:ResourceWarning")


def call_get_all(url, kind):
    if kind == "sync":
        with ProgressBar(url, "key", auto_detect=False, timeout=CALL_TIMEOUT) as pb:
            return pb.get_all()

    async def main():
        async with AsyncProgressBar(url, "key", auto_detect=False, timeout=CALL_TIMEOUT) as pb:
            return await pb.get_all()

    if kind == "trio":
        import trio

        return trio.run(main)
    return asyncio.run(main())


def call_watch(url, kind, timeout=CALL_TIMEOUT):
    if kind == "sync":
        with ProgressBar(url, "key", auto_detect=False, timeout=timeout) as pb:
            return next(pb.watch())

    async def main():
        async with AsyncProgressBar(url, "key", auto_detect=False, timeout=timeout) as pb:
            return await anext(pb.watch())

    if kind == "trio":
        import trio

        return trio.run(main)
    return asyncio.run(main())


@IGNORE_UNCLOSED_GENERATOR
@pytest.mark.parametrize("kind", ["sync", "asyncio", "trio"])
@pytest.mark.parametrize("phase", RESPONSE_STARTS)
@pytest.mark.parametrize("pause", [0.05, 0.0])
def test_call_ends_at_its_deadline(phase, kind, pause):
    start, piece = RESPONSE_STARTS[phase]
    if not piece:
        pause = 0.05
    with contextlib.closing(TricklingServer(start, piece, pause)) as server:
        started_at = time.monotonic()
        with pytest.raises(TransportError) as caught:
            call_get_all(server.url, kind)
        assert time.monotonic() - started_at < MAX_CALL_SECONDS
    assert (caught.value.method, caught.value.url) == ("GET", f"{server.url}/progress")


@IGNORE_UNCLOSED_GENERATOR
@pytest.mark.parametrize("kind", ["sync", "asyncio", "trio"])
@pytest.mark.parametrize("phase", ["accepts only", "head trickles", "headers trickle", "interim answers"])
def test_event_stream_head_obeys_deadline(phase, kind):
    with contextlib.closing(TricklingServer(*RESPONSE_STARTS[phase], 0.02)) as server:
        started_at = time.monotonic()
        with pytest.raises(TransportError):
            call_watch(server.url, kind)
        assert time.monotonic() - started_at < MAX_CALL_SECONDS


@IGNORE_UNCLOSED_GENERATOR
@pytest.mark.parametrize("kind", ["sync", "asyncio", "trio"])
def test_event_stream_outlives_deadline(kind):
    """The stream sends a comment every 0.1 s, and its first event after 2.5 s."""
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
    pieces = itertools.chain([b": beat\n\n"] * 25, itertools.repeat(b'id: 1\nevent: snapshot\ndata: {"items": []}\n\n'))

    class HeartbeatServer(TricklingServer):
        def _serve(self):
            with contextlib.suppress(OSError):
                connection, _ = self._listener.accept()
                with connection:
                    connection.recv(65536)
                    connection.sendall(head)
                    while not self._stopped.wait(0.1):
                        connection.sendall(next(pieces))

    with contextlib.closing(HeartbeatServer(b"", b"", 0)) as server:
        assert call_watch(server.url, kind, timeout=2.0).items == []


@pytest.mark.parametrize("phase", ["head trickles", "interim answers", "body trickles"])
def test_close_during_slow_reply_is_bounded(phase):
    with contextlib.closing(TricklingServer(*RESPONSE_STARTS[phase], 0.02)) as server:
        pb = ProgressBar(server.url, "key", auto_detect=False)
        with pb.track(total=1, id="job", keep=True) as bar:
            bar.advance()
        started_at = time.monotonic()
        pb.close()
        assert time.monotonic() - started_at < MAX_CALL_SECONDS


def test_write_to_server_that_never_reads_ends():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        transport = HttpTransport(f"http://127.0.0.1:{listener.getsockname()[1]}", "k", timeout=CALL_TIMEOUT)

        def exchange():
            yield Request("POST", "progress", b" " * (64 << 20))

        started_at = time.monotonic()
        with contextlib.closing(transport), pytest.raises(TransportError):
            transport.run(exchange())
        assert time.monotonic() - started_at < MAX_CALL_SECONDS


def test_addresses_of_a_host_share_the_timeout(monkeypatch):
    attempts = []
    backend = DeadlineBackend()

    def refuse_connection(address, port, timeout, *_):
        import httpcore

        attempts.append((address, timeout))
        raise httpcore.ConnectTimeout("timed out")

    infos = [(0, 0, 0, "", (f"10.0.0.{number}", 80)) for number in range(4)]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **options: infos)
    monkeypatch.setattr(backend._backend, "connect_tcp", refuse_connection)
    from progressbar_tracker._http.network import Deadline

    with pytest.raises(Exception, match="timed out"):
        backend.connect_tcp("host", 80, Deadline(time.monotonic() + 8.0))
    assert [address for address, _ in attempts] == [f"10.0.0.{number}" for number in range(4)]
    assert attempts[0][1] <= 2.0


@pytest.mark.parametrize("kind", ["asyncio", "trio"])
def test_async_client_works_in_consecutive_loops(kind):
    """Neither a closed nor an open client causes an error or a ResourceWarning."""
    run = asyncio.run if kind == "asyncio" else __import__("trio").run
    listener = socket.create_server(("127.0.0.1", 0))
    threads = []

    def serve(connection):
        with connection, contextlib.suppress(OSError):
            while connection.recv(65536):
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n[]")

    def accept():
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                threads.append(threading.Thread(target=serve, args=(connection,), daemon=True))
                threads[-1].start()

    threading.Thread(target=accept, daemon=True).start()
    pb = AsyncProgressBar(f"http://127.0.0.1:{listener.getsockname()[1]}", "key", auto_detect=False)
    for _ in range(3):
        assert run(pb.get_all) == [] if kind == "trio" else asyncio.run(pb.get_all()) == []
    run(pb.close) if kind == "trio" else asyncio.run(pb.close())
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive(), "a connection was left open"
    assert len(threads) == 3
    with pytest.raises(TransportError, match="closed"):
        asyncio.run(pb.get_all())
    listener.close()


def test_httpx_is_imported_only_by_transport():
    root = Path(__file__).parents[2] / "src" / "progressbar_tracker"
    users = set()
    for path in root.rglob("*.py"):
        checked = {
            node
            for branch in ast.walk(ast.parse(path.read_text("utf-8")))
            if isinstance(branch, ast.If) and ast.unparse(branch.test) == "TYPE_CHECKING"
            for node in ast.walk(branch)
        }
        lines = {node.lineno for node in checked if isinstance(node, ast.Import | ast.ImportFrom)}
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            if any(name.partition(".")[0] in ("httpx", "httpcore") for name in names) and node.lineno not in lines:
                users.add(path.relative_to(root).as_posix())
    assert users == {"_http/transport.py", "_http/network.py", "server/notifications/webhooks.py"}


def test_pool_keeps_idle_connections():
    """httpx closes surplus idle connections, even one just assigned to another thread."""
    transport = HttpTransport("http://127.0.0.1:9", "key", timeout=1.0)
    pool = transport.open()._transport._pool
    assert pool._max_keepalive_connections == pool._max_connections
    transport.close()
