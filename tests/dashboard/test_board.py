"""The board: its rows and groups, its filter and order, dismissing, and the first key."""

from __future__ import annotations

import re

import pytest

from progressbar_tracker import ProgressBar
from tests.support.waiting import wait_until

pytest.importorskip("playwright.sync_api", reason="install playwright to test the pages in a browser")

from playwright.sync_api import expect


def find_row(page, item_id):
    return page.locator(f'#board .item[data-id="{item_id}"]')


def find_group(page, group):
    return page.locator(f'#board .group[data-group="{group}"]')


def visible_ids(page):
    return page.locator("#board .item").evaluate_all("nodes => nodes.map((node) => node.dataset.id)")


def expect_ids(page, *item_ids):
    """Wait until the board shows these items in this order."""
    expect(page.locator("#board .item")).to_have_count(len(item_ids))
    for n, item_id in enumerate(item_ids):
        expect(page.locator("#board .item").nth(n)).to_have_attribute("data-id", item_id)


def wait_for_stream(page):
    """Wait until the board shows the items of the stream."""
    expect(page.locator("html")).to_have_attribute("data-live", "")
    return page


def expect_state(row, state):
    expect(row.locator(".state-icon")).to_have_attribute("aria-label", state)


def test_board_change_is_shown_without_reload(server, visit):
    server.put("a", title="Import", total=2000, completed=500, unit="files", run_id="r")
    page = wait_for_stream(visit())
    expect(find_row(page, "a").locator(".percent")).to_have_text("25 %")
    server.patch("a", completed=1000, description="half of them")
    expect(find_row(page, "a").locator(".percent")).to_have_text("50 %")
    expect(find_row(page, "a").locator(".count")).to_have_text("1,000 / 2,000 files")
    expect(find_row(page, "a").locator(".description")).to_have_text("half of them")
    expect(page.get_by_role("progressbar", name="Import")).to_have_attribute("aria-valuenow", "50")
    expect(page).to_have_title("50 % - 1 running")
    expect(page.locator("link[rel=icon]")).to_have_attribute("href", re.compile("^data:image/svg.xml,"))


def test_tracked_loop_appears_ends_and_is_listed_as_ended(server, visit):
    page = wait_for_stream(visit())
    client = ProgressBar(server.background.url, server.key)
    for n in client.track(range(3), id="loop", title="A loop"):
        if n == 1:
            expect(find_row(page, "loop")).to_be_visible()
    client.close()
    expect(find_row(page, "loop")).to_have_count(0)
    ended = page.locator("#runs .run").first
    expect(ended).to_contain_text("A loop")
    expect(ended).to_contain_text("succeeded")
    expect(page.locator("#announcement")).to_have_text("A loop: succeeded")


def test_shell_without_scripts_names_the_other_ways(server):
    server.put("a", title="Import")
    html = server.get_page("/")
    assert re.search(r"<noscript>.*progressbar-tracker ls.*</noscript>", html)
    assert "Import" not in html


def test_silent_item_is_shown_as_stalled(server, visit):
    server.put("a", title="Import", heartbeat_timeout=0.2)
    page = wait_for_stream(visit())
    expect_state(find_row(page, "a"), "stalled")
    expect(find_row(page, "a").locator(".silence")).to_have_text(re.compile(r"last heard from \d+ s ago"))
    server.patch("a", heartbeat_timeout=60, value=0.1)
    expect_state(find_row(page, "a"), "running")
    expect(find_row(page, "a").locator(".silence")).to_be_empty()


def test_row_omits_the_word_running(server, visit):
    server.put("a", title="Import", total=4, completed=1)
    page = wait_for_stream(visit())
    expect_state(find_row(page, "a"), "running")
    assert "running" not in find_row(page, "a").inner_text()


