"""The HTTP API over real sockets."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest

from tests.support.server import FullDisk, RunningServer, make_legacy_item

if TYPE_CHECKING:
    from collections.abc import Callable

    import httpx

HOSTILE_IDS = [
    "a/b/c", "/leading", "trailing/", "a//b", "//", "/", "?x=1", "a?b#c", "#", "100%", "%2F", "%", "a b", " ", "..",
    "../../etc/passwd", ".", "./a", "a\\b", "emoji 😀", "مرحبا", "ünï", "e\u0301", "\u202eflipped", "a+b&c=d;e",
    "items:batch", "{id}", "'\"<script>", "x" * 200, "😀" * 200,
]  # fmt: skip


def item_path(item_id: str) -> str:
    # Clients remove "." and ".." from a path, unless both are encoded.
    return f"/api/v1/items/{quote(item_id, safe='').replace('.', '%2E')}"


@pytest.mark.parametrize("item_id", HOSTILE_IDS)
def test_every_route_accepts_unusual_ids(module_server: RunningServer, item_id: str) -> None:
    http = module_server.client("write")
    assert http.post("/progress", json=make_legacy_item(item_id)).status_code == 201
    assert http.put("/progress", json=make_legacy_item(item_id, 0.6)).json()["value"] == 0.6
    assert http.get(item_path(item_id)).json()["id"] == item_id
    assert http.patch(item_path(item_id), json={"title": "patched"}).json()["id"] == item_id
    assert item_id in [item["id"] for item in http.get("/progress").json()]
    assert http.delete("/progress", params={"id": item_id}).status_code == 200
    assert http.get(item_path(item_id)).status_code == 404
    assert http.put(item_path(item_id), json={"run_id": "r"}).status_code == 201
    ops = [{"op": "patch", "id": item_id}, {"op": "delete", "id": item_id}, {"op": "put", "id": item_id}]
    results = http.post("/api/v1/items:batch", json={"ops": ops}).json()["results"]
    assert [(result["id"], result["status"]) for result in results] == [(item_id, 200), (item_id, 200), (item_id, 201)]
    assert http.get("/api/v1/history").json()["items"][0]["id"] == item_id
    assert http.delete(item_path(item_id), params={"run_id": "x"}).status_code == 409
    assert http.delete(item_path(item_id)).status_code == 200


def test_slashes_in_id_need_no_encoding(module_server: RunningServer) -> None:
    http = module_server.client("write")
    http.put("/api/v1/items/nested/a/b", json={})
    assert http.get(item_path("nested/a/b")).json()["id"] == "nested/a/b"


# The list


def test_legacy_list_is_bare_sorted_array(server: RunningServer) -> None:
    http = server.client("write")
    for item_id, weight in (("a", 0), ("b", 5), ("c", 0), ("d", 5)):
        http.post("/progress", json=make_legacy_item(item_id, weight=weight))
        server.clock.advance(1)
    assert [item["id"] for item in http.get("/progress").json()] == ["b", "d", "a", "c"]
    assert [item["id"] for item in http.get("/api/v1/items").json()["items"]] == ["b", "d", "a", "c"]


def test_item_has_all_fields_of_protocol(server: RunningServer) -> None:
    http = server.client("write")
    http.put("/api/v1/items/a", json={"run_id": "r", "seq": 3, "total": 4, "completed": 0, "meta": {"host": "h"}})
    server.clock.advance(2)
    item = http.patch("/api/v1/items/a", json={"completed": 1}).json()
    assert item == {
        "id": "a", "title": "", "description": "", "value": 0.25, "completed": 1, "total": 4, "unit": "", "weight": 0,
        "status": "running", "stalled": False, "late": False, "stuck": False, "slower": False, "error": None,
        "group": None, "parent": None, "meta": {"host": "h"}, "deadline": None, "notify": [], "rate": 0.5, "eta": 6.0,
        "eta_low": item["eta_low"], "eta_high": item["eta_high"], "finish_at": "2027-01-15T08:00:08.000Z",
        "basis": "this run", "estimated_total": None, "estimated_value": None, "usual_gap_seconds": 2.0,
        "usual_duration_seconds": None, "started_at": "2027-01-15T08:00:00.000Z",
        "progressed_at": "2027-01-15T08:00:02.000Z", "owner": "write", "run_id": "r", "seq": 3, "short_runs": 0,
        "created_at": "2027-01-15T08:00:00.000Z", "updated_at": "2027-01-15T08:00:02.000Z", "ended_at": None,
        "heartbeat_timeout": None, "ttl": None, "stoppable": False, "stop_requested_at": None,
        "stop_requested_by": None,
    }  # fmt: skip


def test_count_of_short_runs_stays_with_its_run(server: RunningServer) -> None:
    http = server.client("write")
    http.put("/api/v1/items/a", json={"run_id": "r", "seq": 1, "short_runs": 3})
    assert http.patch("/api/v1/items/a", json={"completed": 5, "seq": 2}).json()["short_runs"] == 3
    assert http.patch("/api/v1/items/a", json={"short_runs": 7, "seq": 3}).json()["short_runs"] == 7
    assert http.patch("/api/v1/items/a", json={"short_runs": 1, "seq": 2}).json()["short_runs"] == 7
    assert http.put("/api/v1/items/a", json={"run_id": "r2"}).json()["short_runs"] == 0
    (former,) = http.get("/api/v1/history").json()["items"]
    assert (former["run_id"], former["short_runs"]) == ("r", 7)


def test_unchanged_list_is_304(server: RunningServer) -> None:
    http = server.client("write")
    http.put("/api/v1/items/a", json={})
    first = http.get("/api/v1/items")
    etag = first.headers["ETag"]
    assert etag.startswith('W/"')
    again = http.get("/api/v1/items", headers={"If-None-Match": f'"other", {etag}'})
    assert (again.status_code, again.content, again.headers["ETag"]) == (304, b"", etag)
    http.patch("/api/v1/items/a", json={"title": "new"})
    changed = http.get("/api/v1/items", headers={"If-None-Match": etag})
    assert changed.status_code == 200
    assert changed.json()["rev"] > first.json()["rev"]


def test_stall_and_expiry_change_etag(server: RunningServer) -> None:
    http = server.client("write")
    http.put("/api/v1/items/a", json={"heartbeat_timeout": 10})
    http.put("/api/v1/items/b", json={"ttl": 20, "status": "succeeded"})
    etag = http.get("/api/v1/items").headers["ETag"]
    server.clock.advance(10)
    reply = http.get("/api/v1/items", headers={"If-None-Match": etag})
    assert [item["stalled"] for item in reply.json()["items"]] == [True, False]
    server.clock.advance(10)
    reply = http.get("/api/v1/items", headers={"If-None-Match": reply.headers["ETag"]})
    assert [item["id"] for item in reply.json()["items"]] == ["a"]


def test_etag_ends_with_server(server: RunningServer) -> None:
    etag = server.client("read").get("/api/v1/items").headers["ETag"]
    server.restart()
    assert server.client("read").get("/api/v1/items", headers={"If-None-Match": etag}).status_code == 200


def follow_pages(http: httpx.Client, path: str, between: Callable[[], object]) -> list[str]:
    found: list[str] = []
    while True:
        reply = http.get(path)
        found += [item["id"] for item in reply.json()["items"]]
        if "next" not in reply.links:
            return found
        path = str(reply.url.join(reply.links["next"]["url"]))
        between()


def test_list_pages_are_stable_during_changes(server: RunningServer) -> None:
    http = server.client("write")
    for n in range(10):
        http.put(f"/api/v1/items/{n}", json={"weight": n // 5, "group": "g"})
    http.put("/api/v1/items/elsewhere", json={})

    def between() -> None:
        http.delete("/api/v1/items/5")
        http.put("/api/v1/items/first", json={"weight": 99, "group": "g"})

    found = follow_pages(http, "/api/v1/items?group=g&limit=3", between)
    assert found == ["5", "6", "7", "8", "9", "0", "1", "2", "3", "4"]


def test_list_is_filtered(server: RunningServer) -> None:
    http = server.client("write")
    http.put("/api/v1/items/a", json={"group": "g ü"})
    http.put("/api/v1/items/b", json={"group": "g ü", "status": "failed"})
    http.put("/api/v1/items/c", json={})
    for query, ids in (({"group": "g ü"}, ["a", "b"]), ({"status": "failed"}, ["b"]), ({"status": "stopped"}, [])):
        assert [item["id"] for item in http.get("/api/v1/items", params=query).json()["items"]] == ids


# The history


def test_history_has_end_of_each_run(server: RunningServer) -> None:
    http = server.client("write")
    http.put("/api/v1/items/a", json={"run_id": "1", "group": "g"})
    http.put("/api/v1/items/a", json={"run_id": "2", "group": "g"})
    http.patch("/api/v1/items/a", json={"status": "failed", "error": "OSError: x"})
    http.delete("/api/v1/items/a")
    http.post("/progress", json=make_legacy_item("b"))
    http.delete("/progress", params={"id": "b"})
    runs = http.get("/api/v1/history").json()["items"]
    assert [(run["id"], run["status"], run["error"]) for run in runs] == [
        ("b", "deleted", None), ("a", "failed", "OSError: x"), ("a", "stopped", None)
    ]  # fmt: skip
    assert all(run["ended_at"] for run in runs)
    assert len(http.get("/api/v1/history?group=g").json()["items"]) == 2
    assert len(http.get("/api/v1/history?status=deleted").json()["items"]) == 1


def test_history_pages_are_stable_during_ends(server: RunningServer) -> None:
    http = server.client("write")

    def end(item_id: str) -> None:
        http.put(f"/api/v1/items/{item_id}", json={})
        http.delete(f"/api/v1/items/{item_id}")

    for n in range(7):
        end(str(n))
    assert follow_pages(http, "/api/v1/history?limit=3", lambda: end("later")) == ["6", "5", "4", "3", "2", "1", "0"]


# Batches


def test_batch_has_ordered_single_results(server: RunningServer) -> None:
    http = server.client("write")
    server.client("other").put("/api/v1/items/theirs", json={})
    ops = [
        {"op": "put", "id": "a", "run_id": "r", "seq": 1, "total": 9},
        {"op": "patch", "id": "a", "run_id": "r", "seq": 2, "completed": 3},
        {"op": "patch", "id": "nobody's"},
        {"op": "patch", "id": "theirs", "title": "mine"},
        {"op": "patch", "id": "a", "value": 7},
        {"op": "patch", "id": "a", "run_id": "r", "seq": 3, "status": "succeeded"},
        {"op": "delete", "id": "a", "run_id": "r"},
    ]
    results = http.post("/api/v1/items:batch", json={"ops": ops}).json()["results"]
    assert [result["status"] for result in results] == [201, 200, 404, 403, 422, 200, 200]
    assert results[4]["problem"]["field"] == "value"
    assert http.get("/api/v1/history").json()["items"][0]["status"] == "succeeded"


def test_batch_may_have_500_operations(server: RunningServer) -> None:
    ops = [{"op": "put", "id": str(n)} for n in range(500)]
    results = server.client("write").post("/api/v1/items:batch", json={"ops": ops}).json()["results"]
    assert [result["status"] for result in results] == [201] * 500


# Limits, failures, restarts


def test_item_beyond_key_limit_is_refused_with_reason(
    make_server: Callable[..., RunningServer],
) -> None:
    served = make_server(max_items=2)
    http = served.client("write")
    for item_id in "ab":
        assert http.post("/progress", json=make_legacy_item(item_id)).status_code == 201
    for reply in (http.post("/progress", json=make_legacy_item("c")), http.put("/api/v1/items/c", json={})):
        assert reply.status_code == 429
        assert int(reply.headers["Retry-After"]) > 0
        assert "2 items" in reply.json()["detail"]
    assert served.client("other").post("/progress", json=make_legacy_item("c")).status_code == 201


def test_failed_commit_changes_nothing(server: RunningServer, disk: FullDisk) -> None:
    http = server.client("write")
    http.put("/api/v1/items/a", json={"run_id": "r", "title": "before"})
    before = http.get("/progress").json()
    disk.full = True
    attempts = [
        http.post("/progress", json=make_legacy_item("b")),
        http.put("/api/v1/items/b", json={}),
        http.put("/api/v1/items/a", json={"run_id": "new"}),
        http.patch("/api/v1/items/a", json={"status": "succeeded"}),
        http.put("/progress", json=make_legacy_item("a", 1)),
        http.delete("/api/v1/items/a"),
        http.delete("/progress", params={"id": "a"}),
        http.post("/api/v1/items:batch", json={"ops": [{"op": "put", "id": "b"}, {"op": "delete", "id": "a"}]}),
        server.client("admin").post("/api/v1/keys", json={"type": "read", "name": "n"}),
        http.get("/readyz"),
    ]
    for reply in attempts:
        assert (reply.status_code, reply.json()["type"]) == (503, "/problems/unavailable")
        assert int(reply.headers["Retry-After"]) > 0
    assert http.get("/progress").json() == before
    assert http.patch("/api/v1/items/a", json={"title": "progress goes on"}).status_code == 200
    assert http.get("/healthz").status_code == 200
    disk.full = False
    assert http.get("/readyz").status_code == 200
    assert http.patch("/api/v1/items/a", json={"status": "succeeded"}).status_code == 200
    server.restart()
    assert [(item["id"], item["title"], item["status"]) for item in server.client("read").get("/progress").json()] == [
        ("a", "progress goes on", "succeeded")
    ]


def test_queued_progress_survives_failed_delete(server: RunningServer, disk: FullDisk) -> None:
    http = server.client("write")
    http.put("/api/v1/items/a", json={})
    http.patch("/api/v1/items/a", json={"title": "not written yet"})
    disk.full = True
    assert http.delete("/api/v1/items/a").status_code == 503
    disk.full = False
    server.restart()
    assert server.client("read").get("/api/v1/items/a").json()["title"] == "not written yet"


def test_expired_item_stays_gone_after_failed_create(server: RunningServer, disk: FullDisk) -> None:
    http = server.client("write")
    http.put("/api/v1/items/a", json={"ttl": 5, "status": "succeeded"})
    disk.full = True
    server.clock.advance(5)
    assert http.get("/api/v1/items").json()["items"] == []
    assert http.put("/api/v1/items/a", json={}).status_code == 503
    disk.full = False
    server.restart()
    assert server.background.store.load().items == []
    assert [run["id"] for run in server.client("read").get("/api/v1/history").json()["items"]] == ["a"]


def test_restart_keeps_everything(server: RunningServer) -> None:
    http = server.client("write")
    http.post("/progress", json=make_legacy_item("a", weight=3))
    http.put("/api/v1/items/b", json={"run_id": "r", "seq": 4, "total": 10, "meta": {"k": "v"}})
    http.patch("/api/v1/items/b", json={"part": "1", "completed": 4, "seq": 9})
    http.put("/api/v1/items/gone", json={})
    http.delete("/api/v1/items/gone")
    items, runs = http.get("/progress").json(), http.get("/api/v1/history").json()
    info = http.get("/api/key-info").json()
    server.restart()
    http = server.client("write")
    assert http.get("/progress").json() == items
    assert http.get("/api/v1/history").json() == runs
    assert http.patch("/api/v1/items/b", json={"part": "1", "completed": 1, "seq": 9}).json()["completed"] == 4
    again = http.get("/api/key-info").json()
    assert again.pop("server")["boot_id"] != info.pop("server")["boot_id"]
    assert again == info


def test_key_info_has_permissions_and_server(module_server: RunningServer) -> None:
    info = module_server.client("write").get("/api/key-info").json()
    assert info["type"] == "write"
    assert info["permissions"] == ["read", "create", "update_own", "delete_own"]
    assert info["api"] == ["v1"]
    assert set(info["server"]) == {"version", "boot_id"}
    limits = {"body_bytes": 65536, "batch_bytes": 1048576, "batch_ops": 500, "items": 10000}
    assert info["limits"].items() >= limits.items()


# Base path


def test_routes_work_under_base_path(make_server: Callable[..., RunningServer]) -> None:
    served = make_server(base_path="/p")
    assert served.background.url.endswith("/p")
    http = served.client("write")
    assert http.post("/progress", json=make_legacy_item("a/b")).status_code == 201
    assert http.get(item_path("a/b")).json()["id"] == "a/b"
    assert http.delete("/progress", params={"id": "a/b"}).status_code == 200
    origin = f"http://127.0.0.1:{served.background.port}"
    assert http.get(f"{origin}/progress").status_code == 200, "a proxy may have taken the base path off"
    assert http.get(f"{origin}/pprogress").status_code == 404
    assert http.get(f"{origin}/p").headers["Location"] == "/p/"
    browser = served.browser()
    assert browser.get("/").status_code == 200
    assert all(cookie.path == "/p" for cookie in browser.cookies.jar)


def test_every_response_has_the_security_headers(module_server: RunningServer) -> None:
    http = module_server.client("read")
    for path in ("/", "/login", "/progress", "/nothing", "/static/board.js", "/static/app.css", "/healthz"):
        headers = http.get(path).headers
        assert headers["Content-Security-Policy"] == (
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
            "worker-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; "
            "require-trusted-types-for 'script'"
        )
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["X-Frame-Options"] == "DENY"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert headers["Cache-Control"] in {"no-store", "no-cache"}
        assert "Server" not in headers


# Keys over HTTP


def test_key_is_shown_once_and_works_until_revoked(server: RunningServer) -> None:
    admin = server.client("admin")
    made = admin.post("/api/v1/keys", json={"type": "write", "name": "new", "group": "g"}).json()
    http = server.client(made["key"])
    assert http.post("/progress", json=make_legacy_item("a")).json()["group"] == "g"
    assert http.put("/api/v1/items/b", json={}).json()["group"] == "g"
    assert http.put("/api/v1/items/c", json={"group": "h"}).json()["group"] == "h"
    listed = admin.get("/api/v1/keys")
    assert made["key"] not in listed.text
    assert made["key_id"] in [key["key_id"] for key in listed.json()["keys"]]
    assert admin.delete(f"/api/v1/keys/{made['key_id']}").json()["revoked_at"]
    refused = http.get("/progress")
    assert (refused.status_code, refused.json()["detail"]) == (401, "the key was revoked")
    assert admin.post(f"/api/v1/keys/{made['key_id']}/rotate").status_code == 422
    assert admin.delete("/api/v1/keys/nobody").status_code == 404


def test_key_expires_at_its_instant(server: RunningServer) -> None:
    body = {"type": "read", "name": "n", "expires_at": "2027-01-15T09:00:00+01:00"}
    assert server.client("admin").post("/api/v1/keys", json=body).json()["field"] == "expires_at"
    body["expires_at"] = "2027-01-15T09:00:01+01:00"
    made = server.client("admin").post("/api/v1/keys", json=body).json()
    http = server.client(made["key"])
    assert http.get("/progress").status_code == 200
    server.clock.advance(1)
    assert http.get("/progress").json()["detail"] == "the key has expired"


def test_rotated_key_keeps_items_and_old_secret_for_a_day(server: RunningServer) -> None:
    admin = server.client("admin")
    made = admin.post("/api/v1/keys", json={"type": "write", "name": "new"}).json()
    old = server.client(made["key"])
    old.post("/progress", json=make_legacy_item("a"))
    rotated = admin.post(f"/api/v1/keys/{made['key_id']}/rotate").json()
    new = server.client(rotated["key"])
    assert new.put("/progress", json=make_legacy_item("a", 0.6)).status_code == 200
    assert old.put("/progress", json=make_legacy_item("a", 0.7)).status_code == 200
    server.clock.advance(24 * 3600)
    assert old.get("/progress").status_code == 401
    assert new.delete("/progress", params={"id": "a"}).status_code == 200


def test_last_admin_key_cannot_be_revoked(server: RunningServer) -> None:
    admin = server.client("admin")
    ids = [key["key_id"] for key in admin.get("/api/v1/keys").json()["keys"] if key["type"] == "admin"]
    mine = server.keys["admin"].split("_")[2]
    for key_id in ids:
        if key_id != mine:
            assert admin.delete(f"/api/v1/keys/{key_id}").status_code == 200
    refused = admin.delete(f"/api/v1/keys/{mine}")
    assert (refused.status_code, refused.json()["type"]) == (409, "/problems/last-admin-key")
    assert admin.get("/api/v1/keys").status_code == 200


def test_key_use_is_recorded_once_a_minute(server: RunningServer) -> None:
    http, admin = server.client("read"), server.client("admin")

    def used() -> str | None:
        assert server.background.store.flush(60)
        server.background.app.services.credentials.refresh_keys()
        keys, _ = server.background.store.read_keys()
        (key,) = [key for key in keys if key.name == "read"]
        return key.last_used_at

    assert used() is None
    http.get("/progress")
    first = used()
    assert first == server.clock.now
    server.clock.advance(59)
    http.get("/progress")
    assert used() == first
    server.clock.advance(1)
    http.get("/progress")
    assert used() == server.clock.now
    assert admin.get("/api/v1/keys").status_code == 200
