"""The page of the day: its runs, its sentence, its controls, the pointer and the keyboard."""

from __future__ import annotations

import re
import time
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

import pytest

pytest.importorskip("playwright.sync_api", reason="install playwright to test the pages in a browser")

from playwright.sync_api import expect

from tests.support.waiting import wait_until

from .conftest import APPEARANCE_RULES, find_violations, wait_for_fit

VIEWER_OPTIONS = {"locale": "en-GB", "timezone_id": "Europe/Berlin"}
PHONE_VIEWPORT = {"width": 390, "height": 844}

LAST_VISIT_SCRIPT = """(secondsAgo) => {
    const { viewer } = document.querySelector("#today").dataset;
    localStorage.setItem(`progress:last-visit:${viewer}`, Date.now() - secondsAgo * 1000);
}"""


@pytest.fixture
def group(request):
    """A group of the test's own: the tests share a history."""
    return request.node.name.removeprefix("test_")[:100]


@pytest.fixture
def put(server, group):
    """Return a function that puts an item into the group of the test."""

    def put_item(item_id, **fields):
        server.put(f"{group}/{item_id}", **{"title": item_id, "group": group, **fields})

    return put_item


@pytest.fixture
def visit_today(visit, group):
    """Return a function that opens the page of the group and waits until its runs are loaded."""

    def open_today(query="", **options):
        page = visit(f"today?{urlencode({'group': group})}{query}", **{**VIEWER_OPTIONS, **options})
        page.locator("#today[data-loaded]:not([aria-busy])").wait_for()
        return page

    return open_today


def fill_day(put):
    """Put a running item, and runs of each end, on the board and in the history."""
    put("Import", total=100, completed=40)
    put("Export", status="failed", error="OSError: disk full\nmore", run_id="r1")
    put("Clean", status="succeeded", value=1)
    put("Train", status="failed", error="ValueError: nan", run_id="old")
    put("Train", run_id="new", value=0.5)


# Black pixels of the canvas: the tokens of the light theme have none.
COUNT_DARK_SCRIPT = """() => {
    const canvas = document.querySelector(".timeline-plot canvas");
    const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    return new Uint32Array(data.buffer).filter((pixel) => pixel === 0xff000000).length;
}"""


def focus_first_run(page):
    link = page.locator(".timeline-run.is-focused[tabindex='0']")
    link.focus()
    return link


def read_query(page):
    return dict(parse_qsl(urlsplit(page.url).query))


def wait_for_query(page, condition):
    """Wait until the query of the address fulfils a condition: the browser reports a new address later."""
    page.wait_for_url(lambda url: condition(dict(parse_qsl(urlsplit(url).query))))


def wait_for_free_interval(page):
    wait_for_query(page, lambda query: {"since", "until"} <= query.keys())


def list_requested_intervals(page):
    return page.evaluate("""performance.getEntriesByType("resource").map(({ name }) => name)
        .filter((name) => name.includes("api/v1/timeline"))""")


def test_page_shows_runs_of_board_and_history(put, group, visit_today):
    fill_day(put)
    page = visit_today()
    expect(page.locator(".timeline-heading .name")).to_have_text(group)
    expect(page.locator(".timeline-heading .muted")).to_have_text("5 runs, 2 failed")
    expect(page.locator(".timeline-label .name")).to_have_text(["Clean", "Export", "Import", "Train"])
    wait_until(
        lambda: page.evaluate("""() => {
        const canvas = document.querySelector(".timeline-plot canvas");
        const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
        return new Set(new Uint32Array(data.buffer)).size > 10;
    }""")
    )


def test_run_that_ends_appears_without_a_reload(server, put, group, visit_today):
    put("A", run_id="r1")
    page = visit_today()
    loads = len(list_requested_intervals(page))
    server.patch(f"{group}/A", status="failed", error="gone", run_id="r1")
    expect(page.locator(".timeline-label .icon")).to_have_class("icon failed")
    server.delete(f"{group}/A")
    expect(page.locator("#visit")).to_have_text(re.compile(r" 1 ended, 1 failed\.$"))
    expect(page.locator(".timeline-label .icon")).to_have_class("icon failed")
    assert len(list_requested_intervals(page)) == loads


