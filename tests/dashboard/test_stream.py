"""The connection of the page: one for all tabs, and back by itself."""

from __future__ import annotations

import re
import signal

import pytest

pytest.importorskip("playwright.sync_api", reason="install playwright to test the pages in a browser")

from playwright.sync_api import expect

from progressbar_tracker.server import hub as server_live
from tests.support.browser_site import until
from tests.support.server_process import ADMIN_KEY, Serving

from .conftest import USUAL
from .test_board import live, row


def streams(site):
    return site.server.app.services.hub.streams


def test_ten_tabs_have_one_stream_all_come_back_after_a_restart_and_the_last_one_ends_it(own_site, own_profile):
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
    own_site.put("b")
    for tab in tabs:
        expect(row(tab, "a").locator(".percent")).to_have_text("50 %")
        expect(row(tab, "b")).to_be_visible()
        expect(tab.locator("#offline")).to_be_hidden()
    assert streams(own_site) == 1
    for tab in tabs[:9]:
        tab.close()
    own_site.put("c")
    expect(row(tabs[9], "c")).to_be_visible()
    tabs[9].goto("about:blank")
    until(lambda: streams(own_site) == 0)


def test_a_server_that_is_killed_and_started_again_is_come_back_to_and_nothing_is_missed(tmp_path, chromium):
    serving = Serving(tmp_path)
    context = chromium.new_context(**USUAL)
    try:
        with serving.http() as http:
            http.put("/api/v1/items/goes", json={}).raise_for_status()
            http.put("/api/v1/items/stays", json={"value": 0.25}).raise_for_status()
        page = context.new_page()
        page.goto(f"{serving.url}/login")
        page.get_by_label("Key").fill(ADMIN_KEY)
        page.get_by_role("button", name="Sign in").click()
        live(page)
        serving.stop(signal.SIGKILL)
        expect(page.locator("#offline")).to_be_visible()
        serving.start()
        with serving.http() as http:
            http.delete("/api/v1/items/goes").raise_for_status()
            http.patch("/api/v1/items/stays", json={"value": 0.5}).raise_for_status()
            http.put("/api/v1/items/comes", json={}).raise_for_status()
        expect(page.locator("#offline")).to_be_hidden(timeout=15_000)
        expect(row(page, "comes")).to_be_visible()
        expect(row(page, "stays").locator(".percent")).to_have_text("50 %")
        expect(row(page, "goes")).to_have_count(0)
    finally:
        context.close()
        serving.close()


def test_a_tab_without_a_shared_worker_has_a_stream_of_its_own(site, alone):
    before = streams(site)
    alone.goto(site.server.url)
    live(alone)
    site.put("a", value=0.5)
    expect(row(alone, "a").locator(".percent")).to_have_text("50 %")
    assert streams(site) == before + 1
    alone.goto("about:blank")
    until(lambda: streams(site) == before)


def test_where_a_stream_is_held_back_the_list_is_asked_for(site, alone):
    before = streams(site)
    held = []
    alone.route("**/api/v1/events", lambda route: held.append(route))
    alone.clock.install()
    alone.goto(site.server.url)
    alone.clock.run_for(5500)
    live(alone)
    site.put("a", value=0.5)
    with alone.expect_response(lambda reply: "/api/v1/items" in reply.url and reply.status == 200):
        alone.clock.run_for(3000)
    expect(row(alone, "a").locator(".percent")).to_have_text("50 %")
    assert streams(site) == before
    assert held


def test_a_stream_that_falls_silent_is_opened_again(site, alone):
    alone.clock.install()
    alone.goto(site.server.url)
    live(alone)
    with alone.expect_request("**/api/v1/events"):
        alone.clock.run_for(60_000)


def test_who_signs_out_in_one_tab_is_signed_out_in_all(own_site, own_profile):
    tabs = [own_profile.new_page() for _ in range(2)]
    for tab in tabs:
        tab.goto(own_site.server.url)
        live(tab)
    tabs[1].get_by_role("button", name="Sign out").click()  # that which is in front
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
