"""A long board: only the visible rows have nodes, and the reader keeps the place and the focus."""

from __future__ import annotations

import time
from itertools import pairwise

import pytest

from progressbar_tracker.server.models import rfc3339
from tests.support.waiting import wait_until

pytest.importorskip("playwright.sync_api", reason="install playwright to test the pages in a browser")

from playwright.sync_api import expect

from .test_board import find_row, visible_ids, wait_for_stream
from .test_item_times import SHOW_ITEMS, make_items

MAX_NODE_COUNT = 5000
ITEM_COUNT = 10_000
WIDE_VIEWPORT = {"width": 1440, "height": 900}


# Creates the items in the page: to send them there would take seconds.
SHOW_MANY = """async ([count, time, base]) => {
    const { handleMessage } = await import(document.querySelector("script[src$='/board.js']").src);
    const items = Array.from({ length: count }, (_, n) => (
        { ...base, id: `i${n}`, title: `Job ${n}`, weight: -n, group: `group ${Math.floor(n / 2500)}` }));
    handleMessage({ type: "snapshot", time, items });
}"""


def open_long_board(site, visit, count=ITEM_COUNT, **fields):
    """Open a board of items `i0`, `i1`, ... that receives no messages of its own; return the page and `i0`."""
    base = make_items(site, time.time())["healthy"] | fields
    page = visit()
    page.bring_to_front()
    page.set_viewport_size(WIDE_VIEWPORT)
    wait_for_stream(page)
    page.evaluate("dispatchEvent(new PageTransitionEvent('pagehide'))")
    page.evaluate(SHOW_MANY, [count, rfc3339(time.time()), base])
    return page, {**base, "id": "i0", "title": "Job 0", "weight": 0, "group": "group 0"}


def show_items(page, items, gone=()):
    """Show changes as if they came with the stream."""
    script = SHOW_ITEMS.replace("gone: []", f"gone: {list(gone)}")
    page.evaluate(script, ["change", rfc3339(time.time()), items])


def remove_items(page, *ids):
    show_items(page, [], gone=ids)


@pytest.fixture
def long_board(server, visit):
    return open_long_board(server, visit, 3000)


def count_nodes(page):
    return page.evaluate("document.querySelectorAll('*').length")


def top_of(page, item_id):
    return find_row(page, item_id).evaluate("row => row.getBoundingClientRect().top")


def scroll(page, pixels):
    page.evaluate(
        """(y) => new Promise((done) => {
            let frames = 0;
            const isCovered = () => {
                const { top, bottom } = document.getElementById("board").getBoundingClientRect();
                const nodes = document.querySelectorAll("#board > :not(.pinned)");
                const boxes = Array.from(nodes, (node) => node.getBoundingClientRect());
                return boxes.length > 0 && boxes[0].top <= Math.max(top, 0) + 1 &&
                    boxes.at(-1).bottom >= Math.min(bottom, innerHeight) - 1;
            };
            const check = () => isCovered() || ++frames > 100 ? setTimeout(done) : requestAnimationFrame(check);
            scrollTo(0, y);
            requestAnimationFrame(check);
        })""",
        pixels,
    )


def focus_title(page, item_id):
    find_row(page, item_id).locator(".title").evaluate("link => link.focus({ preventScroll: true })")


def test_long_board_has_few_nodes_wherever_it_is(server, visit):
    page, _ = open_long_board(server, visit)
    assert count_nodes(page) <= MAX_NODE_COUNT
    height = page.evaluate("document.documentElement.scrollHeight")
    assert height > ITEM_COUNT * 40
    for part in (0.3, 0.7, 1):
        scroll(page, height * part)
        assert count_nodes(page) <= MAX_NODE_COUNT
        assert len(visible_ids(page)) >= 18
    expect(find_row(page, f"i{ITEM_COUNT - 1}")).to_be_in_viewport()
    assert visible_ids(page)[-1] == f"i{ITEM_COUNT - 1}"


def test_rows_on_screen_follow_the_order_while_scrolling(long_board):
    page, _ = long_board
    for pixels in (3000, 100_000, 97_000, 20_000):
        scroll(page, pixels)
        numbers = [int(item_id[1:]) for item_id in visible_ids(page)]
        assert numbers == list(range(numbers[0], numbers[-1] + 1))
        boxes = page.locator("#board > *").evaluate_all(
            "nodes => nodes.map((node) => [node.getBoundingClientRect().top, node.getBoundingClientRect().bottom])"
        )
        assert all(abs(below[0] - above[1]) < 1 for above, below in pairwise(boxes))
        assert boxes[0][0] <= 0
        assert boxes[-1][1] >= WIDE_VIEWPORT["height"]


