"""The board with what surrounds its rows: attention, dismissals, columns, keys, menus, density and recent runs."""

from __future__ import annotations

import re
import time
from urllib.parse import urlencode

import pytest

from progressbar_tracker.server.models import rfc3339
from tests.support.waiting import wait_until

pytest.importorskip("playwright.sync_api", reason="install playwright to test the pages in a browser")

from playwright.sync_api import expect

from .conftest import APPEARANCE_RULES, find_violations, wait_for_fit
from .test_board import find_row, wait_for_stream


def find_urgent(page, item_id):
    return page.locator(f'#board .attention[data-id="{item_id}"]')


def list_urgent(page):
    return page.locator("#board .attention").evaluate_all("nodes => nodes.map((node) => node.dataset.id)")


def focused_id(page):
    return page.evaluate("document.activeElement.closest('[data-id]')?.dataset.id ?? null")


def expect_focus(page, item_id):
    """Wait until the focus is in the row of an item."""
    expect(page.locator(f'#board [data-id="{item_id}"] :focus')).to_have_count(1)


def forget_hidden(page):
    page.evaluate("localStorage.removeItem('progress-hidden-problems')")


def test_attention_is_listed_above_the_groups(server, visit):
    server.put("fine", title="Fine", group="etl")
    page = wait_for_stream(visit())
    expect(page.locator(".attention-heading")).to_have_count(0)
    server.put("report", title="Report", group="etl", deadline=rfc3339(time.time() - 725))
    expect(find_urgent(page, "report")).to_contain_text(re.compile(r"1\d min late"))
    server.put("export", title="Export", group="etl", status="failed", error="OSError: gone\nfar away")
    expect(find_urgent(page, "export")).to_contain_text("OSError: gone")
    wait_until(lambda: list_urgent(page) == ["export", "report"])
    expect(page.locator(".attention-heading")).to_contain_text("1 failed, 1 late")
    expect(page).to_have_title(re.compile(r"^\(2\) "))
    assert page.locator("#board > *").first.evaluate("node => node.className") == "attention-heading"
    server.delete("export")
    server.patch("report", deadline=None)
    expect(page.locator(".attention-heading")).to_have_count(0)
    expect(page).to_have_title(re.compile("^0 %"))


def test_hidden_attention_returns_with_another_problem(server, visit):
    server.put("a", title="Import", deadline=rfc3339(time.time() - 60), run_id="1")
    page = wait_for_stream(visit())
    page.get_by_role("button", name="Hide Import").click()
    expect(find_urgent(page, "a")).to_have_count(0)
    expect(find_row(page, "a")).to_be_visible()
    expect(page).not_to_have_title(re.compile(r"\("))
    page.get_by_role("button", name="Undo").click()
    expect(find_urgent(page, "a")).to_be_visible()
    page.get_by_role("button", name="Hide all").click()
    expect(find_urgent(page, "a")).to_have_count(0)
    page.reload()
    wait_for_stream(page)
    expect(find_urgent(page, "a")).to_have_count(0)
    server.patch("a", status="failed", run_id="1")
    expect(find_urgent(page, "a")).to_be_visible()
    forget_hidden(page)


def test_problems_hidden_in_one_tab_are_hidden_in_all(server, visit):
    server.put("a", title="Import", status="failed")
    page, other = (wait_for_stream(visit()) for _ in range(2))
    page.get_by_role("button", name="Hide Import").click()
    expect(find_urgent(other, "a")).to_have_count(0)
    page.get_by_role("button", name="Undo").click()
    expect(find_urgent(other, "a")).to_be_visible()


def test_error_of_attention_opens_below_it(server, visit):
    server.put("a", title="Import", status="failed", error="OSError: gone\nfar away")
    page = wait_for_stream(visit())
    find_urgent(page, "a").get_by_role("button", name="OSError: gone").click()
    expect(page.locator(".error-entry")).to_contain_text("far away")
    assert page.locator(".attention + .error-entry").count() == 1