def test_error_button_opens_the_whole_text_below(server, visit):
    server.put("a", status="failed", error="ValueError: bad row\n  in line 7 of the table")
    server.put("b")
    page = wait_for_stream(visit())
    button = find_row(page, "a").get_by_role("button", name="ValueError: bad row")
    expect(button).to_have_attribute("aria-expanded", "false")
    button.click()
    entry = page.locator("#board > .item[data-id=a] + .error-entry")
    expect(entry).to_contain_text("in line 7 of the table")
    expect(entry.locator("pre")).to_be_visible()
    expect(button).to_be_focused()
    assert find_row(page, "b").bounding_box()["y"] >= entry.bounding_box()["y"] + entry.bounding_box()["height"] - 1
    button.click()
    expect(page.locator(".error-entry")).to_have_count(0)


def test_row_hint_has_exact_instants_in_the_local_zone(server, visit):
    server.put("a")
    page = wait_for_stream(visit(timezone_id="Asia/Tokyo", locale="en-GB"))
    expect(find_row(page, "a").locator(".hint")).to_have_text(re.compile("started .*(GMT.9|JST)"))


def test_hint_is_shown_on_hover_and_on_focus(server, visit):
    server.put("a", title="Import")
    page = wait_for_stream(visit())
    hint = find_row(page, "a").locator(".hint")
    expect(hint).to_have_css("clip-path", "inset(50%)")
    clip_path = "node => getComputedStyle(node).clipPath"
    # The page may still be moving the row away from the pointer.
    wait_until(lambda: [find_row(page, "a").locator(".finish-text").hover(), hint.evaluate(clip_path)][-1] == "none")
    page.mouse.move(0, 0)
    expect(hint).to_have_css("clip-path", "inset(50%)")
    page.get_by_label("Order").focus()
    page.keyboard.press("Tab")
    while not page.evaluate("document.activeElement.matches('.title')"):
        page.keyboard.press("Tab")
    expect(hint).to_have_css("clip-path", "none")


def test_group_is_summarized_and_stays_folded(server, visit):
    server.put("a", group="etl", value=0.2)
    server.put("b", group="etl", value=0.4)
    server.put("c", group="etl", status="failed")
    server.put("d")
    page = wait_for_stream(visit())
    group = find_group(page, "etl")
    fold = group.get_by_role("heading", level=2).get_by_role("button", name="etl")
    expect(group.locator(".counts")).to_have_text("2 running, 1 failed")
    expect(group.locator(".percent")).to_have_text("30 %")
    expect(fold).to_have_attribute("aria-expanded", "true")
    expect(find_row(page, "a")).to_be_visible()
    fold.click()
    expect(fold).to_have_attribute("aria-expanded", "false")
    expect(find_row(page, "a")).to_have_count(0)
    expect(find_row(page, "d")).to_be_visible()
    page.reload()
    wait_for_stream(page)
    expect(find_row(page, "a")).to_have_count(0)
    server.patch("a", value=0.6)
    expect(group.locator(".percent")).to_have_text("50 %")
    fold.click()
    expect(find_row(page, "a")).to_be_visible()


def test_search_on_a_quiet_board_counts_the_visible_rows(server, visit):
    for n in range(4):
        server.put(f"import-{n}", group="etl", value=0.2)
        server.put(f"export-{n}", group="etl", value=0.6, status=("running", "failed")[n % 2])
    server.put("other", group="misc")
    page = wait_for_stream(visit())
    group = find_group(page, "etl")
    expect(group.locator(".counts")).to_have_text("6 running, 2 failed")
    page.evaluate("dispatchEvent(new PageTransitionEvent('pagehide'))")  # leaves the stream: no message comes
    page.get_by_label("Search").fill("export")
    expect(group.locator(".counts")).to_have_text("2 running, 2 failed")
    expect(group.locator(".percent")).to_have_text("60 %")
    expect(page.locator("#board .item")).to_have_count(4)
    expect(find_group(page, "misc")).to_have_count(0)


def test_group_headers_count_each_condition(server, visit):
    server.put("late", group="g", deadline="2020-01-01T00:00:00Z")
    server.put("stalled", group="g", heartbeat_timeout=0)
    server.put("stuck", group="g", total=9, completed=1, stuck_after=0.001)
    page = wait_for_stream(visit())
    expect(find_group(page, "g").locator(".counts")).to_have_text("3 running, 1 stuck, 1 stalled, 1 late")


