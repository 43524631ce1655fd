"""Ping an external monitor while this server works, so that the monitor notices when the server does not.

The operator sets the URL, and monitors are often in the own network. So private addresses are permitted, as with
``allow_private`` of a webhook. Link-local addresses and those that serve credentials of clouds are not.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from progressbar_tracker.server.threads import run_in_daemon_thread

from .channels import Channel
from .webhooks import DeliveryError, Webhooks

if TYPE_CHECKING:
    from collections.abc import Callable

logger = logging.getLogger("progressbar_tracker.server")

MONITOR_INTERVAL: Final = 60.0
"""Seconds between two pings."""


class MonitorPings:
    """Pings of one server.

    Args:
        url: The URL that is requested; a secret.
        is_healthy: Returns whether the server works; otherwise it does not ping.
        interval: Seconds between two pings.
    """

    def __init__(self, url: str, is_healthy: Callable[[], bool], *, interval: float = MONITOR_INTERVAL) -> None:
        self._channel = Channel(name="monitor", kind="webhook", url=url, allow_private=True)
        self._is_healthy = is_healthy
        self._interval = interval
        self._has_failed = False

    async def run(self) -> None:
        """Ping until cancelled. The first of several failures is logged."""
        while True:
            if self._is_healthy():
                await self.ping_once()
            await asyncio.sleep(self._interval)

    async def ping_once(self) -> None:
        """Ping, and log a failure after a success, or a success after a failure."""
        # A thread of its own: the TLS context takes longer than a request may wait for the event loop.
        error = await run_in_daemon_thread(self._request)
        if error is not None and not self._has_failed:
            logger.warning("the monitor cannot be pinged: %s", error)
        elif error is None and self._has_failed:
            logger.warning("the monitor is pinged again")
        self._has_failed = error is not None

    def _request(self) -> str | None:
        try:
            asyncio.run(Webhooks().ping(self._channel))
        except DeliveryError as error:
            return str(error)
        return None
