"""The button that stops a run: in the menu of a row and on the page of an item, with the state from the stream."""

from __future__ import annotations

import pytest

from tests.support.waiting import wait_until

pytest.importorskip("playwright.sync_api", reason="install playwright to test the pages in a browser")

from playwright.sync_api import expect

from .conftest import APPEARANCE_RULES, find_violations, wait_for_fit
from .test_board import find_row, wait_for_stream
from .test_board_controls import expect_focus
from .test_responsive_and_a11y import PHONE_VIEWPORT

HOSTILE_NAME = "<b>ci</b>"


@pytest.fixture
def put_job(server, job):
    """Return a function that creates the item of the test, or changes it; its run is stoppable."""

    def put(**fields):
        server.put(job, **{"title": "Import", "run_id": "r", "stoppable": True, "total": 9, **fields})

    return put


def get_requester(server, job):
    return server.http.get(f"/api/v1/items/{job}").json()["stop_requested_by"]


def find_stop(page):
    return page.get_by_role("button", name="Stop…")


def test_menu_of_a_row_stops_by_keyboard(server, visit, put_job, job):
    put_job()
    page = wait_for_stream(visit())
    page.keyboard.press("j")
    page.keyboard.press("m")
    page.get_by_role("menuitem", name="Stop…").press("Enter")
    dialog = page.get_by_role("dialog", name="Stop Import?")
    expect(dialog.get_by_role("button", name="Cancel")).to_be_focused()
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    assert get_requester(server, job) is None
    expect_focus(page, job)
    page.keyboard.press("m")
    page.get_by_role("menuitem", name="Stop…").press("Enter")
    dialog.get_by_role("button", name="Stop the run").press("Enter")
    expect(find_row(page, job)).to_contain_text("stop requested by operator, waiting for the program")
    expect(page.locator("#undo")).to_contain_text("The stop of Import is requested.")
    page.get_by_role("button", name="Menu of Import").click()
    expect(page.get_by_role("menuitem", name="Copy link")).to_be_visible()
    expect(page.get_by_role("menuitem", name="Stop…")).to_have_count(0)
    page.keyboard.press("Escape")
    put_job(status="stopped")
    expect(find_row(page, job).locator(".stop-request")).to_have_text("stop requested by operator")


@pytest.mark.parametrize("fields", [{"stoppable": False}, {"status": "failed"}], ids=["fixed", "ended"])
def test_run_that_cannot_be_stopped_has_no_button(server, visit, put_job, job, fields):
    put_job(**fields)
    page = wait_for_stream(visit())
    find_row(page, job).get_by_role("button", name="Menu of Import").click()
    expect(page.get_by_role("menuitem", name="Copy link")).to_be_visible()
    expect(page.get_by_role("menuitem", name="Stop…")).to_have_count(0)
    page.goto(f"{server.background.url}/items/{job}")
    expect(page.get_by_role("button", name="Copy link")).to_be_visible()
    expect(page.locator("#item[aria-busy=false] .bar[data-state]")).to_be_visible()
    expect(find_stop(page)).to_have_count(0)


def test_item_page_stops_the_run(server, visit, put_job, job):
    put_job()
    page = visit(f"items/{job}")
    find_stop(page).click()
    page.get_by_role("button", name="Stop the run").click()
    expect(page.get_by_role("status").filter(has_text="stop requested by operator, waiting")).to_be_visible()
    button = page.get_by_role("button", name="Stop requested")
    expect(button).to_have_attribute("aria-disabled", "true")
    expect(button).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog")).to_have_count(0)
    put_job(status="stopped")
    expect(page.locator(".bar .stop-request")).to_have_text("stop requested by operator")
    expect(button).to_have_count(0)
    expect(page.locator("#main")).to_be_focused()


def test_request_of_another_client_arrives_by_the_stream(server, visit, put_job, job):
    put_job()
    page = visit(f"items/{job}")
    expect(find_stop(page)).to_be_visible()
    expect(page.locator(".facts [data-time=stop_requested_at]")).to_be_hidden()
    server.http.post(f"/api/v1/items/{job}:stop", json={}).raise_for_status()
    expect(page.locator(".bar .stop-request")).to_have_text("stop requested by ci, waiting for the program")
    expect(page.locator(".facts [data-time=stop_requested_at]")).to_be_visible()
    expect(page.locator(".facts")).to_contain_text("Stop requestsaccepted")


