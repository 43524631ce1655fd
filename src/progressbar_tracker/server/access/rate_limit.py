"""How many requests a client may send: so many a second in the long run, and some seconds' worth of them at once.

The generic cell rate algorithm: of each client one instant is kept, up to which its requests are paid for. Pure.
"""

from __future__ import annotations

import math
from typing import Final

from progressbar_tracker.server.problems import ProblemError
from progressbar_tracker.server.quota import Quota

WORTH: Final = 10
"""Seconds' worth of requests that may come at once."""

CLIENTS: Final = 10_000
"""The most clients of whom an instant is kept."""


class Allowance:
    """What each client may send.

    Args:
        per_second: Requests a second, in the long run.
    """

    def __init__(self, per_second: int) -> None:
        self._each = 1 / per_second
        self._most = per_second * WORTH
        self._paid: dict[str, float] = {}

    def take(self, who: str, now: float) -> Quota:
        """Take one request; return what is left.

        Args:
            who: The client.
            now: The instant.

        Raises:
            ProblemError: ``rate-limited``.
        """
        # After a clock was set back, nobody waits for it to catch up.
        paid = min(max(self._paid.get(who, now), now), now + WORTH) + self._each
        # Sums of fractions are off by some last digits.
        room = (WORTH - (paid - now)) / self._each
        if room < -1e-6:
            wait = max(1, math.ceil(-room * self._each - 1e-6))
            raise ProblemError(
                "rate-limited",
                f"this key may send {self._most // WORTH} requests a second, and {self._most} at once",
                retry_after=wait,
                quota=Quota("requests", self._most, 0, WORTH, wait),
            )
        if len(self._paid) >= CLIENTS and who not in self._paid:
            self._forget(now)
        self._paid[who] = paid
        return Quota("requests", self._most, int(room + 1e-6), WORTH)

    def _forget(self, now: float) -> None:
        self._paid = {who: paid for who, paid in self._paid.items() if paid > now}
        while len(self._paid) >= CLIENTS:
            del self._paid[next(iter(self._paid))]
