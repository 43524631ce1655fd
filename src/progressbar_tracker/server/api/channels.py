"""Notification channels: admins list and test them. Only the operator's file defines them."""

from __future__ import annotations

import asyncio
import secrets
from typing import TYPE_CHECKING, Final

from progressbar_tracker.server.http.blocking import run_while_connected
from progressbar_tracker.server.http.response import Response, json_response
from progressbar_tracker.server.models import DeliveryStats, optional_rfc3339
from progressbar_tracker.server.problems import ProblemError
from progressbar_tracker.server.stores.base import StoreError

if TYPE_CHECKING:
    from progressbar_tracker.server.http.request import Request
    from progressbar_tracker.server.notifications.channels import Channel

TEST_TIMEOUT: Final = 14.0
"""Seconds that a test may take: less than the timeout of the page."""


async def list_channels(request: Request) -> Response:
    """``GET /api/v1/channels``."""
    return json_response({"channels": [_serialize_channel(*row) for row in await read_channel_stats(request)]})


async def test_channel(request: Request) -> Response:
    """``POST /api/v1/channels/{name}/test``: send a test message once, without the outbox."""
    notifier = request.services.notifier
    notifier.refresh()
    channel = notifier.channels.get(request.parse_path_text("name"))
    if channel is None:
        raise ProblemError("not-found", "there is no channel with this name")
    try:
        async with asyncio.timeout(TEST_TIMEOUT):
            error = await notifier.dispatcher.send_test(channel, f"msg_test_{secrets.token_hex(12)}")
    except TimeoutError:
        error = f"{channel.destination} did not answer within {TEST_TIMEOUT:.0f} s"
    return json_response({"delivered": error is None, "detail": error})


async def read_channel_stats(request: Request) -> list[tuple[Channel, DeliveryStats, bool]]:
    """Return each channel with its delivery statistics, and whether it is disabled.

    Raises:
        ProblemError: ``unavailable``.
    """
    services = request.services
    try:
        rows = await run_while_connected(
            request, services.pools.history, lambda _: services.store.read_delivery_stats()
        )
        stats = {row.channel: row for row in rows}
    except StoreError as error:
        raise ProblemError("unavailable", "the outbox cannot be read at the moment", retry_after=5) from error
    notifier = services.notifier
    notifier.refresh()
    return [
        (
            channel,
            stats.get(channel.name) or DeliveryStats(channel=channel.name),
            notifier.dispatcher.is_disabled(channel.name),
        )
        for channel in notifier.channels.all()
    ]


def _serialize_channel(channel: Channel, stats: DeliveryStats, is_disabled: bool) -> dict[str, object]:
    return {
        "name": channel.name,
        "kind": channel.kind,
        "place": channel.destination,
        "on": channel.events,
        "groups": sorted(channel.groups),
        "all": channel.all,
        "off": is_disabled,
        "waiting": stats.waiting,
        "delivered": stats.delivered,
        "given_up": stats.given_up,
        "delivered_at": optional_rfc3339(stats.delivered_at),
        "error": stats.error,
    }
