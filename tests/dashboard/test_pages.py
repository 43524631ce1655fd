"""The pages of history, items, keys, shares and sessions."""

from __future__ import annotations

import re
from urllib.parse import quote

import httpx
import pytest

from tests.support.browser_site import BrowserServer
from tests.support.connections import TLS_CONTEXT

from .conftest import APPEARANCE_RULES, find_violations, measure_overflow

pytest.importorskip("playwright.sync_api", reason="install playwright to test the pages in a browser")

from playwright.sync_api import expect


def find_field(page, name):
    return page.locator(f".bar [data-field={name}]")


def test_item_page_follows_the_item_to_its_end(server, visit):
    server.put("a/b c", title="Import", total=4, completed=1, run_id="r", meta={"host": "box-7"})
    page = visit("items/a%2Fb%20c")
    expect(find_field(page, "percent")).to_have_text("25 %")
    expect(page.locator("dl.facts")).to_contain_text("box-7")
    server.patch("a/b c", completed=3, description="nearly")
    expect(find_field(page, "percent")).to_have_text("75 %")
    expect(find_field(page, "description")).to_have_text("nearly")
    before = page.locator(".curve polyline").get_attribute("points") if page.locator(".curve").count() else ""
    server.patch("a/b c", completed=4, status="succeeded")
    expect(find_field(page, "state")).to_have_text("succeeded")
    expect(page.locator("#announcement")).to_have_text("Import: succeeded")
    if before:
        assert page.locator(".curve polyline").get_attribute("points") != before
    server.delete("a/b c")
    expect(page.locator("#gone-notice")).to_be_visible()  # the page has been reloaded
    expect(page.locator(".item-runs tbody tr")).to_have_count(1)
    expect(page.locator(".usual-duration")).to_contain_text("Usually")
    expect(page.locator("h1")).to_have_text("Import")


def test_history_without_scripts_is_filtered(server, visit):
    for item_id, status in (("find-me", "failed"), ("not-me", "succeeded")):
        server.put(item_id, run_id="r", title=f"Title of {item_id}", status=status, error="OSError: gone\nfar away")
        server.delete(item_id)
    page = visit("history", java_script_enabled=False)
    page.get_by_label("Title or id").fill("OF FIND")
    page.get_by_label("Ended as").select_option("failed")
    page.get_by_role("button", name="Show").click()
    expect(page.locator("tbody tr")).to_have_count(1)
    expect(page.locator("tbody tr")).to_contain_text("Title of find-me")
    assert "UTC" in page.locator("tbody time").inner_text()
    page.locator("details.error summary").click()
    expect(page.get_by_text("far away")).to_be_visible()
    page.get_by_role("link", name="Title of find-me").click()
    expect(page.locator("h1")).to_have_text("Title of find-me")


def test_key_is_created_copied_rotated_and_revoked(server, visit):
    page = visit("keys")
    page.get_by_label("Name", exact=True).fill("<b>robot</b>")
    page.get_by_label("Expires").first.select_option("30")
    page.get_by_role("button", name="Make a key").click()
    expect(page.locator("#new-key-name")).to_be_focused()
    secret = page.locator("#secret").input_value()
    assert is_key_accepted(server, secret)
    expect(page.locator("#snippet")).to_contain_text(f'configure(url="{server.background.url}", api_key="{secret}")')
    # As on a page over plain HTTP from another machine, where there is no clipboard.
    page.evaluate("Object.defineProperty(navigator, 'clipboard', { value: undefined })")
    page.get_by_role("button", name="Copy the key").click()
    expect(page.locator("#new-key .copied").first).to_have_text(re.compile("Copied|Ctrl"))
    assert page.evaluate("document.getElementById('secret').selectionEnd") == len(secret)
    with page.expect_navigation():  # a dialog that opens earlier would be closed by it
        page.get_by_role("button", name="I have saved it").first.click()
    row = page.locator("tr", has_text="<b>robot</b>")
    expect(row).to_be_visible()
    assert secret not in page.content()

    row.get_by_role("button", name="Rotate").click()
    page.get_by_role("dialog").get_by_role("button", name="Rotate").click()
    expect(page.locator("#new-key")).to_be_visible()
    new_secret = page.locator("#secret").input_value()
    assert new_secret != secret
    assert is_key_accepted(server, new_secret)
    with page.expect_navigation():  # a dialog that opens earlier would be closed by it
        page.get_by_role("button", name="I have saved it").first.click()

    row.get_by_role("button", name="Revoke").click()
    page.get_by_role("dialog").get_by_role("button", name="Cancel").click()
    assert is_key_accepted(server, new_secret)
    row.get_by_role("button", name="Revoke").click()
    page.keyboard.press("Tab")  # Cancel has the focus, so that a quick Enter revokes nothing
    page.get_by_role("dialog").get_by_role("button", name="Revoke").click()
    page.locator(".former-keys summary").click()
    expect(page.locator(".former-keys tr", has_text="<b>robot</b>").first).to_contain_text("revoked")
    assert not is_key_accepted(server, new_secret)