def test_rows_have_positions_for_screen_readers(long_board):
    page, _ = long_board
    scroll(page, 100_000)
    rows = page.locator("#board > [role=listitem]")
    positions = rows.evaluate_all("nodes => nodes.map((node) => Number(node.getAttribute('aria-posinset')))")
    assert positions == list(range(positions[0], positions[0] + len(positions)))
    assert positions[0] > 2000
    expect(rows.first).to_have_attribute("aria-setsize", "3002")  # with the headings
    expect(page.locator("#board")).to_have_attribute("role", "list")


def test_first_visible_row_stays_when_rows_above_change(long_board):
    page, item = long_board
    scroll(page, 50_000)
    first = next(item_id for item_id in visible_ids(page) if top_of(page, item_id) >= 0)
    before = top_of(page, first)
    new = [{**item, "id": f"new-{n}", "weight": 9} for n in range(100)]
    show_items(page, new)
    assert abs(top_of(page, first) - before) < 1
    remove_items(page, *(f"new-{n}" for n in range(50)))
    assert abs(top_of(page, first) - before) < 1
    index = int(first[1:])
    remove_items(page, first)  # the next row takes its place
    assert abs(top_of(page, f"i{index + 1}") - before) < 1


def test_new_rows_appear_at_the_top_of_the_page(long_board):
    page, item = long_board
    show_items(page, [{**item, "id": "new", "weight": 9}])
    expect(find_row(page, "new")).to_be_in_viewport()
    assert page.evaluate("scrollY") == 0


def test_focus_stays_when_its_row_moves(long_board):
    page, item = long_board
    focus_title(page, "i5")
    show_items(page, [{**item, "id": "i5", "weight": 9}])
    wait_until(lambda: visible_ids(page)[0] == "i5")
    expect(find_row(page, "i5").locator(".title")).to_be_focused()


def test_focused_row_far_away_keeps_the_focus(long_board):
    page, _ = long_board
    focus_title(page, "i5")
    scroll(page, 110_000)
    expect(find_row(page, "i5").locator(".title")).to_be_focused()
    expect(find_row(page, "i5")).not_to_be_in_viewport()
    assert visible_ids(page)[:3] == ["i4", "i5", "i6"]  # the neighbours, for Tab
    for _ in ("bell", "menu", "next title"):
        page.keyboard.press("Tab")
    expect(find_row(page, "i6").locator(".title")).to_be_focused()
    expect(find_row(page, "i6")).to_be_in_viewport()


def test_focus_of_a_row_that_is_gone_moves_to_the_next(long_board):
    page, _ = long_board
    focus_title(page, "i5")
    remove_items(page, "i5")
    expect(find_row(page, "i6").locator(".title")).to_be_focused()


def test_long_board_is_searched_by_title_and_group(server, visit):
    page, _ = open_long_board(server, visit)
    scroll(page, 100_000)
    page.get_by_label("Search").fill("job 77")
    wait_until(lambda: visible_ids(page)[:3] == ["i77", "i770", "i771"])
    expect(page.locator("#board .counts").first).to_have_text("11 running")
    page.get_by_label("Search").fill("group 3")
    expect(page.locator("#board .counts").first).to_have_text("2,500 running")
    assert count_nodes(page) <= MAX_NODE_COUNT


def test_opened_error_is_measured_and_scrolled_over(server, visit):
    error = "\n".join(f"line {n}" for n in range(30))
    page, _ = open_long_board(server, visit, 200, status="failed", error=error)
    find_row(page, "i1").locator(".reason").click()
    box = page.locator(".error-entry").bounding_box()
    assert abs(top_of(page, "i2") - (box["y"] + box["height"])) < 1
    total = page.evaluate("document.getElementById('board').getBoundingClientRect().height")
    page.evaluate("document.activeElement.blur()")
    scroll(page, 6000)
    expect(page.locator(".error-entry")).to_have_count(0)
    assert abs(page.evaluate("document.getElementById('board').getBoundingClientRect().height") - total) < 1


# The way back


def describe_place(page):
    """Return what a failure needs to be explained."""
    return page.evaluate(
        """() => JSON.stringify([scrollY, document.documentElement.scrollHeight, innerWidth, innerHeight,
            performance.getEntriesByType("navigation")[0].type, sessionStorage.getItem("progress-places"),
            document.querySelectorAll("#board .item").length, location.href])"""
    )


def wait_for_place(page, pixels):
    """Wait until the board is live and where it was left; return the page."""
    wait_for_stream(page)
    try:
        wait_until(lambda: abs(page.evaluate("scrollY") - pixels) < 1)
    except TimeoutError:
        pytest.fail(describe_place(page))
    return page


