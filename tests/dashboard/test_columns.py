"""The last runs of an item as columns, and the cache that reads them."""

from __future__ import annotations

import pytest

pytest.importorskip("playwright.sync_api", reason="install playwright to test the pages in a browser")

from tests.support.wire_items import NOW, make_wire_item

NOW_MS = NOW * 1000

# Runs steps on a cache with a fake server and fake timers; returns the batches that were requested and what was seen.
CACHE_SCRIPT = """async ([steps]) => {
    const { RunCache } = await import(`${location.origin}/static/run_cache.js`);
    const timers = [];
    const setRealTimeout = window.setTimeout;
    window.setTimeout = (callback, delay) => timers.push([callback, delay]);
    const batches = [], seen = [], delays = [], loaded = [];
    let isDown = false;
    const fetchRuns = async (ids) => {
        batches.push(ids);
        if (isDown) throw new Error("down");
        const runsOf = (id) => [{ run_id: `old-${id}`, status: "succeeded", duration_seconds: 1 }];
        return Object.fromEntries(ids.map((id) => [id, runsOf(id)]));
    };
    const cache = new RunCache((ids) => loaded.push(ids.length), fetchRuns);
    try {
        for (const [name, ...args] of steps) {
            if (name === "get") for (const id of args) seen.push(cache.get(id)?.map(({ run_id }) => run_id) ?? null);
            else if (name === "request") for (const id of args) cache.get(id);
            else if (name === "add") cache.add(args[0]);
            else if (name === "expire") cache.expire();
            else if (name === "down") isDown = args[0];
            else {
                // Adds a run while its request is under way.
                const [callback, delay] = timers.shift() ?? [];
                delays.push(delay ?? null);
                const done = callback?.();
                if (args.length > 0) cache.add(args[0]);
                await done;
            }
        }
    } finally {
        window.setTimeout = setRealTimeout;
    }
    return { batches, seen, delays, loaded };
}"""


def make_runs(*durations, status="succeeded"):
    return [
        {"run_id": f"run-{n}", "status": status, "duration_seconds": seconds} for n, seconds in enumerate(durations)
    ]


def run_cache(call, *steps):
    return call.page.evaluate(CACHE_SCRIPT, [steps])


def test_columns_are_relative_to_the_longest_run(call):
    item = make_wire_item(started_at=600)
    columns = call("columns.js", "layoutColumns", item, make_runs(1200, 300, None), NOW_MS)
    assert [(column["status"], column["height"]) for column in columns] == [
        ("succeeded", 2), ("succeeded", 4.5), ("succeeded", 18), ("running", 9),
    ]  # fmt: skip
    assert [column["x"] for column in columns] == [85, 90, 95, 100]


def test_columns_shrink_if_the_current_run_is_the_longest(call):
    columns = call("columns.js", "layoutColumns", make_wire_item(started_at=1200), make_runs(600), NOW_MS)
    assert [column["height"] for column in columns] == [9, 18]


def test_columns_of_ended_item_include_its_run_once(call):
    item = make_wire_item(status="failed", started_at=100, ended_at=50, run_id="run-0")
    for runs in (make_runs(50, 100), make_runs(50, 100)[1:]):
        columns = call("columns.js", "layoutColumns", item, runs, NOW_MS)
        assert [(column["status"], column["height"]) for column in columns] == [("succeeded", 18), ("failed", 9)]


def test_columns_without_former_runs_are_empty(call):
    assert call("columns.js", "layoutColumns", make_wire_item(), [], NOW_MS) == []
    assert call("columns.js", "describeColumns", make_wire_item(), []) == ""


@pytest.mark.parametrize(
    ("runs", "text"),
    [
        (
            make_runs(*[1500] * 18) + make_runs(5, 6, status="failed"),
            "last 20 runs: 18 succeeded, 2 failed, usually 25 min",
        ),
        (make_runs(60, status="stopped"), "last run: 1 stopped"),
        (make_runs(60, 180), "last 2 runs: 2 succeeded, usually 2 min"),
        (make_runs(*[60] * 30), "last 20 runs: 20 succeeded, usually 1 min"),
    ],
)
def test_columns_are_described_in_words(call, runs, text):
    assert call("columns.js", "describeColumns", make_wire_item(), runs) == text


def test_columns_differ_in_shape_by_status(call):
    paths = call.page.evaluate(
        """async ([item, runs, now]) => {
            const { Columns } = await import(`${location.origin}/static/columns.js`);
            const columns = new Columns();
            columns.update(item, runs, now);
            return Object.fromEntries([...columns.node.querySelectorAll("path")].map((path) =>
                [path.getAttribute("class"), [path.getBBox().width, path.getBBox().height]]));
        }""",
        [
            make_wire_item(started_at=60),
            [{**make_runs(60, status=status)[0], "run_id": status} for status in ("succeeded", "failed", "stopped")],
            NOW_MS,
        ],
    )
    assert paths.keys() == {"succeeded", "failed", "stopped", "running"}


def test_cache_reads_at_most_50_ids_a_request_newest_first(call):
    result = run_cache(call, ["request", *[f"i{n}" for n in range(60)]], ["tick"], ["tick"], ["get", "i0", "i59"])
    assert [len(batch) for batch in result["batches"]] == [50, 10]
    assert "i59" in result["batches"][0]
    assert result["loaded"] == [50, 10]
    assert result["seen"] == [["old-i0"], ["old-i59"]]


def test_cache_forgets_requests_of_rows_that_were_scrolled_past(call):
    result = run_cache(call, ["request", *[f"i{n}" for n in range(1000)]], *[["tick"]] * 6)
    assert sum(len(batch) for batch in result["batches"]) == 200


def test_cache_adds_ended_run_without_a_request(call):
    ended = make_wire_item("a", status="failed", ended_at=1, run_id="new")
    result = run_cache(call, ["request", "a"], ["tick"], ["add", ended], ["add", ended], ["get", "a"], ["tick"])
    assert result["seen"] == [["new", "old-a"]]
    assert len(result["batches"]) == 1


def test_cache_keeps_run_that_ends_during_its_request(call):
    ended = make_wire_item("a", status="failed", ended_at=1, run_id="new")
    result = run_cache(call, ["request", "a"], ["tick", ended], ["get", "a"])
    assert result["seen"] == [["new", "old-a"]]


def test_cache_retries_a_failed_request_after_30_seconds(call):
    result = run_cache(call, ["down", True], ["request", "a"], ["tick"], ["down", False], ["tick"], ["get", "a"])
    assert result["delays"] == [100, 5_000]
    assert result["seen"] == [["old-a"]]


def test_expired_cache_shows_old_runs_until_it_is_read_again(call):
    result = run_cache(call, ["request", "a"], ["tick"], ["expire"], ["get", "a"], ["tick"], ["get", "a"], ["tick"])
    assert result["seen"] == [["old-a"]] * 2
    assert len(result["batches"]) == 2


def test_ids_of_a_request_fit_into_an_address(call):
    ids = [f"{n:02}" + "\U0001f600" * 200 for n in range(50)]
    fitting = call("run_cache.js", "limitLength", ids)
    assert fitting == ids[-3:]  # 2,406 characters each
    assert call("run_cache.js", "limitLength", ids[:1]) == ids[:1]