def test_refused_key_shows_the_reason(server, visit, profile):
    page = visit("keys")
    page.get_by_label("Name", exact=True).fill(" ")
    page.get_by_role("button", name="Make a key").click()
    expect(page.locator("#problem")).to_contain_text("name must be 1 to 100 characters long")
    _, errors = profile
    errors.clear()  # Chromium reports the 422


def test_share_shows_its_item_to_anyone_until_revoked(server, visit, anonymous_page):
    server.put("shared", title="For all to see", total=4, completed=1, run_id="r", meta={"host": "secret-host"})
    server.put("hidden", title="Not shared", run_id="r")
    page = visit("items/shared")
    page.get_by_role("link", name="Share this item").click()
    expect(page.get_by_label("Id, or name")).to_have_value("shared")
    page.get_by_role("button", name="Make a link").click()
    expect(page.locator("#new-share-name")).to_be_focused()
    link, markdown = page.locator("#link").input_value(), page.locator("#markdown").input_value()
    badge = re.search(r"!\[Progress\]\((.*?)\)", markdown)[1]
    assert httpx.get(badge, verify=TLS_CONTEXT).headers["Content-Type"].startswith("image/svg+xml")
    anonymous_page.goto(link)
    expect(find_field(anonymous_page, "percent")).to_have_text("25 %")
    server.patch("shared", completed=2)
    expect(find_field(anonymous_page, "percent")).to_have_text("50 %")
    assert "secret-host" not in anonymous_page.content()
    assert "Not shared" not in anonymous_page.content()
    page.bring_to_front()  # a tab in the background is clicked only once a second
    with page.expect_navigation():  # a dialog that opens earlier would be closed by it
        page.get_by_role("button", name="I have saved it").last.click()
    page.get_by_role("button", name="Revoke the share of shared").click()
    page.get_by_role("dialog").get_by_role("button", name="Revoke").click()
    expect(page.get_by_text("Nothing is shared.")).to_be_visible()
    expect(anonymous_page.locator("#ended-notice")).to_be_visible()


def test_group_share_follows_its_items(server, visit, anonymous_page):
    page = visit("keys")
    share = page.request.post(
        f"{server.background.url}/api/v1/shares", data={"group": "etl"}, headers={"Sec-Fetch-Site": "same-origin"}
    ).json()
    anonymous_page.goto(f"{server.background.url}/{share['path']}")
    expect(anonymous_page.locator("#empty")).to_be_visible()
    server.put("first", title="First", group="etl", run_id="r")
    server.put("heavy", title="Heavy", group="etl", run_id="r", weight=5)
    server.put("other", title="Other", group="web", run_id="r")
    expect(anonymous_page.locator("#bars .bar")).to_have_count(2)
    server.patch("first", status="failed", error="OSError: <b>gone</b>")
    server.delete("first")
    expect(anonymous_page.locator("#runs .bar").first).to_contain_text("OSError: <b>gone</b>")
    expect(anonymous_page.locator("#bars .bar")).to_have_count(1)
    server.patch("heavy", group="web")
    expect(anonymous_page.locator("#empty")).to_be_visible()


def test_share_page_reconnects_after_server_restart(own_server, anonymous_page):
    own_server.put("a", total=4, completed=1, run_id="r")
    key = {"X-API-KEY": own_server.background.create_key("admin", "boss")}
    share = own_server.http.post("/api/v1/shares", json={"item": "a"}, headers=key).json()
    anonymous_page.goto(f"{own_server.background.url}/{share['path']}")
    expect(find_field(anonymous_page, "percent")).to_have_text("25 %")
    own_server.stop()
    expect(anonymous_page.locator("#offline")).to_be_visible()
    own_server.start()
    own_server.patch("a", completed=3)
    expect(find_field(anonymous_page, "percent")).to_have_text("75 %")
    expect(anonymous_page.locator("#offline")).to_be_hidden()
    expect(anonymous_page.locator("#ended-notice")).to_be_hidden()


