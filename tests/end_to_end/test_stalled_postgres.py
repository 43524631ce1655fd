"""PostgreSQL accepts connections and never answers: keys are accepted for a while, and a signal ends the server."""

from __future__ import annotations

import signal
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from tests.support.database_proxy import StallingProxy
from tests.support.postgres import create_database
from tests.support.server_process import ServerProcess
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

LONG_CLOSE_PRELUDE = """
from progressbar_tracker.server.stores import group_commit
group_commit.CLOSE_TIMEOUT = 150.0
"""
"""With this timeout, a stop that waits for the database takes longer than a test waits for the end of a process."""


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
    process = ServerProcess(
        tmp_path, prelude=LONG_CLOSE_PRELUDE, PROGRESSBAR_DATABASE=database, PROGRESSBAR_CREDENTIAL_AGE="5s"
    )
    yield process
    process.close()


def test_stale_credentials_are_refused_during_an_outage(server_process, proxy):
    with server_process.http() as http:
        http.put("/api/v1/items/a", json={"run_id": "r"}).raise_for_status()
        share = http.post("/api/v1/shares", json={"item": "a"}).json()
        http.get("/progress").raise_for_status()
        proxy.stall()
        assert http.get("/progress").status_code == 200
        wait_until(lambda: http.get("/progress").status_code == 503)
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


def stop_server(process: ServerProcess) -> None:
    """Stop a server by SIGTERM, which does not wait for the database."""
    code, output = process.stop(signal.SIGTERM)
    assert code == 0
    assert "Traceback" not in output


@pytest.mark.parametrize("writes", [0, 1, 20])
def test_signal_ends_a_server_with_a_stalled_database(server_process, proxy, writes):
    with server_process.http() as http, ThreadPoolExecutor(20) as pool:
        http.get("/progress").raise_for_status()
        proxy.stall()
        requests = [pool.submit(http.put, f"/api/v1/items/{n}", json={"run_id": "r"}) for n in range(writes)]
        requests += [pool.submit(http.get, "/api/v1/history?q=a"), pool.submit(http.get, "/api/v1/keys")]
        wait_until(lambda: http.get("/healthz").status_code == 200)
        stop_server(server_process)
        for request in requests:
            request.exception(60)


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
        stop_server(server_process)
        for request in requests:
            request.exception(60)


def test_signal_ends_a_start_on_a_stalled_database(server_process, proxy):
    server_process.stop(signal.SIGTERM)
    for trigger in (b"", b"pg_advisory", b"credentials"):
        proxy.resume()
        proxy.stall_at(trigger) if trigger else proxy.stall()
        server_process.launch()
        # The start is under way when the server has connected.
        wait_until(lambda: proxy.is_stalled)
        server_process.stop(signal.SIGTERM)
    proxy.resume()
    server_process.launch()
