"""The board: its rows and groups, its filter and order, dismissing, and the first key."""

from __future__ import annotations

import re

import pytest

from progressbar_tracker import ProgressBar

pytest.importorskip("playwright.sync_api", reason="install playwright to test the pages in a browser")

from playwright.sync_api import expect


def find_row(page, item_id):
    return page.locator(f'#board .item[data-id="{item_id}"]')


def visible_ids(page):
    return page.locator("#board .item").evaluate_all("nodes => nodes.map((node) => node.dataset.id)")


def wait_for_stream(page):
    """Wait until the stream has taken over from the first paint."""
    expect(page.locator("html")).to_have_attribute("data-live", "")
    return page


def test_board_change_is_shown_without_reload(server, visit):
    server.put("a", title="Import", total=2000, completed=500, unit="files", run_id="r")
    page = wait_for_stream(visit())
    expect(find_row(page, "a").locator(".percent")).to_have_text("25 %")
    server.patch("a", completed=1000, description="half of them")
    expect(find_row(page, "a").locator(".percent")).to_have_text("50 %")
    expect(find_row(page, "a").locator(".count")).to_have_text("1,000 / 2,000 files")
    expect(find_row(page, "a").locator(".description")).to_have_text("half of them")
    assert find_row(page, "a").locator("progress").evaluate("bar => bar.value") == 0.5
    expect(page).to_have_title("50 % - 1 running")
    assert page.locator("link[rel=icon]").get_attribute("href").startswith("data:image/svg+xml,")


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


def test_board_without_scripts_shows_and_filters_items(server, visit):
    server.put("a", title="Import", total=4, completed=1, group="etl")
    server.put("b", title="Export", status="failed", error="OSError: gone", value=0.5)
    page = visit(java_script_enabled=False)
    expect(find_row(page, "a")).to_contain_text("25 %")
    expect(find_row(page, "b")).to_contain_text("OSError: gone")
    expect(page.locator("#summary")).to_have_text("1 running, 1 failed")
    page.get_by_role("searchbox").fill("exp")
    page.get_by_role("button", name="Show").click()
    assert visible_ids(page) == ["b"]
    assert "q=exp" in page.url


def test_silent_item_is_shown_as_stalled(server, visit):
    server.put("a", title="Import", heartbeat_timeout=0.2)
    page = wait_for_stream(visit())
    expect(find_row(page, "a").locator(".state")).to_contain_text("stalled")
    expect(find_row(page, "a").locator(".last-heard")).to_have_text(re.compile(r"last heard from \d+ s ago"))
    server.patch("a", heartbeat_timeout=60, value=0.1)
    expect(find_row(page, "a").locator(".state")).to_contain_text("running")
    expect(find_row(page, "a").locator(".last-heard")).to_be_empty()


def test_error_details_open_to_full_text(server, visit):
    server.put("a", status="failed", error="ValueError: bad row\n  in line 7 of the table")
    page = wait_for_stream(visit())
    failure = find_row(page, "a").locator(".failure")
    expect(failure.locator("p")).to_be_hidden()
    failure.locator("summary").click()
    expect(failure.locator("p")).to_contain_text("in line 7 of the table")


def test_rate_sparkline_is_drawn_during_run(server, visit):
    server.put("a", total=1000, completed=0, run_id="r")
    page = wait_for_stream(visit())
    for n in range(1, 5):
        server.patch("a", completed=n * 10)
        expect(find_row(page, "a").locator(".count")).to_contain_text(f"{n * 10} / 1,000")
    expect(find_row(page, "a").locator(".spark polyline")).to_have_attribute("points", re.compile(r"\d"))


def test_instants_on_hover_are_exact_and_in_local_zone(server, visit):
    server.put("a")
    page = wait_for_stream(visit(timezone_id="Asia/Tokyo", locale="en-GB"))
    expect(find_row(page, "a").locator("[data-part=age]")).to_have_attribute(
        "title", re.compile("started .*(GMT.9|JST)")
    )


def test_group_is_summarized_and_stays_folded(server, visit):
    server.put("a", group="etl", value=0.2)
    server.put("b", group="etl", value=0.4)
    server.put("c", group="etl", status="failed")
    server.put("d")
    page = wait_for_stream(visit())
    group = page.locator('.group[data-group="etl"]')
    expect(group.locator("> summary")).to_contain_text("2 running, 1 failed")
    expect(group.locator("> summary .percent")).to_have_text("30 %")
    expect(find_row(page, "a")).to_be_visible()
    group.locator("> summary").click()
    expect(find_row(page, "a")).to_be_hidden()
    expect(find_row(page, "d")).to_be_visible()
    page.reload()
    wait_for_stream(page)
    expect(find_row(page, "a")).to_be_hidden()
    server.patch("a", value=0.6)
    expect(group.locator("> summary .percent")).to_have_text("50 %")
    group.locator("> summary").click()
    expect(find_row(page, "a")).to_be_visible()


def test_children_are_below_parents_and_cycles_are_flat(server, visit):
    server.put("a", weight=1)
    server.put("b", weight=2)
    server.put("a-1", parent="a", weight=9)
    server.put("a-1-1", parent="a-1")
    server.put("x", parent="y")
    server.put("y", parent="x")
    server.put("z", parent="z")
    page = wait_for_stream(visit())
    assert visible_ids(page) == ["b", "a", "a-1", "a-1-1", "x", "y", "z"]
    assert find_row(page, "a-1-1").get_attribute("class") == "item live running child depth-2"
    server.patch("a-1", parent="b")
    expect(page.locator("#board .item").nth(1)).to_have_attribute("data-id", "a-1")
    assert visible_ids(page) == ["b", "a-1", "a-1-1", "a", "x", "y", "z"]


