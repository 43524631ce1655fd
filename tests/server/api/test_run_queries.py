"""The data of the pages about runs: filters of the history, newest runs, timelines, curves, and statistics."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from progressbar_tracker.server.api import timeline
from progressbar_tracker.server.items.curves import Curve, encode_curve
from progressbar_tracker.server.models import EndedRun, Sample, rfc3339
from progressbar_tracker.server.mutations import AddHistory, AddSample, SaveCurve
from tests.support.clock import START_TIME
from tests.support.items import make_item

if TYPE_CHECKING:
    import httpx

    from progressbar_tracker.server.models import EndStatus
    from tests.support.server import RunningServer

HOUR_SECONDS = 3600.0


def add_runs(served: RunningServer, *runs: EndedRun) -> None:
    served.background.store.commit([AddHistory(run) for run in runs]).result(60)


def make_run(
    item_id: str, run_id: str = "r", status: EndStatus = "succeeded", *, start: float = 0.0, seconds: float = 60.0,
    **fields: object,
) -> EndedRun:  # fmt: skip
    """Return a run that started ``start`` seconds after the start of the test's clock."""
    at = START_TIME + start
    return EndedRun(make_item(item_id, at=at, run_id=run_id, **fields), status, at + seconds)


def get_json(http: httpx.Client, path: str, **query: object) -> dict[str, object]:
    response = http.get(path, params=query)
    assert response.status_code == 200, response.text
    return response.json()


@pytest.fixture
def http(module_server: RunningServer) -> httpx.Client:
    return module_server.client("read")


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({"run_id": "filter 2"}, ["filter/inner"]),
        ({"parent": "filter"}, ["filter/failed", "filter/inner"]),
        ({"group": "filter", "inner": "false"}, ["filter/failed", "filter"]),
        ({"group": "filter", "inner": "true"}, ["filter/failed", "filter/inner", "filter"]),
        ({"group": "filter", "since": rfc3339(START_TIME + 100)}, ["filter/failed"]),
        ({"group": "filter", "until": rfc3339(START_TIME + 5)}, ["filter"]),
    ],
)
def test_history_filter_selects_the_same_runs_in_exports(
    module_server: RunningServer, http: httpx.Client, query: dict[str, str], found: list[str]
) -> None:
    if not get_json(http, "/api/v1/history", group="filter")["items"]:
        add_runs(
            module_server,
            make_run("filter", "filter 1", group="filter"),
            make_run("filter/inner", "filter 2", start=10, seconds=20, parent="filter", group="filter"),
            make_run("filter/failed", "filter 3", "failed", start=50, seconds=60, parent="filter", group="filter"),
        )
    assert [run["id"] for run in get_json(http, "/api/v1/history", **query)["items"]] == found
    assert [run["id"] for run in get_json(http, "/api/v1/history.json", **query)["items"]] == found
    rows = http.get("/api/v1/history.csv", params=query).text.splitlines()
    assert [row.partition(",")[0] for row in rows[1:]] == found


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("history?inner=no", "inner"),
        ("history?since=yesterday", "since"),
        ("history.csv?until=2026-01-01T00:00:00", "until"),
        ("history?run_id=%00", "run_id"),
        ("history?former_of=a&inner=false", "inner"),
        ("history:recent", "id"),
        ("history:recent?id=", "id"),
        ("history:recent?id=a&limit=101", "limit"),
        ("history:recent?" + "&".join(f"id={n}" for n in range(51)), "id"),
        ("history:statistics", "id"),
        ("timeline?since=2026-01-02T00:00:00Z&until=2026-01-01T00:00:00Z", "since"),
        ("timeline?group=%0A", "group"),
        ("curves", "id"),
        ("curves?id=a&former=17", "former"),
    ],
)
def test_invalid_query_names_its_field(http: httpx.Client, path: str, field: str) -> None:
    response = http.get(f"/api/v1/{path}")
    assert (response.status_code, response.json()["field"]) == (422, field)


