"""The composition root: build the parts of a server and connect them."""

from __future__ import annotations

import asyncio
import math
import threading
from typing import TYPE_CHECKING, Any, Final

from . import logs
from .access import sessions
from .access.credentials import CredentialCache
from .access.devices import DEVICE_COOKIE_PREFIX
from .access.ping_tokens import PINGS_PER_SECOND
from .access.rate_limit import RateLimiter
from .access.subscriptions import Subscriptions
from .active_responses import ActiveResponses
from .budget import MAX_EXPORTS, ByteBudget, Slots
from .clock import JUMP_SECONDS, get_monotonic
from .cluster import ClusterSync
from .counters import RequestMetrics
from .hosts import AllowedHosts
from .hub import Hub
from .items.board import Board
from .items.condition_watch import ConditionWatch
from .items.conditions import Conditions
from .items.curves import CurveRecorder
from .items.forecast import Forecaster
from .items.former_run_cache import FormerRunCache
from .items.samples import Sampler
from .items.serializer import ItemSerializer
from .maintenance import Maintenance
from .metrics import Metrics
from .notifications.notifier import Notifier
from .pools import Pools
from .proxies import TrustedProxies
from .schedules.monitor import ScheduleMonitor
from .schedules.table import Schedules
from .unit_of_work import UnitOfWork

if TYPE_CHECKING:
    from collections.abc import Callable

    from .models import Item
    from .settings import Settings
    from .stores.base import ChangeBatch, Credentials, Store

ABANDON_DELAY: Final = 2.0
"""Seconds after a signal until a database that does not answer is abandoned; the shutdown takes five at most."""