def test_search_status_and_order_are_in_the_url(server, visit):
    for n, title in enumerate(["Export of c", "Import of b", "Import of a"]):
        server.put(f"i{n}", title=title, value=n / 10, status="failed" if n == 1 else "running")
    page = wait_for_stream(visit())
    assert visible_ids(page) == ["i0", "i1", "i2"]
    page.get_by_label("Order").select_option("title")
    page.get_by_label("Search").fill("import")
    page.wait_for_url("**/?q=import&sort=title")
    assert visible_ids(page) == ["i2", "i1"]
    page.get_by_label("Status").select_option("failed")
    page.wait_for_url("**/?q=import&status=failed&sort=title")
    assert visible_ids(page) == ["i1"]
    page.reload()
    wait_for_stream(page)
    assert visible_ids(page) == ["i1"]
    assert page.get_by_label("Search").input_value() == "import"
    page.get_by_label("Search").fill("nothing of the kind")
    expect(page.locator("#no-match")).to_be_visible()
    page.get_by_role("link", name="Show everything").click()
    wait_for_stream(page)
    assert visible_ids(page) == ["i0", "i1", "i2"]


def test_first_paint_and_script_agree_on_order(server, visit):
    for n in range(12):
        server.put(f"i{n}", title=f"Job {'nebulous'[n % 8]}", value=n * 7 % 12 / 12, weight=n % 3, group=f"g{n % 2}",
                 status=("running", "failed", "succeeded", "stopped")[n * 5 % 4], parent=f"i{n * 3 % 12}")  # fmt: skip
    page = wait_for_stream(visit())
    for sort in ("", "progress", "left", "newest", "title", "status"):
        painted_ids = re.findall(r'class="item [^"]*" data-id="(i\d+)"', server.get_page(f"/?sort={sort}"))
        assert len(painted_ids) == 12
        page.get_by_label("Order").select_option(sort)
        assert painted_ids == visible_ids(page), sort


def test_first_paint_and_script_agree_on_texts(server, visit):
    numbers = [(0, 5, "B"), (9_999, 10_000, "B"), (123_456, None, "B"), (47_999_999_999, 48_000_000_000, "B"),
               (0.29, 1, "GB"), (1_281_167, 10**15, "rows"), (2.5, None, ""), (0, 0, "it"), (3, 0.0, "it"),
               (3, -1, "it"), (2**53 - 1, 2**53, "it"), (sum([0.1] * 10), 1, ""), (-0.0, 7, ""),
               (57, 100, "it")]  # fmt: skip
    for n, (completed, total, unit) in enumerate(numbers):
        server.put(f"i{n}", completed=completed, total=total, unit=unit)
    rows = server.get_page("/").partition('<ul class="items">')[2]
    painted_texts = re.findall(r'data-part="(?:count|percent)">([^<]*)<', rows)[: 2 * len(numbers)]
    assert painted_texts[:4] == ["0 %", "0 / 5 B", "99 %", "9.9 / 10.0 kB"]
    page = wait_for_stream(visit())
    live_texts = page.locator("#board .item").locator("[data-part=percent], [data-part=count]").all_text_contents()
    assert live_texts == painted_texts


def test_rows_that_overtake_are_reordered_after_a_delay(server, visit):
    server.put("a", value=0.5)
    server.put("b", value=0.4)
    page = visit("?sort=progress")
    page.clock.install()
    wait_for_stream(page)
    server.patch("b", value=0.6)
    expect(find_row(page, "b").locator(".percent")).to_have_text("60 %")
    page.clock.run_for(5500)
    assert visible_ids(page) == ["b", "a"]


def test_only_changed_rows_are_touched(server, visit):
    for n in range(30):
        server.put(f"i{n}", value=0.1)
    page = wait_for_stream(visit())
    page.evaluate("""() => {
        window.touched = new Set();
        new MutationObserver((records) => {
            for (const { target, type } of records) {
                const row = (target.nodeType === 1 ? target : target.parentElement).closest(".item");
                if (row !== null && !target.dataset?.part?.match(/age/)) window.touched.add(row.dataset.id);
            }
        }).observe(document.getElementById("board"), { subtree: true, childList: true, attributes: true });
    }""")
    server.batch([{"op": "patch", "id": "i3", "value": 0.5}, {"op": "patch", "id": "i7", "value": 0.6}])
    expect(find_row(page, "i7").locator(".percent")).to_have_text("60 %")
    assert page.evaluate("[...window.touched].sort()") == ["i3", "i7"]


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
    page.clock.run_for(6500)
    expect(page.locator("#runs .run").first).to_contain_text("Export")
    expect(page.locator("#undo")).to_be_hidden()
    assert server.list_items() == ["a", "c"]


def test_dismissed_item_is_deleted_when_the_page_is_left(server, visit):
    server.put("a", title="Import", status="succeeded", value=1)
    page = wait_for_stream(visit())
    page.get_by_role("button", name="Dismiss Import").click()
    page.goto("about:blank")
    other = wait_for_stream(visit())
    expect(find_row(other, "a")).to_have_count(0)
    assert server.list_items() == []


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