def test_recent_runs_are_listed_for_each_id(module_server: RunningServer, http: httpx.Client) -> None:
    runs = [make_run("recent/1", f"r{n}", "failed" if n == 2 else "succeeded", start=n * 100) for n in range(3)]
    add_runs(module_server, *runs, make_run("recent/2"))
    found = get_json(http, "/api/v1/history:recent", id=["recent/1", "recent/2", "none", "recent/1"], limit=2)
    assert [(run["run_id"], run["status"]) for run in found["items"]["recent/1"]] == [
        ("r2", "failed"), ("r1", "succeeded"),
    ]  # fmt: skip
    assert found["items"]["recent/2"] == [
        {
            "run_id": "r", "status": "succeeded", "duration_seconds": 60.0, "started_at": rfc3339(START_TIME),
            "ended_at": rfc3339(START_TIME + 60),
        }
    ]  # fmt: skip
    assert list(found["items"]) == ["recent/1", "recent/2", "none"]
    assert found["items"]["none"] == []


def test_fifty_ids_are_accepted(http: httpx.Client) -> None:
    found = get_json(http, "/api/v1/history:recent", id=[str(n) for n in range(50)], limit=1)
    assert len(found["items"]) == 50


def test_timeline_lists_runs_of_a_day_by_default(module_server: RunningServer, http: httpx.Client) -> None:
    add_runs(
        module_server,
        make_run("day/old", start=-30 * HOUR_SECONDS, group="day"),
        make_run("day/inner", start=-2 * HOUR_SECONDS, parent="day", group="day"),
        make_run("day/1", "r1", "failed", start=-HOUR_SECONDS, group="day", title="One", error="E: x\ntrace"),
    )
    found = get_json(http, "/api/v1/timeline", group="day")
    assert found["omitted"] == 0
    assert found["runs"] == [
        {
            "id": "day/1", "run_id": "r1", "group": "day", "title": "One", "status": "failed",
            "started_at": rfc3339(START_TIME - HOUR_SECONDS), "error": "E: x", "stop_requested_by": None,
            "ended_at": rfc3339(START_TIME - HOUR_SECONDS + 60),
        }
    ]  # fmt: skip
    since = rfc3339(START_TIME - 31 * HOUR_SECONDS)
    old = get_json(http, "/api/v1/timeline", group="day", since=since, until=rfc3339(START_TIME - 20 * HOUR_SECONDS))
    assert [run["id"] for run in old["runs"]] == ["day/old"]
    assert old["since"] == since


