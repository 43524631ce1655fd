"""The connection of the page: one for all tabs, and back by itself."""

from __future__ import annotations

import re

import pytest

pytest.importorskip("playwright.sync_api", reason="install playwright to test the pages in a browser")

from playwright.sync_api import expect

from progressbar_tracker.server import live as server_live

from .site import until
from .test_board import live, row

ALONE = "Object.defineProperty(window, 'SharedWorker', { value: undefined });"


def streams(site):
    return site.server.app.services.hub.streams


def test_ten_tabs_have_one_stream_and_all_come_back_after_a_restart(own_site, own_profile):
    own_site.put("a", title="Import", value=0.25)
    tabs = [own_profile.new_page() for _ in range(10)]
    for tab in tabs:
        tab.goto(own_site.server.url, wait_until="commit")
    for tab in tabs:
        live(tab)
    assert streams(own_site) == 1
    own_site.stop()
    for tab in tabs:
        expect(tab.locator("#offline")).to_have_text(re.compile(r"This is as of \d+:\d\d:\d\d"))
        expect(tab.locator("body")).to_have_class("offline")
    expect(tabs[0]).to_have_title("offline - 25 % - 1 running")
    own_site.start()
    own_site.patch("a", value=0.5)
    for tab in tabs:
        expect(row(tab, "a").locator(".percent")).to_have_text("50 %")
        expect(tab.locator("#offline")).to_be_hidden()
    assert streams(own_site) == 1


def test_a_tab_without_a_shared_worker_has_a_stream_of_its_own(own_site, own_profile):
    own_profile.add_init_script(ALONE)
    page = own_profile.new_page()
    page.goto(own_site.server.url)
    live(page)
    own_site.put("a", value=0.5)
    expect(row(page, "a").locator(".percent")).to_have_text("50 %")
    assert streams(own_site) == 1
    page.goto("about:blank")
    until(lambda: streams(own_site) == 0)


def test_a_stream_ends_with_the_last_tab(own_site, own_profile):
    tabs = [own_profile.new_page() for _ in range(2)]
    for tab in tabs:
        tab.goto(own_site.server.url)
        live(tab)
    tabs[0].goto("about:blank")
    own_site.put("a")
    expect(row(tabs[1], "a")).to_be_visible()
    tabs[1].goto("about:blank")
    until(lambda: streams(own_site) == 0)


def test_where_a_stream_is_held_back_the_list_is_asked_for(own_site, own_profile):
    own_profile.add_init_script(ALONE)
    page = own_profile.new_page()
    held = []
    page.route("**/api/v1/events", lambda route: held.append(route))
    page.clock.install()
    page.goto(own_site.server.url)
    page.clock.run_for(5500)
    live(page)
    own_site.put("a", value=0.5)
    with page.expect_response(lambda reply: "/api/v1/items" in reply.url and reply.status == 200):
        page.clock.run_for(3000)
    expect(row(page, "a").locator(".percent")).to_have_text("50 %")
    assert streams(own_site) == 0
    assert held


def test_a_stream_that_falls_silent_is_opened_again(own_site, own_profile):
    own_profile.add_init_script(ALONE)
    page = own_profile.new_page()
    page.clock.install()
    page.goto(own_site.server.url)
    live(page)
    with page.expect_request("**/api/v1/events"):
        page.clock.run_for(60_000)


def test_who_signs_out_in_one_tab_is_signed_out_in_all(own_site, own_profile):
    tabs = [own_profile.new_page() for _ in range(2)]
    for tab in tabs:
        tab.goto(own_site.server.url)
        live(tab)
    tabs[0].get_by_role("button", name="Sign out").click()
    for tab in tabs:
        expect(tab).to_have_url(re.compile("/login$"))
    assert own_profile.request.get(own_site.server.sign_in_url()).ok
    tabs[1].goto(own_site.server.url)
    live(tabs[1])
    own_site.put("a")
    expect(row(tabs[1], "a")).to_be_visible()


def test_a_new_tab_is_not_taken_back_to_what_the_stream_has_told_so_far(site, visit, monkeypatch):
    site.put("a")
    first = live(visit())
    monkeypatch.setattr(server_live, "TICK", 0.8)
    site.put("b")
    expect(row(first, "b")).to_be_visible()
    site.put("c")  # and the stream tells of it when the tick is over
    late = live(visit())
    assert [row(late, item_id).count() for item_id in "abc"] == [1, 1, 1]


def test_who_comes_late_is_given_what_the_others_see(site, visit):
    site.put("a", value=0.5)
    live(visit())
    late = live(visit())
    expect(row(late, "a").locator(".percent")).to_have_text("50 %")
    assert streams(site) == 1
