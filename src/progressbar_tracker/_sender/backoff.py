"""When the client may send again after a failure, and how much at once.

The delay is exponential with full jitter: ``uniform(0, min(cap, base * 2**failures))``. A library would not make this
shorter: tenacity reads the number of failures from its own retry state. It also draws from the global ``random``, so
tests could not inject numbers, and a program that has seeded ``random`` would get different results.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

BACKOFF_BASE: Final = 0.5  # seconds
BACKOFF_CAP: Final = 60.0  # seconds
MAX_BACKOFF_EXPONENT: Final = 10  # 0.5 * 2**10 is beyond the cap; an unbounded exponent would overflow
MAX_BATCH_SIZE: Final = 500  # operations in one request
MAX_INTERVAL_FACTOR: Final = 64.0
INTERVAL_RECOVERY_SECONDS: Final = 60.0  # seconds of success after which doubled intervals shrink by a tenth


class Backoff:
    """The pace of the whole client. Instants are monotonic seconds.

    Args:
        uniform: A source of randomness with the arguments of ``random.uniform``.

    Attributes:
        not_before: The instant before which nothing is sent.
        failure_count: Failures in a row.
        batch_limit: Operations that one request may hold.
        interval_factor: How much longer the intervals are than the program asked for.
    """

    def __init__(self, uniform: Callable[[float, float], float]) -> None:
        self._uniform = uniform
        self.not_before = 0.0
        self.failure_count = 0
        self.batch_limit = MAX_BATCH_SIZE
        self.interval_factor = 1.0
        self._factor_changed_at = 0.0

    def record_success(self, now: float) -> None:
        """End the back-off and lift the batch limit; shorten the intervals if none was doubled for a minute."""
        self.failure_count = 0
        self.not_before = 0.0
        self.batch_limit = MAX_BATCH_SIZE
        if self.interval_factor > 1.0 and now >= self._factor_changed_at + INTERVAL_RECOVERY_SECONDS:
            self.interval_factor, self._factor_changed_at = max(1.0, 0.9 * self.interval_factor), now

    def record_failure(self, now: float, *, retry_after: float | None = None, slow_down: bool = False) -> None:
        """Delay the next request.

        Args:
            now: The instant.
            retry_after: Least seconds until the next request.
            slow_down: Double the intervals, because the server asked for fewer requests.
        """
        if slow_down:
            self.interval_factor, self._factor_changed_at = min(2 * self.interval_factor, MAX_INTERVAL_FACTOR), now
        self.failure_count += 1
        exponent = min(self.failure_count, MAX_BACKOFF_EXPONENT)
        delay = self._uniform(0.0, min(BACKOFF_CAP, BACKOFF_BASE * 2.0**exponent))
        self.not_before = now + max(delay, retry_after or 0.0)

    def pause(self, until: float) -> None:
        """Send nothing before the instant ``until``. The delay does not grow with the number of calls."""
        self.failure_count = max(self.failure_count, 1)
        self.not_before = until

    def halve_batch(self, size: int) -> None:
        """Limit the next requests to half of ``size`` operations, until one succeeds."""
        self.batch_limit = max(2, size // 2)


def draw_uniform(low: float, high: float) -> float:
    """Return a random number from ``low`` to ``high``, without the module ``random``.

    That takes long to import, and a reconciler is made in the program's thread, which may have no file descriptor left
    for an import, or have seeded the global generator.
    """
    return low + (high - low) * int.from_bytes(os.urandom(7), "big") / (1 << 56)
