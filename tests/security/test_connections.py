"""Limits of connections: slow, large and malformed requests neither exhaust the server nor delay other clients."""

from __future__ import annotations

import contextlib
import re
import socket
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from progressbar_tracker._models import MAX_BODY_BYTES
from progressbar_tracker.server import capacity
from progressbar_tracker.server.http import connection, endpoint, eviction, uvicorn_server
from tests.support.clock import ManualClock
from tests.support.connections import RawConnection, parse_statuses
from tests.support.server import RunningServer
from tests.support.sse import SseStream
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

STALLED_BYTES = 400
READ_TIMEOUT = 1.0  # a busy machine has to send each complete request in this time
HEALTH_REQUEST = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """One server with short timeouts for all tests of the file."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(connection, "REQUEST_READ_TIMEOUT", READ_TIMEOUT)
        patch.setattr(endpoint, "SEND_TIMEOUT", 0.3)
        patch.setattr(uvicorn_server, "TCP_USER_TIMEOUT", STALLED_BYTES)
        served = RunningServer(tmp_path_factory.mktemp("connections"), ManualClock())
        yield served
        served.stop()


@pytest.fixture
def connect(server: RunningServer) -> Iterator[Callable[[], RawConnection]]:
    """Open connections; they are closed at the end."""
    with contextlib.ExitStack() as stack:

        def connect() -> RawConnection:
            raw = RawConnection(server.url)
            stack.callback(raw.close)
            return raw

        yield connect


# Slow requests


def test_slow_unfinished_requests_are_cut_off(
    server: RunningServer, connect: Callable[[], RawConnection], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "REQUEST_READ_TIMEOUT", 3 * READ_TIMEOUT)
    slow = [connect() for _ in range(150)]
    for raw in slow:
        raw.send(HEALTH_REQUEST[:-4] + b"\r\nX-Slow: ")
    client, answers = server.client(), 0
    while sum(raw.send(b"a") for raw in slow):
        assert client.get("/healthz").status_code == 200
        answers += 1
        threading.Event().wait(0.02)  # the pace of a slow client
    assert answers > 1
    # A byte that arrives after the response resets the connection.
    assert {tuple(parse_statuses(raw.read_all())) for raw in slow} <= {(408,), ()}


@pytest.mark.parametrize("has_key", [False, True])
def test_missing_body_times_out(server: RunningServer, connect: Callable[[], RawConnection], has_key: bool) -> None:
    raw = connect()
    key = f"X-API-KEY: {server.keys['write']}\r\n" if has_key else ""
    raw.send(f"PUT /api/v1/items/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n{key}\r\n{{".encode())
    assert parse_statuses(raw.read_all()) == ([408] if has_key else [401, 408])


def test_body_that_arrives_steadily_may_take_longer(
    server: RunningServer, connect: Callable[[], RawConnection], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "MIN_BODY_RATE", 20.0)
    raw = connect()
    body = b'{"title": "' + b"a" * 100 + b'"}'
    key = server.keys["write"].encode()
    raw.send(
        b"PUT /api/v1/items/a HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nX-API-KEY: %b\r\n"
        b"Content-Length: %d\r\n\r\n" % (key, len(body))
    )
    started_at = time.monotonic()
    for byte in body[:-1]:
        raw.send(bytes([byte]))
        time.sleep(READ_TIMEOUT * 1.5 / len(body))  # makes the body slower than the timeout
    raw.send(body[-1:])
    assert parse_statuses(raw.read_all()) == [201]
    assert time.monotonic() - started_at > READ_TIMEOUT


def test_silent_connection_is_closed_without_a_response(connect: Callable[[], RawConnection]) -> None:
    silent, idle = connect(), connect()
    idle.send(HEALTH_REQUEST)
    assert parse_statuses(idle.read_response()) == [200]
    idle.send(b"\r\n")  # only an empty line after a request
    assert silent.read_all() == b""
    assert parse_statuses(idle.read_all()) == [408]


def test_stream_outlives_the_read_timeout_of_requests(
    server: RunningServer, connect: Callable[[], RawConnection]
) -> None:
    stream = SseStream(server, "read")
    try:
        assert connect().read_all() == b""  # takes as long as the timeout
        server.client("write").put("/api/v1/items/moves-on", json={})
        stream.read_until(lambda event: "moves-on" in str(event.data))
    finally:
        stream.close()


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="counts sockets in /proc")
def test_sockets_of_subscribers_that_read_nothing_are_closed(
    server: RunningServer, connect: Callable[[], RawConnection], monkeypatch: pytest.MonkeyPatch
) -> None:
    ports = set()

    def count_sockets() -> int:
        """Count the server's sockets of the subscribers."""
        rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        return sum(row[2].rpartition(":")[2] in ports and row[9] != "0" for row in rows)

    writer = server.client("write")
    ops = [{"op": "put", "id": f"s{n}", "run_id": "r", "description": "x" * 1900} for n in range(500)]
    hub = server.background.app.services.hub
    for _ in range(20):  # the snapshot fits into their buffers, so none is cut off early
        raw = connect()
        ports.add(f"{raw.socket.getsockname()[1]:04X}")
        raw.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
        key = server.keys["read"].encode()
        raw.send(b"GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\nX-API-KEY: " + key + b"\r\n\r\n")
    wait_until(lambda: hub.stream_count == 20)
    wait_until(lambda: count_sockets() == 20)  # the table is no snapshot

    def change_items() -> bool:
        # The changes do not fit into the buffers of a subscriber that does not read.
        writer.post("/api/v1/items:batch", json={"ops": [{**op, "title": str(time.monotonic())} for op in ops]})
        return hub.stream_count == 0

    wait_until(change_items)
    wait_until(lambda: count_sockets() == 0)
    for op in ops:
        op["op"] = "delete"
    writer.post("/api/v1/items:batch", json={"ops": ops})


