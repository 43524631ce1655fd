"""The page of channels, and late items."""

from __future__ import annotations

import re
import time

import pytest

from progressbar_tracker.server.models import rfc3339
from tests.support.webhook_receiver import make_response

pytest.importorskip("playwright.sync_api", reason="install playwright to test the pages in a browser")

from playwright.sync_api import expect


@pytest.fixture
def channels_server(server, receiver, tmp_path):
    """The shared server, with channels during the test."""
    path = tmp_path / "channels.toml"
    path.write_text(
        f'[channels.team]\nurl = "{receiver.url}?VerySecret"\nallow_private = true\ngroups = ["{"g" * 100}"]\n'
        f'[channels.{"x" * 64}]\nurl = "https://{"a" * 60}.example.org/"\nall = true\non = ["late"]\n'
    )
    notifier = server.background.app.services.notifier
    notifier.channels._path = path
    notifier.refresh()
    yield server
    notifier.channels._path = None
    notifier.channels._replace_all(())


def test_channel_test_button_shows_the_delivery_result(channels_server, receiver, visit):
    receiver.script += [make_response(500), make_response(200)]
    page = visit("channels")
    row = page.locator("tr[data-id=team]")
    row.get_by_role("button", name="Test team").click()
    expect(row.get_by_role("status")).to_have_text("Not delivered: 127.0.0.1 answered 500")
    row.get_by_role("button", name="Test team").click()
    expect(row.get_by_role("status")).to_have_text("Delivered.")
    assert len(receiver.received) == 2
    assert "VerySecret" not in page.content()


def test_late_item_is_marked_on_board_and_page(server, visit):
    server.put("a", run_id="r", deadline=rfc3339(time.time() - 125))
    server.put("b", run_id="r", deadline=rfc3339(time.time() + 1))
    page = visit()
    expect(page.locator(".item[data-id=a] .late")).to_have_text(re.compile(r"^\d+ min late$"))
    expect(page.locator(".item[data-id=b] .late")).to_have_text(re.compile(r"^\d+ s late$"))
    server.patch("b", deadline=None)
    expect(page.locator(".item[data-id=b] .late")).to_have_text("")
    page.goto(f"{server.background.url}/items/a")
    expect(page.locator(".bar [data-field=late]")).to_have_text(re.compile(r"^\d+ min late$"))
    expect(page.locator("dl.facts")).to_contain_text("Deadline")
    server.patch("a", status="succeeded")
    expect(page.locator(".bar [data-field=late]")).to_have_text("")