def put_jobs(site, count):
    site.batch([{"op": "put", "id": f"i{n}", "title": f"Job {n}"} for n in range(count)])


def end_run(site, item_id):
    site.put(item_id, run_id="r", status="succeeded")
    site.delete(item_id)


def wait_for_rows(page, count):
    expect(page.locator("#board .item").first).to_have_attribute("aria-setsize", str(count))


def open_job(page, number):
    # Not by the pointer: Playwright scrolls to a row if something covers it for a moment, and scrolling is tested here.
    find_row(page, f"i{number}").locator(".title").evaluate("(node) => node.click()")
    expect(page.locator("h1")).to_have_text(f"Job {number}")


def go_back(page):
    page.go_back(wait_until="commit")


@pytest.fixture
def left_board(server, unshared_page):
    """A board of 100 items, scrolled to 1500 pixels and left for an item."""
    put_jobs(server, 100)
    unshared_page.goto(server.background.url)
    wait_for_stream(unshared_page)
    scroll(unshared_page, 1500)
    open_job(unshared_page, 40)
    return unshared_page


def test_way_back_leads_to_the_former_place(server, visit):
    put_jobs(server, 100)
    page = wait_for_stream(visit())
    wait_for_rows(page, 100)
    scroll(page, 1500)
    before = top_of(page, "i40")
    open_job(page, 40)
    go_back(page)
    wait_for_place(page, 1500)
    assert abs(top_of(page, "i40") - before) < 2
    page.reload()
    wait_for_place(page, 1500)
    assert abs(top_of(page, "i40") - before) < 2
    page.goto(server.background.url)
    wait_for_place(page, 0)


def test_way_back_to_a_list_that_is_still_short_goes_on(server, unshared_page):
    """A list from before a change: the stream resumes after it, and brings the change."""
    page, short = unshared_page, []
    put_jobs(server, 10)
    page.route("**/api/v1/items?*", lambda route: route.fulfill(response=short[0]))
    short.append(page.context.request.get(f"{server.background.url}/api/v1/items?limit=10000"))
    put_jobs(server, 100)
    page.goto(server.background.url)
    wait_for_rows(page, 100)
    scroll(page, 1500)
    open_job(page, 40)
    go_back(page)
    wait_for_rows(page, 100)
    wait_for_place(page, 1500)
    expect(find_row(page, "i40")).to_be_in_viewport()


# Holds the recent runs of a page until `release()`, if it is that of a way back.
HOLD_RUNS = """(() => {
    const send = window.fetch;
    const released = new Promise((resolve) => { window.release = resolve; });
    if (performance.getEntriesByType("navigation")[0].type !== "back_forward") return;
    const isHeld = (url) => String(url).includes("/history");
    window.fetch = (url, options) => isHeld(url) ? released.then(() => send(url)) : send(url, options);
})()"""


@pytest.fixture
def board_without_runs(server, visit):
    """A board that was left at its end, and to which the reader has come back; the recent runs are missing yet."""
    end_run(server, "ended")
    put_jobs(server, 100)
    page = wait_for_stream(visit())
    page.locator("#recent").wait_for()
    page.add_init_script(HOLD_RUNS)
    scroll(page, 100_000)
    before = page.evaluate("scrollY")
    open_job(page, 98)
    go_back(page)
    wait_for_stream(page)
    assert page.evaluate("scrollY") < before - 50
    return page, before


def release_runs(page):
    page.evaluate("release()")
    page.locator("#recent").wait_for()


def test_way_back_to_recent_runs_waits_for_them(board_without_runs):
    page, before = board_without_runs
    release_runs(page)
    wait_for_place(page, before)


def test_way_back_leaves_the_page_to_the_reader(board_without_runs):
    page, _ = board_without_runs
    scroll(page, 500)
    release_runs(page)
    wait_for_place(page, 500)


def test_page_left_before_it_has_rows_keeps_the_place(left_board):
    page, held = left_board, []
    page.route("**/api/v1/items?*", lambda route: held.append(route))
    with page.expect_request("**/api/v1/items?*"):
        go_back(page)
    with page.expect_request("**/api/v1/items?*"):
        page.reload()
    page.unroute_all()
    page.reload()
    wait_for_place(page, 1500)


def test_way_back_over_two_boards_leads_to_both_places(server, left_board):
    page = left_board
    page.goto(f"{server.background.url}/?q=job")
    wait_for_stream(page)
    scroll(page, 700)
    open_job(page, 20)
    go_back(page)
    wait_for_place(page, 700)
    go_back(page)
    expect(page.locator("h1")).to_have_text("Job 40")
    go_back(page)
    wait_for_place(page, 1500)
