"""Background maintenance, twice a second: expire items, sessions and shares, sample runs, trim the history."""

from __future__ import annotations

import asyncio
import logging
import math
from typing import TYPE_CHECKING, Final, Protocol, get_args

from .access.keys import key_ended_at
from .audit_log import log_credential_writes
from .clock import ClockJumpDetector, get_monotonic
from .items.change import list_writes
from .items.serializer import is_stalled
from .logs import are_events_logged, log_event
from .models import EndStatus
from .mutations import DropKey, DropSession, DropShare, TrimHistory, Write

if TYPE_CHECKING:
    from collections.abc import Callable

    from .access.credentials import CredentialCache
    from .active_responses import ActiveResponses
    from .cluster import ClusterSync
    from .hub import Hub
    from .items.board import Board
    from .items.samples import Sampler
    from .notifications.notifier import Notifier
    from .settings import Settings
    from .stores.base import Store
    from .unit_of_work import UnitOfWork

logger = logging.getLogger("progressbar_tracker.server")

MAINTENANCE_INTERVAL = 0.5
"""Seconds between two runs."""

FIRST_TRIM_DELAY = 600.0
"""Seconds after the start until the first trim: a clock that is wrong at the start is set by then."""

TRIM_INTERVAL = 3600.0
"""Seconds between two trims of the history and the keys."""

CLOCK_JUMP_GRACE: Final = 2.0
"""Seconds between a change of the clock and its detection: a run may report by the new clock in this time."""

MAX_CLOCK_LEAD: Final = 86400.0
"""Seconds by which the end of a run may lie in the future; a later end is moved to the current instant."""

MAX_TRIM_DELAY: Final = 10 * 365 * 86400.0
"""The most seconds for which trims of the history wait after the clock was set."""

SESSION_GRACE_SECONDS: Final = 7 * 86400.0
"""Seconds for which expired sessions and shares are kept after the clock was set. They are rejected all the same."""

KEY_RETENTION: Final = 90 * 86400.0
"""Seconds for which an ended key is listed. Items continue to name it as their owner."""

MAX_HISTORY_RUNS: Final = 10_000_000
"""The most runs in the history."""


class MaintainedServices(Protocol):
    """The services that maintenance works on."""

    settings: Settings
    store: Store
    clock: Callable[[], float]
    board: Board
    cluster: ClusterSync | None
    sampler: Sampler
    hub: Hub
    notifier: Notifier
    unit_of_work: UnitOfWork
    credentials: CredentialCache
    responses: ActiveResponses

    @property
    def read_board(self) -> Board:
        """The board that clients read."""

    def is_leader(self) -> bool:
        """Return whether this server runs background maintenance for all servers on its database."""


class Maintenance:
    """The maintenance of one server."""

    def __init__(self, services: MaintainedServices) -> None:
        self._services = services
        self._monotonic = get_monotonic(services.clock)
        self._jumps = ClockJumpDetector(services.clock)
        self._trimmed_at = self._monotonic() - TRIM_INTERVAL + FIRST_TRIM_DELAY

    async def run(self) -> None:
        """Run until cancelled; a failure is logged, and the next run retries."""
        while True:
            await asyncio.sleep(MAINTENANCE_INTERVAL)
            try:
                self.run_once()
            except Exception:
                logger.exception("maintenance failed")

    def run_once(self) -> None:
        """Do everything that is due. In a cluster, only the leader persists the result."""
        services = self._services
        if seconds := self._jumps.poll():
            logger.warning(
                "the clock was set %s by %.0f s: what ends or is deleted after a period waits for another full period",
                "forward" if seconds > 0 else "back",
                abs(seconds),
            )
            self.set_clock(seconds)
        now = services.clock()
        services.credentials.refresh_keys()
        services.responses.end_unauthorized()
        self.sweep_board(now)
        is_leader = services.is_leader()
        touched = services.board.drain_touched()
        writes: list[Write] = services.sampler.poll(touched, services.board.get, now) if is_leader else []
        if self._jumps.is_settled(SESSION_GRACE_SECONDS):
            writes += self._expire_credentials(now)
        if not is_leader:
            return
        if self._monotonic() - self._trimmed_at >= TRIM_INTERVAL:
            self._trimmed_at = self._monotonic()
            writes += self._trim(now)
        if writes:
            services.store.enqueue(writes)

    def sweep_board(self, now: float) -> None:
        """Expire items, and report those that became stalled or late."""
        services = self._services
        services.credentials.poll_staleness()
        read_board, is_leader = services.read_board, services.is_leader()
        rev = read_board.rev
        changes = services.board.sweep(now, expire=is_leader)
        if services.cluster is not None:
            read_board.sweep(now, expire=False)
            read_board.drain_overdue()
        overdue_ids = services.board.drain_overdue()
        services.notifier.sweep(services.board, overdue_ids, now)
        if read_board.rev != rev:
            services.hub.notify()
        if is_leader and are_events_logged():
            for item in filter(None, map(services.board.get, overdue_ids)):
                event = "item stalled" if is_stalled(item, now) else "item late"
                log_event(event, item=item.id, run_id=item.run_id)
        if changes:
            services.unit_of_work.persist_in_background(changes)

    def set_clock(self, seconds: float) -> None:
        """Adjust the board after the clock was set: no run ends, and no period is shortened."""
        services = self._services
        now = services.clock()
        if services.cluster is not None:
            # Each server has its own clock, so stored instants stay.
            services.board.restart_timers(now)
            services.cluster.stored_board.restart_timers(now)
            return
        changes = services.board.set_clock(now, seconds, now - CLOCK_JUMP_GRACE)
        services.store.enqueue(list_writes(changes))
        services.hub.notify()

    def _expire_credentials(self, now: float) -> list[Write]:
        credentials = self._services.credentials
        writes: list[Write] = [DropSession(session.hash) for session in credentials.sessions.expire(now)]
        writes += [DropShare(share.share_id) for share in credentials.shares.expire(now)]
        if writes:
            log_credential_writes(writes)
            self._services.hub.wake()
        return writes

    def _trim(self, now: float) -> list[Write]:
        is_settled, history = self._jumps.is_settled, self._services.settings.history
        # A run that ended in the future ended while the clock was ahead.
        latest = now + MAX_CLOCK_LEAD if is_settled(MAX_CLOCK_LEAD) else math.inf
        writes: list[Write] = [TrimHistory(0.0, max_runs=MAX_HISTORY_RUNS)]
        for status in get_args(EndStatus):
            period = history.seconds_for(status)
            if is_settled(min(period, MAX_TRIM_DELAY)):
                writes.append(TrimHistory(max(now - period, 0.0), status, latest=latest))
        if is_settled(KEY_RETENTION):
            keys = self._services.credentials.keyring.all()
            writes += [DropKey(key.key_id) for key in keys if now - key_ended_at(key) >= KEY_RETENTION]
        return writes
