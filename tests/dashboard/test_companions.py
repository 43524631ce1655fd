"""What surrounds the rows: announcements, the browser tab, keys, the menu of a row, dismissals and the toast."""

from __future__ import annotations

import pytest

pytest.importorskip("playwright.sync_api", reason="install playwright to test the pages in a browser")

from tests.support.wire_items import make_wire_item


def announce(call, changed=(), removed=(), ended=()):
    """Return the sentence for changes of the board."""
    changes = {"changed": changed, "removed": removed, "ended": ended}
    return call("announcements.js", "formatAnnouncements", call("announcements.js", "describeChanges", changes))


def test_announcement_names_three_items_and_counts_the_rest(call):
    changed = [[make_wire_item(f"i{n}"), make_wire_item(f"i{n}", status="failed")] for n in range(5)]
    assert announce(call, changed) == "i0: failed. i1: failed. i2: failed. and 2 more"


@pytest.mark.parametrize(
    ("before", "after", "text"),
    [
        ({}, {"stuck": True}, "a: stuck"),
        ({"stuck": True}, {}, "a: moving again"),
        ({}, {"late": True}, "a: late"),
        ({"late": True}, {"late": True, "value": 0.5}, ""),
        ({"run_id": "1"}, {"run_id": "2", "status": "failed"}, ""),
        ({}, {"parent": "p", "status": "succeeded"}, ""),
        ({}, {"parent": "p", "stuck": True}, ""),
        ({}, {"parent": "p", "status": "failed"}, "a: failed"),
    ],
)
def test_change_of_item_is_announced_if_it_matters(call, before, after, text):
    assert announce(call, [[make_wire_item(**before), make_wire_item(**after)]]) == text


def test_run_that_ends_and_leaves_the_board_is_announced(call):
    ended = make_wire_item(status="succeeded", ended_at=0)
    assert announce(call, removed=[make_wire_item()], ended=[ended]) == "a: succeeded"
    assert announce(call, changed=[[make_wire_item(), make_wire_item(run_id="2")]], ended=[ended]) == "a: succeeded"


@pytest.mark.parametrize("fields", [{"status": "failed"}, {"run_id": "another"}])
def test_run_that_had_ended_before_is_not_announced_again(call, fields):
    ended = make_wire_item(status="failed", ended_at=0)
    assert announce(call, removed=[make_wire_item(**fields)], ended=[ended]) == ""


def test_inner_bar_that_leaves_is_announced_if_it_failed(call):
    before = make_wire_item(parent="p")
    assert announce(call, removed=[before], ended=[{**before, "status": "succeeded"}]) == ""
    assert announce(call, removed=[before], ended=[{**before, "status": "failed"}]) == "a: failed"


@pytest.mark.parametrize(
    ("running", "mean_value", "attention", "offline", "title"),
    [
        (0, None, 0, False, "Progress"),
        (3, 0.426, 0, False, "42 % - 3 running"),
        (3, None, 2, False, "(2) 3 running"),
        (0, None, 2, True, "(2) offline"),
    ],
)
def test_tab_title_counts_attention_first(call, running, mean_value, attention, offline, title):
    summary = {"running": running, "meanValue": mean_value}
    assert call("tab_title.js", "formatTabTitle", summary, attention, offline) == title


def test_tab_icon_has_number_up_to_nine_and_dot_above(call):
    def draw(running, attention, offline=False):
        return call("tab_title.js", "drawTabIcon", {"running": running, "meanValue": 0.5}, attention, offline)

    assert draw(0, 0) is None
    assert "<text" not in draw(1, 0)
    assert ">9</text>" in draw(0, 9)
    assert "<text" not in draw(1, 10)
    assert draw(1, 10).count("<circle") == 3
    assert draw(0, 0, offline=True) is not None


@pytest.mark.parametrize(
    ("key", "element", "modifiers", "command"),
    [
        ("/", "main", {}, "search"),
        ("j", "a", {}, "next"),
        ("x", "summary", {}, "dismiss"),
        ("?", "body", {"shiftKey": True}, "help"),
        ("ArrowUp", "row", {}, "previous"),
        ("End", "row", {}, "last"),
        ("ArrowUp", "main", {}, None),
        ("ArrowDown", "pre", {}, None),
        ("Enter", "a", {}, None),
        ("j", "input", {}, None),
        ("j", "textarea", {}, None),
        ("ArrowDown", "select", {}, None),
        ("j", "menu", {}, None),
        ("c", "main", {"ctrlKey": True}, None),
        ("c", "main", {"metaKey": True}, None),
        ("c", "main", {"altKey": True}, None),
        ("j", "main", {"isComposing": True}, None),
        ("z", "main", {}, None),
    ],
)
def test_key_is_a_command_outside_of_text_fields(call, key, element, modifiers, command):
    found = call.page.evaluate(
        """async ([key, element, modifiers]) => {
            const { findCommand } = await import(`${location.origin}/static/keyboard.js`);
            const row = document.createElement("div");
            row.dataset.key = "a";
            const target = row.appendChild(document.createElement({ row: "a", menu: "button" }[element] ?? element));
            if (element === "main") target.remove();
            if (element === "menu") row.setAttribute("role", "menu");
            return findCommand({ key, ...modifiers }, target);
        }""",
        [key, element, modifiers],
    )
    assert found == command


