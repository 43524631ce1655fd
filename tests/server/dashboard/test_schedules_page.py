"""The page of the schedules, and the schedule on the page of an item."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from progressbar_tracker.server.dashboard import schedules_page

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.server import RunningServer

HOSTILE_ID = "<img src=x onerror=alert(1)>\u202e"


def test_page_lists_schedules_with_missed_ones(server: RunningServer) -> None:
    http, schedules = server.client("write"), server.background.app.services.schedules
    http.put("/api/v1/schedules/a%2Fb", json={"cron": "0 3 * * *", "timezone": "Europe/Paris", "notify": ["phone"]})
    http.put("/api/v1/schedules/late", json={"every": 3600})
    record = schedules.get("late")
    schedules.put(replace(record, missed_at=record.since + 3600))
    page = server.browser().get("/schedules").text
    assert 'href="items/a%2Fb"' in page
    assert "Europe/Paris" in page
    assert "phone" in page
    assert re.search(r'<bdi>late</bdi></a> <strong class="missed">missed</strong> <time', page)


def test_pages_link_to_schedules_only_if_there_are_some(server: RunningServer) -> None:
    browser = server.browser()
    assert 'href="schedules"' not in browser.get("/").text
    assert "No schedules yet" in browser.get("/schedules").text
    server.client("write").put("/api/v1/schedules/a", json={"every": 3600})
    assert 'href="schedules"' in browser.get("/").text


def test_item_page_shows_the_next_expected_start(server: RunningServer) -> None:
    http, browser = server.client("write"), server.browser()
    http.put("/api/v1/items/job", json={})
    assert "Next start expected" not in browser.get("/items/job").text
    http.put("/api/v1/schedules/job", json={"every": 3600})
    assert (
        'Next start expected <span data-part="next"><time datetime="2027-01-15T09:00:00.000Z">'
        in browser.get("/items/job").text
    )
    http.put("/api/v1/schedules/new", json={"every": 3600})
    page = browser.get("/items/new")
    assert (page.status_code, "No run has been reported yet" in page.text) == (404, True)


def test_form_has_the_values_of_a_schedule(server: RunningServer) -> None:
    body = {"every": 5400, "grace": 7200, "group": "etl", "notify": ["phone", "team"]}
    server.client("write").put("/api/v1/schedules/a%2Fb", json=body)
    page = server.browser().get("/schedules?id=a%2Fb").text
    assert "Change the schedule of <bdi>a/b</bdi>" in page
    assert re.search('name="every" type="number"[^>]* value="90"', page)
    assert '<option value="60" selected>minutes</option>' in page
    assert re.search('name="grace" type="number"[^>]* value="2"', page)
    assert 'value="phone, team"' in page
    assert re.search('name="id"[^>]* value="a/b"[^>]* readonly', page)


@pytest.mark.parametrize(("key", "may_set", "changed"), [
    ("admin", True, ["mine", "theirs"]), ("write", True, ["mine"]), ("read", False, []),
])  # fmt: skip
def test_page_offers_changes_to_those_permitted(
    server: RunningServer, key: str, may_set: bool, changed: list[str]
) -> None:
    server.client("write").put("/api/v1/schedules/mine", json={"every": 60})
    server.client("other").put("/api/v1/schedules/theirs", json={"every": 60})
    page = server.client(key).get("/schedules").text
    assert ('id="schedule-form"' in page) is may_set
    assert re.findall('"Delete the schedule of ([^"]*)"', page) == changed
    page = server.client(key).get("/schedules?id=theirs").text
    assert ("Only its owner and administrators can change" in page) is (key != "admin")


def test_guest_gets_no_form(make_server: Callable[..., RunningServer]) -> None:
    served = make_server(public_read=True)
    served.client("write").put("/api/v1/schedules/a", json={"every": 60})
    page = served.client().get("/schedules?id=a").text
    assert "schedule-form" not in page
    assert "Delete the schedule" not in page


def test_page_names_the_schedule_that_was_set(server: RunningServer) -> None:
    server.client("write").put("/api/v1/schedules/a", json={"every": 3600})
    browser = server.browser()
    assert (
        'The schedule of <bdi>a</bdi> is set. Next start expected: <time datetime="2027'
        in browser.get("/schedules?set=a").text
    )
    assert "is set" not in browser.get("/schedules?set=none").text


def test_hostile_text_of_a_schedule_is_text(server: RunningServer) -> None:
    reply = server.client("write").put(
        f"/api/v1/schedules/{HOSTILE_ID.replace('/', '%2F')}", json={"every": 60, "notify": [HOSTILE_ID[:60]]}
    )
    assert reply.status_code == 201
    page = server.browser().get("/schedules").text
    assert "<img" not in page
    assert "<bdi>&lt;img" in page


def test_long_list_of_schedules_has_pages(server: RunningServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedules_page, "MAX_SCHEDULE_PAGE", 2)
    for name in "abc":
        server.client("write").put(f"/api/v1/schedules/{name}%26", json={"every": 60})
    browser = server.browser()
    page = browser.get("/schedules").text
    assert 'href="schedules?after=b%26"' in page
    assert "<bdi>c&amp;</bdi>" in browser.get("/schedules?after=b%26").text
