"""Reads during writes: 304 means unchanged, and pages neither skip nor repeat."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from progressbar_tracker.server.api.items import ETAG_DRIFT_SECONDS
from progressbar_tracker.server.items.board import Board
from progressbar_tracker.server.items.change import Owner
from progressbar_tracker.server.items.index import sort_key
from progressbar_tracker.server.models import EndedRun, Item
from progressbar_tracker.server.mutations import AddHistory, TrimHistory
from progressbar_tracker.server.problems import ProblemError
from tests.server.stores.conftest import reopen  # noqa: F401  # a fixture

if TYPE_CHECKING:
    from collections.abc import Callable

    import httpx

    from progressbar_tracker.server.stores.base import Store
    from tests.support.clock import ManualClock
    from tests.support.server import RunningServer

OWNER_A: Final = Owner("me", "ci")

# 304

LIST_QUERIES: Final = ("", "?group=g", "?status=running", "?status=failed", "?limit=1")

changes = st.one_of(
    st.tuples(
        st.sampled_from(["PUT", "PATCH"]),
        st.sampled_from("ab"),
        st.fixed_dictionaries(
            {},
            optional={
                "completed": st.integers(0, 9),
                "total": st.just(9),
                "group": st.sampled_from(["g", None]),
                "heartbeat_timeout": st.sampled_from([5, None]),
                "deadline": st.sampled_from(["2027-01-15T08:00:20Z", None]),
                "status": st.sampled_from(["running", "failed"]),
                "ttl": st.sampled_from([3, None]),
            },
        ),
    ),
    st.tuples(st.just("DELETE"), st.sampled_from("ab"), st.none()),
    st.tuples(st.just("wait"), st.sampled_from([0.4, 3.0, 6.0, 40.0]), st.none()),
)


def is_same_list(before: dict[str, Any], now: dict[str, Any]) -> bool:
    """Return whether two responses are equal, except for rates and ETAs."""
    drifting = {"rate": None, "eta": None}
    return [{**item, **drifting} for item in before["items"]] == [
        {**item, **drifting} for item in now["items"]
    ] and before["rev"] == now["rev"]


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(changes, min_size=1, max_size=8))
def test_304_means_unchanged(
    module_server: RunningServer, client: httpx.Client, steps: list[tuple[str, Any, Any]]
) -> None:
    # For each query, the first response of each tag with its instant.
    responses_by_query: dict[str, dict[str, tuple[float, dict[str, Any]]]] = {query: {} for query in LIST_QUERIES}
    clock = module_server.clock
    client.post("/api/v1/items:batch", json={"ops": [{"op": "delete", "id": name} for name in "ab"]})
    for method, argument, body in steps:
        if method == "wait":
            clock.advance(argument)
        else:
            client.request(method, f"/api/v1/items/{argument}", json=body)
        for query, responses in responses_by_query.items():
            now = client.get(f"/api/v1/items{query}")
            etag = now.headers["ETag"]
            if responses:
                reply = client.get(f"/api/v1/items{query}", headers={"If-None-Match": ", ".join(responses)})
                assert reply.status_code == (304 if etag in responses else 200)
            at, earlier = responses.setdefault(etag, (clock(), now.json()))
            assert is_same_list(earlier, now.json())
            assert earlier["items"] == now.json()["items"] or clock() - at < ETAG_DRIFT_SECONDS


@pytest.fixture(scope="module")
def client(module_server: RunningServer) -> httpx.Client:
    """A client with a write key."""
    return module_server.client("write")


def test_304_only_for_same_query(server: RunningServer) -> None:
    http = server.client("write")
    for name in "ab":
        http.put(f"/api/v1/items/{name}", json={"group": "g", "status": "failed"})
    tags = {query: http.get(f"/api/v1/items{query}").headers["ETag"] for query in LIST_QUERIES}
    assert len(set(tags.values())) == len(LIST_QUERIES)
    server.clock.advance(3600)
    for query, tag in tags.items():
        assert http.get(f"/api/v1/items{query}", headers={"If-None-Match": tag}).status_code == 304
    assert http.get("/api/v1/items", headers={"If-None-Match": "*"}).status_code == 304
    assert http.get("/api/v1/items", headers={"If-None-Match": tags["?group=g"]}).status_code == 200
    server.restart()
    http = server.client("write")
    assert http.get("/api/v1/items", headers={"If-None-Match": tags[""]}).status_code == 200


def test_stall_and_lateness_change_etag(server: RunningServer, clock: ManualClock) -> None:
    http = server.client("write")
    http.put("/api/v1/items/a", json={"heartbeat_timeout": 2.0, "deadline": "2027-01-15T08:00:04Z"})
    clock.now = 1_800_000_000.0
    for field in ("stalled", "late"):
        etag = http.get("/api/v1/items").headers["ETag"]
        clock.advance(2)
        reply = http.get("/api/v1/items", headers={"If-None-Match": etag})
        assert reply.json()["items"][0][field] is True


def test_growing_eta_changes_etag(server: RunningServer) -> None:
    http = server.client("write")
    http.put("/api/v1/items/a", json={"completed": 0, "total": 10})
    server.clock.advance(3)
    http.patch("/api/v1/items/a", json={"completed": 1})
    first = http.get("/api/v1/items")
    server.clock.advance(60)
    reply = http.get("/api/v1/items", headers={"If-None-Match": first.headers["ETag"]})
    assert reply.json()["items"][0]["eta"] > first.json()["items"][0]["eta"] > 0


# Pages

writes = st.tuples(
    st.sampled_from(["put", "take over", "patch", "delete", "expire"]),
    st.sampled_from("abcdefgh"),
    st.integers(-1, 1),
    st.sampled_from(["g", None]),
)


@given(
    st.lists(st.tuples(st.sampled_from("abcdefgh"), st.integers(-1, 1)), min_size=1),
    st.lists(st.lists(writes, max_size=4), max_size=8),
    st.integers(1, 3),
)
def test_list_pages_have_each_lasting_item_once(
    first: list[tuple[str, int]], between: list[list[tuple[str, str, int, str | None]]], limit: int
) -> None:
    count = itertools.count()
    board = Board(max_items=100, new_run_id=lambda: f"made-{next(count)}")
    for name, weight in first:
        board.put(name, {"weight": weight}, OWNER_A, 0.0)  # at the same instant
    lasting = {item.id: sort_key(item) for item in board.snapshot()}
    read, after, turns = [], None, iter(between)
    while page := board.page(after=after, limit=limit):
        read += [sort_key(item) for item in page]
        after = sort_key(page[-1])
        for name, item_id, weight, group in next(turns, []):
            try:
                match name:
                    case "put":
                        board.put(item_id, {"weight": weight, "group": group}, OWNER_A, 0.0)
                    case "take over":
                        board.put(item_id, {"run_id": f"new-{next(count)}", "weight": weight}, OWNER_A, 0.0)
                    case "patch":
                        board.patch(item_id, {"completed": 1, "group": group}, 1.0)
                    case "delete":
                        board.delete(item_id, 1.0)
                    case "expire":
                        board.patch(item_id, {"status": "failed", "ttl": 0.0}, 1.0)
                        board.sweep(2.0)
            except ProblemError:
                pass
        now = {item.id: sort_key(item) for item in board.snapshot()}
        lasting = {item_id: place for item_id, place in lasting.items() if now.get(item_id) == place}
    assert len(read) == len(set(read))
    assert read == sorted(read)
    assert set(lasting.values()) <= set(read)


def test_items_of_two_servers_at_one_instant_are_all_listed(server: RunningServer) -> None:
    twins = [
        Item(id=name, owner_id="k", owner="ci", run_id="r", created_at=1.5, updated_at=1.5, born=7) for name in "abc"
    ]
    board = server.background.app.services.board
    for item in twins:
        board.replace(item.id, item)
    http, url, read = server.client("read"), "/api/v1/items?limit=1", []
    while url:
        reply = http.get(url)
        read += [item["id"] for item in reply.json()["items"]]
        link = reply.links.get("next")
        url = f"/api/v1/{link['url']}" if link else ""
    assert read == ["a", "b", "c"]


def test_cursor_of_longest_id_is_accepted(server: RunningServer) -> None:
    http = server.client("write")
    for letter in "ab":
        http.post(
            "/progress",
            json={"id": letter + "😀" * 199, "title": "", "description": "", "value": 0, "weight": -(2**53)},
        )
    link = http.get("/api/v1/items?limit=1").links["next"]["url"]
    (item,) = http.get(f"/api/v1/{link}").json()["items"]
    assert item["id"].startswith("b")


def test_history_pages_have_each_lasting_run_once(
    reopen: Callable[[], Store],  # noqa: F811
) -> None:
    store = reopen()
    store.load()

    def end(name: str, at: float) -> None:
        item = Item(id=name, owner_id="k", owner="ci", run_id=name, created_at=0.0, updated_at=at)
        store.commit([AddHistory(EndedRun(item, "deleted", at))]).result(60)

    @settings(max_examples=8, deadline=None)
    @given(st.lists(st.lists(st.sampled_from(["end", "trim"]), max_size=3), max_size=6), st.integers(1, 4))
    def walk(between: list[list[str]], limit: int) -> None:
        count = itertools.count()
        for _ in range(6):
            end(f"first {next(count)}", float(next(ages)))
        lasting = {row.n: row.ended_at for row in store.read_history(limit=100)}
        read, after, turns = [], None, iter(between)
        while page := store.read_history(after=after, limit=limit):
            read += [row.n for row in page]
            after = page[-1].n
            for name in next(turns, []):
                if name == "end":
                    end(f"new {next(count)}", float(next(ages)))
                else:
                    oldest = min(lasting.values(), default=0.0)
                    store.commit([TrimHistory(oldest + 0.5)]).result(60)
                    lasting = {n: at for n, at in lasting.items() if at > oldest + 0.5}
        assert read == sorted(set(read), reverse=True)
        assert set(lasting) <= set(read)
        store.commit([TrimHistory(1e12)]).result(60)

    ages = itertools.count(1)
    walk()