def test_2000_failed_items_need_few_nodes(server, visit):
    for start in range(0, 2000, 500):
        server.batch([{"op": "put", "id": f"i{n}", "status": "failed"} for n in range(start, start + 500)])
    page = wait_for_stream(visit())
    page.get_by_role("button", name="Show 1,995 more").click()
    expect(page.locator(".attention").nth(10)).to_be_visible()
    assert page.locator("#board *").count() < 3000
    page.keyboard.press("End")
    expect(page.locator("#board .item").last).to_be_visible()
    assert page.locator("#board *").count() < 3000
    page.keyboard.press("Home")
    page.get_by_role("button", name="Dismiss 2,000 ended of what").click()
    expect(page.locator("#undo")).to_contain_text("Dismissed 2,000 items.")
    page.get_by_role("button", name="Undo").click()


def test_group_dismisses_its_ended_items_with_undo(server, visit):
    for n in range(3):
        server.put(f"a{n}", group="etl", status="succeeded", value=1)
    server.put("running", group="etl")
    server.put("other", group="ops", status="failed")
    page = wait_for_stream(visit())
    page.get_by_role("button", name="Dismiss 3 ended of etl").click()
    expect(find_row(page, "a0")).to_have_count(0)
    expect(find_row(page, "running")).to_be_visible()
    page.get_by_role("button", name="Undo").click()
    expect(find_row(page, "a0")).to_be_visible()
    page.get_by_role("button", name="Dismiss 3 ended of etl").click()
    page.goto("about:blank")
    wait_until(lambda: server.list_items() == ["running", "other"])


def test_attention_dismisses_its_failed_items(server, visit):
    server.put("a", title="Import", status="failed")
    server.put("b", status="succeeded", value=1)
    page = wait_for_stream(visit())
    page.get_by_role("button", name="Dismiss 1 ended of what needs attention").click()
    expect(page.locator("#undo")).to_contain_text("Dismissed Import.")
    page.goto("about:blank")
    wait_until(lambda: server.list_items() == ["b"])


def test_last_runs_are_columns_that_open_the_item(server, visit):
    for n, status in enumerate(["succeeded", "failed", "succeeded"]):
        server.put("nightly", title="Import", status=status, run_id=f"r{n}")
        server.delete("nightly")
    server.put("nightly", title="Import", run_id="now")
    page = wait_for_stream(visit())
    columns = find_row(page, "nightly").locator(".columns")
    expect(columns).to_have_attribute("aria-label", re.compile("^last 3 runs: 2 succeeded, 1 failed, usually "))
    assert columns.locator("path").evaluate_all("paths => paths.map((path) => path.className.baseVal)") == [
        "succeeded", "failed", "running",
    ]  # fmt: skip
    server.put("nightly", title="Import", run_id="next")
    expect(columns).to_have_attribute("aria-label", re.compile("^last 4 runs: 2 succeeded, 1 failed, 1 stopped"))
    columns.click()
    expect(page.locator("h1")).to_have_text("Import")


def test_keys_move_open_and_dismiss_rows(server, visit):
    server.put("a", title="Import", group="etl", value=0.1, weight=3)
    server.put("b", title="Export", group="etl", status="succeeded", value=1, weight=2, run_id="r")
    server.put("c", title="Backup", group="etl", status="stopped", error="why\nbecause", weight=1)
    page = wait_for_stream(visit())
    page.keyboard.press("j")
    expect(page.locator(".fold")).to_be_focused()
    page.keyboard.press("j")
    expect_focus(page, "a")
    page.keyboard.press("ArrowDown")
    expect_focus(page, "b")
    page.keyboard.press("x")
    expect(find_row(page, "b")).to_have_count(0)
    expect(find_row(page, "c").locator(".title")).to_be_focused()
    page.keyboard.press("u")
    expect(find_row(page, "b")).to_be_visible()
    page.keyboard.press("e")
    expect(page.locator(".error-entry")).to_contain_text("because")
    page.keyboard.press("k")
    expect_focus(page, "b")
    server.patch("a", description="changed", weight=0)
    expect(find_row(page, "a")).to_contain_text("changed")
    assert focused_id(page) == "b"
    page.keyboard.press("Enter")
    expect(page.locator("h1")).to_have_text("Export")