def test_group_link_shows_one_group_and_leads_back(server, visit):
    server.put("a", group="etl")
    server.put("b", group="a & b")
    page = wait_for_stream(visit())
    find_group(page, "a & b").hover()
    find_group(page, "a & b").get_by_role("link", name="Only this group").click()
    page.wait_for_url("**/?group=a+%26+b")
    wait_for_stream(page)
    expect_ids(page, "b")
    expect(page.locator("#scope")).to_contain_text("a & b")
    expect(page.locator("#summary")).to_have_text("1 running")
    page.get_by_label("Order").select_option("title")
    page.wait_for_url("**/?group=a+%26+b&sort=title")
    page.get_by_role("link", name="All groups").click()
    page.wait_for_url("**/?sort=title")
    wait_for_stream(page)
    expect(page.locator("#board .item")).to_have_count(2)


def test_children_are_below_parents_and_cycles_are_flat(server, visit):
    server.put("a", weight=1)
    server.put("b", weight=2)
    server.put("a-1", parent="a", weight=9)
    server.put("a-1-1", parent="a-1")
    server.put("x", parent="y")
    server.put("y", parent="x")
    server.put("z", parent="z")
    page = wait_for_stream(visit())
    expect_ids(page, "b", "a", "a-1", "a-1-1", "x", "y", "z")
    assert "child depth-2" in find_row(page, "a-1-1").get_attribute("class")
    server.patch("a-1", parent="b")
    expect(page.locator("#board .item").nth(1)).to_have_attribute("data-id", "a-1")
    expect_ids(page, "b", "a-1", "a-1-1", "a", "x", "y", "z")


def test_search_status_and_order_are_in_the_url(server, visit):
    for n, title in enumerate(["Export of c", "Import of b", "Import of a"]):
        server.put(f"i{n}", title=title, value=n / 10, status="failed" if n == 1 else "running")
    page = wait_for_stream(visit())
    expect_ids(page, "i0", "i1", "i2")
    page.get_by_label("Order").select_option("title")
    page.get_by_label("Search").fill("import")
    page.wait_for_url("**/?sort=title&q=import")
    expect_ids(page, "i2", "i1")
    page.get_by_label("Status").select_option("failed")
    page.wait_for_url("**/?sort=title&q=import&status=failed")
    expect_ids(page, "i1")
    page.reload()
    wait_for_stream(page)
    expect_ids(page, "i1")
    assert page.get_by_label("Search").input_value() == "import"
    page.get_by_label("Search").fill("nothing of the kind")
    expect(page.locator("#no-match")).to_be_visible()
    page.get_by_role("link", name="Show everything").click()
    wait_for_stream(page)
    expect_ids(page, "i0", "i1", "i2")


SORTED_IDS = {
    "": ["a", "b", "c", "d"],
    "progress": ["a", "d", "c", "b"],
    "newest": ["d", "c", "b", "a"],
    "title": ["d", "b", "c", "a"],
    "status": ["c", "b", "d", "a"],
}


def test_order_of_the_board_follows_its_name(server, visit):
    server.put("a", title="job 10", weight=9, value=1, status="succeeded")
    server.put("b", title="Job 2", weight=5, value=0.2, heartbeat_timeout=0)
    server.put("c", title="job 3", weight=5, value=0.3, status="failed")
    server.put("d", title="Job 1", value=0.4)
    page = wait_for_stream(visit("?sort=title"))
    expect_ids(page, *SORTED_IDS["title"])
    for sort, ids in SORTED_IDS.items():
        page.get_by_label("Order").select_option(sort)
        expect_ids(page, *ids)


