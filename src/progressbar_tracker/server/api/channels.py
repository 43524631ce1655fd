"""Channels: looked at and tried by admins. What they are stands in the operator's file, and is not changed here."""

from __future__ import annotations

import asyncio
import secrets
from typing import TYPE_CHECKING, Final

from progressbar_tracker.server.http.blocking import run_while_connected
from progressbar_tracker.server.http.request import Call, decoded
from progressbar_tracker.server.http.response import Reply, answer
from progressbar_tracker.server.models import Outcome, rfc3339
from progressbar_tracker.server.problems import ProblemError
from progressbar_tracker.server.stores.base import StoreError

if TYPE_CHECKING:
    from progressbar_tracker.server.notifications.channels import Channel

PATIENCE: Final = 14.0
"""Seconds that a test may take: less than the page waits for it."""


async def listed(call: Call) -> Reply:
    """``GET /api/v1/channels``."""
    return answer({"channels": [_told(*one) for one in await known(call)]})


async def test(call: Call) -> Reply:
    """``POST /api/v1/channels/{name}/test``: a message of its own, which is sent once and not kept."""
    notifier = call.services.notifier
    notifier.refresh()
    channel = notifier.channels.get(decoded(call.path["name"].encode("latin-1")))
    if channel is None:
        raise ProblemError("not-found", "there is no channel with this name")
    try:
        async with asyncio.timeout(PATIENCE):
            why = await notifier.courier.test(channel, f"msg_test_{secrets.token_hex(12)}")
    except TimeoutError:
        why = f"{channel.place} did not answer within {PATIENCE:.0f} s"
    return answer({"delivered": why is None, "detail": why})


async def known(call: Call) -> list[tuple[Channel, Outcome, bool]]:
    """Return each channel with what became of the messages to it, and whether it is off.

    Raises:
        ProblemError: ``unavailable``.
    """
    services = call.services
    try:
        found = await run_while_connected(call, services.pools.past, lambda _: services.store.outcomes())
        outcomes = {one.channel: one for one in found}
    except StoreError as error:
        raise ProblemError("unavailable", "the outbox cannot be read at the moment", retry_after=5) from error
    notifier = services.notifier
    notifier.refresh()
    return [
        (channel, outcomes.get(channel.name) or Outcome(channel=channel.name), notifier.courier.off(channel.name))
        for channel in notifier.channels.all()
    ]


def _told(channel: Channel, outcome: Outcome, off: bool) -> dict[str, object]:
    return {
        "name": channel.name,
        "kind": channel.kind,
        "place": channel.place,
        "on": channel.events,
        "groups": sorted(channel.groups),
        "all": channel.all,
        "off": off,
        "waiting": outcome.waiting,
        "delivered": outcome.delivered,
        "given_up": outcome.given_up,
        "delivered_at": None if outcome.delivered_at is None else rfc3339(outcome.delivered_at),
        "error": outcome.error,
    }
