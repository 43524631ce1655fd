"""The layout of the timeline: runs become lanes, tracks and rectangles, and an interval gets an axis."""

from __future__ import annotations

import itertools

import pytest

pytest.importorskip("playwright.sync_api", reason="install playwright to test the pages in a browser")

HOUR_MS = 3_600_000
MODULE_NAMES = ("timeline", "timeline_view", "timeline_texts", "timeline_runs")

SETUP_SCRIPT = """async (names) => {
    for (const name of names) Object.assign(window, await import(new URL(`static/${name}.js`, document.baseURI)));
    window.run = (id, start, end, more = {}) => ({
        key: `${id} ${start}`, id, runId: "r", title: "", group: "", state: end === null ? "running" : "succeeded",
        isLate: false, start, end, finish: null, low: null, high: null, error: "", stop: "", item: null, ...more,
    });
    window.geometry = createGeometry(1);
}"""


@pytest.fixture(scope="module")
def open_modules(make_profile, package_server):
    """Return a function that returns a page with the modules of the timeline, in a time zone and a language."""
    pages = []

    def load(timezone="Europe/Berlin", locale="en-GB"):
        context, _ = make_profile(timezone_id=timezone, locale=locale)
        page = context.new_page()
        pages.append(page)
        page.goto(f"{package_server.background.url}/docs")
        page.evaluate(SETUP_SCRIPT, MODULE_NAMES)
        return page

    yield load
    for page in pages:
        page.close()


@pytest.fixture(scope="module")
def modules(open_modules):
    """A page with the modules of the timeline."""
    return open_modules()


def test_rows_are_groups_and_lanes_in_order(modules):
    rows = modules.evaluate("""() => layOutRows([
        run("b10", 0, 1, { group: "z" }), run("b9", 0, 1, { group: "z" }), run("a", 0, 1),
        run("b9", 5, 6, { group: "z", title: "B 9" }), run("b10", 5, 6, { group: "z", title: "B 10" }),
    ], geometry).rows.map(({ kind, title, runs }) => [kind, title, runs.length])""")
    assert rows == [
        ["group", "No group", 1], ["lane", "a", 1], ["group", "z", 4], ["lane", "B 9", 2], ["lane", "B 10", 2],
    ]  # fmt: skip


def test_rows_without_groups_have_no_headings(modules):
    assert modules.evaluate("layOutRows([run('a', 0, 1)], geometry).rows.map(({ kind }) => kind)") == ["lane"]


def test_rows_follow_each_other_without_gaps(modules):
    assert modules.evaluate("""() => {
        const { rows, height } = layOutRows([run("a", 0, 9), run("a", 3, 9), run("b", 0, 1, { group: "g" })], geometry);
        return rows.every(({ y, height: size }, at) => y + size === (rows[at + 1]?.y ?? height));
    }""")


def test_folded_group_is_one_row_with_all_runs(modules):
    rows = modules.evaluate("""() => {
        const runs = [run("a", 3, 4, { group: "g" }), run("b", 1, 2, { group: "g" })];
        const { rows, rowOf } = layOutRows(runs, geometry, () => true);
        const ids = rows[0].tracks[0].runs.map(({ id }) => id);
        return [rows.length, ids, [...rowOf.values()].every((row) => row === rows[0])];
    }""")
    assert rows == [1, ["b", "a"], True]


def test_overlapping_runs_of_an_id_stack(modules):
    tracks = modules.evaluate("""() => {
        const spans = [[0, 90e3], [30e3, 60e3], [60e3, 120e3], [100e3, null], [130e3, 140e3]];
        const tracks = assignTracks(spans.map(([start, end]) => run("a", start, end)));
        return tracks.map(({ runs }) => runs.map(({ start }) => start / 1e3));
    }""")
    assert tracks == [[0, 100], [30, 60, 130]]


def test_run_that_begins_as_another_ends_does_not_stack(modules):
    assert modules.evaluate("assignTracks([run('a', 0, 5000), run('a', 4900, 9000)]).length") == 1


def test_tracks_of_a_lane_are_bounded(modules):
    tracks = modules.evaluate("""assignTracks(Array.from({ length: 50 }, (_, n) => run("a", n * 10, 1e9 + n)))
        .map(({ runs }) => runs.length)""")
    assert len(tracks) == 8
    assert sum(tracks) == 50