class Services:
    """The parts of one server.

    Args:
        settings: The settings.
        store: Persists the state, which is loaded here.
        clock: Returns seconds since the epoch.
        boot_id: Differs each time the server starts.
        new_run_id: Returns a run id for a client that sends none.
        version: The version of the server.
        openapi: Returns the OpenAPI document.

    Attributes:
        is_draining: The server will stop soon, and balancers should send no more requests.
        is_stopping: The server finishes requests in flight and accepts no more work.
        keys_lock: Held by a request that changes keys.
    """

    def __init__(
        self,
        settings: Settings,
        store: Store,
        *,
        clock: Callable[[], float],
        boot_id: str,
        new_run_id: Callable[[], str],
        version: str,
        openapi: Callable[[], dict[str, Any]],
    ) -> None:
        stored = store.load()
        shared = store.shared
        self.settings = settings
        self.store = store
        self.clock = clock
        self.monotonic = get_monotonic(clock)
        self.boot_id = boot_id
        self.openapi = openapi
        self.is_draining = self.is_stopping = False

        self.former_runs = FormerRunCache(lambda item_id: self.board.get(item_id), clock, self.monotonic, stored.items)
        self.conditions = Conditions(
            stall_after=None if settings.stall_after == math.inf else settings.stall_after,
            detect_stuck=settings.stuck,
            forecaster=Forecaster(self.former_runs.get),
        )
        self.conditions.listening_since = clock()
        self.serializer = ItemSerializer(self.conditions)
        self.board = Board(
            max_items=settings.max_items, new_run_id=new_run_id, items=stored.items, track_changes=shared is None,
            keep=settings.keep, give_up=settings.give_up, conditions=self.conditions,
        )  # fmt: skip
        self.cluster = None if shared is None else ClusterSync(shared, self.board)
        if self.cluster is None:
            self.board.set_clock(clock(), 0.0, 0.0)
        self.condition_watch = ConditionWatch(self.conditions)
        self.sampler = Sampler(stored.sampled_runs)
        self.curves = CurveRecorder(stored.curves, self.board.get)
        self.schedules = Schedules(stored.schedules)
        self.schedule_monitor = ScheduleMonitor(
            self.schedules, self.board.get, stored.schedule_mark if shared is None else None
        )
        self.hub = Hub(
            self.read_board,
            self.serializer,
            epoch=self.epoch,
            clock=clock,
            get_rev=None if self.cluster is None else self.cluster.get_rev,
            monotonic=self.monotonic,
        )
        subscriptions = Subscriptions(stored.subscriptions)
        self.notifier = Notifier(
            settings.channels,
            store,
            self.serializer,
            subscriptions=subscriptions,
            get_holders=lambda: self.credentials,
            end_subscription=lambda name, endpoint: self.credentials.end_subscription(name, endpoint),
            push_origins=settings.list_push_origins(),
            public_url=settings.public_url,
            is_leader=self.is_leader,
            clock=clock,
        )
        self.unit_of_work = UnitOfWork(store, self.board, self.cluster, self.hub, self.notifier, clock)

        database_id = store.database_id
        self.cookie_names = sessions.cookie_names(database_id, settings.base_path)
        self.device_cookie_names = sessions.cookie_names(database_id, settings.base_path, DEVICE_COOKIE_PREFIX)
        self.return_cookie_names = sessions.cookie_names(database_id, settings.base_path, sessions.RETURN_COOKIE_PREFIX)
        self.password = (
            None
            if settings.admin_username is None or settings.admin_password is None
            else sessions.Password(settings.admin_username, settings.admin_password, database_id)
        )
        # Sessions of one-time links depend on the password, too: they end if it changes or is removed.
        self.operator_credential = sessions.LINK_CREDENTIAL if self.password is None else self.password.fingerprint
        self.credentials = CredentialCache(
            stored,
            store,
            settings,
            subscriptions=subscriptions,
            operator_credential=self.operator_credential,
            hub=self.hub,
            commit=self.unit_of_work.commit,
            clock=clock,
        )
        self.keyring = self.credentials.keyring
        self.sessions = self.credentials.sessions
        self.shares = self.credentials.shares
        self.sign_in_links = sessions.SignInLinks(settings.sign_in_seconds)
        self.sign_in_attempts = sessions.SignInAttempts()
        self.keys_lock = asyncio.Lock()

        self.proxies = TrustedProxies(settings.trusted_proxies)
        self.hosts = AllowedHosts(settings.allowed_hosts, listens_on=settings.host, public_url=settings.public_url)
        self.rate_limiter = RateLimiter(settings.max_requests) if settings.max_requests else None
        self.ping_limiter = RateLimiter(PINGS_PER_SECOND)
        self.budget = ByteBudget(settings.max_unread * 1024 * 1024)
        self.export_slots = Slots("exports", MAX_EXPORTS)
        self.pools = Pools()
        self.responses = ActiveResponses()
        self.rendered_docs: dict[object, bytes] = {}
        self.request_metrics = RequestMetrics()
        self.metrics = Metrics(self, version)
        self.maintenance = Maintenance(self)

    def drain(self) -> None:
        """Ask for no more work: the readiness check fails, and each response closes its connection."""
        logs.log_event("server draining", seconds=self.settings.drain)
        self.is_draining = True

    def stop(self) -> None:
        """Accept no more work, and end all streams."""
        logs.log_event("server stopping", streams=self.hub.stream_count)
        self.is_draining = self.is_stopping = True
        self.hub.close()
        if (shared := self.store.shared) is not None:
            timer = threading.Timer(ABANDON_DELAY, shared.abandon)
            timer.daemon = True
            timer.start()

    def follow_cluster(self) -> None:
        """Apply the changes of other servers from now on, in the running event loop."""
        if self.cluster is not None:
            self.cluster.follow(
                notify=self.hub.notify,
                apply_credentials=self.credentials.replace_all,
                apply_samples=self.sampler.replace_all,
                apply_curves=self.curves.replace_all,
                apply_schedules=self._apply_schedules,
                item_changed=self.notifier.item_changed,
                restart=self._restart_streams,
            )

    def _apply_schedules(self, batch: ChangeBatch) -> None:
        self.schedules.apply(batch.schedules, is_full=batch.all_schedules, keep_starts=self.is_leader())
        if batch.schedule_mark is not None:
            self.schedule_monitor.restart(batch.schedule_mark)

    def _restart_streams(self, epoch: str, credentials: Credentials) -> None:
        self.credentials.replace_all(credentials, is_restart=True)
        self.hub.restart(epoch)

    def now(self) -> float:
        """Return the instant of a request, after the board is adjusted to a clock that was set or has stood still."""
        now = self.clock()
        # The time since the latest check hides a part of a jump.
        if abs(now - self.maintenance.checked_at) > JUMP_SECONDS / 2:
            self.maintenance.check_clock()
        return now

    @property
    def read_board(self) -> Board:
        """The board that clients read: in a cluster, the one with the stored items."""
        return self.board if self.cluster is None else self.cluster.stored_board

    @property
    def epoch(self) -> str:
        """The sequence of revisions: all servers on one database share it, and it changes in a failover."""
        return self.boot_id if self.cluster is None else self.cluster.epoch

    @property
    def rev(self) -> int:
        """The revision of :attr:`read_board`."""
        return self.board.rev if self.cluster is None else self.cluster.rev

    def is_leader(self) -> bool:
        """Return whether this server runs background maintenance for all servers on its database."""
        return self.cluster is None or self.cluster.is_leader

    async def require_item(self, item_id: str) -> Item:
        """Return an item of any server.

        Raises:
            ProblemError: ``item-not-found`` or ``unavailable``.
        """
        await self.fetch_item(item_id)
        return self.board.require(item_id)

    async def fetch_item(self, item_id: str) -> None:
        """Load an item of another server into the board if it is missing.

        Raises:
            ProblemError: ``unavailable``.
        """
        if self.cluster is not None and self.board.get(item_id) is None:
            await self.cluster.fetch([item_id])

    async def reload_credentials(self) -> bool:
        """Load the credentials of a shared database, and return whether there is one.

        Raises:
            ProblemError: ``unavailable``.
        """
        if self.cluster is None:
            return False
        await self.cluster.refresh()
        return True
