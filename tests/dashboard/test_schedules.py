"""Schedules in a browser: the form, and the next expected start on the page of an item."""

from __future__ import annotations

import re
import time

import pytest
from msgspec.structs import replace

from tests.support.waiting import wait_until

pytest.importorskip("playwright.sync_api", reason="install playwright to test the pages in a browser")

from playwright.sync_api import expect


def get_schedule(server, item_id):
    (schedule,) = server.http.get("/api/v1/schedules", params={"id": item_id}).raise_for_status().json()["schedules"]
    return schedule


def fill_form(page, **values):
    for label, value in values.items():
        page.get_by_label(label.replace("_", " "), exact=True).fill(value)


def find_row(page, item_id):
    return page.locator(f'tr[data-id="{item_id}"]')


def change_record(server, item_id, **fields):
    """Change what the server knows about a schedule, in place of hours that pass."""
    schedules = server.background.app.services.schedules
    schedules.put(replace(schedules.get(item_id), **fields))


def test_schedule_is_set_changed_and_deleted(server, visit):
    page = visit("schedules")
    fill_form(page, Id_of_the_item="a/<b>", Cron_expression="0 3 * * *", Time_zone="Europe/Paris")
    page.get_by_label("Channels, with commas").fill(" phone, ,team ")
    with page.expect_navigation():
        page.get_by_role("button", name="Set", exact=True).click()
    expect(page.locator("#saved")).to_be_focused()
    expect(page.locator("#saved")).to_contain_text("The schedule of a/<b> is set.")
    schedule = get_schedule(server, "a/<b>")
    assert (schedule["cron"], schedule["timezone"], schedule["grace"]) == ("0 3 * * *", "Europe/Paris", 300.0)
    assert (schedule["notify"], schedule["group"]) == (["phone", "team"], None)

    with page.expect_navigation():
        page.get_by_role("link", name="Change the schedule of a/<b>").click()
    page.get_by_role("combobox", name="Expected").select_option("every")
    fill_form(page, Time_between_starts="1.5")
    page.get_by_label("Unit of grace").select_option("hours")
    fill_form(page, Grace="2")
    with page.expect_navigation():
        page.get_by_role("button", name="Change", exact=True).click()
    schedule = get_schedule(server, "a/<b>")
    assert (schedule["cron"], schedule["every"], schedule["grace"]) == (None, 5400.0, 7200.0)

    page.get_by_role("button", name="Delete the schedule of a/<b>").click()
    page.get_by_role("dialog").get_by_role("button", name="Cancel").click()
    page.get_by_role("button", name="Delete the schedule of a/<b>").click()
    with page.expect_navigation():
        page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(page.get_by_role("heading", name="No schedules yet")).to_be_visible()
    assert server.http.get("/api/v1/schedules").json()["schedules"] == []


def test_new_schedule_replaces_another_one_after_a_question(server, visit):
    server.set_schedule("job", every=3600)
    page = visit("schedules")
    page.locator("#edit > summary").click()
    fill_form(page, Id_of_the_item="job", Cron_expression="0 3 * * *", Time_zone="UTC")
    page.get_by_role("button", name="Set", exact=True).click()
    page.get_by_role("dialog").get_by_role("button", name="Cancel").click()
    expect(page.get_by_role("button", name="Set", exact=True)).to_be_enabled()
    assert get_schedule(server, "job")["every"] == 3600.0
    page.get_by_role("button", name="Set", exact=True).click()
    with page.expect_navigation():
        page.get_by_role("dialog").get_by_role("button", name="Replace").click()
    assert get_schedule(server, "job")["cron"] == "0 3 * * *"


def test_new_schedule_has_the_zone_of_the_reader(visit):
    page = visit("schedules", timezone_id="Asia/Tokyo")
    expect(page.get_by_label("Time zone")).to_have_value("Asia/Tokyo")


def test_missing_values_are_named_at_their_fields(server, visit):
    page = visit("schedules")
    page.get_by_role("button", name="Set", exact=True).click()
    field = page.get_by_label("Id of the item")
    expect(field).to_be_focused()
    expect(field).to_have_attribute("aria-invalid", "true")
    expect(field).to_have_accessible_description("This is needed.")
    expect(page.get_by_label("Cron expression", exact=True)).to_have_accessible_description("This is needed.")
    field.fill("job")
    expect(field).not_to_have_attribute("aria-invalid", "true")
    assert server.http.get("/api/v1/schedules").json()["schedules"] == []


