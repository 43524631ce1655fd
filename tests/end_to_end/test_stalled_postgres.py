"""PostgreSQL accepts connections and never answers: keys are accepted for a while, and a signal ends the server."""

from __future__ import annotations

import contextlib
import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from tests.support.postgres import create_database
from tests.support.server_process import ServerProcess
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator


class StallingProxy:
    """A TCP proxy that also accepts connections while it is stalled, but passes no data on."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._flows = threading.Event()
        self._flows.set()
        self._trigger = b""
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=100)
        self.port = self._listener.getsockname()[1]
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def stall(self) -> None:
        self._flows.clear()

    def stall_at(self, trigger: bytes) -> None:
        """Stall when a client sends these bytes."""
        self._trigger = trigger

    def resume(self) -> None:
        self._trigger = b""
        self._flows.set()

    @property
    def is_stalled(self) -> bool:
        return not self._flows.is_set()

    def close(self) -> None:
        self.resume()
        for connection in (self._listener, *self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._target))
                self._open += [client, server]
                for source, sink, is_client in ((client, server, True), (server, client, False)):
                    threading.Thread(target=self._pass_on, args=(source, sink, is_client), daemon=True).start()

    def _pass_on(self, source: socket.socket, sink: socket.socket, is_client: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if is_client and self._trigger and self._trigger in data:
                    self.stall()
                self._flows.wait()
                sink.sendall(data)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def proxy(postgres_cluster) -> Iterator[StallingProxy]:
    """A proxy in front of PostgreSQL that can stop forwarding."""
    proxy = StallingProxy(urlsplit(postgres_cluster.url).port)
    yield proxy
    proxy.close()


@pytest.fixture
def database(proxy, postgres_cluster) -> str:
    """The URL of an empty database behind the proxy."""
    parts = urlsplit(create_database(postgres_cluster))
    return parts._replace(netloc=f"postgres@127.0.0.1:{proxy.port}").geturl()


@pytest.fixture
def server_process(tmp_path, database):
    """A server process behind the proxy that trusts cached credentials for 5 s."""
    process = ServerProcess(tmp_path, PROGRESSBAR_DATABASE=database, PROGRESSBAR_CREDENTIAL_AGE="5s")
    yield process
    process.close()


def test_stale_credentials_are_refused_during_an_outage(server_process, proxy):
    with server_process.http() as http:
        http.put("/api/v1/items/a", json={"run_id": "r"}).raise_for_status()
        share = http.post("/api/v1/shares", json={"item": "a"}).json()
        http.get("/progress").raise_for_status()
        proxy.stall()
        started = time.monotonic()
        assert http.get("/progress").status_code == 200
        wait_until(lambda: http.get("/progress").status_code == 503)
        assert 3 < time.monotonic() - started < 20
        for reply in (
            http.get("/progress"), http.get("/api/key-info"), http.get("/api/v1/events"), http.get(f"/{share['path']}"),
            http.patch("/api/v1/items/a", json={"run_id": "r", "seq": 3, "value": 0.5}),
        ):  # fmt: skip
            assert (reply.status_code, reply.headers["retry-after"]) == (503, "5")
        assert "still works" in http.get("/progress").json()["detail"]
        assert http.get("/healthz").status_code == 200
        assert http.get("/readyz").status_code == 503
        proxy.resume()
        wait_until(lambda: http.get("/progress").status_code == 200)
    code, output = server_process.stop(signal.SIGTERM)
    assert (code, output.count("no credential is accepted")) == (0, 1)


def stop_server(process: ServerProcess) -> float:
    """Stop a server by SIGTERM; return the seconds until its exit."""
    started = time.monotonic()
    code, output = process.stop(signal.SIGTERM)
    assert code == 0
    assert "Traceback" not in output
    return time.monotonic() - started


@pytest.mark.parametrize("writes", [0, 1, 20])
def test_signal_ends_a_server_with_a_stalled_database(server_process, proxy, writes):
    with server_process.http() as http, ThreadPoolExecutor(20) as pool:
        http.get("/progress").raise_for_status()
        proxy.stall()
        requests = [pool.submit(http.put, f"/api/v1/items/{n}", json={"run_id": "r"}) for n in range(writes)]
        requests += [pool.submit(http.get, "/api/v1/history?q=a"), pool.submit(http.get, "/api/v1/keys")]
        wait_until(lambda: http.get("/healthz").status_code == 200)
        assert stop_server(server_process) < 5
        for request in requests:
            request.exception(30)


@pytest.mark.parametrize("trigger", [b"FOR UPDATE", b"INSERT INTO items", b"UPDATE meta", b"COMMIT", b"credentials"])
def test_signal_ends_a_server_stalled_in_a_transaction(server_process, proxy, trigger):
    with server_process.http() as http, ThreadPoolExecutor(3) as pool:
        http.put("/api/v1/items/a", json={"run_id": "r"}).raise_for_status()
        proxy.stall_at(trigger)
        requests = [
            pool.submit(http.put, "/api/v1/items/b", json={"run_id": "r"}),
            pool.submit(http.delete, "/api/v1/items/a"),
            pool.submit(http.post, "/api/v1/keys", json={"type": "read", "name": "x"}),
        ]
        wait_until(lambda: proxy.is_stalled)
        assert stop_server(server_process) < 5
        for request in requests:
            request.exception(30)


def test_signal_ends_a_start_on_a_stalled_database(server_process, proxy):
    server_process.stop(signal.SIGTERM)
    for trigger in (b"", b"pg_advisory", b"credentials"):
        proxy.resume()
        proxy.stall_at(trigger) if trigger else proxy.stall()
        server_process.launch()
        # The start is under way when the server has connected.
        wait_until(lambda: proxy.is_stalled)
        started = time.monotonic()
        server_process.stop(signal.SIGTERM)
        assert time.monotonic() - started < 5
    proxy.resume()
    server_process.launch()
