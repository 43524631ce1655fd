"""The pages of history, items, keys, shares and sessions."""

from __future__ import annotations

import re
from urllib.parse import quote

import httpx
import pytest

from tests.support.browser_site import BrowserServer
from tests.support.connections import TLS_CONTEXT

pytest.importorskip("playwright.sync_api", reason="install playwright to test the pages in a browser")

from playwright.sync_api import expect


def find_field(page, name):
    return page.locator(f".bar [data-field={name}]")


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


def test_key_with_a_cell_suggests_it_for_the_next_key(server, visit):
    page = visit("keys")
    cell = page.get_by_label("Cell")
    expect(cell).to_have_value("")
    page.get_by_label("Name", exact=True).fill("ci")
    cell.fill("C 1")
    page.get_by_role("button", name="Make a key").click()
    assert cell.evaluate("input => input.validity.patternMismatch")
    cell.fill("c1")
    page.get_by_role("button", name="Make a key").click()
    expect(page.locator("#new-key-name")).to_be_focused()
    secret = page.locator("#secret").input_value()
    assert secret.startswith("pbt_w_c1-")
    assert is_key_accepted(server, secret)
    with page.expect_navigation():
        page.get_by_role("button", name="I have saved it").first.click()
    expect(cell).to_have_value("c1")


def test_refused_key_shows_the_reason(server, visit, profile):
    page = visit("keys")
    page.get_by_label("Name", exact=True).fill(" ")
    page.get_by_role("button", name="Make a key").click()
    expect(page.locator("#problem")).to_contain_text("name must be 1 to 100 characters long")
    _, errors = profile
    errors.clear()  # Chromium reports the 422


def test_ping_token_is_created_used_and_revoked(server, visit):
    server.set_schedule("backup", every=3600, group="<i>nightly")
    page = visit("keys")
    form = page.get_by_role("form", name="Make a ping token")
    form.get_by_label("Name of the token").fill("<b>cron</b>")
    form.get_by_label("Group of the items").fill("<i>nightly")
    form.get_by_role("button", name="Make a token").click()
    expect(page.locator("#new-ping-name")).to_be_focused()
    url = page.locator("#ping-url").input_value()
    expect(page.locator("#ping-line")).to_have_value(f"curl -fsS -m 10 --retry 5 -o /dev/null {url}/ID")
    assert httpx.get(f"{url}/backup/start", verify=TLS_CONTEXT).status_code == 200
    with page.expect_navigation():
        page.locator("#ping-saved").click()
    assert url.rpartition("/")[2] not in page.content()
    row = page.locator("#ping-tokens tr", has_text="<b>cron</b>")
    expect(row).to_contain_text("<i>nightly")
    row.get_by_role("button", name="Revoke").click()
    with page.expect_navigation():
        page.get_by_role("dialog").get_by_role("button", name="Revoke").click()
    expect(page.get_by_text("There is no ping token.")).to_be_visible()
    assert httpx.get(f"{url}/backup", verify=TLS_CONTEXT).status_code == 404


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
    expect(page.locator("#runs tbody tr:not(.error-row)")).to_have_count(2)
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
        assert other.get("/history").headers["Location"] == "login?next=history"


def is_key_accepted(site, key):
    return (
        httpx.get(f"{site.background.url}/api/key-info", headers={"X-API-KEY": key}, verify=TLS_CONTEXT).status_code
        == 200
    )
