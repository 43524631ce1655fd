"""Clients that do not read what they asked for: what the server holds for them is bounded, and others are served."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from typing import TYPE_CHECKING

import httpx
import pytest

from progressbar_tracker.server import budget
from progressbar_tracker.server.api import history
from progressbar_tracker.server.budget import CHUNK_BYTES, ByteBudget, Slots
from progressbar_tracker.server.http import connection, endpoint
from progressbar_tracker.server.hub import Hub, View
from progressbar_tracker.server.items.board import Board, Owner
from progressbar_tracker.server.problems import ProblemError
from progressbar_tracker.server.routes import TABLE
from tests.server.access.test_authorization import MATRIX
from tests.support.server import NO_TLS, Clock, Served
from tests.support.sse import Stream

from .test_connections import Raw, answers, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

WIDE = "\N{PILE OF POO}"
ITEMS = 300
LARGE = {"description": WIDE * 2000, "title": WIDE * 200, "run_id": "r"}


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server with large items and runs, and the smallest budget."""
    served = Served(tmp_path_factory.mktemp("full"), Clock(), max_unread=8, public_read=True)
    writer = served.client("write")
    for start in range(0, ITEMS, 50):
        ops = [{"op": "put", "id": f"item-{n}", **LARGE} for n in range(start, start + 50)]
        assert writer.post("/api/v1/items:batch", json={"ops": ops}).status_code == 200
    for start in range(0, ITEMS, 50):
        ops = [{"op": "put", "id": f"item-{n}", **LARGE, "run_id": "again"} for n in range(start, start + 50)]
        assert writer.post("/api/v1/items:batch", json={"ops": ops}).status_code == 200
    yield served
    served.stop()


