"""Shares: read-only links to a group or an item, their streams, and their badges."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING

import pytest

from progressbar_tracker.server.dashboard.badge import build_group_badge, build_item_badge
from progressbar_tracker.server.items.fields import PUBLIC_FIELDS, PUBLIC_GROUP_FIELDS
from progressbar_tracker.server.models import EndedRun, rfc3339
from progressbar_tracker.server.mutations import AddHistory
from tests.support.clock import START_TIME
from tests.support.items import make_item
from tests.support.sse import SseStream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import httpx

    from tests.support.server import RunningServer

PRIVATE_FIELDS = {"owner", "meta", "run_id", "group", "seq"}


def create_share(served: RunningServer, **body: object) -> dict[str, str]:
    reply = served.client("admin").post("/api/v1/shares", json=body)
    assert reply.status_code == 201, reply.text
    return reply.json()


def put_item(served: RunningServer, item_id: str, **fields: object) -> None:
    assert served.client("write").put(f"/api/v1/items/{item_id}", json=fields).status_code in (200, 201)


@pytest.fixture
def open_stream(server: RunningServer) -> Iterator[Callable[..., SseStream]]:
    """Open streams of shares; they are closed at the end."""
    streams: list[SseStream] = []

    def start(shared: dict[str, str], **headers: str) -> SseStream:
        streams.append(SseStream(server, None, path=f"/{shared['path']}/events", **headers))
        return streams[-1]

    yield start
    for stream in streams:
        stream.close()


def test_share_shows_only_its_subject(server: RunningServer) -> None:
    meta = {"host": "secret-host", "command": "secret-command"}
    put_item(
        server,
        "a/b",
        run_id="secret-run",
        title="Mine",
        group="g",
        meta=meta,
        parent="its-parent",
        completed=1,
        total=4,
    )
    put_item(server, "other", run_id="r", title="Not theirs", group="g")
    put_item(server, "elsewhere", run_id="r", title="Not theirs either", group="h")
    item, group = create_share(server, item="a/b"), create_share(server, group="g")
    assert [shown["title"] for shown in list_items(server, item)] == ["Mine"]
    assert {shown["title"] for shown in list_items(server, group)} == {"Mine", "Not theirs"}
    for share in (item, group):
        for path in ("", "/items", "/history"):
            text = server.client().get(f"/{share['path']}{path}").text
            for secret in ("secret-", "write", "Sign out", 'href="../history"', 'href="../keys"', share["token"]):
                assert secret not in text, (path, secret)
    assert "its-parent" not in server.client().get(f"/{item['path']}/items").text


def list_items(served: RunningServer, share: dict[str, str], path: str = "items") -> list[dict[str, object]]:
    """Return the items or the ended runs of a share, as anyone sees them."""
    items: list[dict[str, object]] = served.client().get(f"/{share['path']}/{path}").raise_for_status().json()["items"]
    expected = {*PUBLIC_FIELDS} if share["group"] is None else {*PUBLIC_GROUP_FIELDS}
    assert all(set(item) == expected for item in items)
    return items


def test_share_of_a_group_shows_parents_of_inner_bars(server: RunningServer) -> None:
    put_item(server, "outer", run_id="r", group="g")
    put_item(server, "outer/inner", run_id="r", group="g", parent="outer")
    parents = {item["id"]: item["parent"] for item in list_items(server, create_share(server, group="g"))}
    assert parents == {"outer": None, "outer/inner": "outer"}


def test_share_list_continues_in_its_stream(server: RunningServer, open_stream: Callable[..., SseStream]) -> None:
    put_item(server, "a", run_id="r", group="g")
    share = create_share(server, group="g")
    reply = server.client().get(f"/{share['path']}/items")
    put_item(server, "b", run_id="r", group="g")
    stream = open_stream(share, **{"Last-Event-ID": reply.headers["Event-ID"]})
    first = stream.next()
    assert (first.name, [item["id"] for item in first.data["items"]]) == ("change", ["b"])


def test_unchanged_share_list_is_not_sent_again(server: RunningServer) -> None:
    share, anonymous = create_share(server, item="a"), server.client()
    reply = anonymous.get(f"/{share['path']}/items")
    again = anonymous.get(f"/{share['path']}/items", headers={"If-None-Match": reply.headers["ETag"]})
    assert (again.status_code, again.content) == (304, b"")


def test_share_of_an_item_shows_how_it_ended(server: RunningServer) -> None:
    share = create_share(server, item="job")
    assert list_items(server, share) == list_items(server, share, "history") == []
    put_item(server, "job", run_id="r", title="The job", completed=4, total=4, status="succeeded")
    server.client("write").delete("/api/v1/items/job")
    assert list_items(server, share) == []
    assert [(run["title"], run["status"]) for run in list_items(server, share, "history")] == [("The job", "succeeded")]


def test_share_of_a_group_shows_its_ended_runs(server: RunningServer) -> None:
    share = create_share(server, group="g")
    put_item(server, "in", run_id="r", title="Inside", group="g", status="failed", error="OSError: x")
    put_item(server, "out", run_id="r", title="Outside")
    for name in ("in", "out"):
        server.client("write").delete(f"/api/v1/items/{name}")
    assert [(run["title"], run["error"]) for run in list_items(server, share, "history")] == [("Inside", "OSError: x")]


def test_shared_timeline_shows_public_fields_of_its_group(server: RunningServer) -> None:
    for item_id, group in (("in", "g"), ("out", "h")):
        fields = {"owner": "secret-owner", "run_id": "secret-run", "group": group, "title": "In", "error": "E: x"}
        item = make_item(item_id, at=START_TIME - 60, **fields)
        server.background.store.commit([AddHistory(EndedRun(item, "failed", START_TIME))]).result(60)
    share = create_share(server, group="g")
    http, path = server.client(), f"/{share['path']}/timeline"
    assert http.get(f"{path}?group=h").json()["runs"] == [
        {
            "id": "in", "title": "In", "status": "failed", "started_at": rfc3339(START_TIME - 60),
            "ended_at": rfc3339(START_TIME), "error": "E: x",
        }
    ]  # fmt: skip
    assert http.get(f"{path}?until={rfc3339(START_TIME - 70)}").json()["runs"] == []
    assert http.get(f"/{create_share(server, item='in')['path']}/timeline").status_code == 404


def test_share_stream_shows_the_same_fields(
    server: RunningServer, open_stream: Callable[[dict[str, str]], SseStream]
) -> None:
    put_item(server, "a", run_id="secret-run", title="Mine", group="g", meta={"host": "secret-host"})
    put_item(server, "b", run_id="r", group="h")
    stream = open_stream(create_share(server, group="g"))
    assert stream.headers["Content-Type"] == "text/event-stream; charset=utf-8"
    first = stream.next()
    assert [item["id"] for item in first.data["items"]] == ["a"]
    put_item(server, "b", run_id="r", title="unseen", group="h")
    put_item(server, "a", run_id="secret-run", title="changed", group="g", meta={"host": "secret-host"})
    change = stream.next()
    assert [item["title"] for item in change.data["items"]] == ["changed"]
    server.client("write").delete("/api/v1/items/a")
    gone = stream.read_until(lambda event: event.data["gone"])[-1]
    assert gone.data["gone"] == ["a"]
    for shown in (*first.data["items"], *change.data["items"], *gone.data["ended"]):
        assert set(shown) == set(PUBLIC_GROUP_FIELDS)
        assert PRIVATE_FIELDS.isdisjoint(shown)
    assert "secret" not in json.dumps([first.data, change.data, gone.data])


def test_revoked_share_ends_only_its_streams(
    server: RunningServer, open_stream: Callable[[dict[str, str]], SseStream]
) -> None:
    revoked, other = create_share(server, item="a"), create_share(server, item="a")
    ends, stays = open_stream(revoked), open_stream(other)
    assert (ends.next().name, stays.next().name) == ("snapshot", "snapshot")
    assert server.client("admin").delete(f"/api/v1/shares/{revoked['share_id']}").status_code == 200
    assert ends.next() is None
    put_item(server, "a", run_id="r")
    assert [item["id"] for item in stays.next().data["items"]] == ["a"]


def test_expired_share_ends_its_streams(
    server: RunningServer, open_stream: Callable[[dict[str, str]], SseStream]
) -> None:
    stream = open_stream(create_share(server, item="a", expires_at=rfc3339(START_TIME + 60)))
    assert stream.next().name == "snapshot"
    server.clock.advance(61)
    assert stream.next() is None
    assert server.background.app.services.shares.all() == []


def get_responses(http: httpx.Client, token: str) -> list[tuple[int, bytes]]:
    return [
        (reply.status_code, reply.content)
        for reply in (http.get(f"/s/{token}"), http.get(f"/s/{token}/events"), http.get(f"/badge/{token}.svg"))
    ]


def test_guessed_revoked_and_expired_shares_give_the_same_404(server: RunningServer) -> None:
    revoked, expired = (
        create_share(server, item="a"),
        create_share(server, item="a", expires_at=rfc3339(START_TIME + 1)),
    )
    server.client("admin").delete(f"/api/v1/shares/{revoked['share_id']}")
    server.clock.advance(2)
    anonymous = server.client()
    nothing = anonymous.get("/nothing-is-here")
    tokens = (revoked["token"], expired["token"], "guessed", revoked["share_id"], "%00", "..%2f", revoked["token"][:-1])
    for token in tokens:
        assert get_responses(anonymous, token) == [(404, nothing.content)] * 3, token


def test_shares_survive_a_restart_as_hashes(server: RunningServer) -> None:
    share = create_share(server, group="g")
    gone = create_share(server, item="a")
    server.client("admin").delete(f"/api/v1/shares/{gone['share_id']}")
    server.restart()
    assert server.client().get(f"/{share['path']}").status_code == 200
    assert server.client().get(f"/{gone['path']}").status_code == 404
    (listed,) = server.client("admin").get("/api/v1/shares").json()["shares"]
    assert listed == {
        "share_id": share["share_id"], "group": "g", "item": None, "created_at": "2027-01-15T08:00:00.000Z",
        "expires_at": None,
    }  # fmt: skip
    server.stop()
    stored = b"".join(path.read_bytes() for path in server.database.parent.iterdir())
    assert share["token"].encode() not in stored


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "item"),
        ({"item": "a", "group": "g"}, "item"),
        ({"item": ""}, "item"),
        ({"item": 5}, "item"),
        ({"group": ""}, "group"),
        ({"group": "g" * 201}, "group"),
        ({"item": "a", "expires_at": "soon"}, "expires_at"),
        ({"item": "a", "expires_at": "2020-01-01T00:00:00Z"}, "expires_at"),
    ],
)
def test_invalid_share_is_not_created(module_server: RunningServer, body: dict[str, object], field: str) -> None:
    reply = module_server.client("admin").post("/api/v1/shares", json=body)
    assert (reply.status_code, reply.json()["field"]) == (422, field)


def test_admin_page_lists_shares(server: RunningServer) -> None:
    share = create_share(server, item="a/<b>", expires_at=rfc3339(START_TIME + 60))
    page = server.browser().get("/keys?share=%22%3E%3Cb%3E").text
    assert "a/&lt;b&gt;" in page
    assert 'value="&#34;&gt;&lt;b&gt;"' in page
    assert share["token"] not in page


# Badges


def get_badge(served: RunningServer, share: dict[str, str]) -> tuple[httpx.Response, list[str]]:
    reply = served.client().get(f"/{share['badge']}")
    root = ET.fromstring(reply.content)
    return reply, [element.text or "" for element in root.iter("{http://www.w3.org/2000/svg}text")]


def test_badge_shows_the_bar(server: RunningServer) -> None:
    share, of_group = create_share(server, item="a"), create_share(server, group="g")
    assert get_badge(server, share)[1] == ["a", "waiting"]
    put_item(server, "a", run_id="r", title="</text><script>alert(1)</script>&", completed=1, total=4, group="g")
    reply, texts = get_badge(server, share)
    assert texts == ["</text><script>alert(1)</…", "25 %"]
    assert reply.headers["Content-Type"] == "image/svg+xml; charset=utf-8"
    assert reply.headers["Cache-Control"] == "no-cache"
    assert b'width="60.0"' in reply.content
    assert b"<script" not in reply.content
    assert b"style" not in reply.content
    assert get_badge(server, of_group)[1] == ["g", "1 running, 25 %"]
    put_item(server, "a", run_id="r", title="t", completed=1, total=4, group="g", status="failed")
    assert get_badge(server, share)[1] == ["t", "✕ failed"]
    server.client("write").delete("/api/v1/items/a")
    assert get_badge(server, share)[1] == ["t", "✕ failed"]
    assert get_badge(server, of_group)[1] == ["g", "nothing runs"]


def make_wire_item(**fields: object) -> dict[str, object]:
    item = {"id": "a", "title": "t", "status": "running", "value": 0.5, "completed": None, "total": None, "unit": ""}
    return {**item, **fields}


def test_badge_without_a_total_shows_the_count() -> None:
    counted = make_wire_item(value=0.0, completed=7, unit="files")
    assert build_item_badge("a", counted)[2:5] == ("7 files", "#1a67c7", 0.0)
    assert build_item_badge("a", {**counted, "status": "succeeded"})[2:5] == ("✓ succeeded", "#17754a", 240.0)


def test_badge_of_a_group_shows_problems() -> None:
    failed, stalled = make_wire_item(status="failed"), make_wire_item(stalled=True, value=0.0, completed=1)
    assert build_group_badge("g", [make_wire_item(), failed]).state == "1 running, 50 %, 1 failed"
    assert build_group_badge("g", [failed]).state == "1 failed"
    assert build_group_badge("g", [stalled]).state == "1 running, 0 %, 1 stalled"


@pytest.mark.parametrize("text", ["\ufffe", "\uffff", "\u202e", "\u2066", "\ud800", "\x00", "\U000e0001"])
def test_badge_escapes_and_isolates_text(text: str) -> None:
    badge = build_item_badge("a", make_wire_item(title=f"a{text}b"))
    assert (badge.title, badge.full) == ("ab", "ab")


def test_long_title_leaves_space_for_the_state() -> None:
    short, long = (
        build_item_badge("a", make_wire_item(title="w" * 99, status=status)) for status in ("running", "succeeded")
    )
    assert len(short.title) > len(long.title) >= 6
    assert short.full == "w" * 99
