"""Unread responses: the bytes that the server holds for them are bounded, and other clients are served."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from typing import TYPE_CHECKING

import httpx
import pytest

from progressbar_tracker.server import budget as budget_module
from progressbar_tracker.server.api import history
from progressbar_tracker.server.budget import CHUNK_BYTES, ByteBudget, Slots
from progressbar_tracker.server.frames import View
from progressbar_tracker.server.http import connection, endpoint
from progressbar_tracker.server.hub import Hub
from progressbar_tracker.server.items.board import Board
from progressbar_tracker.server.items.change import Owner
from progressbar_tracker.server.problems import ProblemError
from progressbar_tracker.server.routes import ROUTES
from tests.support.access import ACCESS_MATRIX
from tests.support.boards import ITEM_SERIALIZER
from tests.support.clock import ManualClock
from tests.support.connections import TLS_CONTEXT, RawConnection, parse_statuses
from tests.support.server import RunningServer
from tests.support.sse import SseStream
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

WIDE_CHARACTER = "\N{PILE OF POO}"
ITEM_COUNT = 300
LARGE_FIELDS = {"description": WIDE_CHARACTER * 2000, "title": WIDE_CHARACTER * 200, "run_id": "r"}


@pytest.fixture(scope="module")
def loaded_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server with large items and runs, and the smallest budget."""
    served = RunningServer(tmp_path_factory.mktemp("full"), ManualClock(), max_unread=8, public_read=True)
    writer = served.client("write")
    for start in range(0, ITEM_COUNT, 50):
        ops = [{"op": "put", "id": f"item-{n}", **LARGE_FIELDS} for n in range(start, start + 50)]
        assert writer.post("/api/v1/items:batch", json={"ops": ops}).status_code == 200
    for start in range(0, ITEM_COUNT, 50):
        ops = [{"op": "put", "id": f"item-{n}", **LARGE_FIELDS, "run_id": "again"} for n in range(start, start + 50)]
        assert writer.post("/api/v1/items:batch", json={"ops": ops}).status_code == 200
    yield served
    served.stop()