def test_keys_reach_rows_far_below(server, visit):
    server.batch([{"op": "put", "id": f"i{n}", "weight": -n} for n in range(300)])
    page = wait_for_stream(visit())
    page.keyboard.press("j")
    page.keyboard.press("End")
    expect_focus(page, "i299")
    expect(find_row(page, "i299")).to_be_in_viewport()
    page.keyboard.press("k")
    expect_focus(page, "i298")
    page.keyboard.press("Home")
    expect_focus(page, "i0")


def test_keys_do_not_fire_while_typing(server, visit):
    server.put("a", title="jxek?")
    page = wait_for_stream(visit())
    page.keyboard.press("/")
    expect(page.get_by_label("Search")).to_be_focused()
    page.keyboard.type("jxek?")
    expect(page.get_by_label("Search")).to_have_value("jxek?")
    expect(page.get_by_role("dialog")).to_have_count(0)


def test_enter_in_the_search_moves_to_the_first_match(server, visit):
    server.put("a", title="Import", weight=1)
    server.put("b", title="Export")
    page = wait_for_stream(visit())
    page.keyboard.press("/")
    page.keyboard.type("exp")
    expect(find_row(page, "a")).to_have_count(0)
    page.keyboard.press("Enter")
    expect(find_row(page, "b").locator(".title")).to_be_focused()


def test_question_mark_lists_the_keys(server, visit):
    server.put("a")
    page = wait_for_stream(visit())
    page.keyboard.press("?")
    dialog = page.get_by_role("dialog", name="Keyboard shortcuts")
    expect(dialog).to_contain_text("Next row")
    page.keyboard.press("j")
    assert focused_id(page) is None
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)


def test_row_menu_copies_the_link_without_a_clipboard(server, visit):
    server.put("a/b", title="Import")
    page = wait_for_stream(visit())
    page.evaluate("Object.defineProperty(navigator, 'clipboard', { value: undefined })")
    page.evaluate(
        "document.execCommand = (name) => { window.commanded = [name, String(getSelection())]; return true; }"
    )
    menu_button = page.get_by_role("button", name="Menu of Import")
    menu_button.click()
    expect(page.get_by_role("menuitem", name="Open")).to_be_focused()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    expect(page.locator("#undo")).to_contain_text("Link copied.")
    assert page.evaluate("window.commanded") == ["copy", f"{server.background.url}/items/a%2Fb"]
    expect(menu_button).to_be_focused()


def test_row_menu_of_attention_hides_the_entry(server, visit):
    server.put("a", title="Import", status="failed")
    page = wait_for_stream(visit())
    find_urgent(page, "a").get_by_role("button", name="Menu of Import").click()
    page.get_by_role("menuitem", name="Hide here").click()
    expect(find_urgent(page, "a")).to_have_count(0)
    page.get_by_role("button", name="Undo").click()
    expect(find_urgent(page, "a")).to_be_visible()


def test_row_menu_shares_publicly(server, visit):
    server.put("a", title="Import")
    page = wait_for_stream(visit())
    page.keyboard.press("j")
    page.keyboard.press("m")
    page.get_by_role("menuitem", name="Share publicly").press("Enter")
    expect(page.get_by_label("Id, or name of the group")).to_have_value("a")


def test_row_menu_closes_with_escape_and_keeps_the_focus(server, visit):
    server.put("a", title="Import")
    page = wait_for_stream(visit())
    button = page.get_by_role("button", name="Menu of Import")
    button.press("Enter")
    expect(page.get_by_role("menu")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("menu")).to_have_count(0)
    expect(button).to_be_focused()
    expect(button).to_have_attribute("aria-expanded", "false")


def test_compact_rows_are_32_pixels_and_remembered(server, visit):
    server.put("a")
    page = wait_for_stream(visit())
    expect(find_row(page, "a")).to_have_css("height", "44px")
    page.get_by_role("button", name="Compact rows").click()
    expect(find_row(page, "a")).to_have_css("height", "32px")
    page.reload()
    wait_for_stream(page)
    expect(find_row(page, "a")).to_have_css("height", "32px")
    page.get_by_role("button", name="Compact rows").click()
    expect(find_row(page, "a")).to_have_css("height", "44px")


