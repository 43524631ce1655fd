"""Background maintenance, twice a second: expire items, sessions and shares, record runs, trim the history."""

from __future__ import annotations

import asyncio
import logging
import math
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol, get_args

from .access.keys import key_ended_at
from .audit_log import log_credential_writes
from .clock import ClockJumpDetector, get_monotonic
from .items.change import list_writes
from .items.former_run_cache import load_batch
from .items.tail_quota import MAX_TAIL_STORE_BYTES
from .logs import are_events_logged, log_event
from .models import EndStatus, rfc3339
from .mutations import DropKey, DropPingToken, DropSession, DropShare, TrimHistory, TrimTails, Write

if TYPE_CHECKING:
    from collections.abc import Callable

    from .access.credentials import CredentialCache
    from .active_responses import ActiveResponses
    from .cluster import ClusterSync
    from .hub import Hub
    from .items.board import Board
    from .items.condition_watch import ConditionWatch
    from .items.conditions import Conditions
    from .items.curves import CurveRecorder
    from .items.former_run_cache import FormerRunCache
    from .items.samples import Sampler
    from .notifications.notifier import Notifier
    from .pools import Pools
    from .schedules.monitor import ScheduleMonitor
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

MAX_CHECK_GAP: Final = 10.0
"""Seconds between two checks of the clock from which this server counts as suspended."""

MAX_CLOCK_LEAD: Final = 86400.0
"""Seconds by which the end of a run may lie in the future; a later end is moved to the current instant."""

MAX_TRIM_DELAY: Final = 10 * 365 * 86400.0
"""The most seconds for which trims of the history wait after the clock was set."""

SESSION_GRACE_SECONDS: Final = 7 * 86400.0
"""Seconds for which expired sessions and shares are kept after the clock was set. They are rejected all the same."""

SUBSCRIPTION_CHECK_INTERVAL: Final = 60.0
"""Seconds between two checks of push subscriptions for ended sessions; a message to such a one is never sent."""

KEY_RETENTION: Final = 90 * 86400.0
"""Seconds for which an ended key is listed. Items continue to name it as their owner."""

FORMER_RUNS_HOLDER: Final = "former runs"
"""The holder of reads of former runs in their pool."""

MAX_HISTORY_RUNS: Final = 10_000_000
"""The most runs in the history."""


class MaintainedServices(Protocol):
    """The services that maintenance works on."""

    settings: Settings
    store: Store
    clock: Callable[[], float]
    board: Board
    condition_watch: ConditionWatch
    cluster: ClusterSync | None
    sampler: Sampler
    curves: CurveRecorder
    former_runs: FormerRunCache
    pools: Pools
    hub: Hub
    notifier: Notifier
    unit_of_work: UnitOfWork
    credentials: CredentialCache
    responses: ActiveResponses
    conditions: Conditions
    schedule_monitor: ScheduleMonitor

    @property
    def read_board(self) -> Board:
        """The board that clients read."""

    def is_leader(self) -> bool:
        """Return whether this server runs background maintenance for all servers on its database."""


