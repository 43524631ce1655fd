"""Everything by Tab, Enter and the arrows alone, from where the focus is."""

from __future__ import annotations

import re

import pytest

pytest.importorskip("playwright.sync_api", reason="install playwright to test the pages in a browser")

from playwright.sync_api import expect

from tests.support.browser_site import until

from .test_board import live, row, shown

FOCUSED = """() => {
    const at = document.activeElement;
    if (at === document.body) return ["", ""];
    const label = at.getAttribute("aria-label") ?? at.labels?.[0]?.textContent ?? at.textContent;
    return [label.trim().replace(/\\s+/g, " "), getComputedStyle(at).outlineStyle];
}"""


def tab_to(page, name, *, backwards=False):
    """Press Tab until what bears the name has the focus, and is to be seen."""
    met = []
    for _ in range(60):
        page.keyboard.press("Shift+Tab" if backwards else "Tab")
        found, outline = page.evaluate(FOCUSED)
        met.append(found)
        if found.startswith(name):
            assert outline != "none", f"nobody sees that {name} has the focus"
            return
    raise AssertionError(f"no Tab leads to {name}, but to {met}")


def enter(page, name):
    tab_to(page, name)
    page.keyboard.press("Enter")


def test_the_board_by_keyboard(site, visit):
    site.put("a", title="Import", status="failed", error="OSError: gone\nfar away", group="etl")
    site.put("b", title="Export", value=0.5, group="etl")
    page = live(visit())
    enter(page, "Skip to the content")
    expect(page.locator("main")).to_be_focused()
    tab_to(page, "Search")
    page.keyboard.type("impo")
    expect(row(page, "b")).to_have_count(0)
    tab_to(page, "Status")
    page.keyboard.press("ArrowDown")  # running
    expect(page.locator("#nothing")).to_be_visible()
    enter(page, "Show everything")
    live(page)
    tab_to(page, "Order")
    page.keyboard.type("By title")
    page.wait_for_url("**/?sort=title")
    assert shown(page) == ["b", "a"]
    enter(page, "etl")
    expect(row(page, "a")).to_be_hidden()
    page.keyboard.press("Enter")
    enter(page, "OSError: gone")
    expect(row(page, "a").get_by_text("far away")).to_be_visible()
    enter(page, "Dismiss Import")
    expect(page.get_by_role("button", name="Undo")).to_be_focused()
    page.keyboard.press("Enter")
    expect(row(page, "a")).to_be_visible()


def test_an_item_is_shared_and_the_history_read_by_keyboard(site, visit):
    site.put("a", title="Import", value=0.5, run_id="r")
    page = live(visit())
    enter(page, "Import")
    expect(page.locator("h1")).to_have_text("Import")
    enter(page, "Share this item")
    expect(page.get_by_label("Id, or name of the group")).to_have_value("a")
    tab_to(page, "Id, or name of the group")
    enter(page, "Make a link")
    expect(page.locator("#shared-name")).to_be_focused()
    enter(page, "Copy the link")
    expect(page.locator("#shared .copied").first).to_have_text(re.compile("Copied|Ctrl"))
    with page.expect_navigation():
        enter(page, "I have kept it")
    enter(page, "Revoke the share of a")
    expect(page.get_by_role("button", name="Cancel")).to_be_focused()
    tab_to(page, "Revoke", backwards=True)
    page.keyboard.press("Enter")
    expect(page.get_by_text("Nothing is shared.")).to_be_visible()
    site.delete("a")
    enter(page, "History")
    expect(page.locator("h1")).to_have_text("History")
    tab_to(page, "Title or id")
    page.keyboard.type("IMPORT")
    page.keyboard.press("Enter")
    page.wait_for_url("**/history?q=IMPORT**")
    for name in ("Import", "CSV", "JSON"):
        tab_to(page, name)


def test_a_key_is_looked_after_by_keyboard(site, visit):
    page = visit("keys")
    tab_to(page, "Name")
    page.keyboard.type("robot")
    tab_to(page, "May")
    page.keyboard.press("ArrowDown")  # only read
    enter(page, "Make a key")
    expect(page.locator("#made-name")).to_be_focused()
    enter(page, "Copy the key")
    with page.expect_navigation():
        enter(page, "I have kept it")
    enter(page, "Rotate robot")
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    expect(page.get_by_role("button", name="Rotate robot")).to_be_focused()
    enter(page, "Revoke robot")
    with page.expect_navigation():
        tab_to(page, "Revoke", backwards=True)
        page.keyboard.press("Enter")
    enter(page, "Keys that work no more")
    expect(page.locator(".former tr", has_text="robot").first).to_contain_text("read")
    tab_to(page, "Sign out")


def test_who_owns_a_key_signs_in_with_it_and_dismisses_what_is_its_own_by_keyboard(site, stranger):
    other = {"X-API-KEY": site.server.create_key("write", "another")}
    site.http.put("/api/v1/items/theirs", json={"status": "failed"}, headers=other).raise_for_status()
    site.put("mine", title="Mine", status="failed")
    stranger.goto(f"{site.server.url}/login")
    tab_to(stranger, "Key")
    stranger.keyboard.type(site.key)
    stranger.keyboard.press("Enter")
    stranger.wait_for_url(re.compile("/$"))
    live(stranger)
    expect(stranger.get_by_role("banner")).to_contain_text("ci")
    expect(stranger.get_by_role("link", name="Keys")).to_have_count(0)
    expect(row(stranger, "theirs").get_by_role("button", name="Dismiss")).to_have_count(0)
    enter(stranger, "Dismiss Mine")
    expect(stranger.get_by_role("button", name="Undo")).to_be_focused()
    enter(stranger, "History")
    expect(stranger.locator("h1")).to_have_text("History")
    until(lambda: site.listed() == ["theirs"])
    enter(stranger, "Sign out")
    stranger.wait_for_url("**/login")