def test_rectangles_span_start_to_end_and_running_to_now(modules):
    rectangles = modules.evaluate("""() => {
        const track = assignTracks([run("a", 100, 200), run("a", 2000, null)])[0];
        return placeRuns(track, { since: 0, until: 10000 }, 1000, 5000).map(({ x, width }) => [x, width]);
    }""")
    assert rectangles == [[10, 10], [200, 300]]


def test_rectangles_outside_of_the_view_are_left_out(modules):
    starts = modules.evaluate("""() => {
        const spans = [[0, 10], [2e4, 2.5e4], [3e4, 4e4], [9e4, 9.5e4]];
        const [track] = assignTracks(spans.map(([start, end]) => run("a", start, end)));
        return placeRuns(track, { since: 2.2e4, until: 5e4 }, 1000, 1e6).map(({ run, x }) => [run.start, x]);
    }""")
    assert [start for start, _ in starts] == [20_000, 30_000]
    assert -2 <= starts[0][1] <= 0


def test_narrow_runs_merge_and_the_worst_shows(modules):
    merged = modules.evaluate("""() => {
        const stateOf = (n) => (n === 500 ? "failed" : "succeeded");
        const runs = Array.from({ length: 1000 }, (_, n) => run("a", n * 1e4, n * 1e4 + 5e3, { state: stateOf(n) }));
        const places = placeRuns(assignTracks(runs)[0], { since: 0, until: 1e7 }, 100, 1e9);
        const failed = places.filter(({ run }) => run.state === "failed");
        return [places.length, places.reduce((sum, { count }) => sum + count, 0), failed.length];
    }""")
    assert merged[0] <= 100
    assert merged[1:] == [1000, 1]


def test_point_finds_the_run_below_it(modules):
    found = modules.evaluate("""() => {
        const layout = layOutRows([run("a", 0, 5e5), run("a", 2e5, 4e5), run("b", 6e5, 7e5)], geometry);
        const view = { since: 0, until: 1e6 };
        const find = (x, y) => findRunAt(layout, view, 1000, 1e6, x, y)?.run.start ?? null;
        const second = layout.rows[1].y;
        const points = [[300, 10], [300, 32], [650, second + 10], [597, second + 10], [300, second + 10], [1, 1e4]];
        return points.map(([x, y]) => find(x, y));
    }""")
    assert found == [0, 200_000, 600_000, 600_000, None, None]


def test_arrow_keys_find_the_neighbours(modules):
    found = modules.evaluate("""() => {
        const group = "g";
        const runs = [run("a", 0, 10), run("a", 50, 60), run("b", 5, 6, { group }), run("b", 55, 56, { group })];
        const layout = layOutRows(runs, geometry);
        return [[0, "next"], [1, "previous"], [0, "previous"], [1, "down"], [2, "up"], [3, "down"], [3, "first"]]
            .map(([at, direction]) => findNeighbour(layout, runs[at], direction).key);
    }""")
    assert found == ["a 50", "a 0", "a 0", "b 55", "a 0", "b 55", "b 5"]


@pytest.mark.parametrize(
    ("day", "hours"), [("2026-03-29", 23), ("2026-10-25", 25), ("2026-11-29", 24)], ids=["spring", "autumn", "usual"]
)
def test_day_has_its_hours_where_the_clock_changes(modules, day, hours):
    view = modules.evaluate("(day) => resolveChoice({ kind: 'day', day }, 0)", day)
    assert (view["until"] - view["since"]) / HOUR_MS == hours


@pytest.mark.parametrize(
    ("day", "labels"),
    [
        ("2026-03-29", ["Sun 29 Mar", "03:00", "06:00", "09:00", "12:00", "15:00", "18:00", "21:00", "Mon 30 Mar"]),
        ("2026-10-25", ["Sun 25 Oct", "03:00", "06:00", "09:00", "12:00", "15:00", "18:00", "21:00", "Mon 26 Oct"]),
    ],
    ids=["spring", "autumn"],
)
def test_ticks_are_at_full_hours_where_the_clock_changes(modules, day, labels):
    ticks = modules.evaluate("(day) => chooseTicks(resolveChoice({ kind: 'day', day }, 0), 800)", day)
    assert [tick["label"].replace(",", "") for tick in ticks] == labels
    assert [tick["isDay"] for tick in ticks] == [True] + 7 * [False] + [True]


