"""What happens by itself, twice a second: items expire and fall silent, sessions end, changed keys are noticed."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from .records import DropSession, TrimHistory, Write
from .stores.base import Store, StoreError

if TYPE_CHECKING:
    from collections.abc import Callable

    from .board import Board
    from .keys import Keyring
    from .sessions import Sessions

logger = logging.getLogger("progressbar_tracker.server")

TICK = 0.5
"""Seconds between two sweeps."""

RARELY = 3600.0
"""Seconds between two looks for what is too old in the history."""


class Sweep:
    """The sweeps of one server."""

    def __init__(
        self,
        board: Board,
        store: Store,
        ring: Keyring,
        sessions: Sessions,
        *,
        clock: Callable[[], float],
        history_seconds: float,
    ) -> None:
        self._board = board
        self._store = store
        self._ring = ring
        self._sessions = sessions
        self._clock = clock
        self._history_seconds = history_seconds
        self._trimmed = float("-inf")

    async def run(self) -> None:
        """Sweep until cancelled; what goes wrong once is logged and tried again."""
        while True:
            await asyncio.sleep(TICK)
            try:
                await self.once()
            except Exception:
                logger.exception("a sweep failed")

    async def once(self) -> None:
        """Do what is due now."""
        now = self._clock()
        writes: list[Write] = [write for change in self._board.sweep(now) for write in change.writes()]
        writes += [DropSession(record.hash) for record in self._sessions.expire(now)]
        if now - self._trimmed >= RARELY:
            self._trimmed = now
            writes.append(TrimHistory(now - self._history_seconds))
        if writes:
            self._store.later(writes)
        try:
            if await asyncio.to_thread(self._store.keys_rev) != self._ring.rev:
                self._ring.replace_all(*await asyncio.to_thread(self._store.keys))
        except StoreError as error:
            logger.warning("the keys could not be read: %s", error)
