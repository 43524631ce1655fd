"""The composition root: build the parts of a server and connect them."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any, Final

from . import logs
from .access import sessions
from .access.credentials import CredentialCache
from .access.devices import DEVICE_COOKIE_PREFIX
from .access.rate_limit import RateLimiter
from .active_responses import ActiveResponses
from .budget import MAX_EXPORTS, ByteBudget, Slots
from .clock import get_monotonic
from .cluster import ClusterSync
from .counters import RequestMetrics
from .hosts import AllowedHosts
from .hub import Hub
from .items.board import Board
from .items.samples import Sampler
from .maintenance import Maintenance
from .metrics import Metrics
from .notifications.notifier import Notifier
from .pools import Pools
from .proxies import TrustedProxies
from .unit_of_work import UnitOfWork

if TYPE_CHECKING:
    from collections.abc import Callable

    from .models import Item
    from .settings import Settings
    from .stores.base import Store

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
        is_stopping: The server finishes requests in flight and accepts no more work.
        epoch: Identifies the sequence of revisions: all servers on one database share it.
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
        self.epoch = boot_id if shared is None else shared.epoch
        self.openapi = openapi
        self.is_stopping = False

        self.board = Board(
            max_items=settings.max_items, new_run_id=new_run_id, items=stored.items, track_changes=shared is None,
            keep=settings.keep, give_up=settings.give_up,
        )  # fmt: skip
        self.cluster = None if shared is None else ClusterSync(shared, self.board)
        if self.cluster is None:
            self.board.set_clock(clock(), 0.0, 0.0)
        self.sampler = Sampler(stored.sampled_runs)
        self.hub = Hub(
            self.read_board,
            epoch=self.epoch,
            clock=clock,
            get_rev=None if self.cluster is None else self.cluster.get_rev,
        )
        self.notifier = Notifier(
            settings.channels, store, public_url=settings.public_url, is_leader=self.is_leader, clock=clock
        )
        self.unit_of_work = UnitOfWork(store, self.board, self.cluster, self.hub, self.notifier, clock)

        database_id = store.database_id
        self.cookie_names = sessions.cookie_names(database_id, settings.base_path)
        self.device_cookie_names = sessions.cookie_names(database_id, settings.base_path, DEVICE_COOKIE_PREFIX)
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
        self.budget = ByteBudget(settings.max_unread * 1024 * 1024)
        self.export_slots = Slots("exports", MAX_EXPORTS)
        self.pools = Pools()
        self.responses = ActiveResponses()
        self.rendered_docs: dict[object, bytes] = {}
        self.request_metrics = RequestMetrics()
        self.metrics = Metrics(self, version, delivery_totals=lambda: self.notifier.dispatcher.counts)
        self.maintenance = Maintenance(self)

    def stop(self) -> None:
        """Accept no more work, and end all streams."""
        logs.log_event("server stopping", streams=self.hub.stream_count)
        self.is_stopping = True
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
                item_changed=self.notifier.item_changed,
            )

    @property
    def read_board(self) -> Board:
        """The board that clients read: in a cluster, the one with the stored items."""
        return self.board if self.cluster is None else self.cluster.stored_board

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
