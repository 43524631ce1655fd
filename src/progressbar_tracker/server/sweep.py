"""What happens by itself, twice a second: items expire, fall silent and are sampled, sessions and shares end."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final, get_args

from .keys import over_since
from .logs import tell
from .records import DropKey, DropSession, DropShare, EndStatus, TrimHistory, Write

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from .board import Board
    from .live import Hub
    from .records import KeyRecord
    from .samples import Samples
    from .sessions import Sessions
    from .settings import Periods
    from .shares import Shares
    from .stores.base import Store

logger = logging.getLogger("progressbar_tracker.server")

TICK = 0.5
"""Seconds between two sweeps."""

RARELY = 3600.0
"""Seconds between two looks for what is too old: in the history, and among the keys."""

KEYS: Final = 90 * 86400.0
"""Seconds for which a key that works no more is still told of. Items go on naming their owner."""

RUNS: Final = 10_000_000
"""The most runs that the history remembers."""


class Sweep:
    """The sweeps of one server."""

    def __init__(
        self,
        board: Board,
        store: Store,
        sessions: Sessions,
        samples: Samples,
        shares: Shares,
        *,
        hub: Hub,
        sweep_board: Callable[[float], object],
        leads: Callable[[], bool],
        refresh_keys: Callable[[], object],
        clock: Callable[[], float],
        history: Periods,
        keys: Callable[[], Iterable[KeyRecord]],
    ) -> None:
        self._board = board
        self._store = store
        self._sessions = sessions
        self._samples = samples
        self._shares = shares
        self._hub = hub
        self._sweep_board = sweep_board
        self._leads = leads
        self._refresh_keys = refresh_keys
        self._clock = clock
        self._history = history
        self._keys = keys
        self._trimmed = float("-inf")

    async def run(self) -> None:
        """Sweep until cancelled; what goes wrong once is logged and tried again."""
        while True:
            await asyncio.sleep(TICK)
            try:
                self.once()
            except Exception:
                logger.exception("a sweep failed")

    def once(self) -> None:
        """Do what is due now; of several servers on one database, one writes what comes of it."""
        now = self._clock()
        self._refresh_keys()
        self._sweep_board(now)
        leads = self._leads()
        touched = self._board.touched()
        writes: list[Write] = self._samples.look(touched, self._board.get, now) if leads else []
        if over := self._sessions.expire(now):
            writes += [DropSession(record.hash) for record in over]
            for record in over:
                tell("session ended", session_id=record.session_id)
            self._hub.ring()
        if ended := self._shares.expire(now):
            writes += [DropShare(record.share_id) for record in ended]
            for share in ended:
                tell("share ended", share_id=share.share_id)
            self._hub.ring()
        if not leads:
            return
        if now - self._trimmed >= RARELY:
            self._trimmed = now
            writes.append(TrimHistory(0.0, most=RUNS))
            for status in get_args(EndStatus):
                writes.append(TrimHistory(max(now - self._history.of(status), 0.0), status))
            writes += [DropKey(key.key_id) for key in self._keys() if now - over_since(key) >= KEYS]
        if writes:
            self._store.later(writes)
