"""What the charts of the item page show: the modules that decide it, without a page."""

from __future__ import annotations

import pytest

pytest.importorskip("playwright.sync_api", reason="install playwright to test the pages in a browser")

IMPORT_SCRIPT = "const {{ {names} }} = await import(`${{location.origin}}/static/{module}.js`);"

RUN_START = "2026-11-30T16:00:00.000Z"
NOW = 1_796_058_000_000  # 17:00
RUNNING_ITEM = {
    "id": "job", "run_id": "now", "status": "running", "completed": 50, "total": 100, "value": 0.5, "unit": "rows",
    "started_at": RUN_START, "updated_at": "2026-11-30T17:00:00.000Z", "ended_at": None,
    "stalled": False, "stuck": False, "estimated_value": None,
    "estimated_total": None, "eta": 3600.0, "eta_low": 1800.0, "eta_high": 7200.0,
    "finish_at": "2026-11-30T18:00:00.000Z",
}  # fmt: skip
RUN_CURVE = {"id": "job", "run_id": "now", "status": "running", "started_at": RUN_START, "duration_seconds": 3600,
         "unit": "rows", "total": 100, "points": [[0, 0], [3600, 50]]}  # fmt: skip
RUN_STATISTICS = {"run_count": 3, "success_rate": 1, "median_duration_seconds": 60, "low_duration_seconds": 50,
              "high_duration_seconds": 70, "usual_start_seconds": None, "runs": []}  # fmt: skip


@pytest.fixture(scope="module")
def evaluate(anonymous_context, package_server):
    """Return a function that evaluates an expression with the names of a module; pure modules share one page."""
    page = anonymous_context.new_page()
    page.goto(f"{package_server.background.url}/login")

    def run(module, names, expression, argument=None):
        script = f"async (argument) => {{ {IMPORT_SCRIPT.format(names=names, module=module)} return {expression}; }}"
        return page.evaluate(script, argument)

    yield run
    page.close()


def build(evaluate, run, former=(), **fields):
    arguments = [run, list(former), {**RUNNING_ITEM, **fields}, NOW]
    return evaluate("curve_layout", "buildCurve", "buildCurve(...argument)", arguments)


def make_former(seconds, total=100, points=None):
    return {**RUN_CURVE, "status": "succeeded", "total": total, "points": points or [[0, 0], [seconds, total or 7]]}


def make_run(run_id, seconds, status="succeeded"):
    return {
        "run_id": run_id,
        "status": status,
        "started_at": RUN_START,
        "ended_at": RUN_START,
        "duration_seconds": seconds,
    }


def test_curve_of_a_known_total_shows_shares(evaluate):
    curve = build(evaluate, RUN_CURVE)
    assert (curve["isShare"], curve["top"], curve["current"]) == (True, 1, [[0, 0], [3600, 0.5]])


def test_curve_continues_to_the_finish_and_its_range(evaluate):
    curve = build(evaluate, RUN_CURVE)
    assert curve["finish"] == {"at": 7200, "low": 5400, "high": 10800, "level": 1}
    assert curve["seconds"] == 10800


@pytest.mark.parametrize(
    "fields", [{"status": "failed"}, {"stuck": True}, {"finish_at": None}, {"finish_at": "2026-11-30T16:30:00.000Z"},
               {"finish_at": "2027-11-30T16:30:00.000Z"}],
)  # fmt: skip
def test_curve_omits_a_finish_that_is_unknown_past_or_far(evaluate, fields):
    curve = build(evaluate, RUN_CURVE, **fields)
    assert (curve["finish"], curve["seconds"]) == (None, 3600)


def test_curve_without_a_total_shows_counts(evaluate):
    curve = build(evaluate, {**RUN_CURVE, "total": None}, [make_former(60, None)], total=None, estimated_total=200)
    assert (curve["isShare"], curve["top"], curve["finish"]["level"]) == (False, 200, 200)
    assert curve["former"] == [[[0, 0], [60, 7]]]


