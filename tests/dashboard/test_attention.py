"""What needs attention: which items, in which order, what is said of them, and what the reader has hidden."""

from __future__ import annotations

import pytest

pytest.importorskip("playwright.sync_api", reason="install playwright to test the pages in a browser")

from tests.support.wire_items import NOW, make_wire_item

NOW_MS = NOW * 1000

# Runs `steps` of [method, ...] on hidden problems, with a page reload between the steps ["reload"].
HIDE_SCRIPT = """async ([steps]) => {
    const { HiddenProblems } = await import(`${location.origin}/static/hidden_problems.js`);
    const stored = new Map();
    const storage = {
        getItem: (key) => stored.get(key) ?? null,
        setItem: (key, text) => {
            if (text.length > 1000000) throw new Error("full");
            stored.set(key, text);
        },
    };
    let hidden = new HiddenProblems(storage);
    let undo;
    const seen = [];
    for (const [name, ...entries] of steps) {
        if (name === "hide") undo = hidden.hide(entries);
        else if (name === "hide-many") {
            const [count, length] = entries;
            const ids = Array.from({ length: count }, (_, n) => `${n}`.padStart(length, "0"));
            hidden.hide(ids.map((id) => ({ item: { id, run_id: "r" }, problems: "late" })));
        }
        else if (name === "undo") undo();
        else if (name === "reload") hidden = new HiddenProblems(storage);
        else seen.push(hidden.isHidden(entries[0].item, entries[0].problems));
    }
    return seen;
}"""


def fail(item_id, seconds_ago, **fields):
    return make_wire_item(item_id, status="failed", ended_at=seconds_ago, **fields)


def collect_ids(call, items):
    return [entry["item"]["id"] for entry in call("attention.js", "collectAttention", items, NOW_MS)]


@pytest.mark.parametrize(
    ("item", "reason", "time"),
    [
        (
            fail("a", 180, error="OSError: gone\nfar away"),
            "OSError: gone",
            "failed 3 min ago",
        ),
        (fail("a", 0), "no error was reported", "failed 0 s ago"),
        (
            fail("a", 5, error="Traceback (most recent call last):\n  File x\nKeyError: 'b'"),
            "KeyError: 'b'",
            "failed 5 s ago",
        ),
        (
            make_wire_item(stuck=True, progressed_at=360, usual_gap_seconds=2.0),
            "no progress for 6 min, usually every 2 s",
            "since ",
        ),
        (make_wire_item(stalled=True, updated_at=660), "last heard from 11 min ago", "since "),
        (make_wire_item(late=True, deadline=720), "12 min late", "due "),
        (
            make_wire_item(slower=True, usual_duration_seconds=1500.0, started_at=2400, finish_at=-600, eta=600.0),
            "slower than usual: ~50 min, usually 25 min",
            "~10 min, ",
        ),
        (
            make_wire_item(stuck=True, progressed_at=360, late=True, deadline=720),
            "no progress for 6 min · 12 min late",
            "since ",
        ),
    ],
    ids=["failed", "no error", "traceback", "stuck", "stalled", "late", "slower", "stuck and late"],
)
def test_attention_states_reason_and_time(call, item, reason, time):
    described = call("attention.js", "describeAttention", item, NOW_MS)
    assert described["reason"] == reason
    assert described["time"].startswith(time)


@pytest.mark.parametrize(
    "item",
    [
        make_wire_item(),
        make_wire_item(status="succeeded", ended_at=5, late=True),
        make_wire_item(status="stopped", ended_at=5),
    ],
    ids=["running", "succeeded", "stopped"],
)
def test_item_without_problem_needs_no_attention(call, item):
    assert call("attention.js", "describeAttention", item, NOW_MS) is None


def test_failed_inner_bar_needs_attention(call):
    assert collect_ids(call, [make_wire_item(id="p"), fail("inner", 5, parent="p")]) == ["inner"]


def test_inner_bar_with_problems_is_left_to_its_parent(call):
    inner = make_wire_item(id="inner", parent="p", stuck=True, stalled=True, late=True, slower=True)
    assert collect_ids(call, [make_wire_item(id="p"), inner]) == []


def test_inner_bar_without_its_parent_needs_attention(call):
    assert collect_ids(call, [make_wire_item(id="inner", parent="gone", stuck=True, progressed_at=360)]) == ["inner"]


def test_attention_list_has_the_most_urgent_and_newest_first(call):
    items = [
        fail("failed-2-days-ago", 172_800),
        make_wire_item("slower", slower=True),
        make_wire_item("late-1", late=True, deadline=600),
        make_wire_item("late-2", late=True, deadline=60),
        make_wire_item("stalled", stalled=True),
        make_wire_item("stuck", stuck=True, late=True, deadline=5),
        fail("failed-1", 180),
        fail("failed-2", 60),
    ]
    assert collect_ids(call, items) == [
        "failed-2", "failed-1", "stuck", "stalled", "late-2", "late-1", "slower", "failed-2-days-ago",
    ]  # fmt: skip


