"""Estimates, silence and slowness on the pages: the same texts at the first paint and later, and moving with time."""

from __future__ import annotations

import re
import time

import pytest

from progressbar_tracker.server.models import rfc3339

from .conftest import APPEARANCE_RULES, find_violations, wait_for_fit
from .test_board import expect_ids, expect_state, find_row, wait_for_stream
from .test_pages import find_field

pytest.importorskip("playwright.sync_api", reason="install playwright to test the pages in a browser")

from playwright.sync_api import expect

READ_ROWS = """() => Object.fromEntries(Array.from(document.querySelectorAll("#board .item"), (row) => {
    const text = (name) => row.querySelector(`.${name}`).textContent;
    const names = ["percent", "count", "finish-text", "hint", "silence", "slowness", "late"];
    const bar = row.querySelector("[role=progressbar]");
    return [row.dataset.id, {
        ...Object.fromEntries(names.map((name) => [name, text(name)])),
        state: row.querySelector(".state-icon").getAttribute("aria-label"),
        mild: row.querySelector(".silence").classList.contains("mild"),
        value: bar.getAttribute("aria-valuenow"), valueText: bar.getAttribute("aria-valuetext"),
    }];
}))"""

SHOW_ITEMS = """async ([type, time, items]) => {
    const { handleMessage } = await import(document.querySelector("script[src$='/board.js']").src);
    handleMessage({ type, time, items, gone: [], ended: [] });
}"""

NEW_FIELDS = (
    "stuck", "slower", "eta_low", "eta_high", "finish_at", "basis", "estimated_total", "estimated_value",
    "usual_gap_seconds", "usual_duration_seconds", "progressed_at",
)  # fmt: skip


def make_estimate(now, minutes):
    """Return the fields of an estimate with an interval."""
    return {
        "eta": minutes * 60, "eta_low": minutes * 50, "eta_high": minutes * 80, "basis": "6 former runs",
        "finish_at": rfc3339(now + minutes * 60), "usual_duration_seconds": 1500.0,
    }  # fmt: skip


def make_items(site, now):
    """Return serialized items in each state, by id."""
    site.put("base", total=100, completed=40, unit="rows", run_id="r", heartbeat_timeout=3600)
    [base] = site.http.get("/api/v1/items").json()["items"]
    site.delete("base")
    base |= {"started_at": rfc3339(now - 1205), "updated_at": rfc3339(now), "progressed_at": rfc3339(now)}
    counted = {"total": None, "value": 0.0}
    countless = {**counted, "completed": None}
    changes = {
        "healthy": make_estimate(now, 30),
        "stuck": {"stuck": True, "progressed_at": rfc3339(now - 365), "usual_gap_seconds": 2.1,
                  **make_estimate(now, 9)},
        "slower": {"slower": True, **make_estimate(now, 20)},
        "stalled": {"stalled": True, "updated_at": rfc3339(now - 600)},
        "late": {"late": True, "deadline": rfc3339(now - 725)},
        "silent": {"heartbeat_timeout": None, "updated_at": rfc3339(now - 1085)},
        "idle": {"progressed_at": rfc3339(now - 245)},
        "counted": {**counted, "estimated_value": 0.404, "estimated_total": 99.0, **make_estimate(now, 700)},
        "bytes": {**counted, "unit": "B", "completed": 6_449_483_717, "estimated_value": 1.0,
                  "estimated_total": 48.2e9},
        "countless": {**countless, "estimated_value": 0.999, **make_estimate(now, 33)},
        "unknown": counted,
        "overdue": {"eta": 0.0, "finish_at": rfc3339(now - 300), "basis": "this run"},
        "negative": {**counted, "eta": -5.0, "estimated_value": -0.4, "estimated_total": -8.0, "slower": True,
                     "usual_duration_seconds": -3.0},
        "huge": {**counted, "estimated_value": 1e300, "estimated_total": 1e300, "usual_gap_seconds": 1e300,
                 "stuck": True},
        "far": {"eta": 1e12, "eta_low": 1e12, "eta_high": 1e13, "finish_at": "9998-12-31T00:00:00.000Z"},
        "ended": {"status": "succeeded", "ended_at": rfc3339(now - 65), "value": 1.0, **make_estimate(now, 30)},
    }  # fmt: skip
    return {
        item_id: {**base, "id": item_id, "title": item_id, "weight": len(changes) - n, **change}
        for n, (item_id, change) in enumerate(changes.items())
    }