@pytest.mark.parametrize(
    ("fields", "level"), [({"estimated_total": 200}, 200), ({"estimated_value": 0.25}, 200), ({}, 70)]
)
def test_finish_without_a_total_is_at_the_likeliest_count(evaluate, fields, level):
    former = [make_former(seconds, None, [[0, 0], [seconds, 70]]) for seconds in (9000, 9100, 9200)]
    curve = build(evaluate, {**RUN_CURVE, "total": None}, former, total=None, **{"estimated_value": None, **fields})
    assert curve["finish"]["level"] == pytest.approx(level)


def test_curve_of_a_value_shows_shares(evaluate):
    points = [[0, 0], [60, 0.25]]
    former = make_former(60, None, [[0, 0], [100, 1]])
    curve = build(evaluate, {**RUN_CURVE, "total": None, "points": points}, [former], completed=None, total=None)
    assert (curve["current"], curve["former"]) == (points, [[[0, 0], [100, 1]]])


def test_former_curves_are_shares_of_their_own_totals(evaluate):
    curve = build(evaluate, RUN_CURVE, [make_former(60, 400), make_former(90, None)])
    assert [points[-1] for points in curve["former"]] == [[60, 1], [90, 1]]


def test_median_is_the_time_at_which_half_had_got_as_far(evaluate):
    curve = build(evaluate, RUN_CURVE, [make_former(seconds) for seconds in (1000, 2000, 9000)])
    assert curve["median"][0] == [0, 0]
    assert curve["median"][-1] == [2000, 1]
    assert evaluate("curve_layout", "findHeight", "findHeight(argument, 1000)", curve["median"]) == pytest.approx(0.5)


def test_two_former_curves_have_no_median(evaluate):
    assert build(evaluate, RUN_CURVE, [make_former(60), make_former(90)])["median"] == []


def test_one_long_former_curve_does_not_flatten_the_others(evaluate):
    assert build(evaluate, RUN_CURVE, [make_former(10**6)], eta=None, finish_at=None)["seconds"] == 3 * 3600


@pytest.mark.parametrize(
    ("seconds", "height"), [(0, 0), (1800, 0.25), (3600, 0.5), (3601, None), (-1, None)]
)  # fmt: skip
def test_height_of_a_curve_is_interpolated(evaluate, seconds, height):
    points = [[0, 0], [3600, 0.5]]
    assert evaluate("curve_layout", "findHeight", "findHeight(...argument)", [points, seconds]) == height


def test_extended_curve_has_the_latest_state(evaluate):
    item = {**RUNNING_ITEM, "updated_at": "2026-11-30T17:10:00.000Z", "completed": 60}
    extended = evaluate("curve_layout", "extendCurve", "extendCurve(...argument)", [RUN_CURVE, item])
    assert extended["points"] == [[0, 0], [3600, 50], [4200, 60]]
    assert evaluate("curve_layout", "extendCurve", "extendCurve(...argument)", [extended, item]) == extended


def test_long_curve_is_thinned_but_keeps_its_end(evaluate):
    run = {**RUN_CURVE, "points": [[n, n / 100] for n in range(600)]}
    points = evaluate("curve_layout", "extendCurve", "extendCurve(...argument).points", [run, RUNNING_ITEM])
    assert (len(points), points[-1]) == (301, [3600, 50])


@pytest.mark.parametrize(
    ("seconds", "count", "texts"),
    [(0.5, 4, ["0"]), (70, 4, ["0", "30 s", "1 min"]), (3600, 4, ["0", "15 min", "30 min", "45 min", "1 h"]),
     (200_000, 3, ["0", "24 h", "2 days"]), (9e9, 2, ["0"])],
)  # fmt: skip
def test_duration_ticks_are_round(evaluate, seconds, count, texts):
    ticks = evaluate("chart_axes", "createDurationTicks", "createDurationTicks(...argument)", [seconds, count])
    assert [tick["text"] for tick in ticks][:5] == texts or len(texts) == 1
    assert len(ticks) <= count + 1