def test_sentence_at_the_first_visit_counts_today(put, visit_today):
    put("A", status="succeeded")
    page = visit_today()
    page.add_init_script("localStorage.clear(); sessionStorage.clear();")
    page.reload()
    expect(page.locator("#visit")).to_have_text("Today 1 ended.")


def test_sentence_counts_what_ended_since_the_last_visit(put, visit_today):
    page = visit_today()
    page.evaluate(LAST_VISIT_SCRIPT, 3600)
    page.goto("about:blank")
    put("Late", deadline="2020-01-01T00:00:00Z")
    put("Bad", status="failed", error="x")
    put("Good", status="succeeded")
    again = visit_today("&range=24h")
    expect(again.locator("#visit")).to_have_text(
        re.compile(r"^You last looked (yesterday )?at \d\d:\d\d\. Since then 2 ended, 1 failed, 1 is late\.$")
    )


def test_sentence_without_omitted_runs_counts_the_least(put, visit_today):
    put("A", status="succeeded")
    page = visit_today()
    page.add_init_script("localStorage.clear(); sessionStorage.clear();")

    def omit_runs(route):
        body = route.fetch().json()
        route.fulfill(json={**body, "omitted": 5})

    page.route("**/api/v1/timeline?*", omit_runs)
    page.reload()
    expect(page.locator("#visit")).to_have_text("Today at least 1 ended.")


def test_visit_is_stored_when_the_page_is_left_not_before(visit_today):
    page = visit_today()
    stored = "localStorage.getItem(`progress:last-visit:${document.querySelector('#today').dataset.viewer}`)"
    page.evaluate("localStorage.clear()")
    assert page.evaluate(stored) is None
    page.evaluate("dispatchEvent(new PageTransitionEvent('pagehide'))")
    assert abs(float(page.evaluate(stored)) / 1000 - time.time()) < 60


def test_reload_keeps_the_time_of_the_last_visit(visit_today):
    visit_today().evaluate(LAST_VISIT_SCRIPT, 3 * 86400)
    page = visit_today()
    expect(page.locator("#visit")).to_have_text(re.compile(r"^You last looked on "))
    page.reload()
    page.locator("#today[data-loaded]").wait_for()
    expect(page.locator("#visit")).to_have_text(re.compile(r"^You last looked on "))


def test_range_is_in_the_address_and_survives_a_reload(visit_today):
    page = visit_today()
    page.get_by_role("button", name="Last 7 days").click()
    wait_for_query(page, lambda query: query.get("range") == "7d")
    expect(page.locator("h1")).to_have_text("Last 7 days")
    page.reload()
    expect(page.get_by_role("button", name="Last 7 days")).to_have_attribute("aria-pressed", "true")
    page.get_by_role("button", name="Today").click()
    wait_for_query(page, lambda query: set(query) == {"group"})


def test_earlier_day_is_in_the_address_with_its_runs_only(put, visit_today):
    put("A")
    page = visit_today()
    expect(page.locator(".timeline-label")).to_have_count(1)
    page.get_by_role("button", name="Earlier", exact=True).click()
    wait_for_query(page, lambda query: re.fullmatch(r"\d{4}-\d\d-\d\d", query.get("day", "")))
    expect(page.locator(".timeline-label")).to_have_count(0)
    page.get_by_role("button", name="Later", exact=True).click()
    wait_for_query(page, lambda query: set(query) == {"group"})
    expect(page.locator(".timeline-label")).to_have_count(1)


def test_group_in_the_address_limits_the_runs(server, put, group, visit_today):
    put("A")
    server.put("other", group="other")
    page = visit_today()
    expect(page.locator(".timeline-label .name")).to_have_text("A")
    assert all(f"group={group}" in url for url in list_requested_intervals(page))


def test_run_that_leaves_the_group_in_the_address_is_removed(server, put, group, visit_today):
    put("A")
    put("B")
    page = visit_today()
    names = page.locator(".timeline-label .name")
    expect(names).to_have_text(["A", "B"])
    server.patch(f"{group}/A", group=f"{group} other")
    expect(names).to_have_text(["B"])


