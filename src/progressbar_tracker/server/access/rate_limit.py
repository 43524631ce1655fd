"""How many requests a client may send: so many a second in the long run, and some seconds' worth of them at once.

The generic cell rate algorithm: of each client one instant is kept, up to which its requests are paid for. Pure.
"""

from __future__ import annotations

import math
from typing import Final

from progressbar_tracker.server.problems import ProblemError
from progressbar_tracker.server.quota import Quota

BURST_SECONDS: Final = 10
"""Seconds' worth of requests that may come at once."""

MAX_CLIENTS: Final = 10_000
"""The most clients of whom an instant is kept."""


class RateLimiter:
    """What each client may send.

    Args:
        per_second: Requests a second, in the long run.
    """

    def __init__(self, per_second: int) -> None:
        self._interval = 1 / per_second
        self._burst = per_second * BURST_SECONDS
        self._paid_until: dict[str, float] = {}

    def acquire(self, client: str, now: float) -> Quota:
        """Take one request; return what is left.

        Args:
            client: The client.
            now: The instant.

        Raises:
            ProblemError: ``rate-limited``.
        """
        # After a clock was set back, nobody waits for it to catch up.
        paid = min(max(self._paid_until.get(client, now), now), now + BURST_SECONDS) + self._interval
        # Sums of fractions are off by some last digits.
        room = (BURST_SECONDS - (paid - now)) / self._interval
        if room < -1e-6:
            wait = max(1, math.ceil(-room * self._interval - 1e-6))
            raise ProblemError(
                "rate-limited",
                f"this key may send {self._burst // BURST_SECONDS} requests a second, and {self._burst} at once",
                retry_after=wait,
                quota=Quota("requests", self._burst, 0, BURST_SECONDS, wait),
            )
        if len(self._paid_until) >= MAX_CLIENTS and client not in self._paid_until:
            self._evict_idle(now)
        self._paid_until[client] = paid
        return Quota("requests", self._burst, int(room + 1e-6), BURST_SECONDS)

    def _evict_idle(self, now: float) -> None:
        self._paid_until = {who: paid for who, paid in self._paid_until.items() if paid > now}
        while len(self._paid_until) >= MAX_CLIENTS:
            del self._paid_until[next(iter(self._paid_until))]