# Large requests


@pytest.mark.parametrize(
    "head",
    [b"GET /healthz HTTP/1.1\r\nX-Long: ", b"GET /healthz HTTP/1.1\r\n", b"GET /", b"\r\n"],
    ids=["a header", "headers", "a path", "empty lines"],
)
def test_endless_head_is_cut_off(connect: Callable[[], RawConnection], head: bytes) -> None:
    raw = connect()
    more = b"a: b\r\n" if head.endswith(b"1.1\r\n") else b"\r\n" if head == b"\r\n" else b"abcdef"
    raw.send(head)
    for _ in range(2000):
        if not raw.send(more * 2000):
            break
    else:
        pytest.fail("the server read everything")
    assert parse_statuses(raw.read_all()) in ([431], [])


def test_large_head_in_one_read_is_refused(connect: Callable[[], RawConnection]) -> None:
    raw = connect()
    raw.send(HEALTH_REQUEST[:-2] + b"X-Long: " + b"a" * connection.MAX_HEAD_BYTES + b"\r\n\r\n")
    assert parse_statuses(raw.read_all()) == [431]


def read_peak_memory() -> int:
    """Return the peak memory of this process since the last call, in KiB."""
    (peak,) = re.findall(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())
    Path("/proc/self/clear_refs").write_text("5")
    return int(peak)


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak of memory in /proc")
def test_large_chunked_body_is_refused_and_never_held(
    server: RunningServer, connect: Callable[[], RawConnection]
) -> None:
    chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    key = server.keys["write"].encode()
    senders = [connect() for _ in range(8)]
    read_peak_memory()
    before = read_peak_memory()
    for raw in senders:
        raw.send(
            b"PUT /api/v1/items/a HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nX-API-KEY: %b\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n" % key
        )
    for _ in range(160):
        for raw in senders:
            raw.send(chunk)
    assert [parse_statuses(raw.read_all()) for raw in senders] == [[413]] * 8
    assert read_peak_memory() - before < 8 * 4 * MAX_BODY_BYTES // 1024 + 4096


