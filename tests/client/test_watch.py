"""The event stream: the parser, then both clients with a real server."""

from __future__ import annotations

import asyncio
import json

import httpx
import pytest
import respx

from progressbar_tracker import (
    AsyncProgressBar,
    ItemNotFoundError,
    PermissionError,
    ProgressBar,
    RateLimitedError,
    ResponseError,
    ServerError,
    TransportError,
)
from progressbar_tracker._http.event_stream import MAX_RECONNECT_DELAY, EventStream
from progressbar_tracker._http.messages import Reply
from progressbar_tracker.server import hub
from tests.support.connections import open_client
from tests.support.server import start_server

SERVER_URL = "http://server:8989"


def make_follower(**arguments):
    return EventStream(**{"group": None, "item_id": None, "random": lambda: 1.0, **arguments})


def encode_event(name, number=1, **data):
    return b"id: e-%d\nevent: %s\ndata: %s\n\n" % (number, name.encode(), json.dumps(data).encode())


STREAM_BYTES = (
    b"retry: 2000\n\n"
    + encode_event("snapshot", 1, rev=1, items=[{"id": "a"}])
    + encode_event("hb", 1, time="now")
    + encode_event("change", 2, rev=2, items=[], gone=["a"], ended=[{"id": "a", "status": "deleted"}])
)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 50, len(STREAM_BYTES)])
@pytest.mark.parametrize("newline", [b"\n", b"\r\n"], ids=["LF", "CRLF"])
def test_events_are_parsed_from_any_chunks(size, newline):
    read, stream = make_follower(), STREAM_BYTES.replace(b"\n", newline)
    changes = [c for at in range(0, len(stream), size) for c in read.feed(stream[at : at + size])]
    assert [(c.snapshot, c.items, c.gone, c.rev) for c in changes] == [
        (True, [{"id": "a"}], [], 1),
        (False, [], ["a"], 2),
    ]
    assert changes[1].ended[0]["status"] == "deleted"
    assert read.headers["Last-Event-ID"] == "e-2"


def test_unicode_line_separators_are_text():
    read = make_follower()
    data = json.dumps({"rev": 1, "items": [{"id": "a", "title": "a\u2028b\u0085c"}]}, ensure_ascii=False).encode()
    (change,) = read.feed(b"id: e-1\nevent: snapshot\ndata: " + data + b"\n\n")
    assert change.items[0]["title"] == "a\u2028b\u0085c"


@pytest.mark.parametrize("data", [
    b"{", b"[]", b"5", b'{"items": 5}', b'{"items": [], "rev": "x"}', b'{"rev": 1}', b'{"items": [{"title": "no id"}]}',
    b'{"items": [{"id": 5}]}', b'{"items": [], "ended": [{}]}', b'{"items": ["a"]}',
])  # fmt: skip
def test_invalid_event_is_transport_error(data):
    with pytest.raises(TransportError, match="the stream of GET /api/v1/events cannot be read"):
        make_follower().feed(b"id: e-1\nevent: snapshot\ndata: " + data + b"\n\n")


def test_endless_event_uses_bounded_memory(monkeypatch):
    monkeypatch.setattr("progressbar_tracker._http.event_stream.MAX_LIST_BYTES", 1 << 20)
    read = make_follower()
    with pytest.raises(TransportError, match="more than 1 MiB"):
        for _ in range(20):
            read.feed(b"x" * 100_000)


@pytest.mark.parametrize(("arguments", "error"), [({"group": ""}, ValueError), ({"item_id": 5}, TypeError)])
def test_invalid_argument_raises_before_request(arguments, error):
    with ProgressBar(SERVER_URL, "key", auto_detect=False) as pb, pytest.raises(error, match=r"group|id"):
        pb.watch(**arguments)


def test_reconnect_delay_grows_and_resets_after_event():
    read = make_follower()
    read.feed(STREAM_BYTES)
    lost = TransportError("lost", method="GET", url="u")
    assert [read.next_delay(lost) for _ in range(6)] == [2.0, 4.0, 8.0, 16.0, 30.0, MAX_RECONNECT_DELAY]
    read.feed(STREAM_BYTES)
    assert read.next_delay(None) == 2.0


