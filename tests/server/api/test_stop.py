"""``POST /api/v1/items/{id}:stop`` over real sockets."""

from __future__ import annotations

import csv
import io
import json
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest

from progressbar_tracker.server.items.fields import PUBLIC_FIELDS
from tests.server.test_logs import capture_logs, parse_lines
from tests.support.clock import ManualClock
from tests.support.postgres import create_database
from tests.support.server import RunningServer
from tests.support.server_process import ServerProcess

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import httpx


def create_item(http: httpx.Client, item_id: str, **fields: object) -> None:
    body = {"run_id": "r", "seq": 1, "completed": 1, "stoppable": True, **fields}
    http.put(f"/api/v1/items/{quote(item_id, safe='')}", json=body).raise_for_status()


def send_patch(http: httpx.Client, item_id: str, **fields: object) -> dict[str, object]:
    op = {"op": "patch", "id": item_id, **fields}
    result: dict[str, object] = http.post("/api/v1/items:batch", json={"ops": [op]}).json()["results"][0]
    return result


@pytest.mark.parametrize("item_id", ["a/b c", "%", "x:stop", ":stop", "ünï😀", "trailing/"])
@pytest.mark.parametrize("is_encoded", [True, False])
def test_stop_is_visible_to_readers_and_the_sender(
    module_server: RunningServer, item_id: str, is_encoded: bool
) -> None:
    writer, admin = module_server.client("write"), module_server.client("admin")
    item_id = item_id if is_encoded else f"raw {item_id}".replace("%", "-")
    create_item(writer, item_id)
    path = quote(item_id, safe="" if is_encoded else "/:")
    reply = admin.post(f"/api/v1/items/{path}:stop", json={"run_id": "r"})
    assert reply.status_code == 200
    assert reply.json()["stop_requested_by"] == "admin"
    assert reply.json()["stop_requested_at"] == "2027-01-15T08:00:00.000Z"
    item = writer.get(f"/api/v1/items/{quote(item_id, safe='')}").json()
    assert (item["id"], item["stoppable"], item["stop_requested_by"]) == (item_id, True, "admin")
    result = send_patch(writer, item_id, run_id="r", seq=2, completed=2)
    assert result["stop_request"] == {"run_id": "r", "requested_by": "admin"}
    assert "stop_request" not in send_patch(writer, item_id, run_id="r", seq=3, status="stopped")


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE"])
def test_other_methods_take_the_verb_for_a_part_of_the_id(module_server: RunningServer, method: str) -> None:
    http = module_server.client("write")
    create_item(http, f"{method}:stop")
    body = None if method in {"GET", "DELETE"} else {"run_id": "r"}
    reply = http.request(method, f"/api/v1/items/{method}:stop", json=body)
    assert (reply.status_code, reply.json()["id"]) == (200, f"{method}:stop")


def test_stop_without_a_run_concerns_the_current_one(module_server: RunningServer) -> None:
    http = module_server.client("write")
    create_item(http, "current")
    assert http.post("/api/v1/items/current:stop", json={}).json()["stop_requested_by"] == "write"
    assert http.post("/api/v1/items/current:stop", json={"run_id": None}).status_code == 200


@pytest.mark.parametrize(("body", "status", "field"), [
    (b'{"run_id": 7}', 422, "run_id"), (b'{"run_id": ""}', 422, "run_id"), (b'{"run_id": "\\u0000"}', 422, "run_id"),
    (json.dumps({"run_id": "x" * 201}).encode(), 422, "run_id"), (b"[]", 400, None), (b"{", 400, None),
    (b'{"run_id": "r"}' + b" " * 70_000, 413, None),
])  # fmt: skip
def test_forged_stop_body_is_refused(module_server: RunningServer, body: bytes, status: int, field: str | None) -> None:
    http = module_server.client("write")
    create_item(http, "forged")
    reply = http.post("/api/v1/items/forged:stop", content=body, headers={"Content-Type": "application/json"})
    assert (reply.status_code, reply.json().get("field")) == (status, field)
    assert http.get("/api/v1/items/forged").json()["stop_requested_at"] is None


@pytest.mark.parametrize(("key", "status"), [("read", 403), ("other", 403), ("write", 200), ("admin", 200)])
def test_stop_needs_write_permission_on_the_item(module_server: RunningServer, key: str, status: int) -> None:
    create_item(module_server.client("write"), f"by {key}")
    assert module_server.client(key).post(f"/api/v1/items/by {key}:stop", json={}).status_code == status


def test_guest_cannot_stop_where_reading_is_public(make_server: Callable[..., RunningServer]) -> None:
    served = make_server(public_read=True)
    create_item(served.client("write"), "a")
    assert served.client().get("/api/v1/items/a").status_code == 200
    assert served.client().post("/api/v1/items/a:stop", json={}).status_code == 401


def test_share_shows_neither_the_request_nor_its_author(module_server: RunningServer) -> None:
    admin = module_server.client("admin")
    create_item(admin, "shared")
    token = admin.post("/api/v1/shares", json={"item": "shared"}).json()["token"]
    admin.post("/api/v1/items/shared:stop", json={}).raise_for_status()
    items = module_server.client().get(f"/s/{token}/items").json()["items"]
    assert set(items[0]) == set(PUBLIC_FIELDS)
    assert {name for name in items[0] if name.startswith("stop")} == set()