def test_ticks_of_a_twelve_hour_clock_name_full_hours_shortly(open_modules):
    page = open_modules("America/New_York", "en-US")
    labels = page.evaluate(
        "chooseTicks(resolveChoice({ kind: 'day', day: '2026-11-29' }, 0), 600).map(({ label }) => label)"
    )
    assert labels[1:3] == ["3 AM", "6 AM"]


@pytest.mark.parametrize("span_hours", [0.05, 1, 6, 27, 180, 810])
def test_ticks_of_any_interval_keep_their_distance(modules, span_hours):
    places = modules.evaluate(
        """(span) => chooseTicks({ since: 1795000000000 - span, until: 1795000000000 }, 1000)
            .map(({ at }) => ((at - 1795000000000 + span) / span) * 1000)""",
        span_hours * HOUR_MS,
    )
    gaps = [after - before for before, after in itertools.pairwise(places)]
    assert 2 <= len(places) <= 15
    assert min(gaps) >= 65


@pytest.mark.parametrize(
    ("query", "choice"),
    [
        ("", {"kind": "day", "day": None}),
        ("day=2026-02-03", {"kind": "day", "day": "2026-02-03"}),
        ("day=tomorrow", {"kind": "day", "day": None}),
        ("range=7d", {"kind": "range", "name": "7d"}),
        ("range=constructor", {"kind": "day", "day": None}),
        ("since=1970-01-01T00:00:10Z&until=1970-01-01T00:01:10Z", {"kind": "free", "since": 10_000, "until": 70_000}),
        ("since=1970-01-02T00:00:00Z&until=1970-01-01T00:00:00Z", {"kind": "day", "day": None}),
    ],
)
def test_choice_is_read_from_the_query(modules, query, choice):
    assert modules.evaluate("(query) => parseChoice(new URLSearchParams(query))", query) == choice


@pytest.mark.parametrize(
    "query", ["", "day=2026-02-03", "range=1h", "since=1970-01-01T00%3A00%3A10Z&until=1970-01-01T00%3A01%3A10Z"]
)
def test_choice_is_written_to_the_query_as_read(modules, query):
    written = modules.evaluate(
        """(query) => {
            const written = new URLSearchParams("range=6h&day=1999-01-01");
            writeChoice(written, parseChoice(new URLSearchParams(query)));
            return written.toString();
        }""",
        query,
    )
    assert written == query


def test_zoom_keeps_the_instant_below_the_pointer(modules):
    view = modules.evaluate("zoomView({ since: 0, until: 1e7 }, 0.5, 2.5e6)")
    assert view == {"since": 1_250_000, "until": 6_250_000}
    assert (
        modules.evaluate("(({ since, until }) => until - since)(zoomView({ since: 0, until: 1e5 }, 1e-9, 5))") == 60_000
    )


@pytest.mark.parametrize(
    ("last_visit", "counts", "sentence"),
    [
        (None, {"ended": 0}, "Today nothing ended."),
        (None, {"ended": 3, "failed": 1}, "Today 3 ended, 1 failed."),
        (-4, {"ended": 14, "failed": 2, "late": 1}, "at 08:12. Since then 14 ended, 2 failed, 1 is late."),
        (-4, {"ended": 1, "late": 2, "stuck": 1}, "at 08:12. Since then 1 ended, 1 is stuck, 2 are late."),
        (-4, {"ended": 0, "stalled": 2}, "at 08:12. Since then nothing ended, 2 are stalled."),
        (None, {"ended": 12345, "failed": 2, "isPartial": True}, "Today at least 12,345 ended, at least 2 failed."),
        (None, {"ended": 0, "isPartial": True}, ""),
        (-4, {"ended": 0, "isPartial": True}, "at 08:12."),
        (-24, {"ended": 1}, "yesterday at 12:12. Since then 1 ended."),
        (-96, {"ended": 1}, "on Wed at 12:12. Since then 1 ended."),
        (-24 * 20, {"ended": 1}, "on 9 Nov at 12:12. Since then 1 ended."),
    ],
)  # fmt: skip
def test_sentence_counts_since_the_last_visit(modules, last_visit, counts, sentence):
    at = modules.evaluate("Date.parse('2026-11-29T12:12:00+01:00')")
    counts = {"ended": 0, "failed": 0, "late": 0, "stuck": 0, "stalled": 0, **counts}
    text = modules.evaluate(
        "([visit, counts, now]) => formatVisit(visit, counts, now)",
        [None if last_visit is None else at + last_visit * HOUR_MS, counts, at],
    )
    assert text == (sentence if last_visit is None else f"You last looked {sentence}")


