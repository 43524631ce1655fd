"""Bridge the event loop and a store's thread, with one wake-up per batch in each direction.

The thread is woken after the loop has processed all ready requests. An earlier wake-up would commit the first request
alone. Its thread would also compete with the loop for the interpreter lock, which costs up to 5 ms a step. One call
into the loop resumes all waiters of a commit.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from progressbar_tracker.server.mutations import Write

    from .base import WriteQueue


class CommitTimeoutError(TimeoutError):
    """A commit exceeded its timeout; its outcome is unknown.

    Attributes:
        outcome: Receives the outcome later: ``None``, or the error of the store.
    """

    def __init__(self, outcome: asyncio.Future[Exception | None]) -> None:
        super().__init__("the store does not answer")
        self.outcome = outcome


class Committer:
    """Commits writes for coroutines of one event loop.

    Args:
        store: The store.
        timeout: Seconds to wait for a commit.
    """

    def __init__(self, store: WriteQueue, timeout: float) -> None:
        self._store = store
        self._timeout = timeout
        self._is_wake_scheduled = False  # for the end of this turn of the loop
        self._finished: deque[tuple[asyncio.Future[None], Exception | None]] = deque()
        # Waiters with their deadlines, oldest first, and one timer for the oldest. A timer per waiter would add 5 % to
        # the cost of a create.
        self._waiters: deque[tuple[float, asyncio.Future[None]]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._late_outcomes: dict[
            asyncio.Future[None], asyncio.Future[Exception | None]
        ] = {}  # of those that timed out

    async def commit(self, writes: Sequence[Write]) -> None:
        """Return when the writes are on disk.

        Args:
            writes: Written all or not at all.

        Raises:
            CommitTimeoutError: The timeout passed; the writes may still succeed.
            StoreError: The commit failed.
        """
        # One asyncio future and a plain callback: a concurrent future with its lock would double the cost.
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[None] = loop.create_future()

        def done(error: Exception | None) -> None:
            self._finished.append((waiter, error))
            # With several entries, the first one has already scheduled the call.
            if len(self._finished) == 1:
                with contextlib.suppress(RuntimeError):  # the loop is closed
                    loop.call_soon_threadsafe(self._resolve_waiters)

        if not self._is_wake_scheduled:
            self._is_wake_scheduled = True
            loop.call_soon(self._wake_store)
        self._store.submit(writes, done)
        until = loop.time() + self._timeout
        self._waiters.append((until, waiter))
        if self._timer is None:
            self._timer = loop.call_at(until, self._expire_waiters, loop)
        await waiter

    def _wake_store(self) -> None:
        self._is_wake_scheduled = False
        self._store.wake()

    def _resolve_waiters(self) -> None:
        while self._finished:
            waiter, error = self._finished.popleft()
            if waiter.done():
                outcome = self._late_outcomes.pop(waiter, None)
                if outcome is not None and not outcome.done():
                    outcome.set_result(error)
                continue
            if error is None:
                waiter.set_result(None)
            else:
                waiter.set_exception(error)
        self._prune_waiters()

    def _prune_waiters(self) -> None:
        while self._waiters and self._waiters[0][1].done():
            self._waiters.popleft()

    def _expire_waiters(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        for until, waiter in self._waiters:
            if until > now:
                break
            if not waiter.done():
                outcome: asyncio.Future[Exception | None] = loop.create_future()
                self._late_outcomes[waiter] = outcome
                waiter.set_exception(CommitTimeoutError(outcome))
        self._prune_waiters()
        self._timer = loop.call_at(self._waiters[0][0], self._expire_waiters, loop) if self._waiters else None
