"""A rolling restart behind Caddy with the shipped file: a server drains after SIGTERM, and no request fails."""

from __future__ import annotations

import asyncio
import re
import signal
import subprocess
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
import uvicorn

from progressbar_tracker.server.http.uvicorn_server import UvicornServer
from tests.support.clock import ManualClock
from tests.support.connections import find_free_port, open_client
from tests.support.deploy import find_program, is_listening, read_deploy_file, replace_all
from tests.support.postgres import create_database, drop_database
from tests.support.server_process import ServerProcess
from tests.support.waiting import wait_until

SHUTDOWN_SECONDS = 5  # at most, after the drain


class CaddyProxy:
    """Caddy with the shipped file for several servers, on HTTP."""

    def __init__(self, folder, servers):
        caddy, self.port = find_program("caddy", "caddy"), find_free_port()
        names = [(f"server-{n}:8080", server.url.removeprefix("http://")) for n, server in enumerate(servers, 1)]
        text = replace_all(
            read_deploy_file("Caddyfile-servers"),
            ("progress.example.org {", f"http://127.0.0.1:{self.port} {{"),
            *names,
        )
        (folder / "Caddyfile").write_text(f"{{\nadmin off\n}}\n{text}")
        environ = {"HOME": str(folder), "XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
        command = [caddy, "run", "--config", folder / "Caddyfile", "--adapter", "caddyfile"]
        self._process = subprocess.Popen(command, env=environ, stderr=subprocess.DEVNULL)
        wait_until(self._is_ready)

    def _is_ready(self):
        assert self._process.poll() is None, "Caddy did not start"
        return is_listening(self.port)

    def close(self):
        self._process.kill()
        self._process.wait(60)


@pytest.fixture
def drained_servers(tmp_path, postgres_cluster):
    """Two servers on one PostgreSQL that drain until a second signal."""
    url = create_database(postgres_cluster)
    servers = []
    for n in range(2):
        folder = tmp_path / f"{n}"
        folder.mkdir()
        servers.append(ServerProcess(folder, PROGRESSBAR_DATABASE=url, PROGRESSBAR_DRAIN="1h"))
    yield servers
    for server in servers:
        server.close()
    drop_database(postgres_cluster, url)


def count_writes(server):
    """Return the writes that a server has answered."""
    with server.http() as http:
        text = http.get("/metrics").text
    return sum(
        float(line.rpartition(" ")[2])
        for line in text.splitlines()
        if line.startswith("progressbar_http_requests_total{") and "items:batch" in line
    )


def test_rolling_restart_behind_caddy_fails_no_request(tmp_path, drained_servers):
    proxy = CaddyProxy(tmp_path, drained_servers)
    statuses = Counter()
    is_over = threading.Event()
    with ThreadPoolExecutor(2) as pool, drained_servers[0].http() as admin:
        key = admin.post("/api/v1/keys", json={"type": "write", "name": "ci"}).json()["key"]
        with open_client(f"http://127.0.0.1:{proxy.port}", key) as http:

            def write(number):
                while not is_over.is_set():
                    ops = [{"op": "put", "id": f"bar-{number}", "value": 0.5}]
                    statuses[http.post("/api/v1/items:batch", json={"ops": ops}).status_code] += 1

            def takes_writes(server):
                """Return whether a server gets one of the next 40 writes; Caddy chooses at random."""
                before, until = count_writes(server), statuses.total() + 40
                wait_until(lambda: statuses.total() > until)
                return count_writes(server) > before

            writers = [pool.submit(write, number) for number in range(2)]
            try:
                for server in drained_servers:
                    server.process.send_signal(signal.SIGTERM)
                    wait_until(lambda server=server: not takes_writes(server))
                    with server.http() as direct:
                        reply = direct.get("/readyz")
                        assert (reply.status_code, reply.headers["Connection"]) == (503, "close")
                        assert direct.get("/healthz").status_code == 200
                    code, _ = server.stop(signal.SIGTERM)
                    assert code == 0
                    server.start()
                    wait_until(lambda server=server: takes_writes(server))
            finally:
                is_over.set()
                for writer in writers:
                    writer.result(60)
    proxy.close()
    assert set(statuses) == {200}


def test_server_stops_by_itself_after_its_drain(tmp_path):
    server = ServerProcess(tmp_path, PROGRESSBAR_DRAIN="0.2")
    try:
        assert server.stop(signal.SIGTERM)[0] == 0
    finally:
        server.close()


def test_ctrl_c_skips_the_drain(tmp_path):
    server = ServerProcess(tmp_path, PROGRESSBAR_DRAIN="1h")
    try:
        assert server.stop(signal.SIGINT)[0] == 0
    finally:
        server.close()


@pytest.fixture
def clock():
    return ManualClock(1000.0)


@pytest.fixture
def draining(clock):
    """A server that was signalled, and the list of its calls."""
    calls = []
    server = UvicornServer(
        uvicorn.Config(None), at_shutdown=lambda: None, drain_seconds=5.0, at_drain=lambda: calls.append("drain"),
        monotonic=clock,
    )  # fmt: skip
    server._stop(signal.SIGTERM, None)
    return server, calls


def test_drain_lasts_its_seconds(draining, clock):
    async def main():
        server, calls = draining
        assert not await server.on_tick(1)
        clock.advance(4.5)
        assert not await server.on_tick(2)
        assert calls == ["drain"]
        clock.advance(0.5)
        assert await server.on_tick(3)
        assert not server.force_exit

    asyncio.run(main())


def test_further_signals_end_the_drain_and_then_the_requests(draining):
    server, _ = draining
    server._stop(signal.SIGTERM, None)
    assert (server.should_exit, server.force_exit) == (True, False)
    server._stop(signal.SIGTERM, None)
    assert server.force_exit


def test_grace_periods_are_longer_than_the_drain():
    manifest = read_deploy_file("kubernetes-postgresql.yaml")
    drain = int(re.search(r"PROGRESSBAR_DRAIN, value: (\d+)s", manifest)[1])
    assert int(re.search(r"terminationGracePeriodSeconds: (\d+)", manifest)[1]) > drain + SHUTDOWN_SECONDS
    unit = read_deploy_file("progressbar-tracker.service")
    drain = int(re.search(r"PROGRESSBAR_DRAIN=(\d+)s", read_deploy_file("Caddyfile-servers"))[1])
    assert int(re.search(r"TimeoutStopSec=(\d+)", unit)[1]) > drain + SHUTDOWN_SECONDS
