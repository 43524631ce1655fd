"""The layout of the board: widths, densities, forced colours, print, and right-to-left text."""

from __future__ import annotations

import time

import pytest

pytest.importorskip("playwright.sync_api", reason="install playwright to test the pages in a browser")

from playwright.sync_api import expect

from .test_board import find_row, wait_for_stream
from .test_item_times import make_estimate, make_items, show
from .test_long_board import WIDE_VIEWPORT, open_long_board

READ_FILLS = """() => Array.from(document.querySelectorAll("#board .meter"), (meter) => {
    const [bar, fill] = [getComputedStyle(meter), getComputedStyle(meter.firstElementChild)];
    const image = fill.backgroundImage === "none" ? "" : fill.backgroundImage;
    return [bar.backgroundColor, image + fill.backgroundColor, meter.getBoundingClientRect().height];
})"""


def show_each_state(site, page, size):
    now = time.time()
    page.set_viewport_size(size)
    wait_for_stream(page)
    items = [{**item, "description": "step 7 of 9"} for item in make_items(site, now).values()]
    show(page, items, now)
    return page


def test_title_has_a_third_of_a_wide_window(server, visit):
    page = show_each_state(server, visit(), WIDE_VIEWPORT)
    for width in (1360, 1440, 1920):
        page.set_viewport_size({"width": width, "height": 900})
        names = page.locator("#board .item .name").evaluate_all("nodes => nodes.map((node) => node.clientWidth)")
        assert min(names) >= 0.35 * width, width


def test_title_on_a_phone_keeps_most_of_its_line(server, visit):
    page = show_each_state(server, visit(), {"width": 390, "height": 844})
    titles = page.locator("#board .item .title").evaluate_all("nodes => nodes.map((node) => node.clientWidth)")
    assert min(titles) >= 0.25 * 390  # beside the longest finish, which is on another day in the afternoon
    assert find_row(page, "healthy").bounding_box()["height"] == 64


def test_row_with_a_long_finish_keeps_two_lines(server, visit):
    now = time.time()
    page = wait_for_stream(visit())
    page.set_viewport_size({"width": 390, "height": 844})
    items = {item_id: item | make_estimate(now, 1570) for item_id, item in make_items(server, now).items()}
    show(page, list(items.values()), now)
    expect(find_row(page, "slower").locator(".finish-text")).to_contain_text(", ")
    tops = page.locator("#board .item").evaluate_all(
        "rows => rows.map((row) => [row.querySelector('.title'), row.querySelector('.finish')]"
        ".map((node) => node.getBoundingClientRect().bottom))"
    )
    assert all(abs(title - finish) < 8 for title, finish in tops), tops


def test_columns_without_values_take_no_room(server, visit):
    server.put("a", value=0.5)
    page = wait_for_stream(visit())
    page.set_viewport_size({"width": 1700, "height": 900})
    row = find_row(page, "a")
    expect(row.locator(".count")).to_be_hidden()
    expect(row.locator(".rate")).to_be_hidden()
    before = row.locator(".name").evaluate("node => node.clientWidth")
    server.put("b", completed=5, total=9, unit="files")
    expect(find_row(page, "b").locator(".count")).to_be_visible()
    assert row.locator(".name").evaluate("node => node.clientWidth") < before


def test_columns_are_aligned_in_all_rows(server, visit):
    page = show_each_state(server, visit(), {"width": 1600, "height": 1200})
    for part in ("meter", "finish", "percent", "count"):
        edges = page.locator(f"#board .item .{part}").evaluate_all(
            "nodes => nodes.map((node) => Math.round(node.getBoundingClientRect().right))"
        )
        assert len(set(edges)) == 1, (part, edges)


def test_row_height_follows_the_density(server, visit):
    server.put("a", value=0.5)
    page = visit()
    page.set_viewport_size({"width": 1300, "height": 800})
    wait_for_stream(page)
    expect(find_row(page, "a")).to_have_css("height", "44px")
    page.locator("#density").click()
    expect(find_row(page, "a")).to_have_css("height", "32px")
    page.locator("#density").click()  # the browser remembers it


def test_bars_in_forced_colours_differ_from_their_background(server, visit):
    page = show_each_state(server, visit(forced_colors="active"), {"width": 1440, "height": 1200})
    fills = page.evaluate(READ_FILLS)
    assert len(fills) >= 15
    for background, fill, height in fills:
        assert background == "rgb(255, 255, 255)"
        assert "rgb(0, 0, 0)" in fill
        assert height >= 6


