"""The connection of the pages: one stream for all tabs, reconnecting, polling, and signing out."""

from __future__ import annotations

import re
import signal
import time

import pytest

from tests.support.waiting import wait_until

pytest.importorskip("playwright.sync_api", reason="install playwright to test the pages in a browser")

from playwright.sync_api import expect

from tests.support.server_process import ADMIN_KEY, ServerProcess

from .conftest import DEFAULT_OPTIONS
from .test_board import find_row, wait_for_stream


def set_hidden(page, is_hidden):
    """Make a tab believe that it is hidden or visible; all tabs are visible without a window."""
    page.evaluate(
        """(isHidden) => {
          Object.defineProperty(document, "hidden", { value: isHidden, configurable: true });
          document.dispatchEvent(new Event("visibilitychange"));
        }""",
        is_hidden,
    )


def test_ten_tabs_share_one_stream_and_reconnect(own_server, own_profile):
    own_server.put("a", title="Import", value=0.25)
    tabs = [own_profile.new_page() for _ in range(10)]
    for tab in tabs:
        tab.goto(own_server.background.url, wait_until="commit")
    for tab in tabs:
        wait_for_stream(tab)
    wait_until(lambda: own_server.count_streams() == 1)
    own_server.stop()
    for tab in tabs:
        expect(tab.locator("#offline")).to_have_text(re.compile(r"This is as of \d+:\d\d:\d\d"))
        expect(tab.locator("body")).to_have_class("offline")
    expect(tabs[0]).to_have_title("offline - 25 % - 1 running")
    own_server.start()
    own_server.patch("a", value=0.5)
    own_server.put("b")
    for tab in tabs:
        expect(find_row(tab, "a").locator(".percent")).to_have_text("50 %")
        expect(find_row(tab, "b")).to_be_visible()
        expect(tab.locator("#offline")).to_be_hidden()
    wait_until(lambda: own_server.count_streams() == 1)
    for tab in tabs[:9]:
        tab.close()
    own_server.put("c")
    expect(find_row(tabs[9], "c")).to_be_visible()
    tabs[9].goto("about:blank")
    wait_until(lambda: own_server.count_streams() == 0)


def test_page_after_server_kill_reconnects_without_loss(tmp_path, chromium):
    server = ServerProcess(tmp_path)
    context = chromium.new_context(**DEFAULT_OPTIONS)
    try:
        with server.http() as http:
            http.put("/api/v1/items/goes", json={}).raise_for_status()
            http.put("/api/v1/items/stays", json={"value": 0.25}).raise_for_status()
        page = context.new_page()
        page.goto(f"{server.url}/login")
        page.get_by_label("Key").fill(ADMIN_KEY)
        page.get_by_role("button", name="Sign in").click()
        wait_for_stream(page)
        server.stop(signal.SIGKILL)
        expect(page.locator("#offline")).to_be_visible()
        server.start()
        with server.http() as http:
            http.delete("/api/v1/items/goes").raise_for_status()
            http.patch("/api/v1/items/stays", json={"value": 0.5}).raise_for_status()
            http.put("/api/v1/items/comes", json={}).raise_for_status()
        expect(page.locator("#offline")).to_be_hidden()
        expect(find_row(page, "comes")).to_be_visible()
        expect(find_row(page, "stays").locator(".percent")).to_have_text("50 %")
        expect(find_row(page, "goes")).to_have_count(0)
    finally:
        context.close()
        server.close()


def test_tab_without_shared_worker_opens_its_own_stream(stream_count, server, unshared_page):
    unshared_page.goto(server.background.url)
    wait_for_stream(unshared_page)
    server.put("a", value=0.5)
    expect(find_row(unshared_page, "a").locator(".percent")).to_have_text("50 %")
    wait_until(lambda: server.count_streams() == stream_count + 1)
    unshared_page.goto("about:blank")
    wait_until(lambda: server.count_streams() == stream_count)


def test_hidden_tab_without_shared_worker_closes_its_stream(stream_count, server, unshared_page):
    unshared_page.goto(server.background.url)
    wait_for_stream(unshared_page)
    wait_until(lambda: server.count_streams() == stream_count + 1)
    set_hidden(unshared_page, True)
    wait_until(lambda: server.count_streams() == stream_count)
    server.put("a")
    set_hidden(unshared_page, False)
    expect(find_row(unshared_page, "a")).to_be_visible()


def test_page_with_blocked_stream_polls_the_list(stream_count, server, unshared_page):
    blocked = []
    unshared_page.route("**/api/v1/events", lambda route: blocked.append(route))
    unshared_page.clock.install()
    unshared_page.goto(server.background.url)
    unshared_page.clock.run_for(5500)
    wait_for_stream(unshared_page)
    server.put("a", value=0.5)
    with unshared_page.expect_response(lambda response: "/api/v1/items" in response.url and response.status == 200):
        unshared_page.clock.run_for(3000)
    expect(find_row(unshared_page, "a").locator(".percent")).to_have_text("50 %")
    assert server.count_streams() == stream_count
    assert blocked