def test_problem_stays_hidden_after_reload(call):
    entry = {"item": fail("a", 5), "problems": "failed"}
    steps = [["hide", entry], ["see", entry], ["reload"], ["see", entry]]
    assert call.page.evaluate(HIDE_SCRIPT, [steps]) == [True, True]


def test_undo_shows_hidden_problems_again(call):
    one, two = ({"item": fail(name, 5), "problems": "failed"} for name in "ab")
    steps = [["hide", one], ["hide", two], ["undo"], ["see", one], ["see", two], ["reload"], ["see", two]]
    assert call.page.evaluate(HIDE_SCRIPT, [steps]) == [True, False, False]


def test_other_problem_or_run_is_shown_again(call):
    late = {"item": make_wire_item("a"), "problems": "late"}
    stuck = {**late, "problems": "stuck late"}
    other_run = {**late, "item": make_wire_item("a", run_id="r2")}
    steps = [["hide", late], ["see", stuck], ["see", other_run], ["hide", stuck], ["see", stuck], ["see", late]]
    assert call.page.evaluate(HIDE_SCRIPT, [steps]) == [False, False, True, True]


@pytest.mark.parametrize(("count", "length"), [(8000, 200), (10_001, 5)], ids=["characters", "items"])
def test_hidden_problems_are_bounded_and_forget_the_oldest(call, count, length):
    oldest, newest = ({"item": {"id": f"{n:0{length}}", "run_id": "r"}, "problems": "late"} for n in (0, count - 1))
    steps = [["hide-many", count, length], ["reload"], ["see", oldest], ["see", newest]]
    assert call.page.evaluate(HIDE_SCRIPT, [steps]) == [False, True]


# Arranges the section after each step; returns the kinds and ids of its entries, and the counts.
LIST_SCRIPT = """async ([items, now, steps]) => {
    const { AttentionList, countProblems } = await import(`${location.origin}/static/attention_list.js`);
    const { HiddenProblems } = await import(`${location.origin}/static/hidden_problems.js`);
    const list = new AttentionList(new HiddenProblems(null));
    let query = { status: "" }, matches = () => true;
    const seen = [];
    for (const step of [[], ...steps]) {
        const [name, ...args] = step;
        if (name === "toggle") list.toggle();
        else if (name === "error") list.toggleError(args[0]);
        else if (name === "hide") list.hide(args.map((id) => list.find(id)));
        else if (name === "status") query = { status: args[0] };
        else if (name === "search") matches = ({ id }) => args.includes(id);
        const entries = list.arrange(items, now, query, matches);
        seen.push({
            entries: entries.map(({ kind, item, hiddenCount }) => item?.id ?? hiddenCount ?? kind),
            count: list.count,
            counts: countProblems(list.listed).map(([, text]) => text),
        });
    }
    return seen;
}"""


def arrange(call, items, *steps):
    return call.page.evaluate(LIST_SCRIPT, [items, NOW_MS, steps])


def test_section_is_absent_without_problems(call):
    assert arrange(call, [make_wire_item()])[0] == {"entries": [], "count": 0, "counts": []}


def test_section_counts_each_item_once(call):
    items = [fail("a", 1), fail("b", 2), make_wire_item("c", stuck=True, late=True, deadline=1)]
    assert arrange(call, items)[0] == {
        "entries": ["attention-heading", "a", "b", "c"], "count": 3, "counts": ["2 failed", "1 stuck"],
    }  # fmt: skip


def test_long_section_shows_five_items_until_it_is_opened(call):
    items = [fail(f"i{n}", n) for n in range(10)]
    first, opened, closed = arrange(call, items, ["toggle"], ["toggle"])
    assert first["entries"] == closed["entries"] == ["attention-heading", "i0", "i1", "i2", "i3", "i4", 5]
    assert opened["entries"] == ["attention-heading", *(item["id"] for item in items), 0]
    assert first["count"] == 10


def test_section_of_six_items_shows_all(call):
    assert len(arrange(call, [fail(f"i{n}", n) for n in range(6)])[0]["entries"]) == 7


def test_hidden_item_leaves_the_section_and_its_count(call):
    assert arrange(call, [fail("a", 1), fail("b", 2)], ["hide", "a"])[1] == {
        "entries": ["attention-heading", "b"], "count": 1, "counts": ["1 failed"],
    }  # fmt: skip


def test_search_filters_the_section_but_not_its_count(call):
    assert arrange(call, [fail("a", 1), fail("b", 2)], ["search", "b"])[1] == {
        "entries": ["attention-heading", "b"], "count": 2, "counts": ["1 failed"],
    }  # fmt: skip


def test_section_gives_way_to_a_status_filter(call):
    assert arrange(call, [fail("a", 1)], ["status", "failed"])[1] == {"entries": [], "count": 1, "counts": []}


def test_error_of_an_entry_opens_below_it(call):
    items = [fail("a", 1, error="x\ny"), fail("b", 2)]
    assert arrange(call, items, ["error", "a"])[1]["entries"] == ["attention-heading", "a", "error", "b"]
