"""``serve --monitor-url``: the server pings a real receiver."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

import pytest

from progressbar_tracker._errors import ConfigError
from progressbar_tracker.server.notifications.monitor_pings import MonitorPings
from progressbar_tracker.server.settings import Settings
from tests.support.webhook_receiver import WebhookReceiver, make_response

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.server import RunningServer


def ping(pings: MonitorPings, count: int = 1) -> None:
    for _ in range(count):
        asyncio.run(pings.ping_once())


def test_server_pings_its_monitor_from_the_start(
    make_server: Callable[..., RunningServer], receiver: WebhookReceiver
) -> None:
    make_server(monitor_url=f"{receiver.url}?token=VerySecret")
    (request,) = receiver.wait(1)
    assert request.line.startswith("GET /hook?token=VerySecret HTTP/1.1")
    assert "x-api-key" not in request.headers


def test_failures_in_a_row_are_logged_once(receiver: WebhookReceiver, caplog: pytest.LogCaptureFixture) -> None:
    pings = MonitorPings(f"{receiver.url}?token=VerySecret", lambda: True)
    receiver.script.extend([make_response(500)] * 3)
    with caplog.at_level(logging.WARNING, "progressbar_tracker.server"):
        ping(pings, 5)
    assert [record.message for record in caplog.records if "monitor" in record.message] == [
        "the monitor cannot be pinged: 127.0.0.1 answered 500", "the monitor is pinged again",
    ]  # fmt: skip
    assert "VerySecret" not in caplog.text


def test_server_that_cannot_write_does_not_ping(receiver: WebhookReceiver) -> None:
    health = [False, True]

    async def run() -> None:
        pings = MonitorPings(receiver.url, lambda: health.pop(0) if health else False, interval=0.01)
        task = asyncio.create_task(pings.run())
        await asyncio.to_thread(receiver.wait, 1)
        task.cancel()

    asyncio.run(run())
    assert (health, len(receiver.received)) == ([], 1)


@pytest.mark.parametrize("host", ["169.254.169.254", "[fe80::1]", "0.0.0.0"])
def test_address_of_cloud_credentials_is_never_pinged(host: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "progressbar_tracker.server"):
        ping(MonitorPings(f"http://{host}/latest/meta-data", lambda: True))
    assert "may not lead to" in caplog.text


def test_redirect_of_a_monitor_is_not_followed(receiver: WebhookReceiver, caplog: pytest.LogCaptureFixture) -> None:
    receiver.script.append(make_response(302, location=receiver.url))
    with caplog.at_level(logging.WARNING, "progressbar_tracker.server"):
        ping(MonitorPings(receiver.url, lambda: True))
    assert len(receiver.received) == 1
    assert "redirects are not followed" in caplog.text


@pytest.mark.parametrize("url", ["host", "ftp://host/x", "http://", "https://host/a b"])
def test_invalid_monitor_url_is_refused_without_its_text(url: str) -> None:
    with pytest.raises(ConfigError, match=r"^PROGRESSBAR_MONITOR_URL must be a URL") as error:
        Settings.from_environ({"PROGRESSBAR_MONITOR_URL": url})
    assert "a b" not in str(error.value)