def test_retry_after_extends_reconnect_delay():
    read = make_follower(random=lambda: 0.0)
    read.feed(STREAM_BYTES)
    assert read.next_delay(ServerError("full", status_code=503, code="", detail="", retry_after=9.0)) == 9.0
    assert read.next_delay(RateLimitedError("much", status_code=429, code="", detail="", retry_after=None)) == 0.0


def test_permanent_or_initial_errors_are_raised():
    lost = TransportError("lost", method="GET", url="u")
    with pytest.raises(TransportError):
        make_follower().next_delay(lost)
    read = make_follower()
    read.feed(STREAM_BYTES)
    revoked = PermissionError("revoked", status_code=401, code="", detail="", retry_after=None)
    with pytest.raises(PermissionError):
        read.next_delay(revoked)


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (httpx.Response(401), PermissionError),
        (httpx.Response(404), ItemNotFoundError),
        (httpx.Response(500), ServerError),
        (httpx.Response(200, text="<html>"), ResponseError),
    ],
    ids=["401", "404", "500", "a proxy's page"],
)
@respx.mock
def test_reply_without_stream_is_raised(reply, error):
    respx.get(f"{SERVER_URL}/api/v1/events").mock(return_value=reply)
    with ProgressBar(SERVER_URL, "key", auto_detect=False) as pb, pytest.raises(error):
        next(iter(pb.watch()))


def test_reply_without_stream_is_recognized():
    read = make_follower(group="a b", item_id="x/y")
    assert read.request.path == "api/v1/events?group=a+b&id=x%2Fy"
    assert read.accept_response(200, "text/event-stream; charset=utf-8")
    assert not read.accept_response(200, "text/html")
    assert isinstance(read.response_error(Reply(503, {"retry-after": "3"}, b"")), ServerError)


# --- against a real server --------------------------------------------------------------------------------------------


@pytest.fixture
def database(tmp_path):
    """The path of an empty database."""
    return tmp_path / "progress.db"


@pytest.fixture
def fast_timers(monkeypatch):
    """Reconnect after 50 ms, and publish changes every 10 ms."""
    """Reconnect after 50 ms, and publish changes every 10 ms."""
    """Reconnect after 50 ms, and publish changes every 10 ms."""
    monkeypatch.setattr("progressbar_tracker._http.event_stream.INITIAL_RECONNECT_DELAY", 0.05)
    monkeypatch.setattr(hub, "TICK_INTERVAL", 0.01)


def test_watch_yields_changes_across_restart(database, fast_timers):
    server = start_server(database)
    key = server.create_key("write", "watcher")
    with ProgressBar(server.url, key) as pb, ProgressBar(server.url, key) as writer:
        writer.create("before", "Title", "about", 0.1)
        changes = pb.watch()
        first = next(changes)
        assert (first.snapshot, [item["id"] for item in first.items]) == (True, ["before"])
        writer.update("before", "Title", "about", 0.2)
        assert [item["value"] for item in next(changes).items] == [0.2]
        server.close()
        server = start_server(database, port=server.port)
        try:
            assert next(changes).snapshot
            writer.delete("before")
            last = next(changes)
            assert (last.gone, [run["status"] for run in last.ended]) == (["before"], ["deleted"])
        finally:
            server.close()


def test_revoked_key_ends_watch(database, fast_timers):
    with start_server(database) as server:
        key = server.create_key("read", "watcher")
        admin = open_client(server.url, server.create_key("admin", "a"))
        with ProgressBar(server.url, key) as pb, admin:
            changes = pb.watch()
            next(changes)
            admin.delete(f"/api/v1/keys/{key.split('_')[2]}").raise_for_status()
            with pytest.raises(PermissionError):
                next(changes)


def test_asyncio_watches_one_group_while_it_writes(database, fast_timers):
    async def main(server, key):
        async with AsyncProgressBar(server.url, key) as pb:
            changes = pb.watch(group="g")
            assert (await anext(changes)).items == []
            await asyncio.to_thread(put, server, key, "other", "h")
            await asyncio.to_thread(put, server, key, "mine", "g")
            assert [item["id"] for item in (await anext(changes)).items] == ["mine"]
            await changes.aclose()

    def put(server, key, item_id, group):
        httpx.put(f"{server.url}/api/v1/items/{item_id}", json={"group": group}, headers={"X-API-KEY": key})

    with start_server(database) as server:
        asyncio.run(main(server, server.create_key("write", "watcher")))