def test_icons_in_forced_colours_have_the_colour_of_text(server, visit):
    page = show_each_state(server, visit(forced_colors="active"), {"width": 1440, "height": 1200})
    # In one step: a list that is drawn again meanwhile has detached icons, which have no colour.
    read_colours = "Array.from(document.querySelectorAll('.state-icon'), (icon) => getComputedStyle(icon).color)"
    assert set(page.evaluate(read_colours)) == {"rgb(0, 0, 0)"}


def test_printed_board_has_all_rows_and_dark_text(server, visit):
    page, _ = open_long_board(server, visit, 300)
    page.emulate_media(color_scheme="dark", media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    rows = page.locator("#board .item")
    assert rows.count() == 300
    assert page.evaluate("getComputedStyle(document.body).color") == "rgb(27, 36, 48)"
    meter = rows.first.locator(".meter")
    assert meter.evaluate("node => getComputedStyle(node).printColorAdjust") == "exact"
    assert meter.evaluate("node => getComputedStyle(node.firstElementChild).printColorAdjust") == "exact"
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    page.emulate_media(color_scheme="light", media="screen")
    assert rows.count() < 100


def test_bar_grows_from_the_start_of_the_line(server, visit):
    server.put("a", value=0.25)
    page = wait_for_stream(visit())
    edges = """row => {
        const [bar, fill] = [".meter", ".fill"].map((name) => row.querySelector(name).getBoundingClientRect());
        return [(fill.right - bar.left) / bar.width, (bar.right - fill.left) / bar.width];
    }"""
    from_left, _ = find_row(page, "a").evaluate(edges)
    assert abs(from_left - 0.25) < 0.02
    page.evaluate("document.documentElement.dir = 'rtl'")
    _, from_right = find_row(page, "a").evaluate(edges)
    assert abs(from_right - 0.25) < 0.02


# Both steps are drawn in one task, so that neither the time of a frame nor that of the movement matters.
RECYCLE_SCRIPT = """async ([time, item]) => {
    const { handleMessage } = await import(document.querySelector("script[src$='/board.js']").src);
    const row = document.querySelector('#board .item[data-id="i0"]');
    const describe = () => {
        const fill = row.querySelector(".fill");
        const percent = row.querySelector(".percent").textContent;
        return [percent, fill.classList.contains("moving"), fill.getAnimations().length];
    };
    const before = describe();
    handleMessage({ type: "change", time, items: [item], gone: [], ended: [] });
    const changed = describe();
    scrollTo({ top: document.documentElement.scrollHeight / 2, behavior: "instant" });
    dispatchEvent(new Event("scroll"));
    return { id: row.dataset.id, isShown: row.isConnected, states: [before, changed, describe()] };
}"""


def test_recycled_row_does_not_animate_to_the_next_item(server, visit):
    page, item = open_long_board(server, visit, 300)
    page.emulate_media(reduced_motion="no-preference")
    row = page.evaluate(RECYCLE_SCRIPT, [item["updated_at"], {**item, "value": 0.9, "completed": 90}])
    assert row["isShown"]
    assert row["id"] != "i0"
    assert row["states"] == [["40 %", False, 0], ["90 %", True, 1], ["40 %", False, 0]]


def test_group_without_running_items_counts_its_problems_only(visit, server):
    server.put("import", group="nightly", total=5, completed=3, status="failed", error="no")
    page = visit()
    expect(page.locator(".group[data-group=nightly] .counts")).to_have_text("1 failed")


def test_narrow_group_shows_its_problems_first(visit, server):
    server.put("import", group="nightly", total=5, completed=3, status="failed", error="no")
    server.put("export", group="nightly", total=5, completed=3)
    page = visit(size={"width": 390, "height": 800})
    counts = page.locator(".group[data-group=nightly] .counts")
    expect(counts.locator(".failed")).to_be_visible()
    expect(counts.locator(".running")).to_be_hidden()


def test_ended_run_has_its_icon_beside_a_long_title(visit, server):
    server.put("job", title="sh -c 'echo backup of /home; sleep 2; echo done; true'", total=1, completed=1,
               status="succeeded")  # fmt: skip
    server.delete("job")
    page = visit(size={"width": 390, "height": 800})
    run = page.locator("#recent .run").first
    expect(run).to_contain_text("sleep 2")
    icon, title = (run.locator(selector).bounding_box() for selector in (".state-icon", ".title"))
    assert icon["y"] < title["y"] + title["height"]
    assert title["y"] < icon["y"] + icon["height"]
    assert icon["x"] + icon["width"] <= title["x"]