@pytest.fixture
def ask(full: Served) -> Iterator[Callable[..., Raw]]:
    """Ask for something, to be read later or not at all."""
    with contextlib.ExitStack() as opened:

        def ask_one(path: str, key: str | None = "read", *, times: int = 1, method: str = "GET") -> Raw:
            raw = Raw(full, buffer=4096)
            opened.callback(raw.socket.close)
            header = "" if key is None else f"X-API-KEY: {full.keys.get(key, key)}\r\n"
            raw.send(f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n{header}\r\n".encode() * times)
            return raw

        yield ask_one
    until(lambda: held(full) == 0)


def held(served: Served) -> int:
    return served.server.app.services.budget.held_bytes


def status(raw: Raw) -> int:
    found = re.match(rb"HTTP/1\.1 (\d+)", raw.socket.recv(32))
    return 0 if found is None else int(found[1])


LARGE_PATHS = [
    "/progress", "/api/v1/items?limit=10000", "/api/v1/history.csv", "/api/v1/history.json",
    "/api/v1/history?limit=1000", "/api/v1/events",
]  # fmt: skip


@pytest.mark.parametrize("path", LARGE_PATHS)
def test_unread_responses_of_one_key_hold_a_quarter_at_most(full: Served, ask: Callable[..., Raw], path: str) -> None:
    unread = [ask(path) for _ in range(40)]
    statuses = [status(raw) for raw in unread]
    assert set(statuses) <= {200, 503, 0}
    assert statuses[0] == 200
    assert held(full) <= full.server.app.services.budget.max_holder_bytes
    # Others are served: with another key, what is exempt, and what they write.
    assert full.client("write").put("/api/v1/items/other", json={}).status_code in {200, 201}
    assert full.client("read").put("/api/v1/items/other", json={}).status_code == 403
    assert full.client("read").get("/healthz").status_code == 200
    assert full.client("read").get("/readyz").status_code == 200
    assert full.client("admin").get("/api/v1/items?limit=10").status_code == 200


@pytest.mark.parametrize("path", [path for path in LARGE_PATHS if path != "/api/v1/events"])
def test_what_is_read_slowly_is_all_there(full: Served, ask: Callable[..., Raw], path: str) -> None:
    reply = full.client("admin").get(path)
    assert reply.status_code == 200
    if not path.endswith("csv"):
        document = json.loads(reply.content)
        items = document if isinstance(document, list) else document["items"]
        assert len({item["id"] for item in items}) == len(items)
        assert len(items) >= ITEMS or "next" in reply.links
    with httpx.Client(base_url=full.server.url, verify=NO_TLS, headers={"X-API-KEY": full.keys["admin"]}) as http:
        with http.stream("GET", path) as slow:
            assert b"".join(slow.iter_bytes(1000)) == reply.content


@pytest.mark.parametrize("path", [path for path in LARGE_PATHS if path != "/api/v1/events"])
def test_client_of_http_1_0_is_sent_no_chunks(full: Served, path: str) -> None:
    raw = Raw(full)
    raw.send(f"GET {path} HTTP/1.0\r\nHost: localhost\r\nX-API-KEY: {full.keys['admin']}\r\n\r\n".encode())
    head, _, body = raw.rest().partition(b"\r\n\r\n")
    raw.socket.close()
    assert b"transfer-encoding" not in head.lower()
    assert body == full.client("admin").get(path).content


def test_refusal_names_the_limit_and_when_to_come_back(full: Served, ask: Callable[..., Raw]) -> None:
    unread = [ask("/progress") for _ in range(20)]
    assert status(unread[0]) == 200
    refused = full.client("read").get("/progress")
    assert (refused.status_code, refused.json()["type"]) == (503, "/problems/too-many-bytes")
    assert int(refused.headers["Retry-After"]) == budget.RETRY_AFTER


def test_guests_of_one_network_share_a_quota_and_keys_have_their_own(full: Served, ask: Callable[..., Raw]) -> None:
    unread = [ask("/progress", None) for _ in range(20)]
    statuses = [status(raw) for raw in unread]
    assert (statuses[0], statuses[-1]) == (200, 503)
    assert full.client().get("/progress").status_code == 503
    assert full.client("read").get("/progress").status_code == 200


def test_exports_of_one_key_are_counted(full: Served, ask: Callable[..., Raw], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(full.server.app.services, "exports", Slots("exports", 8))
    unread = [ask("/api/v1/history.csv") for _ in range(3)]
    assert sorted(status(raw) for raw in unread) == [200, 200, 503]
    assert full.client("read").get("/api/v1/history.json").json()["type"] == "/problems/too-many-streams"
    assert full.client("admin").get("/api/v1/history.json").status_code == 200
    assert full.client("read").head("/api/v1/history.json").status_code == 200
    for raw in unread:
        raw.socket.close()
    until(lambda: full.server.app.services.exports.taken == 0)


def test_pipelined_requests_that_are_not_read_wait_as_bytes(full: Served, ask: Callable[..., Raw]) -> None:
    raw = ask("/api/v1/items?limit=300", times=3000)
    assert status(raw) == 200
    (answering,) = [one for one in full.server._uvicorn.server_state.connections if one.client[1] == port(raw)]
    until(lambda: held(full) > 0)
    assert len(answering.pipeline) < connection.FEED_BYTES // 40
    assert held(full) < 8 * CHUNK_BYTES  # the bytes that wait are charged too


def test_pipelined_requests_are_all_answered_once_they_are_read(full: Served, ask: Callable[..., Raw]) -> None:
    raw = ask("/api/v1/items/item-1", times=500)
    raw.send(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    assert answers(raw.rest()) == [200] * 501


def port(raw: Raw) -> int:
    found: int = raw.socket.getsockname()[1]
    return found


def test_client_that_reads_nothing_is_dropped_whatever_it_asked_for(
    full: Served, ask: Callable[..., Raw], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "UNREAD_TIMEOUT", 0.2)
    monkeypatch.setattr(endpoint, "SEND", 0.2)
    asked = (("/progress", "admin"), ("/api/v1/history.json", "write"), ("/", "read"))
    unread = [ask(path, key) for path, key in asked]
    unread.append(ask("/openapi.json", None, times=50))
    state = full.server._uvicorn.server_state
    ports = {port(raw) for raw in unread}
    until(lambda: not ports & {one.client[1] for one in state.connections})


def test_client_that_reads_slowly_is_not_dropped(
    full: Served, ask: Callable[..., Raw], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "UNREAD_TIMEOUT", 0.5)
    raw = ask("/openapi.json", "admin", times=20)
    raw.send(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    said, quiet = b"", 0
    raw.socket.settimeout(0.01)
    while True:
        try:
            more = raw.socket.recv(50_000)
        except TimeoutError:
            quiet += 1
            assert quiet < 2000
            continue
        if not more:
            break
        said += more
    assert answers(said).count(200) == 21


@pytest.mark.parametrize(
    "path", ["/progress", "/api/v1/history.csv", "/api/v1/history.json", "/api/v1/items?limit=999"]
)
def test_revoked_key_is_sent_no_more_of_a_long_response(full: Served, ask: Callable[..., Raw], path: str) -> None:
    key = full.server.create_key("read", "reader")
    record = full.server.app.services.ring.find(key, full.clock())
    assert record is not None
    raw = ask(path, key)
    assert status(raw) == 200
    whole = full.client("admin").get(path).content
    assert full.client("admin").delete(f"/api/v1/keys/{record.key_id}").status_code == 200
    ports = {port(raw)}
    state = full.server._uvicorn.server_state
    until(lambda: not ports & {one.client[1] for one in state.connections})
    assert len(raw.rest()) < len(whole) / 2


def test_body_that_is_never_finished_is_charged(full: Served, ask: Callable[..., Raw]) -> None:
    """A client may send all but the last byte of many bodies, and wait."""
    sent = []
    for _ in range(6):
        raw = ask("/healthz", None)
        raw.socket.recv(65536)
        raw.send(
            b"POST /api/v1/items:batch HTTP/1.1\r\nHost: localhost\r\nX-API-KEY: %b\r\nContent-Length: 1000000\r\n\r\n"
            % full.keys["other"].encode()
        )
        raw.send(b" " * 900_000)
        sent.append(raw)
    until(lambda: held(full) > full.server.app.services.budget.max_holder_bytes * 0.8)
    refused = [raw for raw in sent if raw.ready()]
    assert refused
    assert {status(raw) for raw in refused} == {503}
    assert held(full) <= full.server.app.services.budget.max_holder_bytes


# The parts


def test_budget_gives_one_holder_a_quarter_and_all_of_them_the_whole() -> None:
    held = ByteBudget(800)
    for holder in "abcd":
        held.admit(holder, 200)
        assert held.charge(holder, 200)
        with pytest.raises(ProblemError):
            held.admit(holder)
    with pytest.raises(ProblemError):
        held.admit("e")
    assert not held.charge("e", 1)
    held.release("e", 1)
    held.release("a", 200)
    held.admit("e", 200)
    assert (held.held_bytes, held.refused) == (600, 5)


def test_list_that_is_read_slowly_keeps_no_former_states(full: Served) -> None:
    """Each piece has the items as they are when it is made, so nothing is kept for a reader but their ids."""
    board = Board(max_items=1000, new_run_id=lambda: "run")
    for name in ("a", "b", "c"):
        board.put(name, {"title": "first"}, Owner("o", "o"), 0.0)
    items = board.current(["a", "b", "c"])
    assert next(items).title == "first"
    board.put("b", {"title": "second"}, Owner("o", "o"), 0.0)
    board.delete("c", 0.0)
    assert [(item.id, item.title) for item in items] == [("b", "second")]


def test_bar_does_not_go_backwards_after_a_snapshot_in_pieces() -> None:
    async def main() -> None:
        board = Board(max_items=1000, new_run_id=lambda: "run")
        for n in range(200):
            board.put(f"i{n:03}", {"run_id": "r", "completed": 0, "description": "x" * 2000}, Owner("o", "o"), 0.0)
        hub = Hub(board, epoch="e", clock=lambda: 0.0)
        stream = hub.events(View(), None, lambda: True)
        await anext(stream)
        said = await anext(stream)
        step = 0
        while b"event: snapshot" not in said or not said.endswith(b"\n\n"):
            step += 1
            for n in range(200):
                board.patch(f"i{n:03}", {"completed": step}, 0.0)
            hub.tick()
            said += await anext(stream)
        board.delete("i000", 0.0)
        board.patch("i001", {"completed": 12345}, 0.0)
        hub.tick()
        while b"12345" not in said or not said.endswith(b"\n\n"):
            said += await anext(stream)
        await stream.aclose()
        shown: dict[str, int] = {}
        for event in said.decode().split("\n\n")[:-1]:
            data = json.loads(event.partition("data: ")[2])
            for item in data["items"]:
                assert item["completed"] >= shown.get(item["id"], -1)
                shown[item["id"]] = item["completed"]
            for gone in data.get("gone", ()):
                del shown[gone]
        assert shown == {f"i{n:03}": 12345 if n == 1 else step for n in range(1, 200)}

    asyncio.run(main())


def test_reader_of_a_large_event_that_the_ring_forgets_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        board = Board(max_items=1000, new_run_id=lambda: "run")
        hub = Hub(board, epoch="e", clock=lambda: 0.0)
        slow = hub.events(View(), None, lambda: True)
        await anext(slow), await anext(slow)

        def move() -> None:
            for n in range(100):
                board.put(f"i{n}", {"run_id": "r", "description": "x" * 2000}, Owner("o", "o"), 0.0)
            hub.tick()

        move()
        assert len(await anext(slow)) == CHUNK_BYTES
        monkeypatch.setattr("progressbar_tracker.server.hub.RING_BYTES", 10)
        move()
        with pytest.raises(StopAsyncIteration):
            await anext(slow)

    asyncio.run(main())


def test_tick_of_too_much_is_a_snapshot(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        board = Board(max_items=1000, new_run_id=lambda: "run")
        hub = Hub(board, epoch="e", clock=lambda: 0.0)
        stream = hub.events(View(), None, lambda: True)
        await anext(stream), await anext(stream)
        for n in range(10):
            board.put(f"i{n}", {"run_id": "r", "description": "x" * 2000}, Owner("o", "o"), 0.0)
        hub.tick()
        assert len(hub._ring) == 0
        assert b"event: snapshot" in await anext(stream)
        await stream.aclose()

    monkeypatch.setattr("progressbar_tracker.server.hub.TICK_BYTES", 10_000)
    asyncio.run(main())


def test_page_of_the_history_is_bounded_in_bytes(full: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "PAGE_BYTES", 50_000)
    http = full.client("admin")
    seen, path = [], "/api/v1/history?limit=1000"
    while path:
        reply = http.get(path)
        assert len(reply.content) < 80_000
        seen += [(run["id"], run["run_id"]) for run in reply.json()["items"]]
        path = "/api/v1/" + reply.links["next"]["url"] if "next" in reply.links else ""
    assert len(seen) == len(set(seen)) == ITEMS


def test_clients_without_a_key_leave_half_of_the_budget_to_those_with_one() -> None:
    held = ByteBudget(800)
    for n in range(4):
        holder = f"address 2001:db8:{n}::"
        held.admit(holder, 100)
        held.charge(holder, 100)
    with pytest.raises(ProblemError):
        held.admit("address 192.0.2.1")
    held.admit("key", 200)
    held.release("address 2001:db8:0::", 100)
    held.admit("address 192.0.2.1", 100)


def test_budget_refuses_strangers_beyond_their_half() -> None:
    held = ByteBudget(800)
    for n in range(4):
        assert held.charge(f"address 2001:db8:{n}::", 100)
    assert not held.charge("address 192.0.2.1", 1)
    assert held.charge("key", 200)


def test_heads_that_are_never_finished_are_charged(full: Served, ask: Callable[..., Raw]) -> None:
    """A client may begin many heads of the largest size, and wait."""
    begun = []
    for _ in range(60):
        raw = ask("/healthz", None)
        raw.socket.recv(65536)
        raw.send(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n" + b"X-Long: " + b"a" * 60_000)
        begun.append(raw)
    until(lambda: any(raw.ready() for raw in begun))
    assert {status(raw) for raw in begun if raw.ready()} <= {503, 0}
    assert held(full) <= full.server.app.services.budget.max_holder_bytes
    assert full.client("read").get("/progress").status_code == 200


FORM = b"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 60\r\n"
UNFINISHED = b"POST /login HTTP/1.1\r\nHost: localhost\r\n" + FORM
PIPELINED = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.mark.parametrize(
    "sent",
    [
        UNFINISHED + b"X-Long: " + b"a" * 60_000 + b"\r\n\r\n",
        UNFINISHED + b"X-Long: " + b"a" * 250_000,
        UNFINISHED + b"a:b\r\n" * 800 + b"\r\n",
        UNFINISHED + b"a:b\r\n" * 800,
        b"POST /login?" + b"a" * 60_000 + b" HTTP/1.1\r\nHost: localhost\r\n" + FORM + b"\r\n",
    ],
    ids=["a long header", "a head that is too large", "many headers", "many headers without end", "a long query"],
)
def test_heads_of_unfinished_requests_are_charged(full: Served, ask: Callable[..., Raw], sent: bytes) -> None:
    """A client may finish many heads, and send no body."""
    begun = []
    for _ in range(60):
        raw = ask("/healthz", None)
        raw.socket.recv(65536)
        raw.send(sent)
        begun.append(raw)
    until(lambda: any(raw.ready() for raw in begun))
    assert {status(raw) for raw in begun if raw.ready()} <= {503, 431, 0}
    assert held(full) <= full.server.app.services.budget.max_holder_bytes
    assert full.client("read").get("/progress").status_code == 200


@pytest.mark.parametrize(
    "pipelined",
    [b"GET /healthz HTTP/1.1\r\nX-Long: " + b"a" * 60_000, PIPELINED * 5000, PIPELINED * 80],
    ids=["a head", "many requests", "few bytes of requests"],
)
def test_requests_behind_a_stream_are_charged(full: Served, ask: Callable[..., Raw], pipelined: bytes) -> None:
    streams = [ask("/api/v1/events", "admin") for _ in range(60)]
    assert status(streams[0]) == 200
    state, names = full.server._uvicorn.server_state, {raw.socket.getsockname() for raw in streams}
    for raw in streams:
        raw.send(pipelined[:200_000])
    until(lambda: len(names & {one.client for one in state.connections}) < len(streams))
    assert held(full) <= 2 * full.server.app.services.budget.max_holder_bytes  # of the key, and of its network
    assert full.client("read").get("/readyz").status_code == 200


@pytest.mark.parametrize(
    "sent",
    [
        b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Long: " + b"a" * 60_000 + b"\r\n\r\n",
        b"POST /progress HTTP/1.1\r\nHost: localhost\r\nContent-Length: 60000\r\n\r\n" + b"a" * 60_000,
        b"POST /progress HTTP/1.1\r\nHost: localhost\r\nContent-Length: 60000\r\n\r\n" + b"a" * 50_000,
    ],
    ids=["a head", "a body", "a body without end"],
)
def test_answered_request_is_forgotten(full: Served, ask: Callable[..., Raw], sent: bytes) -> None:
    raw = ask("/healthz", None)
    raw.socket.recv(65536)
    (answering,) = [one for one in full.server._uvicorn.server_state.connections if one.client[1] == port(raw)]
    raw.send(sent)
    status(raw)
    until(lambda: held(full) == 0)
    kept = answering.cycle
    assert len(answering.url) + len(kept.body) + sum(len(value) for _, value in kept.scope.get("headers", ())) < 4096


@pytest.mark.parametrize(
    "row", [row for row in TABLE if row.method == "GET" and "{" not in row.path], ids=lambda r: r.path
)
def test_every_read_is_refused_once_its_client_has_spent_its_share(full: Served, row: object) -> None:
    services = full.server.app.services
    principal = services.ring.find(full.keys["admin"], full.clock())
    assert principal is not None
    holders = (principal.key_id, "address 127.0.0.1")
    for holder in holders:
        services.budget.charge(holder, services.budget.max_holder_bytes)
    try:
        reply = full.client("admin").get(MATRIX["GET", row.path].path)
        assert reply.status_code == (200 if row.path in endpoint.EXEMPT_PATHS else 503)
    finally:
        for holder in holders:
            services.budget.release(holder, services.budget.max_holder_bytes)


def test_stream_goes_on_beside_unread_ones(full: Served, ask: Callable[..., Raw]) -> None:
    unread = [ask("/api/v1/events") for _ in range(30)]
    assert status(unread[0]) == 200
    stream = Stream(full, "admin")
    try:
        full.client("write").put("/api/v1/items/beside", json={"run_id": "r"})
        stream.until(lambda event: "beside" in str(event.data))
    finally:
        stream.close()