def show(page, items, now, kind="snapshot"):
    """Show items as if they came with the stream, which is left before."""
    page.evaluate("dispatchEvent(new PageTransitionEvent('pagehide'))")
    page.evaluate(SHOW_ITEMS, [kind, rfc3339(now), items])


def test_row_describes_each_condition(server, visit):
    now = time.time()
    page = wait_for_stream(visit())
    page.set_viewport_size({"width": 1600, "height": 1200})
    show(page, list(make_items(server, now).values()), now)
    texts = page.evaluate(READ_ROWS)
    assert texts["stuck"]["silence"] == "no progress for 6 min, usually every 2 s"
    assert (texts["stuck"]["finish-text"], texts["stuck"]["state"]) == ("for 20 min", "stuck")
    assert re.fullmatch(r"~30 min, \d.*", texts["healthy"]["finish-text"])
    assert re.match(r"\d.* to \d.* · from 6 former runs, usual duration 25 min · started ", texts["healthy"]["hint"])
    assert texts["slower"]["slowness"] == "slower than usual: ~40 min, usually 25 min"
    assert (texts["late"]["late"], texts["late"]["state"]) == ("12 min late", "late")
    assert (texts["silent"]["silence"], texts["silent"]["mild"]) == ("no update for 18 min", False)
    assert (texts["idle"]["silence"], texts["idle"]["mild"]) == ("progress 4 min ago", True)
    assert (texts["counted"]["percent"], texts["counted"]["count"]) == ("~40 %", "40 / ~99 rows")
    assert (texts["bytes"]["percent"], texts["bytes"]["count"]) == ("~99 %", "6.44 GB / ~48 GB")
    assert (texts["unknown"]["value"], texts["unknown"]["valueText"]) == (None, None)
    assert re.fullmatch(r"due \d.*", texts["overdue"]["finish-text"])
    assert texts["ended"]["finish-text"] == "succeeded 1 min ago"
    assert "took 19 min" in texts["ended"]["hint"]
    assert not re.search(r"NaN|undefined|-\d", " ".join(str(list(row.values())) for row in texts.values()))
    assert [texts["negative"][name] for name in ("finish-text", "percent", "count")] == ["for 20 min", "", "40 rows"]
    assert texts["far"]["finish-text"] == "years"


@pytest.mark.usefixtures("clock_profile")
def test_texts_move_with_the_clock_of_the_server(server, visit):
    now = time.time() - 4000  # a server whose clock is slow
    items = make_items(server, now)
    page = visit()
    page.clock.install()
    wait_for_stream(page)
    show(page, [items["stuck"], items["healthy"], items["silent"]], now)
    expect(find_row(page, "stuck").locator(".silence")).to_have_text("no progress for 6 min, usually every 2 s")
    eta = find_row(page, "healthy").locator(".finish-text")
    finish = eta.inner_text().partition(", ")[2]
    expect(eta).to_have_text(f"~30 min, {finish}")
    page.clock.run_for(61_000)
    expect(find_row(page, "stuck").locator(".silence")).to_have_text("no progress for 7 min, usually every 2 s")
    expect(find_row(page, "silent").locator(".silence")).to_have_text("no update for 19 min")
    page.clock.run_for(600_000)
    expect(eta).to_have_text(f"~20 min, {finish}")


def test_server_clock_ignores_the_jitter_of_messages(server, anonymous_page):
    anonymous_page.goto(f"{server.background.url}/login")
    offsets = anonymous_page.evaluate(
        """async () => {
          const { ServerClock } = await import(`${location.origin}/static/clock.js`);
          const clock = new ServerClock();
          return [0, -900, 1900, 5000, null].map((offset) => {
            if (offset === null) clock.stop();
            else clock.set(new Date(Date.now() + offset).toISOString());
            return [Math.round((clock.now() - Date.now()) / 1000), clock.isStopped];
          });
        }"""
    )
    assert offsets == [[0, False], [0, False], [0, False], [5, False], [5, True]]