@pytest.mark.parametrize(("label", "value", "message"), [
    ("Cron expression", "* * *", "five fields"), ("Time zone", "Mars/Olympus", "must be a time zone"),
    ("Grace", "1", "10 s to 7 days, in whole seconds"),
])  # fmt: skip
def test_refused_value_is_explained_at_its_field(visit, profile, label, value, message):
    page = visit("schedules")
    fill_form(page, Id_of_the_item="job", Cron_expression="0 3 * * *", Time_zone="UTC")
    page.get_by_label("Unit of grace").select_option("seconds")
    field = page.get_by_label(label, exact=True)
    field.fill(value)
    page.get_by_role("button", name="Set", exact=True).click()
    expect(field).to_have_accessible_description(re.compile(message))
    expect(field).to_be_focused()
    expect(page.get_by_role("button", name="Set", exact=True)).to_be_enabled()
    profile[1].clear()  # Chromium reports the 422


def test_item_of_another_key_is_refused_with_the_reason(chromium, server):
    """A reader who signs in with a write key sets schedules of its own items only."""
    server.http.put("/api/v1/items/theirs", json={}, headers=server.admin).raise_for_status()
    context = chromium.new_context(reduced_motion="reduce")
    context.set_default_timeout(60_000)
    page = context.new_page()
    page.goto(f"{server.background.url}/login?next=schedules")
    page.get_by_label("Key").fill(server.key)
    page.get_by_role("button", name="Sign in").click()
    fill_form(page, Id_of_the_item="theirs", Cron_expression="0 3 * * *", Time_zone="UTC")
    page.get_by_role("button", name="Set", exact=True).click()
    expect(page.locator("#problem")).to_contain_text("belongs to another key")
    context.close()


def test_new_run_moves_the_next_expected_start(server, visit, job):
    server.put(job, run_id="first", status="succeeded")
    server.set_schedule(job, every=3600)
    page = visit(f"items/{job}")
    line = page.locator("#schedule [data-part=next] time")
    expect(line).to_be_visible()
    change_record(server, job, since=time.time() - 1800, started_at=time.time() - 1800)
    before = get_schedule(server, job)["next_at"]
    server.put(job, run_id="second")
    wait_until(lambda: get_schedule(server, job)["next_at"] != before)
    expect(line).to_have_attribute("datetime", get_schedule(server, job)["next_at"])


def test_expected_start_that_has_come_is_marked(server, visit, profile, job):
    server.set_schedule(job, every=3600)
    change_record(server, job, since=time.time() - 3598, started_at=0.0)
    page = visit(f"items/{job}")
    expect(page.locator("#schedule")).to_contain_text("(now)")
    profile[1].clear()  # Chromium reports the 404


def test_missed_start_and_new_rule_are_shown_when_the_page_is(server, visit, job):
    server.put(job, run_id="first", status="succeeded")
    server.set_schedule(job, every=3600)
    page = visit(f"items/{job}")
    expect(page.locator("#schedule [data-part=missed]")).to_be_hidden()
    server.set_schedule(job, every=7200)
    change_record(server, job, since=time.time() - 7300, missed_at=time.time())
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    expect(page.locator("#schedule [data-part=missed]")).to_be_visible()
    expect(page.locator("#schedule")).to_contain_text("every 2 h")
    server.http.delete(f"/api/v1/schedules/{job}").raise_for_status()
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    expect(page.locator("#schedule")).to_be_hidden()


def test_first_run_of_a_scheduled_item_opens_its_page(server, visit, profile, job):
    server.set_schedule(job, every=3600)
    page = visit(f"items/{job}")
    expect(page.get_by_text("No run has been reported yet.")).to_be_visible()
    server.put(job, title="The first run")
    expect(page.get_by_role("heading", name="The first run")).to_be_visible()
    profile[1].clear()  # Chromium reports the 404


def test_period_is_prose_and_absent_channels_are_hidden(visit, server):
    """A period is words, not code; on a phone, a cell without channels has no label."""
    server.set_schedule("sync", every=200_000, grace=600)
    page = visit("schedules", size={"width": 390, "height": 800})
    row = page.locator("tr[data-id=sync]")
    expect(row).to_contain_text("every 2 days 8 h")
    expect(row.locator("code")).to_have_count(0)
    expect(row.locator("[data-label=Channels]")).to_be_hidden()
