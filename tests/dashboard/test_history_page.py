"""The page of the history: filters in the URL, pages of runs, exports."""

from __future__ import annotations

import re

import pytest

pytest.importorskip("playwright.sync_api", reason="install playwright to test the pages in a browser")

from playwright.sync_api import expect

from .test_item_page import add_run, is_marked, mark

PAGE_SIZE = 50


@pytest.fixture
def group(job):
    """A group of one test."""
    return job


def end_items(server, group, *ids, **fields):
    """Add ended items to the history, the last one first."""
    server.batch([{"op": "put", "id": item_id, "run_id": "r", "group": group, **fields} for item_id in ids])
    server.batch([{"op": "delete", "id": item_id} for item_id in ids])


def find_rows(page):
    return page.locator("#runs tbody tr:not(.error-row)")


def test_history_is_filtered_without_a_reload(server, visit, group):
    end_items(server, group, "find-me", title="Title to find", status="failed", error="OSError: gone\nfar away")
    end_items(server, group, "not-me", title="Title of another", status="succeeded")
    page = visit(f"history?group={group}")
    expect(find_rows(page)).to_have_count(2)
    mark(page)
    page.get_by_label("Title or id").fill("TO FIND")
    expect(find_rows(page)).to_have_count(1)
    expect(find_rows(page)).to_contain_text("Title to find")
    page.get_by_label("Ended as").select_option("succeeded")
    expect(page.locator("#runs")).to_contain_text("No run matches.")
    assert re.search(r"\?q=TO\+FIND&group=.*&status=succeeded$", page.url)
    page.go_back()
    expect(find_rows(page)).to_have_count(1)
    expect(page.get_by_label("Ended as")).to_have_value("")
    page.locator(".error-row summary").click()
    expect(page.get_by_text("far away")).to_be_visible()
    page.get_by_role("button", name="Show all").click()
    expect(page).to_have_url(re.compile("/history$"))
    assert is_marked(page)
    page.go_back()
    page.get_by_role("link", name="Title to find").click()
    expect(page).to_have_url(re.compile(r"/items/find-me\?run=r$"))


def test_typed_word_is_one_entry_of_the_browser_history(server, visit, group):
    page = visit(f"history?group={group}")
    before = page.evaluate("history.length")
    field = page.get_by_label("Title or id")
    for text in ("f", "fi", "find"):
        with page.expect_response(re.compile(r"/api/v1/history\?")):
            field.fill(text)
    expect(page).to_have_url(re.compile(r"\?q=find&"))
    assert page.evaluate("history.length") == before + 1


def test_history_has_pages_and_the_back_button_works(server, visit, group):
    end_items(server, group, *(f"i{n:02}" for n in range(PAGE_SIZE + 3)))
    page = visit(f"history?group={group}")
    expect(find_rows(page)).to_have_count(PAGE_SIZE)
    expect(page.get_by_role("link", name="Newest")).to_be_hidden()
    page.get_by_role("link", name="Older").click()
    expect(find_rows(page)).to_have_count(3)
    expect(page.get_by_role("link", name="Older")).to_be_hidden()
    page.go_back()
    expect(find_rows(page)).to_have_count(PAGE_SIZE)
    page.go_forward()
    expect(find_rows(page)).to_have_count(3)
    page.reload()
    expect(find_rows(page)).to_have_count(3)
    page.get_by_role("link", name="Newest").click()
    expect(find_rows(page)).to_have_count(PAGE_SIZE)


def test_inner_bars_are_hidden_unless_they_failed(server, visit, group):
    end_items(server, group, "parent", status="succeeded")
    end_items(server, group, "parent/1", "parent/2", parent="parent", status="succeeded")
    end_items(server, group, "parent/3", parent="parent", status="failed")
    page = visit(f"history?group={group}")
    expect(find_rows(page)).to_have_count(2)
    page.get_by_label("Show inner bars").check()
    expect(find_rows(page)).to_have_count(4)
    expect(page).to_have_url(re.compile(r"&inner=true$"))
    expect(find_rows(page).first).to_contain_text("part of parent")
    page.go_back()
    expect(find_rows(page)).to_have_count(2)
    expect(page.get_by_label("Show inner bars")).not_to_be_checked()


def test_exports_have_the_filters_of_the_page(server, visit, group):
    end_items(server, group, "yes", "no", status="failed")
    end_items(server, group, "parent/1", parent="parent")
    page = visit(f"history?group={group}&q=yes")
    expect(find_rows(page)).to_have_count(1)
    for name in ("CSV", "JSON"):
        link = page.get_by_role("link", name=name).get_attribute("href")
        assert re.search(rf"history\.{name.lower()}\?q=yes&group={group}&inner=false$", link)
    exported = page.request.get(link).json()["items"]
    assert [run["id"] for run in exported] == ["yes"]


def test_inner_bars_of_a_parent_are_listed(server, visit, group):
    server.put(group, run_id="r")
    end_items(server, group, f"{group}/1", f"{group}/2", parent=group)
    page = visit(f"history?parent={group}")
    expect(find_rows(page)).to_have_count(2)
    page.locator("#parent").get_by_role("link", name=group).click()
    expect(page).to_have_url(re.compile(rf"/items/{group}$"))


def test_runs_of_an_item_include_an_inner_bar(server, visit, group):
    end_items(server, group, f"{group}/1", parent="parent")
    page = visit(f"history?id={group}/1")
    expect(find_rows(page)).to_have_count(1)


def test_unreachable_history_is_reported_and_tried_again(server, visit, group, profile):
    end_items(server, group, "a")
    page = visit()
    page.route("**/api/v1/history?*", lambda route: route.fulfill(status=503, json={"detail": "it is busy"}))
    page.goto(f"{server.background.url}/history?group={group}")
    expect(page.get_by_role("alert")).to_contain_text("The runs cannot be shown: it is busy")
    page.unroute("**/api/v1/history?*")
    page.get_by_role("button", name="Try again").click()
    expect(find_rows(page)).to_have_count(1)
    expect(page.get_by_role("alert")).to_be_hidden()
    _, errors = profile
    errors.clear()  # Chromium reports the 503


def test_times_and_numbers_are_those_of_the_viewer(server, visit, group):
    add_run(server, "job", "r", group=group, seconds=61)
    server.batch([{"op": "put", "id": "large", "run_id": "r", "group": group, "completed": 1234567, "unit": "rows"}])
    server.delete("large")
    page = visit(f"history?group={group}", locale="de-DE", timezone_id="Asia/Tokyo")
    large = find_rows(page).filter(has_text="large")
    expect(large).to_contain_text("1.234.567 rows")
    time = large.locator("time").last
    expected = time.evaluate("""time => new Intl.DateTimeFormat("de-DE", {
        month: "short", day: "numeric", hour: "numeric", minute: "2-digit", timeZone: "Asia/Tokyo",
    }).format(new Date(time.dateTime))""")
    expect(time).to_have_text(expected)
    expect(time).to_have_attribute("title", re.compile("GMT\\+9"))


def test_returning_reader_sees_the_runs_that_ended(server, visit, group):
    end_items(server, group, "first", status="failed", error="OSError: gone\nfar away")
    page = visit(f"history?group={group}")
    page.locator(".error-row summary").click()
    with page.expect_response(re.compile(r"/api/v1/history\?")):
        page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    expect(page.get_by_text("far away")).to_be_visible()  # the table is the same
    end_items(server, group, "second")
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    expect(find_rows(page)).to_have_count(2)