@pytest.fixture
def send_request(loaded_server: RunningServer) -> Iterator[Callable[..., RawConnection]]:
    """Send a request whose response is read late or never."""
    with contextlib.ExitStack() as stack:

        def send(path: str, key: str | None = "read", *, times: int = 1, method: str = "GET") -> RawConnection:
            raw = RawConnection(loaded_server.url, buffer=4096)
            stack.callback(raw.close)
            header = "" if key is None else f"X-API-KEY: {loaded_server.keys.get(key, key)}\r\n"
            raw.send(f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n{header}\r\n".encode() * times)
            return raw

        yield send
    wait_until(lambda: get_held_bytes(loaded_server) == 0)


def get_held_bytes(served: RunningServer) -> int:
    return served.background.app.services.budget.held_bytes


def wait_for_quota(served: RunningServer, holders: int = 1) -> None:
    """Wait until clients hold no more than their quotas: a chunk that exceeds one is charged before it is dropped."""
    wait_until(lambda: get_held_bytes(served) <= holders * served.background.app.services.budget.max_holder_bytes)


def read_status(raw: RawConnection) -> int:
    match = re.match(rb"HTTP/1\.1 (\d+)", raw.socket.recv(32))
    return 0 if match is None else int(match[1])


LARGE_PATHS = [
    "/progress", "/api/v1/items?limit=10000", "/api/v1/history.csv", "/api/v1/history.json",
    "/api/v1/history?limit=1000", "/api/v1/events",
]  # fmt: skip


@pytest.mark.parametrize("path", LARGE_PATHS)
def test_unread_responses_of_one_key_hold_at_most_a_quarter(
    loaded_server: RunningServer, send_request: Callable[..., RawConnection], path: str
) -> None:
    unread = [send_request(path) for _ in range(40)]
    statuses = [read_status(raw) for raw in unread]
    assert set(statuses) <= {200, 503, 0}
    assert statuses[0] == 200
    wait_for_quota(loaded_server)
    # Requests with another key, exempt requests and writes are served.
    assert loaded_server.client("write").put("/api/v1/items/other", json={}).status_code in {200, 201}
    assert loaded_server.client("read").put("/api/v1/items/other", json={}).status_code == 403
    assert loaded_server.client("read").get("/healthz").status_code == 200
    assert loaded_server.client("read").get("/readyz").status_code == 200
    assert loaded_server.client("admin").get("/api/v1/items?limit=10").status_code == 200


@pytest.mark.parametrize("path", [path for path in LARGE_PATHS if path != "/api/v1/events"])
def test_slowly_read_response_is_complete(
    loaded_server: RunningServer, send_request: Callable[..., RawConnection], path: str
) -> None:
    reply = loaded_server.client("admin").get(path)
    assert reply.status_code == 200
    if not path.endswith("csv"):
        document = json.loads(reply.content)
        items = document if isinstance(document, list) else document["items"]
        assert len({item["id"] for item in items}) == len(items)
        assert len(items) >= ITEM_COUNT or "next" in reply.links
    with httpx.Client(
        base_url=loaded_server.background.url, verify=TLS_CONTEXT, headers={"X-API-KEY": loaded_server.keys["admin"]}
    ) as http:
        with http.stream("GET", path) as slow:
            assert b"".join(slow.iter_bytes(1000)) == reply.content


@pytest.mark.parametrize("path", [path for path in LARGE_PATHS if path != "/api/v1/events"])
def test_http_1_0_client_gets_no_chunks(loaded_server: RunningServer, path: str) -> None:
    raw = RawConnection(loaded_server.url)
    raw.send(f"GET {path} HTTP/1.0\r\nHost: localhost\r\nX-API-KEY: {loaded_server.keys['admin']}\r\n\r\n".encode())
    head, _, body = raw.read_all().partition(b"\r\n\r\n")
    raw.close()
    assert b"transfer-encoding" not in head.lower()
    assert body == loaded_server.client("admin").get(path).content


@contextlib.contextmanager
def fill_quota(served: RunningServer) -> Iterator[None]:
    """Fill the quota of the only client with an unread response to the last byte: responses come in chunks."""
    budget = served.background.app.services.budget
    (holder,) = budget._held
    size = budget.max_holder_bytes - budget._held[holder]
    budget.charge(holder, size)
    yield
    budget.release(holder, size)


def test_refusal_names_the_limit_and_the_retry_delay(
    loaded_server: RunningServer, send_request: Callable[..., RawConnection]
) -> None:
    assert read_status(send_request("/progress")) == 200
    with fill_quota(loaded_server):
        refused = loaded_server.client("read").get("/progress")
    assert (refused.status_code, refused.json()["type"]) == (503, "/problems/too-many-bytes")
    assert int(refused.headers["Retry-After"]) == budget_module.RETRY_AFTER


def test_guests_of_a_network_share_a_quota(
    loaded_server: RunningServer, send_request: Callable[..., RawConnection]
) -> None:
    assert read_status(send_request("/progress", None)) == 200
    with fill_quota(loaded_server):
        assert loaded_server.client().get("/progress").status_code == 503
        assert loaded_server.client("read").get("/progress").status_code == 200


def test_exports_of_one_key_are_limited(
    loaded_server: RunningServer, send_request: Callable[..., RawConnection], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loaded_server.background.app.services, "export_slots", Slots("exports", 8))
    unread = [send_request("/api/v1/history.csv") for _ in range(3)]
    assert sorted(read_status(raw) for raw in unread) == [200, 200, 503]
    assert loaded_server.client("read").get("/api/v1/history.json").json()["type"] == "/problems/too-many-streams"
    assert loaded_server.client("admin").get("/api/v1/history.json").status_code == 200
    assert loaded_server.client("read").head("/api/v1/history.json").status_code == 200
    for raw in unread:
        raw.close()
    wait_until(lambda: loaded_server.background.app.services.export_slots.in_use == 0)


def test_unread_pipelined_requests_wait_as_bytes(
    loaded_server: RunningServer, send_request: Callable[..., RawConnection]
) -> None:
    raw = send_request("/api/v1/items?limit=300", times=3000)
    assert read_status(raw) == 200
    (server_end,) = [
        end
        for end in list(loaded_server.background._uvicorn.server_state.connections)
        if end.client[1] == local_port(raw)
    ]
    wait_until(lambda: get_held_bytes(loaded_server) > 0)
    assert len(server_end.pipeline) < connection.FEED_BYTES // 40
    assert get_held_bytes(loaded_server) < 8 * CHUNK_BYTES  # the budget includes bytes that wait


def test_all_pipelined_requests_are_answered_when_read(
    loaded_server: RunningServer, send_request: Callable[..., RawConnection]
) -> None:
    raw = send_request("/api/v1/items/item-1", times=500)
    raw.send(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    assert parse_statuses(raw.read_all()) == [200] * 501


def local_port(raw: RawConnection) -> int:
    port: int = raw.socket.getsockname()[1]
    return port


def test_client_that_reads_nothing_is_dropped(
    loaded_server: RunningServer, send_request: Callable[..., RawConnection], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "UNREAD_TIMEOUT", 0.2)
    monkeypatch.setattr(endpoint, "SEND_TIMEOUT", 0.2)
    requests = (("/progress", "admin"), ("/api/v1/history.json", "write"), ("/", "read"))
    unread = [send_request(path, key) for path, key in requests]
    unread.append(send_request("/openapi.json", None, times=50))
    state = loaded_server.background._uvicorn.server_state
    ports = {local_port(raw) for raw in unread}
    wait_until(lambda: not ports & {end.client[1] for end in list(state.connections)})


def test_client_that_reads_slowly_is_not_dropped(
    loaded_server: RunningServer, send_request: Callable[..., RawConnection], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "UNREAD_TIMEOUT", 2.0)
    raw = send_request("/openapi.json", "admin", times=20)
    raw.send(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    received, pauses = b"", 0
    raw.socket.settimeout(0.01)
    while True:
        try:
            chunk = raw.socket.recv(50_000)
        except TimeoutError:
            pauses += 1
            assert pauses < 2000
            continue
        if not chunk:
            break
        received += chunk
    assert parse_statuses(received).count(200) == 21


@pytest.mark.parametrize(
    "path", ["/progress", "/api/v1/history.csv", "/api/v1/history.json", "/api/v1/items?limit=999"]
)
def test_long_response_ends_when_its_key_is_revoked(
    loaded_server: RunningServer, send_request: Callable[..., RawConnection], path: str
) -> None:
    key = loaded_server.background.create_key("read", "reader")
    record = loaded_server.background.app.services.keyring.find(key, loaded_server.clock())
    assert record is not None
    raw = send_request(path, key)
    assert read_status(raw) == 200
    complete = loaded_server.client("admin").get(path).content
    assert loaded_server.client("admin").delete(f"/api/v1/keys/{record.key_id}").status_code == 200
    ports = {local_port(raw)}
    state = loaded_server.background._uvicorn.server_state
    wait_until(lambda: not ports & {end.client[1] for end in list(state.connections)})
    assert len(raw.read_all()) < len(complete) / 2


def test_unfinished_bodies_are_charged(
    loaded_server: RunningServer, send_request: Callable[..., RawConnection]
) -> None:
    """A client may withhold the end of many bodies."""
    sent = []
    for _ in range(6):
        raw = send_request("/healthz", None)
        raw.read_response()
        raw.send(
            b"POST /api/v1/items:batch HTTP/1.1\r\nHost: localhost\r\nX-API-KEY: %b\r\nContent-Length: 1000000\r\n\r\n"
            % loaded_server.keys["other"].encode()
        )
        raw.send(b" " * 900_000)
        sent.append(raw)
    wait_until(
        lambda: get_held_bytes(loaded_server) > loaded_server.background.app.services.budget.max_holder_bytes * 0.8
    )
    wait_until(lambda: any(raw.is_readable() for raw in sent))
    refused = [raw for raw in sent if raw.is_readable()]
    assert {read_status(raw) for raw in refused} == {503}
    wait_for_quota(loaded_server)


# Units


def test_budget_limits_each_holder_to_a_quarter() -> None:
    budget = ByteBudget(800)
    for holder in "abcd":
        budget.admit(holder, 200)
        assert budget.charge(holder, 200)
        with pytest.raises(ProblemError):
            budget.admit(holder)
    with pytest.raises(ProblemError):
        budget.admit("e")
    assert not budget.charge("e", 1)
    budget.release("e", 1)
    budget.release("a", 200)
    budget.admit("e", 200)
    assert (budget.held_bytes, budget.refused) == (600, 5)


def test_slowly_read_list_has_the_latest_states(loaded_server: RunningServer) -> None:
    """Each chunk has the items at the time it is serialized: for a slow reader, the server keeps ids only."""
    board = Board(max_items=1000, new_run_id=lambda: "run")
    for name in ("a", "b", "c"):
        board.put(name, {"title": "first"}, Owner("o", "o"), 0.0)
    items = board.iter_items(["a", "b", "c"])
    assert next(items).title == "first"
    board.put("b", {"title": "second"}, Owner("o", "o"), 0.0)
    board.delete("c", 0.0)
    assert [(item.id, item.title) for item in items] == [("b", "second")]


def test_chunked_snapshot_never_moves_an_item_backwards() -> None:
    async def main() -> None:
        board = Board(max_items=1000, new_run_id=lambda: "run")
        for n in range(200):
            board.put(f"i{n:03}", {"run_id": "r", "completed": 0, "description": "x" * 2000}, Owner("o", "o"), 0.0)
        hub = Hub(board, ITEM_SERIALIZER, epoch="e", clock=lambda: 0.0)
        stream = hub.events(View(), None, lambda: True)
        await anext(stream)
        received = await anext(stream)
        step = 0
        while b"event: snapshot" not in received or not received.endswith(b"\n\n"):
            step += 1
            for n in range(200):
                board.patch(f"i{n:03}", {"completed": step}, 0.0)
            hub.tick()
            received += await anext(stream)
        board.delete("i000", 0.0)
        board.patch("i001", {"completed": 12345}, 0.0)
        hub.tick()
        while b"12345" not in received or not received.endswith(b"\n\n"):
            received += await anext(stream)
        await stream.aclose()
        shown: dict[str, int] = {}
        for event in received.decode().split("\n\n")[:-1]:
            data = json.loads(event.partition("data: ")[2])
            for item in data["items"]:
                assert item["completed"] >= shown.get(item["id"], -1)
                shown[item["id"]] = item["completed"]
            for gone in data.get("gone", ()):
                del shown[gone]
        assert shown == {f"i{n:03}": 12345 if n == 1 else step for n in range(1, 200)}

    asyncio.run(main())


def test_stream_ends_when_the_ring_drops_its_event(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        board = Board(max_items=1000, new_run_id=lambda: "run")
        hub = Hub(board, ITEM_SERIALIZER, epoch="e", clock=lambda: 0.0)
        slow = hub.events(View(), None, lambda: True)
        await anext(slow), await anext(slow)

        def change_items() -> None:
            for n in range(100):
                board.put(f"i{n}", {"run_id": "r", "description": "x" * 2000}, Owner("o", "o"), 0.0)
            hub.tick()

        change_items()
        assert len(await anext(slow)) == CHUNK_BYTES
        monkeypatch.setattr("progressbar_tracker.server.hub.MAX_RING_BYTES", 10)
        change_items()
        with pytest.raises(StopAsyncIteration):
            await anext(slow)

    asyncio.run(main())


def test_oversized_tick_becomes_a_snapshot(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        board = Board(max_items=1000, new_run_id=lambda: "run")
        hub = Hub(board, ITEM_SERIALIZER, epoch="e", clock=lambda: 0.0)
        stream = hub.events(View(), None, lambda: True)
        await anext(stream), await anext(stream)
        for n in range(10):
            board.put(f"i{n}", {"run_id": "r", "description": "x" * 2000}, Owner("o", "o"), 0.0)
        hub.tick()
        assert len(hub._ring) == 0
        assert b"event: snapshot" in await anext(stream)
        await stream.aclose()

    monkeypatch.setattr("progressbar_tracker.server.hub.MAX_TICK_BYTES", 10_000)
    asyncio.run(main())


def test_history_page_is_bounded_in_bytes(loaded_server: RunningServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "MAX_PAGE_BYTES", 50_000)
    http = loaded_server.client("admin")
    runs, path = [], "/api/v1/history?limit=1000"
    while path:
        reply = http.get(path)
        assert len(reply.content) < 80_000
        runs += [(run["id"], run["run_id"]) for run in reply.json()["items"]]
        path = "/api/v1/" + reply.links["next"]["url"] if "next" in reply.links else ""
    assert len(runs) == len(set(runs)) == ITEM_COUNT


def test_guests_leave_half_of_the_budget_to_keys() -> None:
    budget = ByteBudget(800)
    for n in range(4):
        holder = f"address 2001:db8:{n}::"
        budget.admit(holder, 100)
        budget.charge(holder, 100)
    with pytest.raises(ProblemError):
        budget.admit("address 192.0.2.1")
    budget.admit("key", 200)
    budget.release("address 2001:db8:0::", 100)
    budget.admit("address 192.0.2.1", 100)


def test_budget_limits_guests_to_half() -> None:
    budget = ByteBudget(800)
    for n in range(4):
        assert budget.charge(f"address 2001:db8:{n}::", 100)
    assert not budget.charge("address 192.0.2.1", 1)
    assert budget.charge("key", 200)


def test_unfinished_heads_are_charged(loaded_server: RunningServer, send_request: Callable[..., RawConnection]) -> None:
    """A client may withhold the end of many large heads."""
    unfinished = []
    for _ in range(60):
        raw = send_request("/healthz", None)
        raw.read_response()
        raw.send(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n" + b"X-Long: " + b"a" * 60_000)
        unfinished.append(raw)
    wait_until(lambda: any(raw.is_readable() for raw in unfinished))
    assert {read_status(raw) for raw in unfinished if raw.is_readable()} <= {503, 0}
    wait_for_quota(loaded_server)
    assert loaded_server.client("read").get("/progress").status_code == 200


FORM_HEADERS = b"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 60\r\n"
UNFINISHED_LOGIN = b"POST /login HTTP/1.1\r\nHost: localhost\r\n" + FORM_HEADERS
PIPELINED_REQUEST = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.mark.parametrize(
    "sent",
    [
        UNFINISHED_LOGIN + b"X-Long: " + b"a" * 60_000 + b"\r\n\r\n",
        UNFINISHED_LOGIN + b"X-Long: " + b"a" * 250_000,
        UNFINISHED_LOGIN + b"a:b\r\n" * 800 + b"\r\n",
        UNFINISHED_LOGIN + b"a:b\r\n" * 800,
        b"POST /login?" + b"a" * 60_000 + b" HTTP/1.1\r\nHost: localhost\r\n" + FORM_HEADERS + b"\r\n",
    ],
    ids=["long header", "too large head", "many headers", "endless headers", "long query"],
)
def test_heads_of_unfinished_bodies_are_charged(
    loaded_server: RunningServer, send_request: Callable[..., RawConnection], sent: bytes
) -> None:
    """A client may finish many heads, and send no bodies."""
    unfinished = []
    for _ in range(60):
        raw = send_request("/healthz", None)
        raw.read_response()
        raw.send(sent)
        unfinished.append(raw)
    wait_until(lambda: any(raw.is_readable() for raw in unfinished))
    assert {read_status(raw) for raw in unfinished if raw.is_readable()} <= {503, 431, 408, 0}  # 408 on a slow machine
    wait_for_quota(loaded_server)
    assert loaded_server.client("read").get("/progress").status_code == 200


@pytest.mark.parametrize(
    "pipelined",
    [b"GET /healthz HTTP/1.1\r\nX-Long: " + b"a" * 60_000, PIPELINED_REQUEST * 5000, PIPELINED_REQUEST * 80],
    ids=["head", "many requests", "few requests"],
)
def test_requests_behind_a_stream_are_charged(
    loaded_server: RunningServer, send_request: Callable[..., RawConnection], pipelined: bytes
) -> None:
    streams = [send_request("/api/v1/events", "admin") for _ in range(60)]
    assert read_status(streams[0]) == 200
    state, names = loaded_server.background._uvicorn.server_state, {raw.socket.getsockname() for raw in streams}
    for raw in streams:
        raw.send(pipelined[:200_000])
    wait_until(lambda: len(names & {end.client for end in list(state.connections)}) < len(streams))
    # The key and its network are two holders.
    wait_for_quota(loaded_server, holders=2)
    assert loaded_server.client("read").get("/readyz").status_code == 200


@pytest.mark.parametrize(
    "sent",
    [
        b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Long: " + b"a" * 60_000 + b"\r\n\r\n",
        b"POST /progress HTTP/1.1\r\nHost: localhost\r\nContent-Length: 60000\r\n\r\n" + b"a" * 60_000,
        b"POST /progress HTTP/1.1\r\nHost: localhost\r\nContent-Length: 60000\r\n\r\n" + b"a" * 50_000,
    ],
    ids=["head", "body", "unfinished body"],
)
def test_answered_request_is_released(
    loaded_server: RunningServer, send_request: Callable[..., RawConnection], sent: bytes
) -> None:
    raw = send_request("/healthz", None)
    raw.read_response()
    (server_end,) = [
        end
        for end in list(loaded_server.background._uvicorn.server_state.connections)
        if end.client[1] == local_port(raw)
    ]
    raw.send(sent)
    read_status(raw)
    wait_until(lambda: get_held_bytes(loaded_server) == 0)
    cycle = server_end.cycle
    assert len(server_end.url) + len(cycle.body) + sum(len(value) for _, value in cycle.scope.get("headers", ())) < 4096


@pytest.mark.parametrize(
    "row", [row for row in ROUTES if row.method == "GET" and "{" not in row.path], ids=lambda r: r.path
)
def test_every_read_is_refused_when_the_budget_is_spent(loaded_server: RunningServer, row: object) -> None:
    services = loaded_server.background.app.services
    principal = services.keyring.find(loaded_server.keys["admin"], loaded_server.clock())
    assert principal is not None
    holders = (principal.key_id, "address 127.0.0.1")
    for holder in holders:
        services.budget.charge(holder, services.budget.max_holder_bytes)
    try:
        reply = loaded_server.client("admin").get(ACCESS_MATRIX["GET", row.path].path)
        assert reply.status_code == (200 if row.path in endpoint.EXEMPT_PATHS else 503)
    finally:
        for holder in holders:
            services.budget.release(holder, services.budget.max_holder_bytes)


def test_stream_continues_beside_unread_streams(
    loaded_server: RunningServer, send_request: Callable[..., RawConnection]
) -> None:
    unread = [send_request("/api/v1/events") for _ in range(30)]
    assert read_status(unread[0]) == 200
    stream = SseStream(loaded_server, "admin")
    try:
        loaded_server.client("write").put("/api/v1/items/beside", json={"run_id": "r"})
        stream.read_until(lambda event: "beside" in str(event.data))
    finally:
        stream.close()
