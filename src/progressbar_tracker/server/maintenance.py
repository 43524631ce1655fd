"""What happens by itself, twice a second: items expire, fall silent and are sampled, sessions and shares end."""

from __future__ import annotations

import asyncio
import logging
import math
from typing import TYPE_CHECKING, Final, get_args

from .access.keys import key_ended_at
from .clock import ClockJumpDetector, monotonic_of
from .logs import log_event
from .models import EndStatus
from .mutations import DropKey, DropSession, DropShare, TrimHistory, Write

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from .access.sessions import Sessions
    from .access.shares import Shares
    from .hub import Hub
    from .items.board import Board
    from .items.samples import Sampler
    from .models import KeyRecord
    from .settings import RetentionPolicy
    from .stores.base import Store

logger = logging.getLogger("progressbar_tracker.server")

MAINTENANCE_INTERVAL = 0.5
"""Seconds between two sweeps."""

FIRST_TRIM_DELAY = 600.0
"""Seconds after the start until the first such look: a clock that is wrong at the start is set by then."""

TRIM_INTERVAL = 3600.0
"""Seconds between two looks for what is too old: in the history, and among the keys."""

MAX_CLOCK_LEAD: Final = 86400.0
"""Seconds by which the end of a run may lie in the future before it is taken to have ended now."""

MAX_TRIM_DELAY: Final = 10 * 365 * 86400.0
"""Seconds for which the history waits, at most, after the clock was set."""

SESSION_GRACE_SECONDS: Final = 7 * 86400.0
"""Seconds for which sessions and shares are kept after the clock was set; those that have expired are refused."""

KEY_RETENTION: Final = 90 * 86400.0
"""Seconds for which a key that works no more is still told of. Items go on naming their owner."""

MAX_HISTORY_RUNS: Final = 10_000_000
"""The most runs that the history remembers."""


class Maintenance:
    """The sweeps of one server."""

    def __init__(
        self,
        board: Board,
        store: Store,
        sessions: Sessions,
        sampler: Sampler,
        shares: Shares,
        *,
        hub: Hub,
        sweep_board: Callable[[float], object],
        is_leader: Callable[[], bool],
        refresh_keys: Callable[[], object],
        check_responses: Callable[[], object],
        clock: Callable[[], float],
        set_clock: Callable[[float], object],
        history: RetentionPolicy,
        keys: Callable[[], Iterable[KeyRecord]],
    ) -> None:
        self._board = board
        self._store = store
        self._sessions = sessions
        self._sampler = sampler
        self._shares = shares
        self._hub = hub
        self._sweep_board = sweep_board
        self._is_leader = is_leader
        self._refresh_keys = refresh_keys
        self._check_responses = check_responses
        self._clock = clock
        self._monotonic = monotonic_of(clock)
        self._jumps = ClockJumpDetector(clock)
        self._set_clock = set_clock
        self._history = history
        self._keys = keys
        self._trimmed_at = self._monotonic() - TRIM_INTERVAL + FIRST_TRIM_DELAY

    async def run(self) -> None:
        """Sweep until cancelled; what goes wrong once is logged and tried again."""
        while True:
            await asyncio.sleep(MAINTENANCE_INTERVAL)
            try:
                self.run_once()
            except Exception:
                logger.exception("a sweep failed")

    def run_once(self) -> None:
        """Do what is due now; of several servers on one database, one writes what comes of it."""
        if seconds := self._jumps.poll():
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
        leads = self._is_leader()
        touched = self._board.drain_touched()
        writes: list[Write] = self._sampler.poll(touched, self._board.get, now) if leads else []
        settled = self._jumps.is_settled
        if settled(SESSION_GRACE_SECONDS) and (over := self._sessions.expire(now)):
            writes += [DropSession(record.hash) for record in over]
            for record in over:
                log_event("session ended", session_id=record.session_id)
            self._hub.wake()
        if settled(SESSION_GRACE_SECONDS) and (ended := self._shares.expire(now)):
            writes += [DropShare(record.share_id) for record in ended]
            for share in ended:
                log_event("share ended", share_id=share.share_id)
            self._hub.wake()
        if not leads:
            return
        if self._monotonic() - self._trimmed_at >= TRIM_INTERVAL:
            self._trimmed_at = self._monotonic()
            # What ended in the future ended while the clock was ahead.
            latest = now + MAX_CLOCK_LEAD if settled(MAX_CLOCK_LEAD) else math.inf
            writes.append(TrimHistory(0.0, max_runs=MAX_HISTORY_RUNS))
            for status in get_args(EndStatus):
                period = self._history.seconds_for(status)
                if settled(min(period, MAX_TRIM_DELAY)):
                    writes.append(TrimHistory(max(now - period, 0.0), status, latest=latest))
            if settled(KEY_RETENTION):
                writes += [DropKey(key.key_id) for key in self._keys() if now - key_ended_at(key) >= KEY_RETENTION]
        if writes:
            self._store.enqueue(writes)