def test_guest_with_public_read_sees_the_board(tmp_path, anonymous_page):
    site = BrowserServer(tmp_path, public_read=True)
    try:
        site.put("a", total=4, completed=1, run_id="r")
        site.put("b", status="failed", run_id="r")
        anonymous_page.goto(f"{site.background.url}/")
        expect(anonymous_page.locator("html")).to_have_attribute("data-live", "")
        site.patch("a", completed=2)
        expect(anonymous_page.locator('#board .item[data-id="a"] .percent')).to_have_text("50 %")
        expect(anonymous_page.get_by_role("button", name="Dismiss")).to_have_count(0)
        anonymous_page.get_by_role("link", name="Sign in").click()
        expect(anonymous_page).to_have_url(re.compile("/login$"))
    finally:
        site.close()


def test_pages_are_accessible_and_fit_every_screen(server, visit):
    for n, status in enumerate(("succeeded", "failed", "stopped", "running")):
        error = "Traceback:\n" + "bad " * 300 if status == "failed" else None
        server.put("job", run_id=str(n), title="W" * 150, group="g" * 100, error=error, total=10**12, completed=10**11)
        server.patch("job", status=status) if status != "running" else None
    page = visit("keys")
    share = page.request.post(
        f"{server.background.url}/api/v1/shares", data={"item": "job"}, headers={"Sec-Fetch-Site": "same-origin"}
    ).json()
    for path in ("history?q=WWW", "items/job", "keys", share["path"]):
        page.goto(f"{server.background.url}/{path}")
        violations = find_violations(page)
        page.emulate_media(color_scheme="dark")
        page.set_viewport_size({"width": 320, "height": 600})
        assert (path, violations + find_violations(page, *APPEARANCE_RULES)) == (path, [])
        page.emulate_media(color_scheme="light")
        for width in (320, 500, 800, 1400):
            page.set_viewport_size({"width": width, "height": 600})
            assert measure_overflow(page) <= 0, (path, width)


def test_hostile_text_in_updates_is_text_on_every_page(server, visit):
    text = "<img src=x onerror=alert(1)><script>alert(2)</script>\u202e"
    for _ in range(2):
        server.batch([{"op": "put", "id": text, "title": text, "description": text, "group": text, "parent": text,
                     "error": text, "unit": text[:20], "meta": {text: text}, "run_id": text}])  # fmt: skip
        page = visit(f"items/{quote(text, safe='')}")
        expect(find_field(page, "title")).to_have_text(text)
        server.batch([{"op": "patch", "id": text, "description": f"changed {text}", "status": "failed"}])
        expect(find_field(page, "description")).to_have_text(f"changed {text}")
        server.batch([{"op": "delete", "id": text}])
        expect(page.locator("#gone-notice")).to_be_visible()
    page.goto(f"{server.background.url}/history?q={quote(text)}&group={quote(text)}")
    expect(page.locator("tbody tr")).to_have_count(2)
    page.goto(f"{server.background.url}/keys?share={quote(text)}")
    page.get_by_role("button", name="Make a link").click()
    expect(page.locator("#new-share")).to_be_visible()
    page.goto(page.locator("#link").input_value())
    expect(find_field(page, "title")).to_have_text(text)
    server.batch([{"op": "put", "id": text, "title": f"again {text}", "run_id": "again"}])
    expect(find_field(page, "title")).to_have_text(f"again {text}")
    page.goto("about:blank")


def test_other_browser_can_be_signed_out(server, visit):
    with httpx.Client(
        base_url=server.background.url, headers={"User-Agent": "The other one"}, verify=TLS_CONTEXT
    ) as other:
        assert other.get(server.background.create_sign_in_url()).status_code == 303
        assert other.get("/history").status_code == 200
        page = visit("keys")
        rows = page.locator("#sessions tbody tr")
        expect(rows.filter(has_text="this browser")).to_have_count(1)
        rows.filter(has_text="The").get_by_role("button", name="Sign out").click()
        with page.expect_navigation():
            page.get_by_role("dialog").get_by_role("button", name="Sign out").click()
        assert other.get("/history").headers["Location"] == "login"


def is_key_accepted(site, key):
    return (
        httpx.get(f"{site.background.url}/api/key-info", headers={"X-API-KEY": key}, verify=TLS_CONTEXT).status_code
        == 200
    )