def test_recent_runs_link_their_run_and_skip_inner_bars(server, visit):
    server.put("outer", title="Outer", run_id="r")
    for name, status in (("inner", "succeeded"), ("broken", "failed")):
        server.put(name, title=name, parent="outer", run_id="r", status=status)
        server.delete(name)
    server.put("job", title="Job", run_id="r 1", status="succeeded")
    server.delete("job")
    page = wait_for_stream(visit())
    titles = page.locator("#runs .title")
    expect(titles).to_contain_text(["Job", "broken"])
    assert "inner" not in titles.all_text_contents()
    assert titles.first.get_attribute("href") == "items/job?run=r%201"
    server.put("late", parent="outer", run_id="r2", status="succeeded")
    server.delete("late")
    server.put("next", title="Next", run_id="r2", status="succeeded")
    server.delete("next")
    expect(titles.first).to_have_text("Next")
    assert "late" not in titles.all_text_contents()


def test_navigator_share_sends_the_link_of_an_item(server, visit):
    server.put("a", title="Import")
    page = wait_for_stream(visit())
    page.evaluate("navigator.share = async (data) => { window.shared = data; }")
    page.get_by_role("button", name="Menu of Import").click()
    page.get_by_role("menuitem", name="Send link").click()
    wait_until(lambda: page.evaluate("Boolean(window.shared)"))
    assert page.evaluate("window.shared") == {"title": "Import", "url": f"{server.background.url}/items/a"}


def test_link_that_cannot_be_copied_is_shown(server, visit):
    server.put("a", title="Import")
    page = wait_for_stream(visit())
    page.evaluate("""() => {
        Object.defineProperty(navigator, "clipboard", { value: undefined });
        document.execCommand = () => false;
        window.prompt = (text, value) => { window.prompted = [text, value]; };
    }""")
    page.keyboard.press("j")
    page.keyboard.press("c")
    wait_until(lambda: page.evaluate("Boolean(window.prompted)"))
    assert page.evaluate("window.prompted") == ["Copy the link:", f"{server.background.url}/items/a"]


def test_controls_of_the_board_have_no_axe_violations(server, visit):
    for n, status in enumerate(["succeeded", "failed", "stopped"]):
        server.put("weekly", status=status, run_id=f"r{n}")
        server.delete("weekly")
    server.put("weekly", title="Weekly", group="etl", run_id="now", deadline=rfc3339(time.time() - 90))
    server.put("export", title="Export", group="etl", status="failed", error="OSError: gone\nfar away")
    server.put("silent", title="Silent", heartbeat_timeout=0.1)
    server.put("stuck", title="Stuck", total=9, completed=1, stuck_after=0.1)
    page = wait_for_stream(visit())
    expect(page.locator(".attention")).to_have_count(4)
    expect(find_row(page, "weekly").locator(".columns")).to_be_visible()
    find_urgent(page, "export").get_by_role("button", name="OSError: gone").click()
    page.get_by_role("button", name="Menu of Export").first.click()
    expect(page.get_by_role("menu")).to_be_visible()
    violations = find_violations(page)
    page.emulate_media(color_scheme="dark")
    violations += find_violations(page, *APPEARANCE_RULES)
    page.keyboard.press("Escape")
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_be_visible()
    assert violations + find_violations(page) == []
    wait_for_fit(page)
    page.set_viewport_size({"width": 320, "height": 600})
    wait_for_fit(page)


@pytest.mark.parametrize(("group", "other"), [("a", "b"), ("a", None), (None, "b")])
def test_recent_runs_are_of_the_group_in_the_address(server, visit, job, group, other):
    """Both the runs of the history and those that end while the page is open."""

    def end(item_id, group):
        server.put(f"{job}/{item_id}", title=item_id, group=group and f"{job} {group}")
        server.patch(f"{job}/{item_id}", status="succeeded")
        server.delete(f"{job}/{item_id}")

    end("former other", other)
    end("former", group)
    page = wait_for_stream(visit(f"?{urlencode({'group': f'{job} {group}' if group else ''})}"))
    titles = page.locator("#runs .title")
    expect(titles.first).to_have_text("former")
    end("other", other)
    end("new", group)
    expect(titles.first).to_have_text("new")
    expect(titles.nth(1)).to_have_text("former")