def test_timeline_omits_runs_beyond_its_limits(
    module_server: RunningServer, http: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_runs(module_server, *(make_run(f"many/{n}", start=n, seconds=1.0, group="many") for n in range(6)))
    query = {"group": "many", "since": rfc3339(START_TIME), "until": rfc3339(START_TIME + HOUR_SECONDS)}
    monkeypatch.setattr(timeline, "MAX_TIMELINE_RUNS", 4)
    found = get_json(http, "/api/v1/timeline", **query)
    assert ([run["id"] for run in found["runs"]], found["omitted"]) == (["many/5", "many/4", "many/3", "many/2"], 2)
    monkeypatch.setattr(timeline, "MAX_TIMELINE_BYTES", 1)
    found = get_json(http, "/api/v1/timeline", **query)
    assert ([run["id"] for run in found["runs"]], found["omitted"]) == (["many/5"], 5)


def test_statistics_include_the_ended_run_on_the_board(module_server: RunningServer, http: httpx.Client) -> None:
    writer = module_server.client("write")
    runs = [make_run("stats", f"r{n}", start=-(n + 1) * 24 * HOUR_SECONDS, seconds=60.0 * n) for n in range(9, 0, -1)]
    add_runs(module_server, *runs)
    writer.put("/api/v1/items/stats", json={"run_id": "now"}).raise_for_status()
    assert get_json(http, "/api/v1/history:statistics", id="stats")["run_count"] == 9
    writer.patch("/api/v1/items/stats", json={"status": "failed"}).raise_for_status()
    found = get_json(http, "/api/v1/history:statistics", id="stats")
    assert [run["run_id"] for run in found.pop("runs")][:3] == ["now", "r1", "r2"]
    assert found == {
        "run_count": 10, "success_rate": 0.9, "median_duration_seconds": 300.0,
        "low_duration_seconds": pytest.approx(108.0), "high_duration_seconds": pytest.approx(492.0),
        "usual_start_seconds": START_TIME % 86400,
    }  # fmt: skip
    writer.delete("/api/v1/items/stats").raise_for_status()
    assert get_json(http, "/api/v1/history:statistics", id="stats")["run_count"] == 10


def test_statistics_of_an_unknown_id_are_empty(http: httpx.Client) -> None:
    assert get_json(http, "/api/v1/history:statistics", id="no one") == {
        "run_count": 0, "success_rate": None, "median_duration_seconds": None, "low_duration_seconds": None,
        "high_duration_seconds": None, "usual_start_seconds": None, "runs": [],
    }  # fmt: skip


def list_curves(http: httpx.Client, item_id: str, **query: object) -> list[tuple[str, list[list[float]]]]:
    found = get_json(http, "/api/v1/curves", id=item_id, **query)
    return [(run["run_id"], run["points"]) for run in found["runs"]]


def test_curves_of_a_run_precede_those_before_it(module_server: RunningServer, http: httpx.Client) -> None:
    runs = [make_run("curve", f"r{n}", start=n * 100, completed=60, total=60, unit="x") for n in range(4)]
    add_runs(module_server, *runs)
    curves = [SaveCurve("curve", f"r{n}", encode_curve(Curve(30.0, [0.0, 10.0 + n]))) for n in range(4)]
    module_server.background.store.commit(curves).result(60)
    points = {f"r{n}": [[0, 0], [30, 10 + n], [60, 60]] for n in range(4)}
    assert list_curves(http, "curve") == [(name, points[name]) for name in ("r3", "r2", "r1", "r0")]
    assert list_curves(http, "curve", run_id="r2", former=1) == [(name, points[name]) for name in ("r2", "r1")]
    assert list_curves(http, "curve", run_id="r1", former=0) == [("r1", points["r1"])]
    first = get_json(http, "/api/v1/curves", id="curve", run_id="r2", former=0)["runs"][0]
    del first["points"]
    assert first == {
        "id": "curve", "run_id": "r2", "status": "succeeded", "started_at": rfc3339(START_TIME + 200),
        "duration_seconds": 60.0, "unit": "x", "total": 60.0,
    }  # fmt: skip


def test_curve_of_a_running_item_ends_at_its_progress(module_server: RunningServer, http: httpx.Client) -> None:
    writer = module_server.client("write")
    body = {"run_id": "now", "completed": 5, "age_seconds": 50}
    writer.put("/api/v1/items/curve-running", json=body).raise_for_status()
    (run,) = get_json(http, "/api/v1/curves", id="curve-running")["runs"]
    assert (run["status"], run["duration_seconds"], run["total"]) == ("running", None, None)
    assert (run["points"][0], run["points"][-1]) == ([0, 0], [50, 5])


def test_curves_have_the_parts_of_the_requested_run(module_server: RunningServer, http: httpx.Client) -> None:
    writer = module_server.client("write")
    for name, completed in (("w1", 3), ("w2", 4)):
        body = {"run_id": "r", "part": name, "completed": completed}
        writer.put("/api/v1/items/in-parts", json=body).raise_for_status()
    assert get_json(http, "/api/v1/curves", id="in-parts")["parts"] == {"w1": 3, "w2": 4}
    writer.delete("/api/v1/items/in-parts").raise_for_status()
    assert get_json(http, "/api/v1/curves", id="in-parts", run_id="r")["parts"] == {"w1": 3, "w2": 4}


def test_run_without_curve_is_drawn_from_its_samples(module_server: RunningServer, http: httpx.Client) -> None:
    add_runs(module_server, make_run("sampled", value=1.0))
    samples = [AddSample("sampled", "r", Sample(START_TIME + 10.0 * n, n / 10, None)) for n in range(1, 3)]
    module_server.background.store.commit(samples).result(60)
    assert list_curves(http, "sampled") == [("r", [[0, 0], [10, 0.1], [20, 0.2], [60, 1]])]


def test_former_curves_of_an_old_dated_run_are_older(module_server: RunningServer, http: httpx.Client) -> None:
    """Runs with other dates are former runs, but not those that ended later."""
    runs = [make_run(f"dated-2026-11-0{n}", f"r{n}", start=n * 100, value=1.0) for n in range(1, 5)]
    add_runs(module_server, *runs)
    assert [run for run, _ in list_curves(http, "dated-2026-11-03")] == ["r3", "r2", "r1"]


@pytest.mark.parametrize("query", [{"id": "nobody"}, {"id": "known", "run_id": "other"}])
def test_curves_of_an_unknown_run_are_not_found(
    module_server: RunningServer, http: httpx.Client, query: dict[str, str]
) -> None:
    add_runs(module_server, make_run("known"))
    response = http.get("/api/v1/curves", params=query)
    assert (response.status_code, response.json()["type"]) == (404, "/problems/item-not-found")
