"""Former runs on a real server: estimates from them, their list, and curves that survive a restart."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest

from progressbar_tracker.server.items.former_run_cache import MIN_RELOAD_INTERVAL, RETRY_DELAY
from progressbar_tracker.server.stores.base import StoreError
from tests.support.clock import ManualClock
from tests.support.postgres import create_database
from tests.support.server import RunningServer, ServerGroup
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import httpx


@pytest.fixture(params=["sqlite", "postgresql"])
def served(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[RunningServer]:
    """A server with a manual clock, on each kind of store."""
    url = None if request.param == "sqlite" else create_database(request.getfixturevalue("postgres_cluster"))
    served = RunningServer(tmp_path, ManualClock(), database=url, local_key=False)
    yield served
    served.stop()


def advance(served: RunningServer, seconds: float) -> None:
    assert served.clock is not None
    served.clock.advance(seconds)


def get_item(http: httpx.Client, item_id: str) -> dict[str, object]:
    return http.get(f"/api/v1/items/{item_id}").json()


def list_former(http: httpx.Client, item_id: str, **query: object) -> list[tuple[str, str]]:
    response = http.get("/api/v1/history", params={"former_of": item_id, **query})
    assert response.status_code == 200, response.text
    return [(run["id"], run["status"]) for run in response.json()["items"]]


def start_run(http: httpx.Client, item_id: str, run_id: str = "new") -> None:
    body = {"run_id": run_id, "completed": 0, "total": 100}
    http.put(f"/api/v1/items/{item_id}", json=body).raise_for_status()


def run_once(served: RunningServer, item_id: str, *, seconds: float = 100.0, status: str = "succeeded") -> None:
    """Run an item with progress halfway, and leave its ended item on the board."""
    http = served.client("write")
    start_run(http, item_id, item_id)
    for completed in (50, 100):
        advance(served, seconds / 2)
        patch = {"completed": completed} | ({"status": status} if completed == 100 else {})
        http.patch(f"/api/v1/items/{item_id}", json=patch).raise_for_status()


def test_dated_runs_are_estimated_from_former_ones(served: RunningServer) -> None:
    """Former runs count while they are still on the board, in the history, and after a restart."""
    for day in (1, 2, 3):
        run_once(served, f"night-2026-11-0{day}")
    run_once(served, "night-2026-11-04", status="failed")
    run_once(served, "day-2026-11-04")
    for _ in range(2):
        http = served.client("write")
        http.delete("/api/v1/items/night-2026-11-02")
        start_run(http, "night-2026-11-05")
        wait_until(lambda: get_item(http, "night-2026-11-05")["basis"] == "3 former runs")  # noqa: B023
        former = [(f"night-2026-11-0{day}", "succeeded") for day in (3, 2, 1)]
        assert list_former(http, "night-2026-11-05") == former
        assert list_former(http, "night-2026-11-05", limit=1) == former[:1]
        assert list_former(http, "night-2026-11-03") == former[1:]
        served.restart()


def test_former_run_that_ends_later_is_used(served: RunningServer) -> None:
    http = served.client("write")
    for name in ("night-2026-11-01", "night-2026-11-02"):
        start_run(http, name)
    advance(served, 60)
    assert get_item(http, "night-2026-11-02")["basis"] is None
    http.patch("/api/v1/items/night-2026-11-01", json={"status": "succeeded"}).raise_for_status()

    def is_estimated() -> bool:
        advance(served, MIN_RELOAD_INTERVAL)
        return get_item(http, "night-2026-11-02")["basis"] == "1 former run"

    wait_until(is_estimated)


def test_viewers_get_the_estimate_without_another_write(served: RunningServer) -> None:
    run_once(served, "nightly")
    http = served.client("write")
    start_run(http, "nightly")
    with served.client("read").stream("GET", "/api/v1/events") as stream:
        for line in stream.iter_lines():
            if '"basis":"1 former run"' in line:
                break


def test_curve_of_a_run_survives_a_restart(served: RunningServer) -> None:
    http = served.client("write")
    start_run(http, "job", "r")
    advance(served, 40)
    http.patch("/api/v1/items/job", json={"completed": 80}).raise_for_status()
    wait_until(lambda: served.background.store.read_curves([("job", "r")]))
    served.restart()
    wait_until(served.background.app.services.is_leader)
    advance(served, 60)
    served.client("write").patch("/api/v1/items/job", json={"status": "succeeded", "completed": 100}).raise_for_status()

    def is_complete() -> bool:
        curve = served.background.store.read_curves([("job", "r")])["job", "r"]
        return len(curve.positions) * curve.step > 99

    wait_until(is_complete)
    curve = served.background.store.read_curves([("job", "r")])["job", "r"]
    assert [curve.positions[int(at / curve.step)] for at in (20, 40, 70)] == pytest.approx([40, 80, 90], abs=2)


def test_failing_history_is_logged_once_and_harms_no_item(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    run_once(server, "nightly")
    attempts = []

    def fail(*arguments: object, **_: object) -> None:
        attempts.append(arguments)
        raise StoreError("no disk")

    http = server.client("write")
    with monkeypatch.context() as patch, caplog.at_level(logging.WARNING):
        patch.setattr(server.background.store, "read_former_runs", fail)
        start_run(http, "nightly")

        def was_retried() -> bool:
            advance(server, RETRY_DELAY)
            assert get_item(http, "nightly")["status"] == "running"
            return len(attempts) > 1

        wait_until(was_retried)
        assert http.get("/api/v1/history?former_of=nightly").status_code == 503
    assert len([line for line in caplog.messages if "no disk" in line]) == 1

    def is_estimated() -> bool:
        advance(server, RETRY_DELAY)
        return get_item(http, "nightly")["basis"] == "1 former run"

    wait_until(is_estimated)


def test_each_server_of_a_cluster_uses_former_runs(postgres_url: str, tmp_path: Path) -> None:
    group = ServerGroup(tmp_path, postgres_url)
    first, second = group.start(), group.start()
    run_once(first, "night-2026-11-01")
    start_run(second.client("write"), "night-2026-11-02")
    http = [served.client("read") for served in (first, second)]

    def are_estimated() -> bool:
        group.clock.advance(MIN_RELOAD_INTERVAL)
        return {get_item(client, "night-2026-11-02").get("basis") for client in http} == {"1 former run"}

    wait_until(are_estimated)
    group.stop()


@pytest.mark.parametrize("name", ["group", "status", "id", "q", "after"])
def test_former_runs_cannot_be_filtered(module_server: RunningServer, name: str) -> None:
    value = {"status": "failed", "after": "1"}.get(name, "x")
    response = module_server.client("read").get("/api/v1/history", params={"former_of": "a", name: value})
    assert (response.status_code, response.json()["field"]) == (422, name)


def test_unknown_item_has_no_former_runs(module_server: RunningServer) -> None:
    assert list_former(module_server.client("read"), "nothing-2026-11-28") == []
    assert module_server.client().get("/api/v1/history?former_of=a").status_code == 401