def test_screen_reader_hears_stuck_and_moving_again_once(server, visit):
    now = time.time()
    healthy = make_items(server, now)["healthy"]
    page = wait_for_stream(visit())
    show(page, [healthy], now)
    announcement = page.locator("#announcement")
    show(page, [{**healthy, "stuck": True}], now, "change")
    expect(announcement).to_have_text("healthy: stuck")
    page.evaluate("document.getElementById('announcement').textContent = ''")
    show(page, [{**healthy, "stuck": True, "updated_at": rfc3339(now + 15)}], now, "change")
    expect(announcement).to_be_empty()
    show(page, [{**healthy, "completed": 41}], now, "change")
    expect(announcement).to_have_text("healthy: moving again")
    show(page, [{**healthy, "slower": True}], now, "change")
    expect(announcement).to_have_text("healthy: slower")


def test_estimated_bar_becomes_an_ordinary_one_with_a_total(server, visit):
    now = time.time()
    counted = make_items(server, now)["counted"]
    page = wait_for_stream(visit())
    show(page, [counted], now)
    bar = find_row(page, "counted").get_by_role("progressbar")
    expect(bar).to_have_attribute("aria-valuetext", "about 40 %, estimated")
    assert "repeating-linear-gradient" in find_row(page, "counted").evaluate(
        "row => getComputedStyle(row.querySelector('.fill')).backgroundImage"
    )
    assert page.locator("#summary").inner_text() == "1 running"
    show(page, [{**counted, "total": 80, "value": 0.5, "estimated_value": None}], now, "change")
    expect(find_row(page, "counted").locator(".percent")).to_have_text("50 %")
    assert bar.get_attribute("aria-valuetext") == "50 %"
    assert "estimated" not in find_row(page, "counted").get_attribute("class")


def test_item_of_an_older_server_is_shown(server, visit):
    now = time.time()
    items = [
        {name: value for name, value in item.items() if name not in NEW_FIELDS}
        for item in make_items(server, now).values()
    ]
    page = wait_for_stream(visit("?sort=left"))
    show(page, items, now)
    expect(find_row(page, "healthy").locator(".finish-text")).to_have_text("~30 min")
    expect(find_row(page, "stalled").locator(".silence")).to_have_text("last heard from 10 min ago")
    show(page, items, now, "change")
    assert not page.evaluate("/NaN|undefined|null/.test(document.getElementById('board').innerText)")


def test_board_is_filtered_and_sorted_by_condition(server, visit):
    server.put("running", total=9, completed=1)
    server.put("late", total=9, completed=1, deadline=rfc3339(time.time() - 90))
    server.put("stalled", total=9, completed=1, heartbeat_timeout=0)
    server.put("stuck", total=9, completed=1, stuck_after=0.001)
    server.put("failed", status="failed")
    page = wait_for_stream(visit("?sort=status"))
    expect_state(find_row(page, "stuck"), "stuck")
    expect_ids(page, "failed", "stuck", "stalled", "late", "running")
    expect(page.locator("#summary")).to_have_text("4 running, 1 stuck, 1 stalled, 1 late, 1 failed")


def test_states_have_enough_contrast_in_both_themes(server, visit):
    now = time.time()
    items = list(make_items(server, now).values())
    page = wait_for_stream(visit())
    show(page, items, now)
    violations = find_violations(page)
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        for width in (360, 1000, 1600):
            page.set_viewport_size({"width": width, "height": 900})
            violations += find_violations(page, *APPEARANCE_RULES)
            wait_for_fit(page)
    assert violations == []


def test_bars_show_a_stuck_item_and_its_end(server, visit, anonymous_page):
    server.put("shared", title="Import", total=9, completed=1, stuck_after=0.001, run_id="r", group="unstuck")
    page = visit("items/shared")
    share = page.request.post(
        f"{server.background.url}/api/v1/shares", data={"group": "unstuck"}, headers={"Sec-Fetch-Site": "same-origin"}
    ).json()
    anonymous_page.goto(f"{server.background.url}/{share['path']}")
    for shown in (page, anonymous_page):
        expect(find_field(shown, "state")).to_have_text("stuck")
        expect(find_field(shown, "silence")).to_have_text(re.compile(r"^no progress for \d+ s"))
    server.patch("shared", completed=2, stuck_after=None)
    for shown in (page, anonymous_page):
        expect(find_field(shown, "state")).to_have_text("running")
        expect(find_field(shown, "silence")).to_be_empty()
        expect(shown.locator("#announcement")).to_have_text("Import: moving again")