def test_empty_group_in_the_address_means_runs_without_one(server, put, group, visit):
    put("grouped", status="succeeded")
    server.put(f"{group}/single", title=f"{group} single", run_id="r")
    server.patch(f"{group}/single", status="succeeded")
    server.delete(f"{group}/single")
    page = visit("today?group=", **VIEWER_OPTIONS)
    page.locator("#today[data-loaded]").wait_for()
    page.locator("#table summary").click()
    expect(page.locator("#table-rows")).to_contain_text(f"{group} single")
    expect(page.locator(".timeline-heading")).to_have_count(0)  # of several groups only


def test_pointer_on_a_run_shows_details_and_click_opens_it(put, visit_today):
    put("Train", status="failed", error="ValueError: nan\ntraceback", run_id="old")
    page = visit_today("&range=1h")
    box = focus_first_run(page).bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 5)
    details = page.locator(".timeline-details")
    expect(details).to_contain_text("ValueError: nan")
    expect(details).not_to_contain_text("traceback")
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + 5)
    page.wait_for_url("**Train?run=old")


def test_details_of_a_stopped_run_name_the_requester(server, put, group, visit_today):
    put("Train", run_id="r", stoppable=True)
    server.http.post(f"/api/v1/items/{quote(group + '/Train', safe='')}:stop", json={}).raise_for_status()
    put("Train", run_id="r", status="stopped")
    put("Train", run_id="next", status="succeeded")
    page = visit_today("&range=1h")
    focus_first_run(page).press("Home")
    link = page.locator(".timeline-run.is-focused[tabindex='0']")
    expect(link).to_have_accessible_name(re.compile("stop requested by ci"))
    expect(page.locator(".timeline-details")).to_contain_text("stop requested by ci")


def test_first_touch_shows_details_and_second_opens(put, visit_today):
    put("Train", status="failed", error="ValueError: nan", run_id="old")
    page = visit_today("&range=1h", has_touch=True)
    box = focus_first_run(page).bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + 5
    page.evaluate("document.activeElement.blur()")
    page.touchscreen.tap(x, y)
    expect(page.locator(".timeline-details")).to_contain_text("ValueError: nan")
    page.touchscreen.tap(x, y + 200)
    expect(page.locator(".timeline-details")).to_be_hidden()
    page.touchscreen.tap(x, y)
    page.touchscreen.tap(x, y)
    page.wait_for_url("**Train?run=old")


def test_keyboard_moves_between_runs_and_opens_one(put, visit_today):
    fill_day(put)
    page = visit_today("&range=1h")
    focus_first_run(page)
    names = []
    for key in ["ArrowUp"] * 4 + ["ArrowDown"] * 4 + ["Home", "ArrowRight"]:
        page.keyboard.press(key)
        names.append(page.evaluate("document.activeElement.getAttribute('aria-label').split(',').slice(0, 2).join()"))
    assert names[3:7] == ["Clean, succeeded", "Export, failed", "Import, running", "Train, failed"]
    assert names[7:] == ["Train, failed", "Train, failed", "Train, running"]
    page.keyboard.press("ArrowUp")
    page.keyboard.press("ArrowUp")
    expect(page.locator(".timeline-details")).to_contain_text("OSError: disk full")
    page.keyboard.press("Escape")
    expect(page.locator(".timeline-details")).to_be_hidden()
    page.keyboard.press("Enter")
    page.wait_for_url("**Export?run=r1")


def test_focused_run_keeps_the_focus_while_runs_change(put, visit_today):
    fill_day(put)
    page = visit_today("&range=1h")
    focus_first_run(page)
    label = page.evaluate("document.activeElement.getAttribute('aria-label').split(',')[0]")
    put("Another")
    expect(page.locator(".timeline-label .name").filter(has_text="Another")).to_be_visible()
    assert page.evaluate("document.activeElement.getAttribute('aria-label').split(',')[0]") == label