def test_client_that_keeps_sending_a_refused_body_is_cut_off(
    connect: Callable[[], RawConnection], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "MAX_REQUEST_BYTES", 1024 * 1024)
    raw = connect()
    raw.send(b"POST /progress HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
    for _ in range(1000):
        if not raw.send(b"10000\r\n" + b" " * 0x10000 + b"\r\n"):
            break
    else:
        pytest.fail("the server read everything")


def test_idle_connections_are_evicted_for_a_request(
    server: RunningServer, connect: Callable[[], RawConnection], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "REQUEST_READ_TIMEOUT", 60.0)
    monkeypatch.setattr(capacity, "max_connections", lambda: 20)
    stream = SseStream(server, "read")
    try:
        idle = [connect() for _ in range(40)]
        for raw in idle:
            raw.send(HEALTH_REQUEST[:-4])
        raw = connect()
        raw.send(HEALTH_REQUEST)
        assert b"200 OK" in raw.socket.recv(100)
        server.client("write").put("/api/v1/items/still-published", json={})
        stream.read_until(lambda event: "still-published" in str(event.data))
        assert idle[0].read_all() == b""
    finally:
        stream.close()


@pytest.mark.parametrize("more", [b"", b"Connection: upgrade\r\nUpgrade: h2c\r\n"], ids=["plain", "upgrade"])
def test_unfinished_bodies_are_evicted_for_a_newcomer(
    connect: Callable[[], RawConnection], monkeypatch: pytest.MonkeyPatch, more: bytes
) -> None:
    monkeypatch.setattr(connection, "REQUEST_READ_TIMEOUT", 60.0)
    monkeypatch.setattr(eviction, "GRACE_SECONDS", 0.0)
    monkeypatch.setattr(capacity, "max_connections", lambda: 20)
    half = b"POST /login HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-www-form-urlencoded\r\n"
    unfinished = [connect() for _ in range(20)]
    for raw in unfinished:
        raw.send(half + more + b"Content-Length: 60\r\n\r\nname=a")
    for _ in range(30):
        raw = connect()
        raw.send(HEALTH_REQUEST)
        assert b"200 OK" in raw.socket.recv(100)
    assert parse_statuses(unfinished[0].read_all()) in ([503], [])


class FakeGuest:
    def __init__(self, network: str, since: float = 0.0) -> None:
        self.network = network
        self.since = since


@pytest.mark.parametrize(
    ("network", "now", "evicted"),
    [("few", 0.5, "many"), ("many", 0.5, "newcomer"), ("many", 2.0, "many"), ("third", 0.5, "many")],
)
def test_network_with_the_most_unfinished_bodies_is_evicted(network: str, now: float, evicted: str) -> None:
    shared: eviction.EvictionQueue[FakeGuest] = eviction.EvictionQueue()
    unfinished = [FakeGuest(name) for name in ("few", "many", "few", "many", "many")]
    for guest in [*unfinished, FakeGuest("gone"), *unfinished]:
        shared.mark_incomplete(guest)
    newcomer = FakeGuest(network, now)
    shared.idle[newcomer] = None
    assert shared.evict(newcomer, now) is (newcomer if evicted == "newcomer" else unfinished[1])


def test_eviction_queue_forgets_removed_connections() -> None:
    shared: eviction.EvictionQueue[FakeGuest] = eviction.EvictionQueue()
    guests = [FakeGuest(f"{n % 3}") for n in range(9)]
    for guest in guests:
        shared.mark_incomplete(guest)
    for guest in guests:
        shared.remove(guest)
    newcomer = FakeGuest("0")
    shared.idle[newcomer] = None
    assert shared.evict(newcomer, 9.0) is newcomer


def test_connection_limit_leaves_files_for_the_database(monkeypatch: pytest.MonkeyPatch) -> None:
    resource = pytest.importorskip("resource")
    for files, limit in ((1024, 896), (64, 32), (resource.RLIM_INFINITY, 100_000)):
        monkeypatch.setattr(resource, "getrlimit", lambda _, files=files: (files, files))
        assert capacity.max_connections() == limit
        assert capacity.max_streams() < limit


def test_one_key_or_share_cannot_take_all_streams(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capacity, "max_streams", lambda: 8)
    served = RunningServer(tmp_path, ManualClock())
    connections = []

    def get_status(path: str, key: str = "") -> int:
        raw = RawConnection(served.url)
        connections.append(raw)
        raw.send(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nX-API-KEY: {served.keys.get(key, '')}\r\n\r\n".encode())
        return parse_statuses(raw.socket.recv(65536))[0]

    try:
        token = served.client("admin").post("/api/v1/shares", json={"group": "g"}).json()["token"]
        assert [get_status(f"/s/{token}/events") for _ in range(3)] == [200, 200, 503]
        assert [get_status("/api/v1/events", "read") for _ in range(5)] == [200, 200, 200, 200, 503]
        assert [get_status("/api/v1/events", key) for key in ("write", "admin", "other")] == [200, 200, 503]
        for raw in connections:
            raw.close()
        wait_until(lambda: served.background.app.services.hub.stream_count == 0)
        assert not served.background.app.services.hub._streams_by_holder
    finally:
        served.stop()


# Malformed requests


PUT_HEAD = b"PUT /api/v1/items/smuggled HTTP/1.1\r\nHost: localhost\r\nX-API-KEY: %b\r\n"
NEXT_REQUEST = b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.mark.parametrize(
    "rest",
    [
        b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n0\r\n\r\n",
        b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
        b"Content-Length: 2, 2\r\n\r\n{}",
        b"Content-Length: +2\r\n\r\n{}",
        b"Content-Length: 0x2\r\n\r\n{}",
        b"Content-Length: -2\r\n\r\n{}",
        b"Content-Length: 99999999999999999999\r\n\r\n{}",
        b"Transfer-Encoding: identity\r\n\r\n{}",
        b"Transfer-Encoding: xchunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked, identity\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        b"Transfer-Encoding: identity, chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        b"Transfer-Encoding: gzip, chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        b"Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        b"Transfer-Encoding : chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n-2\r\n{}\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n2\n{}\n0\n\n",
        b"Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n{}\r\n0\r\n\r\n",
        b"X-Folded: a\r\n b\r\nContent-Length: 2\r\n\r\n{}",
        b"X-Null: a\0b\r\nContent-Length: 2\r\n\r\n{}",
        b"X-Return: a\rb\r\nContent-Length: 2\r\n\r\n{}",
    ],
)
def test_request_of_ambiguous_length_ends_its_connection(
    server: RunningServer, connect: Callable[[], RawConnection], rest: bytes
) -> None:
    raw = connect()
    raw.send(PUT_HEAD % server.keys["write"].encode() + rest + NEXT_REQUEST)
    assert parse_statuses(raw.read_all()) == [400]
    assert server.client("read").get("/api/v1/items/smuggled").status_code == 404


@pytest.mark.parametrize(
    "line", [b"CONNECT evil.example:443 HTTP/1.1", b"GET /a b HTTP/1.1", b"GET /\xff HTTP/1.1", b"GET / HTTP/9.9",
             b"PRI * HTTP/2.0", b"BREW / HTTP/1.1", b"GET http://evil.example HTTP/1.1", b"\x16\x03\x01\x02\x00"],
)  # fmt: skip
def test_malformed_request_line_is_400(connect: Callable[[], RawConnection], line: bytes) -> None:
    raw = connect()
    raw.send(line + b"\r\nHost: localhost\r\n\r\n")
    assert parse_statuses(raw.read_all()) == [400]


def test_trailer_is_no_header(server: RunningServer, connect: Callable[[], RawConnection]) -> None:
    raw = connect()
    raw.send(
        b"GET /api/v1/keys HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n"
        b"X-API-KEY: " + server.keys["admin"].encode() + b"\r\n\r\n"
    )
    assert parse_statuses(raw.read_all()) == [401]


@pytest.mark.parametrize("protocol", [b"websocket", b"h2c"])
def test_upgrade_request_is_answered_in_http_1(connect: Callable[[], RawConnection], protocol: bytes) -> None:
    raw = connect()
    raw.send(HEALTH_REQUEST[:-2] + b"Connection: upgrade\r\nUpgrade: " + protocol + b"\r\n\r\n")
    assert parse_statuses(raw.read_all()) == [200]


BODY_FRAMINGS = {
    "length": (b"Content-Length: 13", b'{"title":"x"}'),
    "chunks": (b"Transfer-Encoding: chunked", b'6\r\n{"titl\r\n7\r\ne":"x"}\r\n0\r\n\r\n'),
}


@pytest.mark.parametrize("framing", BODY_FRAMINGS)
@pytest.mark.parametrize("pieces", [1, 2, 99])
def test_upgrade_request_keeps_its_body(
    server: RunningServer, connect: Callable[[], RawConnection], framing: str, pieces: int
) -> None:
    """Java's HTTP client and ``curl --http2`` send such requests. Bytes behind the body are not read."""
    header, body = BODY_FRAMINGS[framing]
    raw = connect()
    raw.send(
        b"PUT /api/v1/items/h2c-%b-%d HTTP/1.1\r\nHost: localhost\r\nX-API-KEY: %b\r\nConnection: Upgrade, "
        b"HTTP2-Settings\r\n"
        b"Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\nContent-Type: application/json\r\n%b\r\n\r\n"
        % (framing.encode(), pieces, server.keys["admin"].encode(), header)
    )
    size = -(-len(body) // pieces)
    for start in range(0, len(body), size):
        raw.send(body[start : start + size])
    raw.send(HEALTH_REQUEST)
    received = raw.read_all()
    assert (parse_statuses(received), b'"title":"x"' in received) == ([201], True)


@pytest.mark.parametrize("body", [b"zz\r\n", b"5\r\nab"])
def test_upgrade_request_with_half_a_body_changes_nothing(
    server: RunningServer, connect: Callable[[], RawConnection], body: bytes
) -> None:
    raw = connect()
    raw.send(
        b"PUT /api/v1/items/h2c-half HTTP/1.1\r\nHost: localhost\r\nX-API-KEY: %b\r\nConnection: Upgrade\r\n"
        b"Upgrade: h2c\r\n"
        b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n%b"
        % (server.keys["admin"].encode(), body)
    )
    received = raw.read_all()
    assert not {200, 201} & set(parse_statuses(received)), received


def test_malformed_requests_do_not_fill_the_log(
    connect: Callable[[], RawConnection], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(0)
    for data in (b"\0\r\n\r\n", HEALTH_REQUEST[:-2] + b"Connection: upgrade\r\nUpgrade: websocket\r\n\r\n"):
        raw = connect()
        raw.send(data)
        raw.read_all()
    assert [record for record in caplog.records if record.levelname not in {"DEBUG", "TRACE"}] == []


def test_stream_with_pipelined_requests_ends_with_its_connection(
    server: RunningServer, connect: Callable[[], RawConnection]
) -> None:
    hub = server.background.app.services.hub
    raw = connect()
    key = server.keys["read"].encode()
    raw.send(b"GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\nX-API-KEY: " + key + b"\r\n\r\n" + 3 * HEALTH_REQUEST)
    wait_until(lambda: hub.stream_count == 1)
    raw.close()
    wait_until(lambda: hub.stream_count == 0)


def test_longest_idle_connection_is_evicted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    served = RunningServer(tmp_path, ManualClock())
    connections = [RawConnection(served.url) for _ in range(3)]
    try:
        first, second, third = connections
        for raw in (first, second, third, first):
            raw.send(HEALTH_REQUEST)
            assert parse_statuses(raw.read_response()) == [200]
        monkeypatch.setattr(capacity, "max_connections", lambda: 3)
        fourth = RawConnection(served.url)
        connections.append(fourth)
        assert second.read_all() == b""
        for raw in (first, third, fourth):
            raw.send(HEALTH_REQUEST)
            assert parse_statuses(raw.read_response()) == [200]
    finally:
        for raw in connections:
            raw.close()
        served.stop()


@pytest.mark.parametrize("size", [2, 2000, 5000, 20_000])
def test_pipelined_bodies_of_any_size_are_answered_in_order(
    server: RunningServer, connect: Callable[[], RawConnection], size: int
) -> None:
    raw = connect()
    key, body = server.keys["write"].encode(), b"{}".ljust(size)
    for name in (b"piped-1", b"piped-2") * 10:
        raw.send(
            b"PUT /api/v1/items/%b HTTP/1.1\r\nHost: localhost\r\nX-API-KEY: %b\r\nContent-Length: %d\r\n\r\n%b"
            % (name, key, size, body)
        )
    raw.send(HEALTH_REQUEST[:-2] + b"Connection: close\r\n\r\n")
    statuses = parse_statuses(raw.read_all())
    assert len(statuses) == 21
    assert set(statuses) <= {200, 201}


def test_requests_behind_an_upgrade_are_not_read(connect: Callable[[], RawConnection]) -> None:
    raw = connect()
    raw.send(HEALTH_REQUEST[:-2] + b"Connection: upgrade\r\nUpgrade: h2c\r\n\r\n" + 300 * HEALTH_REQUEST)
    assert parse_statuses(raw.read_all()) == [200]


def test_http_0_9_request_line_is_refused(connect: Callable[[], RawConnection]) -> None:
    for line in (b"GET /\r\n", b"GET /healthz\r\n"):
        raw = connect()
        raw.send(line)
        assert parse_statuses(raw.read_all()) == [400]


def test_repeated_host_is_refused_in_either_order(connect: Callable[[], RawConnection]) -> None:
    for first, second in ((b"localhost", b"evil.example"), (b"evil.example", b"localhost")):
        raw = connect()
        raw.send(b"GET / HTTP/1.1\r\nHost: %b\r\nHost: %b\r\nConnection: close\r\n\r\n" % (first, second))
        assert parse_statuses(raw.read_all()) == [400]
