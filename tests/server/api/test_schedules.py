"""``/api/v1/schedules`` over real sockets."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest

from progressbar_tracker.server.schedules import table
from tests.server.test_logs import capture_logs, parse_lines

if TYPE_CHECKING:
    from collections.abc import Callable

    import httpx

    from tests.support.server import RunningServer


def put_schedule(http: httpx.Client, schedule_id: str, **body: object) -> httpx.Response:
    return http.put(f"/api/v1/schedules/{quote(schedule_id, safe='')}", json=body or {"cron": "0 3 * * *"})


@pytest.mark.parametrize("schedule_id", ["a/b c", "%", "job:stop", "ünï😀", "trailing/", "x/schedules"])
def test_schedule_of_any_id_is_set_read_and_deleted(module_server: RunningServer, schedule_id: str) -> None:
    http, path = module_server.client("write"), f"/api/v1/schedules/{quote(schedule_id, safe='')}"
    created = put_schedule(http, schedule_id, cron="0 3 * * *", timezone="Europe/Paris", grace=600, notify=["phone"])
    assert created.status_code == 201
    document = created.json()
    assert document | {"created_at": "", "updated_at": ""} == {
        "id": schedule_id, "cron": "0 3 * * *", "every": None, "timezone": "Europe/Paris", "grace": 600.0,
        "group": None, "notify": ["phone"], "owner": "write", "created_at": "", "updated_at": "",
        "next_at": "2027-01-16T02:00:00.000Z", "started_at": None, "missed_at": None, "missed": False,
    }  # fmt: skip
    assert http.get(path).json() == document
    assert http.get("/api/v1/schedules", params={"id": schedule_id}).json() == {"schedules": [document]}
    assert put_schedule(http, schedule_id, every=3600).status_code == 200
    assert http.get(path).json()["every"] == 3600.0
    assert http.delete(path).json()["id"] == schedule_id
    assert http.get(path).json()["type"] == "/problems/not-found"
    assert http.delete(path).status_code == 404


def test_list_filter_without_a_match_is_empty(module_server: RunningServer) -> None:
    assert module_server.client("read").get("/api/v1/schedules?id=none").json() == {"schedules": []}


def test_list_is_paged_by_id(server: RunningServer) -> None:
    http = server.client("write")
    for name in ("c", "a&b", "b"):
        put_schedule(http, name)
    page = http.get("/api/v1/schedules?limit=2")
    assert [schedule["id"] for schedule in page.json()["schedules"]] == ["a&b", "b"]
    rest = http.get(f"/api/v1/{page.links['next']['url']}")
    assert [schedule["id"] for schedule in rest.json()["schedules"]] == ["c"]
    assert "next" not in rest.links


@pytest.mark.parametrize(("body", "field"), [
    ({}, "cron"), ({"cron": "0 3 * * *", "every": 60}, "cron"), ({"cron": None}, "cron"), ({"cron": 7}, "cron"),
    ({"cron": "* * * * * *"}, "cron"), ({"cron": "61 * * * *"}, "cron"), ({"every": 59}, "every"),
    ({"every": "60"}, "every"), ({"every": 60.5}, "every"), ({"every": 60, "timezone": "UTC"}, "timezone"),
    ({"cron": "* * * * *", "timezone": "Nowhere"}, "timezone"), ({"every": 60, "grace": 1}, "grace"),
    ({"every": 60, "notify": "phone"}, "notify"), ({"every": 60, "notify": ["x"] * 9}, "notify"),
])  # fmt: skip
def test_invalid_schedule_is_refused_with_its_field(
    module_server: RunningServer, body: dict[str, object], field: str
) -> None:
    reply = module_server.client("write").put("/api/v1/schedules/invalid", json=body)
    assert (reply.status_code, reply.json()["field"]) == (422, field)


def test_write_key_changes_its_own_schedules_only(module_server: RunningServer) -> None:
    own, other = module_server.client("write"), module_server.client("other")
    put_schedule(own, "mine")
    assert put_schedule(other, "mine").status_code == 403
    assert other.delete("/api/v1/schedules/mine").status_code == 403
    assert put_schedule(module_server.client("admin"), "mine", every=60).json()["owner"] == "write"
    assert put_schedule(own, "mine").status_code == 200


def test_schedule_of_an_item_of_another_key_is_refused(module_server: RunningServer) -> None:
    module_server.client("write").put("/api/v1/items/owned", json={})
    assert put_schedule(module_server.client("other"), "owned").status_code == 403
    assert put_schedule(module_server.client("write"), "owned").status_code == 201


def test_schedule_beyond_the_limit_is_refused(server: RunningServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "MAX_SCHEDULES", 1)
    http = server.client("write")
    put_schedule(http, "a")
    assert put_schedule(http, "b").json()["type"] == "/problems/too-many-schedules"
    assert put_schedule(http, "a", every=60).status_code == 200


def test_changed_rule_begins_now_and_the_same_rule_goes_on(server: RunningServer) -> None:
    http, schedules = server.client("write"), server.background.app.services.schedules
    put_schedule(http, "a", cron="0 3 * * *")
    since = schedules.get("a").since
    server.clock.advance(60)
    put_schedule(http, "a", cron="0 3 * * *", grace=60)
    assert schedules.get("a").since == since
    put_schedule(http, "a", cron="0 4 * * *")
    assert schedules.get("a").since == since + 60


def test_schedules_survive_a_restart(server: RunningServer) -> None:
    document = put_schedule(server.client("write"), "a", cron="0 3 * * *", notify=["x"]).json()
    server.restart()
    assert server.client("read").get("/api/v1/schedules").json() == {"schedules": [document]}


def test_change_of_a_schedule_is_logged_with_its_key(make_server: Callable[..., RunningServer]) -> None:
    with capture_logs("json") as stream:
        http = make_server().client("write")
        put_schedule(http, "a")
        http.delete("/api/v1/schedules/a")
    lines = [line for line in parse_lines(stream) if str(line["message"]).startswith("schedule ")]
    assert [(line["message"], line["item"]) for line in lines] == [("schedule set", "a"), ("schedule deleted", "a")]
