"""Event streams of a running server, and the hub alone."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from progressbar_tracker.server import hub as hub_module
from progressbar_tracker.server.frames import View
from progressbar_tracker.server.hub import Hub
from progressbar_tracker.server.items.board import Board
from progressbar_tracker.server.items.change import Owner
from tests.support.boards import ITEM_SERIALIZER
from tests.support.clock import START_TIME
from tests.support.connections import RawConnection, encode_request
from tests.support.sse import SseStream
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.server import RunningServer


@pytest.fixture
def open_stream(server: RunningServer) -> Iterator[Callable[..., SseStream]]:
    """Open streams; they are closed at the end."""
    streams: list[SseStream] = []

    def start(key: str | None = "read", query: str = "", **headers: str) -> SseStream:
        streams.append(SseStream(server, key, query, **headers))
        return streams[-1]

    yield start
    for stream in streams:
        stream.close()


def put_item(served: RunningServer, item_id: str, **fields: object) -> None:
    reply = served.client("write").put(f"/api/v1/items/{item_id}", json=fields)
    assert reply.status_code in (200, 201), reply.text


def event_ids(event: object) -> list[str]:
    return [item["id"] for item in event.data["items"]]


def test_stream_sends_a_snapshot_then_changes(server, open_stream) -> None:
    put_item(server, "a", run_id="r", completed=1, total=4)
    stream = open_stream()
    first = stream.next()
    assert (first.name, event_ids(first)) == ("snapshot", ["a"])
    put_item(server, "b", run_id="r", title="second")
    put_item(server, "a", run_id="r", completed=2, total=4)
    events = stream.read_until(lambda event: "a" in event_ids(event))
    assert {event.name for event in events} == {"change"}
    changed = {item["id"]: item for event in events for item in event.data["items"]}
    assert (changed["a"]["value"], changed["b"]["title"]) == (0.5, "second")
    assert changed["a"] == server.client("read").get("/api/v1/items/a").json()


def test_deleted_item_is_published_as_gone_and_ended(server, open_stream) -> None:
    put_item(server, "a", run_id="r", completed=4, total=4, status="succeeded")
    stream = open_stream()
    stream.next()
    assert server.client("write").delete("/api/v1/items/a").status_code == 200
    event = stream.next()
    assert (event.name, event.data["gone"], event.data["items"]) == ("change", ["a"], [])
    (run,) = event.data["ended"]
    assert run == server.client("read").get("/api/v1/history").json()["items"][0]


def test_group_stream_shows_its_items_and_those_that_leave(server, open_stream) -> None:
    put_item(server, "mine", run_id="r", group="g")
    put_item(server, "other", run_id="r", group="h")
    stream = open_stream(query="?group=g")
    assert event_ids(stream.next()) == ["mine"]
    put_item(server, "other", run_id="r", group="h", title="unseen")
    server.client("write").patch("/api/v1/items/mine", json={"group": "h"})
    event = stream.next()
    assert (event_ids(event), event.data["gone"]) == ([], ["mine"])
    server.client("write").patch("/api/v1/items/other", json={"group": "g"})
    assert event_ids(stream.next()) == ["other"]


def test_stream_of_one_item_shows_only_that(server, open_stream) -> None:
    put_item(server, "a b", run_id="r")
    put_item(server, "c", run_id="r")
    stream = open_stream(query="?id=a%20b")
    assert event_ids(stream.next()) == ["a b"]
    put_item(server, "c", run_id="r", title="unseen")
    put_item(server, "a b", run_id="r", title="seen")
    assert event_ids(stream.next()) == ["a b"]


def test_reconnect_with_a_known_id_resumes(server, open_stream) -> None:
    keeper = open_stream()  # the ring is empty without a subscriber
    put_item(server, "a", run_id="r")
    keeper.read_until(lambda event: "a" in event_ids(event))
    stream = open_stream()
    last = stream.next()
    stream.close()
    put_item(server, "b", run_id="r")
    keeper.read_until(lambda event: "b" in event_ids(event))
    again = open_stream(**{"Last-Event-ID": last.id})
    event = again.next()
    assert (event.name, event_ids(event)) == ("change", ["b"])


def list_with_event_id(served: RunningServer) -> str:
    return served.client("read").get("/api/v1/items").headers["Event-ID"]


def test_stream_after_a_list_sends_only_later_changes(server, open_stream) -> None:
    put_item(server, "a", run_id="r")
    put_item(server, "left", run_id="r", status="succeeded")
    event_id = list_with_event_id(server)
    put_item(server, "b", run_id="r", completed=1)
    put_item(server, "b", run_id="r", completed=2)
    server.client("write").delete("/api/v1/items/left")
    event = open_stream(**{"Last-Event-ID": event_id}).next()
    assert (event.name, event_ids(event), event.data["gone"]) == ("change", ["b"], ["left"])
    assert [run["id"] for run in event.data["ended"]] == ["left"]
    assert event.data["items"][0]["completed"] == 2


def test_stream_after_two_lists_continues_from_its_own(server, open_stream) -> None:
    first = list_with_event_id(server)
    put_item(server, "a", run_id="r")
    second = list_with_event_id(server)
    put_item(server, "b", run_id="r")
    assert event_ids(open_stream(**{"Last-Event-ID": second}).next()) == ["b"]
    stream = open_stream(**{"Last-Event-ID": first})
    assert [event_ids(stream.next()), event_ids(stream.next())] == [["a"], ["b"]]


def test_stream_after_a_list_without_changes_sends_a_heartbeat(server, open_stream) -> None:
    put_item(server, "a", run_id="r")
    stream = open_stream(**{"Last-Event-ID": list_with_event_id(server)})
    assert stream.next().name == "hb"
    put_item(server, "a", run_id="r", title="new")
    assert event_ids(stream.next()) == ["a"]


def test_changes_between_list_and_stream_survive_other_streams(server, open_stream) -> None:
    event_id = list_with_event_id(server)
    put_item(server, "a", run_id="r")
    other = open_stream()
    other.next()
    put_item(server, "b", run_id="r")
    other.read_until(lambda event: "b" in event_ids(event))
    other.close()
    wait_until(lambda: server.background.app.services.hub.stream_count == 0)
    put_item(server, "c", run_id="r")
    stream = open_stream(**{"Last-Event-ID": event_id})
    changed: set[str] = set()
    while changed != {"a", "b", "c"}:
        event = stream.next()
        assert event.name == "change"
        changed |= set(event_ids(event))


def test_stream_long_after_a_list_gets_a_snapshot(server, open_stream) -> None:
    event_id = list_with_event_id(server)
    server.clock.advance(hub_module.HANDOVER_SECONDS)
    put_item(server, "a", run_id="r")
    assert open_stream(**{"Last-Event-ID": event_id}).next().name == "snapshot"


def test_unchanged_list_has_the_event_id_too(server) -> None:
    http = server.client("read")
    first = http.get("/api/v1/items")
    again = http.get("/api/v1/items", headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status_code, again.headers["Event-ID"]) == (304, first.headers["Event-ID"])


@pytest.mark.parametrize("last", ["", "nonsense", "other-1", "-", "x-99999999999999999999", "\u00e9-1"])
def test_reconnect_with_an_unknown_id_gets_a_snapshot(server, open_stream, last) -> None:
    put_item(server, "a", run_id="r")
    stream = open_stream(**{"Last-Event-ID": last.encode("latin-1")} if last else {})
    assert stream.next().name == "snapshot"


def test_reconnect_with_a_future_or_foreign_id_gets_a_snapshot(server, open_stream) -> None:
    stream = open_stream()
    epoch, _, rev = stream.next().id.rpartition("-")
    assert open_stream(**{"Last-Event-ID": f"{epoch}-{int(rev) + 1}"}).next().name == "snapshot"
    server.restart()
    assert open_stream(**{"Last-Event-ID": f"{epoch}-{rev}"}).next().name == "snapshot"


def test_last_event_id_with_a_non_ascii_digit_gets_a_snapshot(server, open_stream, caplog) -> None:
    epoch, _, _ = open_stream().next().id.rpartition("-")
    for rev in ("\xb2", "\xb9\xb3", "1\xb2"):
        stream = open_stream(**{"Last-Event-ID": f"{epoch}-{rev}".encode("latin-1")})
        assert (stream.status, stream.next().name) == (200, "snapshot")
    assert not [record for record in caplog.records if record.exc_info]


def test_idle_stream_sends_heartbeats(server, open_stream, monkeypatch) -> None:
    monkeypatch.setattr(hub_module, "HEARTBEAT_INTERVAL", 0.05)
    stream = open_stream()
    assert stream.next().name == "snapshot"
    beat = stream.next()
    assert (beat.name, beat.data) == ("hb", {"time": "2027-01-15T08:00:00.000Z"})


def test_item_without_a_sign_of_life_is_published_as_stalled(server, open_stream) -> None:
    put_item(server, "a", run_id="r", heartbeat_timeout=5)
    stream = open_stream()
    stream.next()
    server.clock.advance(6)
    event = stream.next()
    assert [item["stalled"] for item in event.data["items"]] == [True]


def test_stream_ends_at_its_maximum_age(server, open_stream, monkeypatch) -> None:
    monkeypatch.setattr(hub_module, "MAX_STREAM_AGE", 0.0)
    stream = open_stream()
    assert stream.next() is None


def test_revoked_key_ends_only_its_streams(server, open_stream) -> None:
    revoked, other = open_stream("other"), open_stream("read")
    assert (revoked.next().name, other.next().name) == ("snapshot", "snapshot")
    key_id = server.keys["other"].split("_")[2]
    assert server.client("admin").delete(f"/api/v1/keys/{key_id}").status_code == 200
    assert revoked.next() is None
    put_item(server, "a", run_id="r")
    assert event_ids(other.next()) == ["a"]


def test_sign_out_ends_the_streams_of_the_session(server, open_stream) -> None:
    browser = server.browser()
    cookie = browser.cookies[server.cookie_name]
    stream = open_stream(None, Cookie=f"{server.cookie_name}={cookie}")
    assert stream.next().name == "snapshot"
    browser.post("/logout")
    assert stream.next() is None


def test_server_stop_does_not_wait_for_streams(server, open_stream) -> None:
    streams = [open_stream() for _ in range(5)]
    for stream in streams:
        stream.next()
    server.background.close()
    assert [stream.next() for stream in streams] == [None] * 5


def test_disconnected_stream_is_removed(server, open_stream) -> None:
    hub = server.background.app.services.hub
    stream, other = open_stream(), open_stream()
    stream.next(), other.next()
    assert hub.stream_count == 2
    with RawConnection(server.url) as raw:
        raw.send(encode_request("GET", "/api/v1/events", key=server.keys["read"]))
        received = b""
        while b"snapshot" not in received:
            received += raw.socket.recv(1000)
        assert hub.stream_count == 3
        raw.reset()
    put_item(server, "a", run_id="r")
    other.next()
    put_item(server, "b", run_id="r")
    other.next()
    assert hub.stream_count == 2


@pytest.mark.parametrize("turns", range(4))
def test_disconnect_at_the_instant_of_a_change_is_noticed(turns: int) -> None:
    async def forgotten() -> bool:
        bell = asyncio.Event()
        waiting = asyncio.create_task(hub_module._wait_for_event(bell, 60.0))
        for _ in range(4):
            await asyncio.sleep(0)  # until it waits
        bell.set()
        for _ in range(turns):
            await asyncio.sleep(0)
        # False if the task has already ended.
        cancelled = waiting.cancel()
        await asyncio.wait([waiting])
        return waiting.cancelled() is cancelled

    assert asyncio.run(forgotten())


def test_stream_beyond_the_limit_is_refused(server, open_stream, monkeypatch) -> None:
    monkeypatch.setattr(hub_module, "MAX_STREAMS", 1)
    open_stream().next()
    reply = server.client("read").get("/api/v1/events")
    assert (reply.status_code, reply.headers["Retry-After"]) == (503, "30")
    assert reply.json()["type"] == "/problems/too-many-streams"


def test_stream_headers_disable_buffering_in_proxies(server, open_stream) -> None:
    stream = open_stream()
    stream.next()
    assert stream.headers["Content-Type"] == "text/event-stream; charset=utf-8"
    assert stream.headers["Cache-Control"] == "no-store, no-transform"
    assert stream.headers["X-Accel-Buffering"] == "no"
    assert server.client("read").head("/api/v1/events").status_code == 200


def test_client_that_does_not_read_is_disconnected(server, open_stream, monkeypatch) -> None:
    from progressbar_tracker.server.http import endpoint

    monkeypatch.setattr(endpoint, "SEND_TIMEOUT", 0.2)
    hub = server.background.app.services.hub
    for start in (0, 500, 1000):
        ops = [{"op": "put", "id": f"{start + n}", "run_id": "r", "description": "x" * 1900} for n in range(500)]
        assert server.client("write").post("/api/v1/items:batch", json={"ops": ops}).status_code == 200
    other = open_stream()
    other.next()
    with RawConnection(server.url, buffer=1024) as raw:
        raw.send(encode_request("GET", "/api/v1/events", key=server.keys["read"]))
        assert raw.socket.recv(1)
        for n in range(20):
            put_item(server, "changing", run_id="r", completed=n)
            other.read_until(lambda event, n=n: n in [item["completed"] for item in event.data["items"]])
            if hub.stream_count == 1:
                break
        assert hub.stream_count == 1


# The hub alone


def make_board() -> Board:
    return Board(max_items=1000, new_run_id=lambda: "run")


def test_equal_views_share_the_same_bytes() -> None:
    import asyncio

    async def main() -> None:
        watched = make_board()
        hub = Hub(watched, ITEM_SERIALIZER, epoch="e", clock=lambda: START_TIME)
        streams = [hub.events(View(), None, lambda: True) for _ in range(3)]
        for stream in streams:
            await anext(stream), await anext(stream)
        watched.put("a", {"run_id": "r"}, Owner("o", "o"), START_TIME)
        hub.tick()
        frames = [await anext(stream) for stream in streams]
        assert frames[0] is frames[1] is frames[2]
        for stream in streams:
            await stream.aclose()
        assert hub.stream_count == 0

    asyncio.run(main())


def test_subscriber_behind_the_ring_gets_a_snapshot() -> None:
    import asyncio

    async def main() -> None:
        watched = make_board()
        hub = Hub(watched, ITEM_SERIALIZER, epoch="e", clock=lambda: START_TIME)
        stream = hub.events(View(), None, lambda: True)
        await anext(stream), await anext(stream)
        for n in range(hub_module.MAX_TICKS + 1):
            watched.put("a", {"run_id": "r", "completed": n}, Owner("o", "o"), START_TIME)
            hub.tick()
        assert b"event: snapshot" in await anext(stream)
        await stream.aclose()

    asyncio.run(main())


def test_ring_is_bounded_in_bytes_and_keeps_the_latest_tick(monkeypatch: pytest.MonkeyPatch) -> None:
    import asyncio

    async def main() -> None:
        watched = make_board()
        hub = Hub(watched, ITEM_SERIALIZER, epoch="e", clock=lambda: START_TIME)
        keeps_up, falls_behind = (hub.events(View(), None, lambda: True) for _ in range(2))
        for stream in (keeps_up, falls_behind):
            await anext(stream), await anext(stream)
        sizes = []
        for n in range(20):
            watched.put("a", {"run_id": "r", "completed": n, "description": "x" * 1000}, Owner("o", "o"), START_TIME)
            hub.tick()
            assert b"event: change" in await anext(keeps_up)
            sizes.append(sum(tick.size for tick in hub._ring))
        assert max(sizes) < 9000
        assert len(hub._ring) == 2
        assert b"event: snapshot" in await anext(falls_behind)
        monkeypatch.setattr(hub_module, "MAX_RING_BYTES", 10)
        watched.put("a", {"run_id": "r", "completed": 99}, Owner("o", "o"), START_TIME)
        hub.tick()
        assert len(hub._ring) == 1
        assert b"event: change" in await anext(keeps_up)
        for stream in (keeps_up, falls_behind):
            await stream.aclose()

    monkeypatch.setattr(hub_module, "MAX_RING_BYTES", 8000)
    asyncio.run(main())


def test_reconnect_to_a_dropped_tick_gets_a_snapshot(monkeypatch: pytest.MonkeyPatch) -> None:
    import asyncio

    async def main() -> None:
        watched = make_board()
        hub = Hub(watched, ITEM_SERIALIZER, epoch="e", clock=lambda: START_TIME)
        stays = hub.events(View(), None, lambda: True)
        await anext(stays), await anext(stays)
        revisions = []
        for n in range(20):
            watched.put("a", {"run_id": "r", "completed": n, "description": "x" * 1000}, Owner("o", "o"), START_TIME)
            hub.tick()
            revisions.append(watched.rev)
        for rev, expected in ((revisions[0], b"event: snapshot"), (revisions[-2], b"event: change")):
            back = hub.events(View(), f"e-{rev}", lambda: True)
            await anext(back)
            assert expected in await anext(back)
            await back.aclose()
        await stays.aclose()

    monkeypatch.setattr(hub_module, "MAX_RING_BYTES", 8000)
    asyncio.run(main())


def test_heartbeat_before_a_tick_has_the_id_of_the_last_tick() -> None:
    """A client that leaves before the tick would lose its changes otherwise."""

    async def main() -> None:
        watched = make_board()
        hub = Hub(watched, ITEM_SERIALIZER, epoch="e", clock=lambda: START_TIME)
        stays = hub.events(View(), None, lambda: True)
        await anext(stays), await anext(stays)
        watched.put("a", {"run_id": "r"}, Owner("o", "o"), START_TIME)
        hub.tick()
        ticked_id = f"e-{watched.rev}".encode()
        watched.put("b", {"run_id": "r"}, Owner("o", "o"), START_TIME)
        for _ in range(2):  # the second one leaves and returns before the tick, too
            resumed = hub.events(View(), ticked_id.decode(), lambda: True)
            await anext(resumed)
            assert (
                await anext(resumed) == b'id: %s\nevent: hb\ndata: {"time":"2027-01-15T08:00:00.000Z"}\n\n' % ticked_id
            )
            await resumed.aclose()
        hub.tick()
        resumed = hub.events(View(), ticked_id.decode(), lambda: True)
        await anext(resumed)
        assert b'"id":"b"' in await anext(resumed)
        for stream in (stays, resumed):
            await stream.aclose()

    asyncio.run(main())


def test_change_without_subscribers_is_not_encoded() -> None:
    watched = make_board()
    hub = Hub(watched, ITEM_SERIALIZER, epoch="e", clock=lambda: START_TIME)
    watched.put("a", {"run_id": "r"}, Owner("o", "o"), START_TIME)
    hub.tick()
    assert len(hub._ring) == 0
    assert watched.drain_changes().groups == {}


@pytest.mark.parametrize("limit", ["MAX_KEPT_CHANGES", "MAX_KEPT_RUNS"])
def test_changes_kept_after_a_list_are_bounded(monkeypatch: pytest.MonkeyPatch, limit: str) -> None:
    monkeypatch.setattr(hub_module, limit, 5)
    watched = make_board()
    hub = Hub(watched, ITEM_SERIALIZER, epoch="e", clock=lambda: START_TIME, monotonic=lambda: 0.0)
    event_id = hub.begin_handover()
    for n in range(5):
        watched.put(f"{n}", {"run_id": "r"}, Owner("o", "o"), START_TIME)
        watched.delete(f"{n}", START_TIME)
    hub.tick()
    assert hub._find_position(event_id)[0] == 0
    watched.put("a", {"run_id": "r"}, Owner("o", "o"), START_TIME)
    watched.delete("a", START_TIME)
    hub.tick()
    assert hub._find_position(event_id)[0] is None
    assert watched.count_changes() == (0, 0)


def test_changes_kept_after_a_list_are_dropped_in_time() -> None:
    watched, now = make_board(), [0.0]
    hub = Hub(watched, ITEM_SERIALIZER, epoch="e", clock=lambda: START_TIME, monotonic=lambda: now[0])
    hub.begin_handover()
    watched.put("a", {"run_id": "r"}, Owner("o", "o"), START_TIME)
    hub.tick()
    assert watched.count_changes() == (1, 0)
    now[0] = hub_module.HANDOVER_SECONDS
    hub.tick()
    assert watched.count_changes() == (0, 0)