@pytest.mark.parametrize(("top", "values"), [(1, [0, 0.5, 1]), (130, [0, 50, 100]), (4_000_000, [0, 2e6, 4e6])])
def test_number_ticks_are_round(evaluate, top, values):
    ticks = evaluate("chart_axes", "createNumberTicks", "createNumberTicks(...argument, String)", [top, 3])
    assert [tick["value"] for tick in ticks] == values


def test_trend_has_the_run_on_the_board_once(evaluate):
    ended = [make_run("b", 60), make_run("a", 50)]
    runs = evaluate("trend_layout", "mergeRuns", "mergeRuns(...argument)", [ended, RUNNING_ITEM, NOW])
    assert [(run["run_id"], run["duration_seconds"]) for run in runs] == [("a", 50), ("b", 60), ("now", 3600)]
    again = [[make_run("now", 5)], RUNNING_ITEM, NOW]
    assert len(evaluate("trend_layout", "mergeRuns", "mergeRuns(...argument)", again)) == 1


def test_trend_clips_a_run_that_would_flatten_the_others(evaluate):
    arguments = [[make_run("a", 60), make_run("b", 9000)], RUN_STATISTICS]
    assert evaluate("trend_layout", "findTop", "findTop(...argument)", arguments) == 140
    places = evaluate(
        "trend_layout",
        "placeRuns",
        "placeRuns(argument, 140, { left: 0, right: 200, top: 10, bottom: 150 })",
        arguments[0],
    )
    assert [(place["x"], place["y"], place["isClipped"]) for place in places] == [(12.5, 90, False), (37.5, 10, True)]


@pytest.mark.parametrize(("width", "count"), [(100, 20), (390, 32), (5000, 100)])
def test_trend_shows_as_many_runs_as_have_room(evaluate, width, count):
    assert evaluate("trend_layout", "countColumns", "countColumns(argument)", width) == count


@pytest.mark.parametrize(
    ("status", "text"),
    [("running", "running for 1 min 1 s"), ("succeeded", "succeeded in 1 min 1 s"),
     ("failed", "failed after 1 min 1 s"), ("deleted", "deleted after 1 min 1 s")],
)  # fmt: skip
def test_run_of_a_trend_is_described_in_words(evaluate, status, text):
    run = make_run("a", 61, status)
    assert evaluate("trend_layout", "describeRun", "describeRun(argument)", run).startswith(f"{text}, started Nov 30, ")


@pytest.mark.parametrize(
    ("search", "inner", "again"),
    [("", False, ""), ("?q=a+b&status=failed", False, "?q=a+b&status=failed"), ("?inner=true", True, "?inner=true"),
     ("?id=x", True, "?id=x"), ("?id=x&inner=false", False, "?id=x&inner=false"), ("?other=1&inner=false", False, ""),
     ("?group=%26&after=7", False, "?group=%26&after=7")],
)  # fmt: skip
def test_history_query_survives_a_round_trip(evaluate, search, inner, again):
    names = "parseQuery, buildSearch"
    expression = "[parseQuery(argument).inner, buildSearch(parseQuery(argument))]"
    assert evaluate("history_query", names, expression, search) == [inner, again]


@pytest.mark.parametrize(
    ("error", "summary"),
    [("OSError: gone", "OSError: gone"), ("\n\nfirst\nsecond", "first"), ("x" * 121, "x" * 119 + "…"),
     ("Traceback (most recent call last):\n  File\nKeyError: 'a'\n", "KeyError: 'a'"), (" \n ", "")],
)  # fmt: skip
def test_summary_of_an_error_is_what_went_wrong(evaluate, error, summary):
    assert evaluate("error_text", "summarizeError", "summarizeError(argument)", error) == summary
