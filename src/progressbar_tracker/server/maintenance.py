"""What happens by itself, twice a second: items expire, fall silent and are sampled, sessions and shares end."""

from __future__ import annotations

import asyncio
import logging
import math
from typing import TYPE_CHECKING, Final, get_args

from .access.keys import over_since
from .clock import Jumps, monotonic_of
from .logs import tell
from .models import DropKey, DropSession, DropShare, EndStatus, TrimHistory, Write

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from .access.sessions import Sessions
    from .access.shares import Shares
    from .hub import Hub
    from .items.board import Board
    from .items.samples import Samples
    from .models import KeyRecord
    from .settings import Periods
    from .stores.base import Store

logger = logging.getLogger("progressbar_tracker.server")

TICK = 0.5
"""Seconds between two sweeps."""

FIRST = 600.0
"""Seconds after the start until the first such look: a clock that is wrong at the start is set by then."""

RARELY = 3600.0
"""Seconds between two looks for what is too old: in the history, and among the keys."""

AHEAD: Final = 86400.0
"""Seconds by which the end of a run may lie in the future before it is taken to have ended now."""

MAX_WAIT: Final = 10 * 365 * 86400.0
"""Seconds for which the history waits, at most, after the clock was set."""

SESSIONS: Final = 7 * 86400.0
"""Seconds for which sessions and shares are kept after the clock was set; those that have expired are refused."""

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
        check_responses: Callable[[], object],
        clock: Callable[[], float],
        set_clock: Callable[[float], object],
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
        self._check_responses = check_responses
        self._clock = clock
        self._monotonic = monotonic_of(clock)
        self._jumps = Jumps(clock)
        self._set_clock = set_clock
        self._history = history
        self._keys = keys
        self._trimmed = self._monotonic() - RARELY + FIRST

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
        if seconds := self._jumps.look():
            logger.warning(
                "the clock was set %s by %.0f s: what ends or is deleted after a period waits for another full period",
                "forward" if seconds > 0 else "back",
                abs(seconds),
            )
            self._set_clock(seconds)
        now = self._clock()
        self._refresh_keys()
        self._check_responses()
        self._sweep_board(now)
        leads = self._leads()
        touched = self._board.touched()
        writes: list[Write] = self._samples.look(touched, self._board.get, now) if leads else []
        settled = self._jumps.is_settled
        if settled(SESSIONS) and (over := self._sessions.expire(now)):
            writes += [DropSession(record.hash) for record in over]
            for record in over:
                tell("session ended", session_id=record.session_id)
            self._hub.ring()
        if settled(SESSIONS) and (ended := self._shares.expire(now)):
            writes += [DropShare(record.share_id) for record in ended]
            for share in ended:
                tell("share ended", share_id=share.share_id)
            self._hub.ring()
        if not leads:
            return
        if self._monotonic() - self._trimmed >= RARELY:
            self._trimmed = self._monotonic()
            # What ended in the future ended while the clock was ahead.
            latest = now + AHEAD if settled(AHEAD) else math.inf
            writes.append(TrimHistory(0.0, most=RUNS))
            for status in get_args(EndStatus):
                period = self._history.of(status)
                if settled(min(period, MAX_WAIT)):
                    writes.append(TrimHistory(max(now - period, 0.0), status, latest=latest))
            if settled(KEYS):
                writes += [DropKey(key.key_id) for key in self._keys() if now - over_since(key) >= KEYS]
        if writes:
            self._store.later(writes)