def test_filter_shows_the_items_of_a_condition(server, visit):
    server.put("running", value=0.4)
    server.put("late", deadline="2020-01-01T00:00:00Z")
    server.put("stalled", heartbeat_timeout=0)
    server.put("stuck", total=9, completed=1, stuck_after=0.001)
    server.put("failed", status="failed")
    page = wait_for_stream(visit("?sort=title"))
    expect_state(find_row(page, "stuck"), "stuck")
    matching = {status: [status] for status in ("stuck", "stalled", "late", "failed")}
    matching |= {"slower": [], "ended": ["failed"], "running": ["late", "running", "stalled", "stuck"]}
    for status, ids in matching.items():
        page.get_by_label("Status").select_option(status)
        expect_ids(page, *ids)


def test_numbers_are_formatted_by_locale(server, visit):
    server.put("a", total=2_000_000, completed=1_234_567, unit="rows")
    server.put("b", completed=3_000_000_000_000_000, unit="points")
    page = wait_for_stream(visit(locale="de-DE"))
    expect(find_row(page, "a").locator(".count")).to_have_text("1.234.567 / 2.000.000 rows")
    expect(find_row(page, "b").locator(".count")).to_have_text("3000 Bio. points")


def test_counts_are_rounded_down_and_percent_ends_at_100(server, visit):
    numbers = {
        (0, 5, "B"): ("0 %", "0 / 5 B"),
        (9_999, 10_000, "B"): ("99 %", "9.9 / 10.0 kB"),
        (123_456, None, "B"): ("", "123 kB"),
        (47_999_999_999, 48_000_000_000, "B"): ("99 %", "47.9 / 48.0 GB"),
        (0.29, 1, "GB"): ("29 %", "0.29 / 1 GB"),
        (2.5, None, ""): ("", "2.50"),
        (sum([0.1] * 10), 1, ""): ("100 %", "1.00 / 1"),
        (57, 100, "it"): ("57 %", "57 / 100 it"),
    }
    for n, (completed, total, unit) in enumerate(numbers):
        server.put(f"i{n}", completed=completed, total=total, unit=unit)
    page = wait_for_stream(visit())
    rows = [find_row(page, f"i{n}") for n in range(len(numbers))]
    texts = [(row.locator(".percent").text_content(), row.locator(".count").text_content()) for row in rows]
    assert texts == list(numbers.values())


@pytest.mark.usefixtures("clock_profile")
def test_rows_that_overtake_are_reordered_after_a_delay(server, visit):
    server.put("a", value=0.5)
    server.put("b", value=0.4)
    page = visit("?sort=progress")
    page.clock.install()
    wait_for_stream(page)
    page.clock.pause_at(page.evaluate("Date.now()") / 1000 + 60)
    server.patch("b", value=0.6)
    expect(find_row(page, "b").locator(".percent")).to_have_text("60 %")
    expect_ids(page, "a", "b")
    page.clock.run_for(5500)
    expect_ids(page, "b", "a")


def test_only_changed_rows_are_touched(server, visit):
    for n in range(30):
        server.put(f"i{n}", value=0.1, total=10)
    page = wait_for_stream(visit())
    page.evaluate("""() => {
        window.touched = new Set();
        new MutationObserver((records) => {
            for (const { target, type } of records) {
                const element = target.nodeType === 1 ? target : target.parentElement;
                const row = element.closest(".item");
                if (row !== null && element.closest(".finish, .last-runs") === null) window.touched.add(row.dataset.id);
            }
        }).observe(document.getElementById("board"), {
            subtree: true, childList: true, attributes: true, characterData: true,
        });
    }""")
    server.batch([{"op": "patch", "id": "i3", "value": 0.5}, {"op": "patch", "id": "i7", "value": 0.6}])
    expect(find_row(page, "i7").locator(".percent")).to_have_text("60 %")
    assert page.evaluate("[...window.touched].sort()") == ["i3", "i7"]


