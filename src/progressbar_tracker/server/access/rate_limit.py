"""Limit the rate of requests of each client, with bursts. Pure.

It uses the generic cell rate algorithm: for each client, it keeps the instant up to which its requests are paid.
"""

from __future__ import annotations

import math
from typing import Final

from progressbar_tracker.server.problems import ProblemError
from progressbar_tracker.server.quota import Quota

BURST_SECONDS: Final = 10
"""Seconds' worth of requests that may arrive at once."""

MAX_CLIENTS: Final = 10_000
"""The most clients whose instant is kept."""


class RateLimiter:
    """The rate limit of each client.

    Args:
        per_second: The average number of requests a second.
    """

    def __init__(self, per_second: int) -> None:
        self._interval = 1 / per_second
        self._burst = per_second * BURST_SECONDS
        self._paid_until: dict[str, float] = {}

    def acquire(self, client: str, now: float) -> Quota:
        """Count a request, and return the remaining quota.

        Args:
            client: The client.
            now: Monotonic seconds.

        Raises:
            ProblemError: ``rate-limited``.
        """
        # No client waits for a clock that was set back.
        paid = min(max(self._paid_until.get(client, now), now), now + BURST_SECONDS) + self._interval
        # The tolerance covers rounding errors of sums.
        remaining = (BURST_SECONDS - (paid - now)) / self._interval
        if remaining < -1e-6:
            wait = max(1, math.ceil(-remaining * self._interval - 1e-6))
            raise ProblemError(
                "rate-limited",
                f"this key may send {self._burst // BURST_SECONDS} requests a second, and {self._burst} at once",
                retry_after=wait,
                quota=Quota("requests", self._burst, 0, BURST_SECONDS, wait),
            )
        if len(self._paid_until) >= MAX_CLIENTS and client not in self._paid_until:
            self._evict_idle(now)
        self._paid_until[client] = paid
        return Quota("requests", self._burst, int(remaining + 1e-6), BURST_SECONDS)

    def _evict_idle(self, now: float) -> None:
        self._paid_until = {client: paid for client, paid in self._paid_until.items() if paid > now}
        while len(self._paid_until) >= MAX_CLIENTS:
            del self._paid_until[next(iter(self._paid_until))]
