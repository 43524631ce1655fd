"""Between the event loop and a store's thread: what comes together is committed together, and is told together.

The store's thread is woken once all requests that are at hand have been judged. Woken by the first of them, it would
commit that one alone, and while the loop is busy with the others each of the thread's steps waits for the interpreter's
lock, up to 5 ms. And a hundred waiters of one commit are woken by one call into the loop.
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
    """A commit takes longer than its caller may wait.

    Attributes:
        outcome: Done in the end, with ``None`` or with what the store failed with.
    """

    def __init__(self, outcome: asyncio.Future[Exception | None]) -> None:
        super().__init__("the store does not answer")
        self.outcome = outcome


class Committer:
    """Has writes committed, for those who wait for it on an event loop.

    Args:
        store: Commits them.
        patience: How many seconds to wait for a commit, at the most.
    """

    def __init__(self, store: WriteQueue, timeout: float) -> None:
        self._store = store
        self._timeout = timeout
        self._is_wake_scheduled = False  # the store is going to be woken in this turn of the loop
        self._finished: deque[tuple[asyncio.Future[None], Exception | None]] = deque()
        # Until when who waits, the first to come first, and one timer for the first of them: one for each would cost a
        # twentieth of a create.
        self._waiters: deque[tuple[float, asyncio.Future[None]]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._late_outcomes: dict[
            asyncio.Future[None], asyncio.Future[Exception | None]
        ] = {}  # of those that timed out

    async def commit(self, writes: Sequence[Write]) -> None:
        """Return when the writes are on disk.

        Args:
            writes: All of them are written, or none.

        Raises:
            CommitTimeoutError: It takes longer; they may be written still.
            Exception: What the store failed with.
        """
        # A future of the loop's and a bare callback: a second future, of the kind that threads share, and its lock
        # cost as much as the rest of this.
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[None] = loop.create_future()

        def done(error: Exception | None) -> None:
            self._finished.append((waiter, error))
            # With more than one there, whoever came first has called already.
            if len(self._finished) == 1:
                with contextlib.suppress(RuntimeError):  # the loop is closed, and nobody waits
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