@pytest.mark.usefixtures("clock_profile")
def test_ended_items_can_be_dismissed_and_restored(server, visit):
    server.put("a", title="Import", status="succeeded", value=1)
    server.put("b", title="Export", status="failed")
    server.put("c", title="Running")
    page = wait_for_stream(visit())
    expect(find_row(page, "c").get_by_role("button", name="Dismiss")).to_have_count(0)
    page.get_by_role("button", name="Dismiss Import").click()
    expect(find_row(page, "a")).to_have_count(0)
    page.get_by_role("button", name="Undo").click()
    expect(find_row(page, "a")).to_be_visible()
    assert server.list_items() == ["a", "b", "c"]
    page.clock.install()
    page.get_by_role("button", name="Dismiss Export").click()
    assert server.list_items() == ["a", "b", "c"]
    page.clock.run_for(60_500)
    expect(page.locator("#runs .run").first).to_contain_text("Export")
    expect(page.locator("#undo")).to_be_hidden()
    assert server.list_items() == ["a", "c"]


def test_dismissed_item_is_deleted_when_the_page_is_left(server, visit):
    server.put("a", title="Import", status="succeeded", value=1)
    page = wait_for_stream(visit())
    page.get_by_role("button", name="Dismiss Import").click()
    page.goto("about:blank")
    wait_until(lambda: server.list_items() == [])
    other = wait_for_stream(visit())
    expect(find_row(other, "a")).to_have_count(0)


def test_new_run_is_not_dismissed_with_the_old_one(server, visit):
    server.put("a", title="Import", status="succeeded", value=1, run_id="1")
    page = wait_for_stream(visit())
    page.get_by_role("button", name="Dismiss Import").click()
    expect(find_row(page, "a")).to_have_count(0)
    server.put("a", title="Import", value=0.3, run_id="2")
    expect(find_row(page, "a").locator(".percent")).to_have_text("30 %")
    page.goto("about:blank")
    assert server.list_items() == ["a"]


def test_empty_board_creates_a_key_and_shows_the_first_bar(server, visit):
    page = wait_for_stream(visit())
    empty = page.locator("#empty")
    expect(empty).to_contain_text(f'configure("{server.background.url}", "your write key")')
    expect(empty).to_contain_text("Waiting for the first update…")
    page.get_by_role("button", name="Make a write key").click()
    field = page.get_by_label("Your write key")
    expect(field).to_be_focused()
    key = field.input_value()
    expect(empty).to_contain_text(f'configure("{server.background.url}", "{key}")')
    assert field.evaluate("field => field.selectionEnd - field.selectionStart") == len(key)
    page.get_by_role("button", name="Copy").click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    client = ProgressBar(server.background.url, key)
    client.create("first", "The first", "it works", 0.3)
    expect(find_row(page, "first")).to_be_visible()
    expect(field).to_be_visible()
    page.get_by_role("button", name="I have saved it").click()
    expect(empty).to_be_hidden()
    client.delete("first")
    client.close()
    expect(empty).to_be_visible()
    assert key not in page.content()


def test_key_without_clipboard_is_copied_by_command(server, visit):
    page = wait_for_stream(visit())
    page.evaluate("Object.defineProperty(navigator, 'clipboard', { value: undefined })")
    page.evaluate(
        "document.execCommand = (name) => { window.commanded = [name, String(getSelection())]; return true; }"
    )
    page.get_by_role("button", name="Make a write key").click()
    expect(page.get_by_label("Your write key")).to_be_visible()
    page.get_by_role("button", name="Copy").click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    assert page.evaluate("window.commanded") == ["copy", page.get_by_label("Your write key").input_value()]


def test_count_of_the_summary_filters_the_board(server, visit):
    server.put("a", value=0.5)
    server.put("b", heartbeat_timeout=0)
    server.put("c", status="failed")
    page = wait_for_stream(visit())
    expect(page.locator("#summary")).to_have_text("2 running, 1 stalled, 1 failed")
    button = page.locator("#summary").get_by_role("button", name="1 stalled")
    button.click()
    page.wait_for_url("**/?status=stalled")
    expect_ids(page, "b")
    expect(page.get_by_label("Status")).to_have_value("stalled")
    expect(button).to_have_attribute("aria-pressed", "true")
    button.click()
    expect(page.get_by_label("Status")).to_have_value("")
    expect(page.locator("#board .item")).to_have_count(3)