class Maintenance:
    """The maintenance of one server.

    Attributes:
        checked_at: The instant of the latest check of the clock.
    """

    def __init__(self, services: MaintainedServices) -> None:
        self._services = services
        self._monotonic = get_monotonic(services.clock)
        self._jumps = ClockJumpDetector(services.clock)
        self._trimmed_at = self._monotonic() - TRIM_INTERVAL + FIRST_TRIM_DELAY
        self._checked_monotonic = self._monotonic()
        self._was_failing = False
        self._newly_stuck: set[str] = set()
        self._subscriptions_checked_at = self._monotonic()
        self.checked_at = services.clock()

    async def run(self) -> None:
        """Run until cancelled; a failure is logged, and the next run retries."""
        loading: asyncio.Task[None] | None = None
        try:
            while True:
                await asyncio.sleep(MAINTENANCE_INTERVAL)
                try:
                    self.run_once()
                except Exception:
                    logger.exception("maintenance failed")
                if loading is None or loading.done():
                    loading = asyncio.create_task(self.load_former_runs())
        finally:
            if loading is not None:
                loading.cancel()

    async def load_former_runs(self) -> None:
        """Load the former runs that estimates have missed, in a thread that works half of the time at most."""
        services, get_time = self._services, asyncio.get_running_loop().time
        while (batch := services.former_runs.take_batch()) is not None:
            started_at = get_time()
            load = partial(load_batch, services.store, batch, services.clock())
            try:
                loaded = await services.pools.history.run(load, FORMER_RUNS_HOLDER)
            except Exception as error:  # noqa: BLE001  # without former runs, estimates are less precise but work
                services.former_runs.fail_batch(batch, error)
                return
            if changed := services.former_runs.finish_batch(batch, loaded):
                services.read_board.republish(changed)
                services.hub.notify()
            await asyncio.sleep(get_time() - started_at)

    def run_once(self) -> None:
        """Do everything that is due. In a cluster, only the leader persists the result."""
        services = self._services
        self.check_clock()
        now = services.clock()
        services.credentials.refresh_keys()
        services.responses.end_unauthorized()
        self.sweep_board(now)
        is_leader = services.is_leader()
        touched = services.board.drain_touched()
        services.former_runs.poll(touched)
        self._report_conditions(touched | self._newly_stuck, now, is_leader=is_leader)
        self._newly_stuck.clear()
        writes: list[Write] = []
        if is_leader:
            writes += services.sampler.poll(touched, services.board.get, now)
            writes += services.curves.poll(touched, now)
        if self._jumps.is_settled(SESSION_GRACE_SECONDS):
            writes += self._expire_credentials(now)
        if not is_leader:
            return
        writes += self._find_missed_starts(touched, now)
        if self._monotonic() - self._trimmed_at >= TRIM_INTERVAL:
            self._trimmed_at = self._monotonic()
            writes += self._trim(now)
        if writes:
            services.store.enqueue(writes)

    def _report_conditions(self, touched: set[str], now: float, *, is_leader: bool) -> None:
        """Report the items that became stuck or slower."""
        services = self._services
        board = services.board
        found = services.condition_watch.poll(touched, board.get, board.snapshot, now, is_leader=is_leader)
        if not found:
            return
        services.notifier.report_conditions(found, now)
        if slower_ids := [item.id for item, condition in found if condition == "slower"]:
            services.read_board.republish(slower_ids)
            services.hub.notify()
        for item, condition in found:
            log_event(f"item {condition}", item=item.id, run_id=item.run_id)

    def _find_missed_starts(self, touched: set[str], now: float) -> list[Write]:
        """Return the messages about starts that were missed, with the writes that record them."""
        services = self._services
        if services.store.commit_stats.is_failing:
            return []  # no run can report its start
        missed, writes = services.schedule_monitor.poll(touched, now, services.conditions.listening_since)
        for start in missed:
            log_event("item missed", item=start.schedule.id, expected_at=rfc3339(start.expected_at))
        return [*services.notifier.build_missed(missed, services.board.get, now), *writes]

    def check_clock(self) -> None:
        """Adjust to a clock that was set, and to a time in which no run could reach this server."""
        services, counted = self._services, self._monotonic()
        was_paused = not 0 <= counted - self._checked_monotonic <= MAX_CHECK_GAP
        is_failing = services.store.commit_stats.is_failing
        if seconds := self._jumps.poll():
            logger.warning(
                "the clock was set %s by %.0f s: what ends or is deleted after a period waits for another full period",
                "forward" if seconds > 0 else "back",
                abs(seconds),
            )
            self.set_clock(seconds)
        now = services.clock()
        if is_failing:
            services.conditions.listening_since = now
        elif seconds or was_paused or self._was_failing:
            read_board = services.read_board
            rev = read_board.rev
            services.board.resume(now)
            read_board.resume(now)
            if read_board.rev != rev:
                services.hub.notify()
        self.checked_at, self._checked_monotonic, self._was_failing = now, counted, is_failing

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
        overdue = services.board.drain_overdue()
        self._newly_stuck.update(item_id for item_id, condition in overdue if condition == "stuck")
        overdue = [(item_id, condition) for item_id, condition in overdue if condition != "stuck"]
        services.notifier.sweep(services.board, [item_id for item_id, _ in overdue], now)
        if read_board.rev != rev:
            services.hub.notify()
        if is_leader and are_events_logged():
            for item_id, condition in overdue:
                if (item := services.board.get(item_id)) is not None:
                    log_event(f"item {condition}", item=item.id, run_id=item.run_id)
        if changes:
            services.unit_of_work.persist_in_background(changes)

    def set_clock(self, seconds: float) -> None:
        """Adjust the board after the clock was set: no run ends, and no period is shortened."""
        services = self._services
        now = services.clock()
        services.schedule_monitor.set_clock(now, seconds)
        if services.cluster is not None:
            # Each server has its own clock, so stored instants stay.
            services.board.restart_timers(now)
            services.cluster.stored_board.restart_timers(now)
            return
        changes = services.board.set_clock(now, seconds, now - CLOCK_JUMP_GRACE)
        services.curves.set_clock()
        services.store.enqueue(list_writes(changes))
        services.hub.notify()

    def _expire_credentials(self, now: float) -> list[Write]:
        credentials = self._services.credentials
        writes: list[Write] = [DropSession(session.hash) for session in credentials.sessions.expire(now)]
        writes += [DropShare(share.share_id) for share in credentials.shares.expire(now)]
        writes += [DropPingToken(token.token_id) for token in credentials.ping_tokens.expire(now)]
        if writes:
            log_credential_writes(writes)
            self._services.hub.wake()
        if self._monotonic() - self._subscriptions_checked_at >= SUBSCRIPTION_CHECK_INTERVAL:
            self._subscriptions_checked_at = self._monotonic()
            if not credentials.is_stale:
                writes += credentials.drop_ended_subscriptions()
        return writes

    def _trim(self, now: float) -> list[Write]:
        is_settled, history = self._jumps.is_settled, self._services.settings.history
        # A run that ended in the future ended while the clock was ahead.
        latest = now + MAX_CLOCK_LEAD if is_settled(MAX_CLOCK_LEAD) else math.inf
        writes: list[Write] = [TrimHistory(0.0, max_runs=MAX_HISTORY_RUNS), TrimTails(None, MAX_TAIL_STORE_BYTES)]
        for status in get_args(EndStatus):
            period = history.seconds_for(status)
            if is_settled(min(period, MAX_TRIM_DELAY)):
                writes.append(TrimHistory(max(now - period, 0.0), status, latest=latest))
        if is_settled(KEY_RETENTION):
            keys = self._services.credentials.keyring.all()
            writes += [DropKey(key.key_id) for key in keys if now - key_ended_at(key) >= KEY_RETENTION]
        return writes