def list_labels(call, item, *, is_admin=False, may_dismiss=False, may_stop=False):
    return call.page.evaluate(
        """async ([item, isAdmin, mayDismiss, mayStop]) => {
            const { listActions } = await import(`${location.origin}/static/row_menu.js`);
            const options = { isAdmin, mayDismiss: () => mayDismiss, stop: mayStop ? () => {} : null };
            return listActions(item, options).map(({ label, href }) => href ?? label);
        }""",
        [item, is_admin, may_dismiss, may_stop],
    )


def test_row_menu_offers_what_the_reader_may_do(call):
    item = make_wire_item("a/b ?")
    assert list_labels(call, item) == ["items/a%2Fb%20%3F", "Copy link", "Copy id"]
    assert list_labels(call, item, is_admin=True, may_dismiss=True, may_stop=True)[3:] == [
        "keys?share=a%2Fb%20%3F#shares", "Stop…", "Dismiss",
    ]  # fmt: skip


# Runs steps on dismissals with a fake server; a response is a status per item, or null for an outage.
DISMISS_SCRIPT = """async ([rights, responses, steps]) => {
    const { Toast } = await import(`${location.origin}/static/toast.js`);
    const { Dismissals } = await import(`${location.origin}/static/dismissal.js`);
    const node = document.createElement("div");
    node.append(document.createElement("span"), document.createElement("button"));
    const batches = [], texts = [], seen = [];
    const fetch = window.fetch;
    window.fetch = async (path, { body }) => {
        const { ops } = JSON.parse(body);
        batches.push(ops);
        const status = responses.shift();
        if (status === null) throw new TypeError("down");
        return { ok: true, json: async () => ({ results: ops.map(({ id }) => ({ id, status })) }) };
    };
    const toast = new Toast(node, (text) => texts.push(text));
    const dismissals = new Dismissals({ toast, rights, onChange: () => {} });
    for (const [name, ...items] of steps) {
        if (name === "dismiss") dismissals.dismiss(items);
        else if (name === "undo") toast.undo();
        else if (name === "expire") {
            toast.expire();
            for (let n = 0; n < 50; n++) await Promise.resolve(); // until the fake responses are processed
        } else if (name === "see") seen.push(...items.map((item) => dismissals.isDismissed(item)));
    }
    window.fetch = fetch;
    return { batches, texts, seen, isOpen: !node.hidden };
}"""
ALL_RIGHTS = {"dismissible": "all"}


def end(item_id, **fields):
    return make_wire_item(item_id, status="succeeded", ended_at=5, **fields)


def test_dismissal_deletes_runs_in_batches_of_500(call):
    items = [{"id": f"i{n}", "run_id": f"r{n}", "status": "succeeded"} for n in range(1100)]
    result = call.page.evaluate(DISMISS_SCRIPT, [ALL_RIGHTS, [200, 200, 200], [["dismiss", *items], ["expire"]]])
    assert [len(batch) for batch in result["batches"]] == [500, 500, 100]
    assert result["batches"][2][99] == {"op": "delete", "id": "i1099", "run_id": "r1099"}
    assert result["texts"] == ["Dismissed 1,100 items."]


def test_undone_dismissal_sends_nothing(call):
    items = [end("a"), end("b")]
    steps = [["dismiss", items[0]], ["dismiss", items[1]], ["see", *items], ["undo"], ["see", *items]]
    result = call.page.evaluate(DISMISS_SCRIPT, [ALL_RIGHTS, [], steps])
    assert result == {
        "batches": [], "texts": ["Dismissed a.", "Dismissed 2 items."], "seen": [True, True, False, False],
        "isOpen": False,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("status", "is_dismissed", "texts"),
    [
        (200, True, []),
        (404, True, []),
        (409, True, []),
        (403, False, ["One item could not be dismissed."]),
        (None, False, ["One item could not be dismissed."]),
    ],
)
def test_failed_dismissal_restores_the_item_and_says_so(call, status, is_dismissed, texts):
    steps = [["dismiss", end("a")], ["expire"], ["see", end("a")]]
    result = call.page.evaluate(DISMISS_SCRIPT, [ALL_RIGHTS, [status], steps])
    assert result["seen"] == [is_dismissed]
    assert result["texts"] == ["Dismissed a.", *texts]


def test_newer_run_of_dismissed_item_is_shown(call):
    steps = [["dismiss", end("a")], ["see", make_wire_item("a", run_id="2")]]
    assert call.page.evaluate(DISMISS_SCRIPT, [ALL_RIGHTS, [], steps])["seen"] == [False]


@pytest.mark.parametrize(
    ("rights", "dismissed"),
    [
        (ALL_RIGHTS, [True, True, False]),
        ({"dismissible": "own", "userName": "ci"}, [True, False, False]),
        ({"dismissible": "none", "userName": "ci"}, [False, False, False]),
    ],
)
def test_reader_dismisses_only_ended_items_with_a_right(call, rights, dismissed):
    items = [end("mine"), end("theirs", owner="another"), make_wire_item("running")]
    steps = [["dismiss", *items], ["see", *items], ["undo"]]
    assert call.page.evaluate(DISMISS_SCRIPT, [rights, [], steps])["seen"] == dismissed
