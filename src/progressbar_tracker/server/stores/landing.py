"""How what a store's thread has done comes back to the event loop: one wake-up for all that was committed together."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from concurrent.futures import Future


class Landing:
    """Waits for futures of other threads, as ``asyncio.wrap_future`` does, but not for each by itself.

    A hundred waiters of one commit are woken by one call into the loop. That, and no task and no second future for the
    time-out, halves what a durable write costs.
    """

    def __init__(self) -> None:
        self._landed: deque[tuple[asyncio.Future[None], Future[None]]] = deque()

    async def of(self, future: Future[None], seconds: float) -> None:
        """Return when a future is done.

        Raises:
            TimeoutError: It is not done in time; what it stands for may happen still.
            Exception: What it failed with.
        """
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[None] = loop.create_future()

        def done(future: Future[None]) -> None:
            self._landed.append((waiter, future))
            # With more than one there, whoever came first has called already.
            if len(self._landed) == 1:
                loop.call_soon_threadsafe(self._land)

        timer = loop.call_later(seconds, _late, waiter)
        future.add_done_callback(done)
        try:
            await waiter
        finally:
            timer.cancel()

    def _land(self) -> None:
        while self._landed:
            waiter, future = self._landed.popleft()
            if waiter.done():
                continue
            error = future.exception()
            if error is None:
                waiter.set_result(None)
            else:
                waiter.set_exception(error)


def _late(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_exception(TimeoutError())