def test_silent_stream_is_reopened(server, unshared_page):
    unshared_page.clock.install()
    unshared_page.goto(server.background.url)
    wait_for_stream(unshared_page)
    with unshared_page.expect_request("**/api/v1/events"):
        unshared_page.clock.run_for(60_000)


def test_silent_stream_is_reopened_after_a_clock_change(server, unshared_page):
    unshared_page.clock.install()
    unshared_page.goto(server.background.url)
    wait_for_stream(unshared_page)
    unshared_page.clock.set_system_time(time.time() - 86_400)
    with unshared_page.expect_request("**/api/v1/events"):
        unshared_page.clock.run_for(60_000)


def test_sign_out_in_one_tab_signs_out_all(own_server, own_profile):
    tabs = [own_profile.new_page() for _ in range(2)]
    for tab in tabs:
        tab.goto(own_server.background.url)
        wait_for_stream(tab)
    tabs[1].get_by_role("button", name="Sign out").click()  # the tab in front
    for tab in tabs:
        expect(tab).to_have_url(re.compile("/login$"))
    assert own_profile.request.get(own_server.background.create_sign_in_url()).ok
    tabs[1].goto(own_server.background.url)
    wait_for_stream(tabs[1])
    own_server.put("a")
    expect(find_row(tabs[1], "a")).to_be_visible()


def test_single_refusal_does_not_sign_out(server, unshared_page):
    """A new sign-in ends the streams of the former session, maybe before the browser has the new cookie."""
    refused, loads = [], []

    def refuse_once(route):
        if refused:
            return route.continue_()
        refused.append(route)
        return route.fulfill(status=401)

    unshared_page.route("**/api/v1/events", refuse_once)
    unshared_page.on("load", lambda page: loads.append(page))
    unshared_page.goto(server.background.url)
    wait_for_stream(unshared_page)
    server.put("a")
    expect(find_row(unshared_page, "a")).to_be_visible()
    assert (len(refused), len(loads)) == (1, 1)


def test_late_tab_receives_the_shared_state(server, visit):
    server.put("a", value=0.5)
    wait_for_stream(visit())
    late = wait_for_stream(visit())
    expect(find_row(late, "a").locator(".percent")).to_have_text("50 %")
    wait_until(lambda: server.count_streams() == 1)  # the streams of the tests before end meanwhile


def test_stream_resumes_after_the_first_list(server, unshared_page):
    server.put("a")
    requests = []

    def add_event_id(route):
        response = route.fetch()
        route.fulfill(response=response, headers={**response.headers, "event-id": "epoch-7"})

    unshared_page.route("**/api/v1/items?*", add_event_id)
    unshared_page.on("request", lambda request: requests.append(request))
    with unshared_page.expect_request("**/api/v1/events") as stream:
        unshared_page.goto(server.background.url)
    assert stream.value.headers["last-event-id"] == "epoch-7"
    paths = [request.url.rpartition("/api/v1/")[2] for request in requests if "/api/v1/" in request.url]
    assert [path for path in paths if not path.startswith("history")] == ["items?limit=10000", "events"]


def test_first_list_of_several_pages_is_complete(server, unshared_page):
    server.batch([{"op": "put", "id": item_id} for item_id in "abc"])
    unshared_page.route("**/api/v1/items?limit=10000", lambda route: route.continue_(url=route.request.url[:-5] + "2"))
    unshared_page.route("**/api/v1/events", lambda route: route.abort())
    unshared_page.goto(server.background.url)
    wait_for_stream(unshared_page)
    assert [find_row(unshared_page, item_id).count() for item_id in "abc"] == [1, 1, 1]


def test_event_parser_joins_events_from_pieces(server, anonymous_page):
    anonymous_page.goto(server.background.url)
    events = anonymous_page.evaluate(
        """async (text) => {
          const { EventParser } = await import("./static/event_parser.js");
          const parsers = [new EventParser(), new EventParser()];
          return [parsers[0].push(text), [...text].flatMap((letter) => parsers[1].push(letter))];
        }""",
        "retry: 2000\n\nid: e-1\nevent: change\ndata: {}\n\nevent: hb\ndata: 1\n\nid: e-2",
    )
    expected = [("", "", ""), ("e-1", "change", "{}"), ("", "hb", "1")]
    assert [[(event["id"], event["name"], event["data"]) for event in found] for found in events] == [
        expected,
        expected,
    ]