def test_runs_that_ended_since_an_instant_are_counted(modules):
    counts = modules.evaluate("""countRuns([
        run("a", 0, 5), run("b", 0, 20), run("c", 0, 30, { state: "failed" }), run("f", 0, null),
        run("d", 0, null, { state: "late", isLate: true }), run("e", 0, null, { state: "stuck", isLate: true }),
    ], 10)""")
    assert counts == {"ended": 2, "failed": 1, "late": 1, "stuck": 1, "stalled": 0}


STORE_SCRIPT = """() => {
    window.wire = (id, status, more = {}) => ({
        id, run_id: "r1", title: id, group: null, status, started_at: "2026-11-29T10:00:00Z", error: null, parent: null,
        eta: null, finish_at: null, ended_at: status === "running" ? null : "2026-11-29T10:30:00Z", ...more,
    });
    window.store = new RunStore();
    window.change = (items, gone = [], ended = []) => store.apply({ type: "change", time: "", items, gone, ended }, 0);
    window.list = () => store.list({ since: 0, until: Infinity }).map(({ id, state }) => [id, state]).sort();
}"""


def test_store_merges_history_and_board_by_run(modules):
    modules.evaluate(STORE_SCRIPT)
    modules.evaluate(
        "store.setFetched([wire('a', 'failed'), wire('a', 'succeeded', { run_id: 'r0' }), wire('b', 'stopped')])"
    )
    assert modules.evaluate("change([wire('a', 'failed'), wire('c', 'running')])")
    assert modules.evaluate("list()") == [
        ["a", "failed"], ["a", "succeeded"], ["b", "stopped"], ["c", "running"],
    ]  # fmt: skip


def test_store_keeps_a_run_that_ends_and_leaves_the_board(modules):
    modules.evaluate(STORE_SCRIPT)
    modules.evaluate("change([wire('a', 'running'), wire('b', 'running')])")
    assert modules.evaluate(
        "change([wire('a', 'running', { run_id: 'r2' })], ['b'], [wire('a', 'failed'), wire('b', 'deleted')])"
    )
    assert modules.evaluate("list()") == [["a", "failed"], ["a", "running"], ["b", "deleted"]]


def test_store_leaves_out_inner_bars_unless_they_failed(modules):
    modules.evaluate(STORE_SCRIPT)
    modules.evaluate(
        "change([wire('a', 'running'), wire('i', 'running', { parent: 'a' }), wire('j', 'running', { parent: 'a' })])"
    )
    modules.evaluate("change([wire('i', 'failed', { parent: 'a' })], ['j'], [wire('j', 'succeeded', { parent: 'a' })])")
    assert modules.evaluate("list()") == [["a", "running"], ["i", "failed"]]


def test_store_keeps_the_object_of_a_running_run(modules):
    modules.evaluate(STORE_SCRIPT)
    modules.evaluate("change([wire('a', 'running')])")
    modules.evaluate("window.before = store.listCurrent()[0]")
    assert not modules.evaluate("change([wire('a', 'running', { stuck: true })])")
    assert modules.evaluate("before === store.listCurrent()[0] && before.state") == "stuck"


def test_store_without_run_ids_uses_the_start(modules):
    modules.evaluate(STORE_SCRIPT)
    modules.evaluate("""store.setFetched([
        wire('a', 'failed', { run_id: undefined }),
        wire('a', 'failed', { run_id: undefined, started_at: '2026-11-29T09:00:00Z' }),
    ])""")
    modules.evaluate("change([wire('a', 'failed', { run_id: undefined })])")
    assert len(modules.evaluate("list()")) == 2