def test_dragging_moves_the_interval_and_opens_nothing(put, visit_today):
    put("A")
    page = visit_today("&range=1h")
    box = focus_first_run(page).bounding_box()
    x, y = box["x"] + 4, box["y"] + 5
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x - 100, y, steps=4)
    page.mouse.move(x, y, steps=4)
    page.mouse.up()
    wait_for_free_interval(page)
    expect(page.locator("#ranges [aria-pressed='true']")).to_have_count(0)
    assert urlsplit(page.url).path == "/today"


def test_wheel_with_control_zooms_and_alone_scrolls(put, visit_today):
    put("A")
    page = visit_today("&range=24h")
    box = page.locator(".timeline-plot").bounding_box()
    page.mouse.move(box["x"] + 200, box["y"] + 10)
    page.mouse.wheel(0, 100)
    assert read_query(page)["range"] == "24h"
    page.keyboard.down("Control")
    page.mouse.wheel(0, -200)
    page.keyboard.up("Control")
    wait_for_free_interval(page)


def test_folded_group_hides_its_lanes_also_after_a_reload(put, group, visit_today):
    fill_day(put)
    page = visit_today()
    page.get_by_role("button", name=group).click()
    expect(page.locator(".timeline-label")).to_have_count(0)
    page.reload()
    expect(page.get_by_role("button", name=group)).to_have_attribute("aria-expanded", "false")
    page.get_by_role("button", name=group).click()
    expect(page.locator(".timeline-label")).to_have_count(4)


def test_only_visible_lanes_have_elements(server, group, visit_today):
    server.batch([{"op": "put", "id": f"lane-{n:03}", "group": group} for n in range(300)])
    page = visit_today()
    expect(page.locator(".timeline-label").first).to_be_visible()
    assert page.locator(".timeline-label").count() < 80
    page.evaluate("scrollTo(0, document.body.scrollHeight)")
    expect(page.locator(".timeline-label").filter(has_text="lane-299")).to_be_visible()
    assert page.locator(".timeline-label").count() < 80


def test_table_lists_the_runs_as_links(put, visit_today):
    fill_day(put)
    page = visit_today()
    page.get_by_text("The runs as a table").click()
    rows = page.locator("#table tbody tr")
    expect(rows).to_have_count(5)
    row = rows.filter(has_text="Export")
    expect(row).to_contain_text("OSError: disk full")
    assert row.get_by_role("link").get_attribute("href").endswith("Export?run=r1")


def test_running_run_shows_its_estimate(put, visit_today):
    put("A", total=100, completed=40)
    page = visit_today("&range=1h")
    page.evaluate("""async () => {
        const { handleMessage } = await import(document.querySelector("script[src*='today.js']").src);
        const [item] = (await (await fetch("api/v1/items")).json()).items;
        const now = Date.now();
        const iso = (seconds) => new Date(now + seconds * 1000).toISOString();
        const items = [{ ...item, started_at: iso(-1200), eta: 600, eta_low: 400, eta_high: 900, finish_at: iso(600) }];
        handleMessage({ type: "change", time: iso(0), items, gone: [], ended: [] });
    }""")
    focus_first_run(page)
    page.keyboard.press("Home")
    expect(page.locator(".timeline-details")).to_contain_text(re.compile(r"~10 min left, about \d\d:\d\d"))


@pytest.mark.usefixtures("clock_profile")
def test_failed_load_is_repeated(server, visit):
    page = visit(None)
    states = []

    def fail_once(route):
        states.append("failed" if not states else "loaded")
        if len(states) == 1:
            route.fulfill(status=200, body="not JSON")
        else:
            route.continue_()

    page.route("**/api/v1/timeline?*", fail_once)
    page.clock.install()
    page.goto(f"{server.background.url}/today?range=30d")  # covers any last visit
    while len(states) < 2:
        page.clock.run_for(500)
    page.locator("#today[data-loaded]").wait_for()
    assert states == ["failed", "loaded"]


# A snapshot, as if it came with the stream, by a clock that is slower than that of the page.
SHOW_SNAPSHOT_SCRIPT = """async () => {
    const { handleMessage } = await import(document.querySelector("script[src*='today.js']").src);
    handleMessage({ type: "snapshot", time: new Date(Date.now() - 10_000).toISOString(), items: [] });
}"""


