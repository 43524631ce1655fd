"""The pages by Tab, Enter and arrow keys alone."""

from __future__ import annotations

import re

import pytest

from tests.support.waiting import wait_until

pytest.importorskip("playwright.sync_api", reason="install playwright to test the pages in a browser")

from playwright.sync_api import expect

from .test_board import expect_ids, find_row, wait_for_stream

FOCUS_SCRIPT = """() => {
    const at = document.activeElement;
    if (at === document.body) return ["", ""];
    const label = at.getAttribute("aria-label") ?? at.labels?.[0]?.textContent ?? at.textContent;
    return [label.trim().replace(/\\s+/g, " "), getComputedStyle(at).outlineStyle];
}"""


def tab_to(page, name, *, backwards=False):
    """Press Tab until the control with the name has the focus, and check that its outline is visible."""
    reached = []
    for _ in range(60):
        page.keyboard.press("Shift+Tab" if backwards else "Tab")
        label, outline = page.evaluate(FOCUS_SCRIPT)
        reached.append(label)
        if label.startswith(name):
            assert outline != "none", f"the focus on {name} is not visible"
            return
    raise AssertionError(f"Tab does not reach {name}, but {reached}")


def press_enter_on(page, name):
    tab_to(page, name)
    page.keyboard.press("Enter")


def test_board_works_by_keyboard(server, visit):
    server.put("a", title="Import", status="failed", error="OSError: gone\nfar away", group="etl")
    server.put("b", title="Export", value=0.5, group="etl")
    page = wait_for_stream(visit())
    press_enter_on(page, "Skip to the content")
    expect(page.locator("main")).to_be_focused()
    tab_to(page, "Search")
    page.keyboard.type("impo")
    expect(find_row(page, "b")).to_have_count(0)
    tab_to(page, "Status")
    page.keyboard.press("ArrowDown")  # running
    expect(page.locator("#no-match")).to_be_visible()
    press_enter_on(page, "Show everything")
    wait_for_stream(page)
    tab_to(page, "Order")
    page.keyboard.type("By title")
    page.wait_for_url("**/?sort=title")
    expect_ids(page, "b", "a")
    press_enter_on(page, "etl")
    expect(find_row(page, "a")).to_have_count(0)
    page.keyboard.press("Enter")
    press_enter_on(page, "OSError: gone")
    expect(page.locator(".error-entry").get_by_text("far away")).to_be_visible()
    press_enter_on(page, "Dismiss Import")
    expect(page.get_by_role("button", name="Undo")).to_be_focused()
    page.keyboard.press("Enter")
    expect(find_row(page, "a")).to_be_visible()


def test_sharing_and_history_work_by_keyboard(server, visit):
    server.put("a", title="Import", value=0.5, run_id="r")
    page = wait_for_stream(visit())
    press_enter_on(page, "Import")
    expect(page.locator("h1")).to_have_text("Import")
    press_enter_on(page, "Share this item")
    expect(page.get_by_label("Id, or name of the group")).to_have_value("a")
    tab_to(page, "Id, or name of the group")
    press_enter_on(page, "Make a link")
    expect(page.locator("#new-share-name")).to_be_focused()
    press_enter_on(page, "Copy the link")
    expect(page.locator("#new-share .copied").first).to_have_text(re.compile("Copied|Ctrl"))
    with page.expect_navigation():
        press_enter_on(page, "I have saved it")
    press_enter_on(page, "Revoke the share of a")
    expect(page.get_by_role("button", name="Cancel")).to_be_focused()
    tab_to(page, "Revoke", backwards=True)
    page.keyboard.press("Enter")
    expect(page.get_by_text("Nothing is shared.")).to_be_visible()
    server.delete("a")
    press_enter_on(page, "History")
    expect(page.locator("h1")).to_have_text("History")
    tab_to(page, "Title or id")
    page.keyboard.type("IMPORT")
    page.keyboard.press("Enter")
    page.wait_for_url("**/history?q=IMPORT**")
    for name in ("Import", "CSV", "JSON"):
        tab_to(page, name)


def test_key_management_works_by_keyboard(server, visit):
    page = visit("keys")
    tab_to(page, "Name")
    page.keyboard.type("robot")
    tab_to(page, "May")
    page.keyboard.press("ArrowDown")  # only read
    press_enter_on(page, "Make a key")
    expect(page.locator("#new-key-name")).to_be_focused()
    press_enter_on(page, "Copy the key")
    with page.expect_navigation():
        press_enter_on(page, "I have saved it")
    press_enter_on(page, "Rotate robot")
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    expect(page.get_by_role("button", name="Rotate robot")).to_be_focused()
    press_enter_on(page, "Revoke robot")
    with page.expect_navigation():
        tab_to(page, "Revoke", backwards=True)
        page.keyboard.press("Enter")
    press_enter_on(page, "Keys that no longer work")
    expect(page.locator(".former-keys tr", has_text="robot").first).to_contain_text("read")
    tab_to(page, "Sign out")


def test_key_owner_dismisses_own_items_by_keyboard(server, anonymous_page):
    other = {"X-API-KEY": server.background.create_key("write", "another")}
    server.http.put("/api/v1/items/theirs", json={"status": "failed"}, headers=other).raise_for_status()
    server.put("mine", title="Mine", status="failed")
    anonymous_page.goto(f"{server.background.url}/login")
    tab_to(anonymous_page, "Key")
    anonymous_page.keyboard.type(server.key)
    anonymous_page.keyboard.press("Enter")
    anonymous_page.wait_for_url(re.compile("/$"))
    wait_for_stream(anonymous_page)
    expect(anonymous_page.get_by_role("banner")).to_contain_text("ci")
    expect(anonymous_page.get_by_role("link", name="Keys")).to_have_count(0)
    expect(find_row(anonymous_page, "theirs").get_by_role("button", name="Dismiss")).to_have_count(0)
    press_enter_on(anonymous_page, "Dismiss Mine")
    expect(anonymous_page.get_by_role("button", name="Undo")).to_be_focused()
    press_enter_on(anonymous_page, "History")
    expect(anonymous_page.locator("h1")).to_have_text("History")
    wait_until(lambda: server.list_items() == ["theirs"])
    press_enter_on(anonymous_page, "Sign out")
    anonymous_page.wait_for_url("**/login")