def test_run_of_the_history_has_ended(module_server: RunningServer) -> None:
    http = module_server.client("write")
    create_item(http, "gone")
    http.post("/api/v1/items/gone:stop", json={}).raise_for_status()
    http.patch("/api/v1/items/gone", json={"status": "stopped"}).raise_for_status()
    assert http.post("/api/v1/items/gone:stop", json={}).json()["type"] == "/problems/run-ended"
    http.delete("/api/v1/items/gone").raise_for_status()
    for body in ({}, {"run_id": "r"}):
        reply = http.post("/api/v1/items/gone:stop", json=body)
        assert (reply.status_code, reply.json()["type"]) == (409, "/problems/run-ended")
    assert module_server.client("other").post("/api/v1/items/gone:stop", json={}).status_code == 403
    assert http.post("/api/v1/items/gone:stop", json={"run_id": "never"}).status_code == 404
    run = http.get("/api/v1/history", params={"id": "gone"}).json()["items"][0]
    assert (run["status"], run["stop_requested_by"]) == ("stopped", "write")


def test_former_run_and_its_request_do_not_concern_the_next_run(module_server: RunningServer) -> None:
    http = module_server.client("write")
    create_item(http, "again")
    http.post("/api/v1/items/again:stop", json={}).raise_for_status()
    create_item(http, "again", run_id="second")
    assert "stop_request" not in send_patch(http, "again", run_id="second", seq=2, completed=2)
    reply = http.post("/api/v1/items/again:stop", json={"run_id": "r"})
    assert (reply.status_code, reply.json()["type"]) == (409, "/problems/run-superseded")
    assert http.get("/api/v1/items/again").json()["stop_requested_at"] is None


def test_each_stop_request_is_logged_with_its_author(make_server: Callable[..., RunningServer]) -> None:
    with capture_logs("json") as stream:
        served = make_server()
        admin = served.client("admin")
        create_item(admin, "a")
        create_item(admin, "b", stoppable=False)
        for item_id in ("a", "a", "b", "none"):
            admin.post(f"/api/v1/items/{item_id}:stop", json={})
        served.client("write").post("/api/v1/items/a:stop", json={})
    lines = [line for line in parse_lines(stream) if line["message"] == "stop requested"]
    assert [(line["item"], line["requested_by"], line["outcome"]) for line in lines] == [
        ("a", "admin", "accepted"), ("a", "admin", "accepted"), ("b", "admin", "not-stoppable"),
        ("none", "admin", "item-not-found"), ("a", "write", "forbidden"),
    ]  # fmt: skip
    assert lines[0]["run_id"] == "r"


def test_browser_stops_only_from_the_own_page(server: RunningServer) -> None:
    create_item(server.client("write"), "a")
    browser = server.browser()
    assert browser.post("/api/v1/items/a:stop", json={}, headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403
    assert browser.post("/api/v1/items/a:stop", json={}).json()["stop_requested_by"] == "operator"


def test_acknowledged_stop_survives_kill_9(tmp_path: Path) -> None:
    process = ServerProcess(tmp_path)
    try:
        with process.http() as http:
            create_item(http, "a")
            assert http.post("/api/v1/items/a:stop", json={}).status_code == 200
            process.stop(9)
        process.start()
        with process.http() as http:
            assert http.get("/api/v1/items/a").json()["stop_requested_by"] is not None
            assert "stop_request" in send_patch(http, "a", run_id="r", seq=2, completed=2)
    finally:
        process.close()


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def stored(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server on each kind of store, with a stopped run of the group ``g`` in its history."""
    url = None if request.param == "sqlite" else create_database(request.getfixturevalue("postgres_cluster"))
    served = RunningServer(tmp_path_factory.mktemp("stops"), ManualClock(), database=url)
    http = served.client("write")
    create_item(http, "stopped", group="g", parent=None)
    served.client("admin").post("/api/v1/items/stopped:stop", json={}).raise_for_status()
    http.patch("/api/v1/items/stopped", json={"status": "stopped"}).raise_for_status()
    http.delete("/api/v1/items/stopped").raise_for_status()
    create_item(http, "finished", group="g")
    http.patch("/api/v1/items/finished", json={"status": "succeeded"}).raise_for_status()
    http.delete("/api/v1/items/finished").raise_for_status()
    yield served
    served.stop()


def test_csv_names_the_requester_of_a_stop(stored: RunningServer) -> None:
    reply = stored.client("read").get("/api/v1/history.csv")
    rows = csv.DictReader(io.StringIO(reply.text, newline=""))
    assert {row["id"]: row["stop_requested_by"] for row in rows} == {"stopped": "admin", "finished": ""}


def test_timeline_names_the_requester_of_a_stop(stored: RunningServer) -> None:
    runs = stored.client("read").get("/api/v1/timeline").json()["runs"]
    assert {run["id"]: run["stop_requested_by"] for run in runs} == {"stopped": "admin", "finished": None}


def test_share_does_not_name_the_requester_of_a_stop(stored: RunningServer) -> None:
    token = stored.client("admin").post("/api/v1/shares", json={"group": "g"}).json()["token"]
    reply = stored.client().get(f"/s/{token}/timeline")
    assert {run["id"] for run in reply.json()["runs"]} == {"stopped", "finished"}
    assert "admin" not in reply.text