@pytest.mark.usefixtures("clock_profile")
def test_slow_load_is_followed_by_one_more_at_most(server, visit):
    page = visit(None)
    loads = []
    page.route("**/api/v1/timeline?*", lambda route: loads.append(route))
    page.clock.install()
    page.goto(f"{server.background.url}/today?range=30d")  # covers any last visit
    for count in (1, 2):
        while len(loads) < count:
            page.clock.run_for(100)
        for _ in range(3):
            if count == 1:
                page.evaluate(SHOW_SNAPSHOT_SCRIPT)
            page.clock.run_for(2000)
        assert len(loads) == count
        loads[-1].fulfill(json={"since": "", "until": "", "omitted": count + 1, "runs": []})
        expect(page.locator("#omitted")).to_have_text(f"{count + 1} older runs are not shown.")
    expect(page.locator("#today")).not_to_have_attribute("aria-busy", "true")
    page.clock.run_for(10_000)
    assert len(loads) == 2


@pytest.mark.parametrize(
    "size", [{"width": 320, "height": 600}, PHONE_VIEWPORT, {"width": 1440, "height": 900}], ids=str
)
def test_page_in_any_width_does_not_overflow(put, visit_today, size):
    put("a", title="W" * 200)
    page = visit_today()
    page.set_viewport_size(size)
    expect(page.locator(".timeline-label")).to_be_visible()
    wait_for_fit(page)


def test_page_in_any_size_and_theme_has_no_axe_violations(put, visit_today):
    fill_day(put)
    page = visit_today()
    focus_first_run(page)
    page.get_by_text("The runs as a table").click()
    violations = find_violations(page)
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        for size in (PHONE_VIEWPORT, {"width": 1440, "height": 900}):
            page.set_viewport_size(size)
            violations += find_violations(page, *APPEARANCE_RULES)
    page.emulate_media(forced_colors="active")
    assert violations + find_violations(page) == []


def test_runs_in_forced_colours_differ_from_the_background(put, visit_today):
    fill_day(put)
    page = visit_today("&range=1h")
    page.emulate_media(forced_colors="active")
    page.evaluate(f"async () => {{ while (!({COUNT_DARK_SCRIPT})()) await new Promise(requestAnimationFrame); }}")


def test_canvas_is_redrawn_when_the_theme_changes(put, visit_today):
    put("A", status="succeeded")
    page = visit_today("&range=1h")
    corner = """() => Array.from(document.querySelector(".timeline-axis canvas").getContext("2d")
        .getImageData(0, 0, 2000, 60).data).reduce((sum, value) => (sum * 31 + value) % 1e9, 7)"""
    before = page.evaluate(corner)
    page.emulate_media(color_scheme="dark")
    page.evaluate(
        f"async (before) => {{ while (({corner})() === before) await new Promise(requestAnimationFrame); }}", before
    )


def test_shared_group_shows_its_runs_without_links(server, put, group, anonymous_page):
    fill_day(put)
    server.put("other", title="Secret")
    anonymous_page.goto(f"{server.background.url}/{server.create_share(group=group)}/today")
    expect(anonymous_page.locator("h1")).to_contain_text(f"{group}: Today")
    expect(anonymous_page.locator(".timeline-label .name")).to_have_text(["Clean", "Export", "Import", "Train"])
    assert anonymous_page.locator(".timeline-body [href]").count() == 0
    put("New")
    expect(anonymous_page.locator(".timeline-label .name").filter(has_text="New")).to_be_visible()


def test_pages_of_a_shared_group_lead_to_each_other(server, put, group, anonymous_page):
    put("A")
    anonymous_page.goto(f"{server.background.url}/{server.create_share(group=group)}")
    anonymous_page.get_by_role("button", name="Today").first.click()
    expect(anonymous_page.locator(".timeline-label .name")).to_have_text("A")
    anonymous_page.get_by_role("button", name="Board").click()
    expect(anonymous_page.locator("#bars")).to_contain_text("A")


def test_share_of_an_item_has_no_timeline(server, put, group, anonymous_page):
    put("A")
    reply = anonymous_page.request.get(f"{server.background.url}/{server.create_share(item=f'{group}/A')}/today")
    assert reply.status == 404