def test_refused_stop_shows_the_reason(server, visit, profile, put_job, job):
    put_job()
    page = visit(f"items/{job}")
    find_stop(page).click()
    # Another run begins while the reader thinks, and the request names the former one.
    page.route("**/api/v1/items/*:stop", lambda route: route.continue_(post_data={"run_id": "former"}))
    with page.expect_console_message(lambda message: "409" in message.text):
        page.get_by_role("button", name="Stop the run").click()
    expect(page.get_by_role("alert").filter(has_text="The stop was not requested: the item")).to_be_visible()
    assert get_requester(server, job) is None
    wait_until(lambda: profile[1] != [])
    profile[1].clear()  # the browser reports the refusal as an error


def test_history_names_the_requester(server, visit, put_job, job):
    put_job()
    server.http.post(f"/api/v1/items/{job}:stop", json={}).raise_for_status()
    put_job(status="stopped")
    server.delete(job)
    page = visit(f"items/{job}")
    expect(page.locator(".run-table .stop-request")).to_have_text("stop requested by ci")
    page.goto(f"{server.background.url}/history?id={job}")
    expect(page.locator(".run-table .stop-request")).to_have_text("stop requested by ci")


@pytest.mark.parametrize(
    ("rights", "is_offered"),
    [
        ({"stopScope": "all"}, True), ({"stopScope": "own", "userName": "ci"}, True),
        ({"stopScope": "own", "userName": "other"}, False), ({"stopScope": "none", "userName": "ci"}, False),
        ({}, False),
    ],
)  # fmt: skip
def test_stop_is_offered_with_the_permission_only(call, rights, is_offered):
    item = {"id": "a", "owner": "ci", "status": "running", "stoppable": True}
    assert call("stop.js", "mayStop", item, rights) is is_offered
    assert call("stop.js", "mayStop", {**item, "stoppable": False}, rights) is False
    assert call("stop.js", "mayStop", {**item, "status": "stopped"}, rights) is False


@pytest.mark.parametrize(("kind", "scope"), [("read", "none"), ("write", "own"), ("admin", "all")])
def test_pages_know_the_permission_of_the_key(server, job, put_job, kind, scope):
    put_job()
    key = server.background.create_key(kind, f"{kind} key")
    for path in ("/", f"/items/{job}"):
        page = server.http.get(path, headers={"X-API-KEY": key}).raise_for_status().text
        assert f'data-stop-scope="{scope}"' in page
        assert f'data-user-name="{kind} key"' in page


def test_name_of_the_requester_is_text(server, visit, put_job, job):
    put_job()
    key = server.background.create_key("admin", HOSTILE_NAME)
    server.http.post(f"/api/v1/items/{job}:stop", json={}, headers={"X-API-KEY": key}).raise_for_status()
    page = wait_for_stream(visit())
    expect(find_row(page, job).locator(".stop-request")).to_contain_text(HOSTILE_NAME)
    page.goto(f"{server.background.url}/items/{job}")
    expect(page.locator(".bar .stop-request")).to_contain_text(HOSTILE_NAME)


def test_stop_fits_a_phone_and_is_accessible(server, visit, put_job, job):
    put_job(title="W" * 200)
    page = visit(f"items/{job}", PHONE_VIEWPORT)
    find_stop(page).click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_be_visible()
    wait_for_fit(page)
    box = dialog.bounding_box()
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= PHONE_VIEWPORT["width"]
    violations = find_violations(page)
    for scheme in ("dark", "light"):
        page.emulate_media(color_scheme=scheme)
        violations += find_violations(page, *APPEARANCE_RULES)
    page.emulate_media(forced_colors="active")
    violations += find_violations(page, *APPEARANCE_RULES)
    assert dialog.evaluate("node => getComputedStyle(node).borderTopWidth") == "1px"
    page.get_by_role("button", name="Stop the run").click()
    expect(page.locator(".bar .stop-request")).to_contain_text("stop requested by operator")
    wait_for_fit(page)
    page.emulate_media(forced_colors="none")
    wait_until(lambda: find_violations(page) == [])
    assert violations == []
