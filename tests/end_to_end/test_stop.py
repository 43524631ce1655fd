"""SIGTERM: acknowledged writes are on disk within five seconds, and clients continue with the next process."""

from __future__ import annotations

import json
import re
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from progressbar_tracker import ProgressBar
from tests.support.connections import TLS_CONTEXT, RawConnection, list_items, open_client
from tests.support.server_process import ADMIN_KEY, ServerProcess
from tests.support.waiting import wait_until

STREAM_COUNT = 50


@pytest.fixture
def server_process(tmp_path):
    """A server process that logs JSON."""
    process = ServerProcess(tmp_path, PROGRESSBAR_LOG_FORMAT="json")
    yield process
    process.close()


def open_connection(url, request):
    connection = RawConnection(url)
    connection.send(request.replace("KEY", f"Host: localhost\nX-API-KEY: {ADMIN_KEY}").replace("\n", "\r\n").encode())
    return connection


def read_all(connection):
    """Return the data up to the end of the connection."""
    with connection:
        return connection.read_all().decode()


def test_loop_across_a_restart_loses_nothing(server_process):
    with ProgressBar(server_process.url, ADMIN_KEY, timeout=2.0) as pb:
        half, done = threading.Event(), threading.Event()

        def loop():
            for n in pb.track(range(3000), id="job", keep=True, interval=0.05):
                if n == 1000:
                    half.set()
                    done.wait(60)
                time.sleep(0.0005)

        thread = threading.Thread(target=loop, daemon=True)
        thread.start()
        assert half.wait(60)
        with server_process.http() as http:
            wait_until(lambda: list_items(http).get("job", {}).get("completed"))
        assert server_process.stop(signal.SIGTERM)[0] == 0
        done.set()  # the loop continues without a server
        server_process.start()
        thread.join(60)
        with open_client(server_process.url, ADMIN_KEY) as http:
            wait_until(lambda: list_items(http)["job"]["status"] == "succeeded")
            assert list_items(http)["job"]["completed"] == 3000


def test_sigterm_ends_streams_and_partial_requests_in_time(server_process):
    with server_process.http() as http:
        http.put("/api/v1/items/a", json={"run_id": "r"}).raise_for_status()
        streams = [
            open_connection(server_process.url, "GET /api/v1/events HTTP/1.1\nKEY\n\n") for _ in range(STREAM_COUNT)
        ]
        for stream in streams:
            assert stream.socket.recv(1)
        bodiless = open_connection(server_process.url, "PUT /api/v1/items/b HTTP/1.1\nKEY\nContent-Length: 50\n\n{")
        headless = open_connection(server_process.url, "PUT /api/v1/items/c HTTP/1.1\nKEY\nContent-Le")
        http.patch("/api/v1/items/a", json={"run_id": "r", "seq": 1, "value": 0.5}).raise_for_status()
    statuses = []

    def probe():
        with httpx.Client(base_url=server_process.url, timeout=5, verify=TLS_CONTEXT) as probing:
            while True:
                try:
                    statuses.append(probing.get("/readyz").status_code)
                except httpx.TransportError:
                    return

    prober = threading.Thread(target=probe, daemon=True)
    prober.start()
    wait_until(lambda: 200 in statuses)
    with ThreadPoolExecutor(STREAM_COUNT + 2) as pool:
        reads = [pool.submit(read_all, connection) for connection in (*streams, bodiless, headless)]
        started = time.monotonic()
        code, output = server_process.stop(signal.SIGTERM)
        seconds = time.monotonic() - started
        *frames, refusal, nothing = (read.result(20) for read in reads)
    prober.join(20)
    assert (code, seconds < 5) == (0, True)
    assert "Traceback" not in output
    events = [line["message"] for line in map(json.loads, output.splitlines()) if line["logger"].endswith(".server")]
    assert [event for event in events if event.startswith("server ")] == [
        "server started", "server stopping", "server stopped",
    ]  # fmt: skip
    assert 503 in statuses
    delays = [int(re.findall(r"retry: (\d+)\n\n", frame)[-1]) for frame in frames]
    assert all(500 <= delay <= 2000 for delay in delays)
    assert len(set(delays)) > 10  # the clients reconnect at different times
    assert refusal.startswith("HTTP/1.1 503 ")
    assert "retry-after: 1\r\n" in refusal
    assert "connection: close\r\n" in refusal
    assert nothing == ""
    server_process.start()
    with open_client(server_process.url, ADMIN_KEY) as http:
        assert {name: item["value"] for name, item in list_items(http).items()} == {"a": 0.5}
