"""The pages of shares: bars for readers without an account, over few streams."""

from __future__ import annotations

import re

import httpx
import pytest

from tests.support.connections import TLS_CONTEXT
from tests.support.waiting import wait_until

pytest.importorskip("playwright.sync_api", reason="install playwright to test the pages in a browser")

from playwright.sync_api import expect

from .test_pages import find_field
from .test_stream import set_hidden

MAX_STREAMS = 4
"""The streams that a worker opens at most."""


@pytest.fixture
def open_share(server, anonymous_context):
    """Return a function that opens a share in a tab of the profile that is not signed in."""
    pages = []

    def open_page(share):
        page = anonymous_context.new_page()
        pages.append(page)
        page.goto(f"{server.background.url}/{share['path']}")
        expect(page.locator("html")).to_have_attribute("data-live", "")
        return page

    yield open_page
    for page in pages:
        page.close()


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


def test_group_share_follows_its_items(server, anonymous_page):
    anonymous_page.goto(f"{server.background.url}/{server.share(group='etl')['path']}")
    expect(anonymous_page.locator("#empty")).to_be_visible()
    server.put("first", title="First", group="etl", run_id="r")
    server.put("heavy", title="Heavy", group="etl", run_id="r", weight=5)
    server.put("other", title="Other", group="web", run_id="r")
    expect(anonymous_page.locator("#bars .bar")).to_have_count(2)
    server.patch("first", status="failed", error="OSError: <b>gone</b>")
    server.delete("first")
    expect(anonymous_page.locator("#runs .run").first).to_contain_text("OSError: <b>gone</b>")
    expect(anonymous_page.locator("#bars .bar")).to_have_count(1)
    server.patch("heavy", group="web")
    expect(anonymous_page.locator("#empty")).to_be_visible()


def test_share_page_reconnects_after_server_restart(own_server, anonymous_page):
    own_server.put("a", total=4, completed=1, run_id="r")
    anonymous_page.goto(f"{own_server.background.url}/{own_server.share(item='a')['path']}")
    expect(find_field(anonymous_page, "percent")).to_have_text("25 %")
    own_server.stop()
    expect(anonymous_page.locator("#offline")).to_be_visible()
    own_server.start()
    own_server.patch("a", completed=3)
    expect(find_field(anonymous_page, "percent")).to_have_text("75 %")
    expect(anonymous_page.locator("#offline")).to_be_hidden()
    expect(anonymous_page.locator("#ended-notice")).to_be_hidden()


def test_share_of_an_ended_item_shows_its_last_run(server, open_share):
    server.put("job", title="Import", total=4, completed=4, status="succeeded", run_id="r")
    server.delete("job")
    page = open_share(server.share(item="job"))
    expect(find_field(page, "state")).to_have_text("succeeded")
    expect(page).to_have_title("100 % - Import")


def test_group_share_keeps_the_tree_of_inner_bars(server, open_share):
    server.put("outer", title="Outer", group="etl", run_id="r")
    server.put("other", title="Other", group="etl", run_id="r")
    server.put("outer/inner", title="Inner", group="etl", parent="outer", run_id="r")
    page = open_share(server.share(group="etl"))
    expect(page.locator("#bars .bar")).to_have_count(3)
    families = page.locator("#bars .family")
    assert [family.locator("h2, h3").all_inner_texts() for family in families.all()] == [["Outer", "Inner"], ["Other"]]
    expect(page.locator("#bars h3")).to_have_text("Inner")


def test_recently_ended_runs_of_a_share_have_their_date(server, open_share):
    server.put("job", title="Import", group="dated", run_id="r", status="failed", error="OSError: gone")
    server.delete("job")
    page = open_share(server.share(group="dated"))
    expect(page.locator("#runs .run")).to_contain_text("OSError: gone")

    def change_year(route):
        response = route.fetch()
        runs = [{**run, "ended_at": "2020-02-03T10:00:00Z"} for run in response.json()["items"]]
        route.fulfill(response=response, json={"items": runs})

    page.route("**/history?*", change_year)
    page.reload()
    expect(page.locator("#runs time")).to_have_text(re.compile("2020"))


def test_large_group_share_shows_a_part_until_asked(server, open_share):
    server.batch([{"op": "put", "id": f"{n:03}", "group": "etl", "run_id": "r"} for n in range(130)])
    page = open_share(server.share(group="etl"))
    expect(page.locator("#bars .bar")).to_have_count(100)
    expect(page.locator("#more")).to_contain_text("100 of 130 bars are shown.")
    page.get_by_role("button", name="Show more").click()
    expect(page.locator("#bars .bar")).to_have_count(130)
    expect(page.locator("#more")).to_be_hidden()
    expect(page.locator("h2", has_text="100")).to_be_focused()


def test_share_page_does_not_contain_its_token(server, open_share):
    server.put("a", group="etl", run_id="r")
    for share in (server.share(group="etl"), server.share(item="a")):
        assert share["token"] not in open_share(share).content()


def test_tabs_of_one_share_use_one_stream(stream_count, server, open_share):
    share = server.share(group="etl")
    pages = [open_share(share) for _ in range(3)]
    server.put("a", group="etl", run_id="r")
    for page in pages:
        expect(page.locator("#bars .bar")).to_have_count(1)
    assert server.count_streams() == stream_count + 1


def test_hidden_share_page_leaves_and_returns_up_to_date(stream_count, server, open_share):
    page = open_share(server.share(group="etl"))
    wait_until(lambda: server.count_streams() == stream_count + 1)
    set_hidden(page, True)
    wait_until(lambda: server.count_streams() == stream_count)
    server.put("a", group="etl", run_id="r")
    set_hidden(page, False)
    expect(page.locator("#bars .bar")).to_have_count(1)


def test_eight_share_pages_do_not_block_the_browser(stream_count, server, open_share):
    """A browser has six connections to a server over HTTP/1.1."""
    shares = [server.share(group=f"group-{n}") for n in range(8)]
    pages = [open_share(share) for share in shares]
    wait_until(lambda: server.count_streams() == stream_count + MAX_STREAMS)
    assert pages[0].evaluate("fetch('../healthz').then((response) => response.status)") == 200
    for n, page in enumerate(pages):
        server.put(f"item-{n}", group=f"group-{n}", run_id="r")
        expect(page.locator("#bars .bar")).to_have_count(1)  # over a stream, or by polling
    for page in pages[:MAX_STREAMS]:
        page.goto("about:blank")
    # A free stream is for a page that polled.
    wait_until(lambda: server.count_streams() == stream_count + MAX_STREAMS)


def test_share_page_opens_no_stream_after_its_end(stream_count, server, open_share):
    share = server.share(group="etl")
    page = open_share(share)
    server.http.delete(f"/api/v1/shares/{share['share_id']}", headers=server.admin).raise_for_status()
    expect(page.locator("#ended-notice")).to_be_visible()
    expect(page.locator("#offline")).to_be_hidden()
    wait_until(lambda: server.count_streams() == stream_count)


def test_group_share_leads_to_its_wall_screen(server, open_share):
    page = open_share(server.share(group="etl"))
    page.get_by_role("button", name="Wall screen").click()
    expect(page).to_have_url(re.compile(r"/s/[^/]+\?tv$"))
    expect(page.locator("html.tv")).to_be_visible()
