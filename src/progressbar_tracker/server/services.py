"""What every route works with, put together in one place by ``create_app``."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import threading
from typing import TYPE_CHECKING, Any, Final

from progressbar_tracker.server import logs
from progressbar_tracker.server.access import authorization, sessions
from progressbar_tracker.server.access.devices import DEVICE_COOKIE_PREFIX
from progressbar_tracker.server.access.keys import Keyring, credential_ends_at
from progressbar_tracker.server.access.rate_limit import RateLimiter
from progressbar_tracker.server.access.shares import Shares
from progressbar_tracker.server.budget import MAX_EXPORTS, ByteBudget, Slots
from progressbar_tracker.server.clock import ClockJumpDetector, monotonic_of, read_monotonic
from progressbar_tracker.server.cluster import ClusterSync, Verdict
from progressbar_tracker.server.counters import RequestMetrics
from progressbar_tracker.server.hosts import AllowedHosts
from progressbar_tracker.server.hub import Hub
from progressbar_tracker.server.items.board import Board
from progressbar_tracker.server.items.samples import Sampler
from progressbar_tracker.server.items.serializer import is_stalled
from progressbar_tracker.server.long_responses import ActiveResponses
from progressbar_tracker.server.metrics import Metrics
from progressbar_tracker.server.mutations import (
    CREDENTIAL_WRITES,
    DropItem,
    DropSession,
    DropShare,
    Probe,
    SaveItem,
    SaveSession,
    SaveShare,
    TouchKey,
    TouchSession,
    Write,
)
from progressbar_tracker.server.notifications.notifier import Notifier
from progressbar_tracker.server.pools import Pool
from progressbar_tracker.server.problems import ProblemError
from progressbar_tracker.server.proxies import TrustedProxies
from progressbar_tracker.server.stores.base import ChangeBatch, OutdatedError, Store, StoreError
from progressbar_tracker.server.stores.committer import Committer, CommitTimeoutError

from .unconfirmed import UnknownOutcomeError, UnknownOutcomes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from progressbar_tracker.server.access.authorization import Principal
    from progressbar_tracker.server.items.change import Change
    from progressbar_tracker.server.models import Item, KeyRecord, SessionRecord
    from progressbar_tracker.server.settings import Settings
    from progressbar_tracker.server.stores.base import Credentials


logger = logging.getLogger("progressbar_tracker.server")

TOUCH_INTERVAL: Final = 60.0
"""Seconds between two notes of a key's use, or of a session's."""


MAX_SEARCHES: Final = 2
"""The most searches at a time."""

MAX_SHORT_JOBS: Final = 512
MAX_SHORT_JOBS_OF_HOLDER: Final = 128
"""The most jobs that wait if each takes milliseconds: a link to a share may be opened by many behind one address."""

MAX_WAITING_PASSWORDS: Final = 4
"""The most passwords that wait to be verified."""

MAX_PASSWORD_WAIT: Final = 0.25
"""Seconds that a verification of a password waits for its turn; with its own time, less than half a second."""

COMMIT_TIMEOUT: Final = 15.0
"""Seconds that a request waits for its commit."""

CLOCK_JUMP_GRACE: Final = 2.0
"""Seconds before the clock is found to have been set in which a run may have been heard of by the clock as it is."""

MAX_EXPIRED_CREDENTIALS: Final = 100_000
"""The most credentials that are remembered as expired."""

ABANDON_DELAY: Final = 2.0
"""Seconds after a signal until a database that does not answer is given up: all is over within five."""

UNDO_RETRY_DELAY: Final = 1.0
"""Seconds until writes that are of no use are undone again, if that failed."""


class Pools:
    """The pools of threads, by purpose.

    Attributes:
        search: Searches of the history for a text.
        history: Other looks at the history, which an index answers, and at samples and the outbox.
        pages: Pages with thousands of items.
        password: Verifications of passwords; browsers that signed in before go first.
    """

    def __init__(self) -> None:
        self.search = Pool(MAX_SEARCHES)
        self.history = Pool(2, max_waiting=MAX_SHORT_JOBS, max_waiting_of_holder=MAX_SHORT_JOBS_OF_HOLDER)
        self.pages = Pool(2, max_waiting=MAX_SHORT_JOBS, max_waiting_of_holder=MAX_SHORT_JOBS_OF_HOLDER)
        self.password = Pool(1, max_waiting=MAX_WAITING_PASSWORDS, max_waiting_of_holder=2, max_wait=MAX_PASSWORD_WAIT)


class Services:
    """Board, store, keys and sessions of one server, and the clock they share.

    Attributes:
        is_stopping: The server takes no more work than what is under way.
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
        loaded = store.load()
        self.settings = settings
        self.store = store
        self.clock = clock
        self.monotonic = monotonic_of(clock)
        self._clock_jumps = ClockJumpDetector(clock)
        self._expired: set[tuple[str, float]] = set()
        self._were_credentials_stale = False
        self.is_stopping = False
        self.request_metrics = RequestMetrics()
        shared = store.shared
        # What was told by one of several servers on a database can be gone on with at another.
        self.epoch = boot_id if shared is None else shared.epoch
        self.boot_id = boot_id
        self.board = Board(
            max_items=settings.max_items, new_run_id=new_run_id, items=loaded.items, track_changes=shared is None,
            keep=settings.keep, give_up=settings.give_up,
        )  # fmt: skip
        self.cluster = None if shared is None else ClusterSync(shared, self.board)
        if self.cluster is None:
            self.board.set_clock(clock(), 0.0, 0.0)
        self.hub = Hub(
            self.read_board,
            epoch=self.epoch,
            clock=clock,
            get_rev=None if self.cluster is None else self.cluster.get_rev,
        )
        self.keyring = Keyring(loaded.keys, loaded.keys_rev, on_event=_log_key_event)
        self.sessions = sessions.Sessions(settings.session_seconds, loaded.sessions)
        self.sampler = Sampler(loaded.sampled_runs)
        self.shares = Shares(loaded.shares)
        self.sign_in_links = sessions.SignInLinks(settings.sign_in_seconds)
        self.sign_in_attempts = sessions.SignInAttempts()
        self.pools = Pools()
        self.rate_limiter = RateLimiter(settings.max_requests) if settings.max_requests else None
        identity = store.database_id
        self.cookie_names = sessions.cookie_names(identity, settings.base_path)
        self.device_cookie_names = sessions.cookie_names(identity, settings.base_path, DEVICE_COOKIE_PREFIX)
        self.password = (
            None
            if settings.admin_username is None or settings.admin_password is None
            else sessions.Password(settings.admin_username, settings.admin_password, identity)
        )
        # A new name or password, or none any more, ends what was signed in by a link, too.
        self.operator_credential = sessions.LINK_CREDENTIAL if self.password is None else self.password.fingerprint
        self.budget = ByteBudget(settings.max_unread * 1024 * 1024)
        self.export_slots = Slots("exports", MAX_EXPORTS)
        self.responses = ActiveResponses()
        self.openapi = openapi
        self.rendered_docs: dict[object, bytes] = {}
        self.proxies = TrustedProxies(settings.trusted_proxies)
        self.hosts = AllowedHosts(
            settings.allowed_hosts, listens_on=settings.host, public_url=settings.public_url
        )  # fmt: skip
        self.notifier = Notifier(
            settings.channels, store, public_url=settings.public_url, is_leader=self.is_leader, clock=clock
        )
        self.metrics = Metrics(self, version, delivery_totals=lambda: self.notifier.dispatcher.counts)
        self.keys_lock = asyncio.Lock()
        # Held from reading or writing the stored keys until the ring shows them: what was read a moment before
        # another thread's change must not replace it.
        self.keyring_lock = threading.Lock()
        self._touched_at: dict[str, float] = {}
        self._committer = Committer(store, COMMIT_TIMEOUT)
        self._background_tasks: set[asyncio.Task[None]] = set()
        self.unknown_outcomes = UnknownOutcomes()
        self._undo_tasks: set[asyncio.Task[None]] = set()

    def stop(self) -> None:
        """Say that the server is about to stop, and end all streams."""
        logs.log_event("server stopping", streams=self.hub.stream_count)
        self.is_stopping = True
        self.hub.close()
        if (shared := self.store.shared) is not None:
            timer = threading.Timer(ABANDON_DELAY, shared.abandon)
            timer.daemon = True
            timer.start()

    def follow_cluster(self) -> None:
        """Take over from now on what other servers write, in the loop that runs."""
        if self.cluster is not None:
            self.cluster.follow(
                notify=self.hub.notify,
                apply_credentials=self._apply_credentials,
                apply_samples=self.sampler.replace_all,
                item_changed=self.notifier.item_changed,
            )

    async def execute(
        self, decide: Callable[[], Verdict], reauthorize: Callable[[], object], item_ids: Iterable[str]
    ) -> Verdict:
        """Have a request judged by the board, and what came of it kept.

        Args:
            decide: Judges it; where other servers write to the database, it may be called again.
            reauthorize: Called before ``decide`` is called again; raises if the client may no longer do it.
            item_ids: The items that are judged.

        Raises:
            ProblemError: ``unavailable``; the board is then as if nothing had happened. ``outcome-unknown``.
        """
        await self.unknown_outcomes.wait(item_ids, COMMIT_TIMEOUT, reauthorize)
        if self.cluster is not None:
            return await self.cluster.execute(decide, self.persist_changes, reauthorize)
        await self._check_durability(reauthorize)
        judged = decide()
        await self.persist_changes(judged.changes)
        return judged

    async def change_item(
        self,
        item_id: str,
        decide: Callable[[], Change],
        reauthorize: Callable[[], object],
        is_repeat: Callable[[Change], bool] = lambda _change: False,
    ) -> Change:
        """Have one change of an item judged and kept; the arguments are those of :meth:`execute`.

        Args:
            item_id: Which.
            decide: Judges it.
            reauthorize: As there.
            is_repeat: Whether a change whose outcome was not known in time is the one that is asked for.

        Raises:
            ProblemError: What the board says, ``unavailable`` or ``outcome-unknown``.
        """
        if self.cluster is None:
            await self.unknown_outcomes.wait((item_id,), COMMIT_TIMEOUT, reauthorize)
            await self._check_durability(reauthorize)
            try:
                change = decide()
            except ProblemError as problem:
                return self.unknown_outcomes.resolve_repeat(item_id, problem, is_repeat)
            if change.durable or self.notifier.channels.has_channels:
                await self.persist_changes([change])
            else:
                self._enqueue_writes(change.writes())
            return change

        def judged() -> Verdict:
            try:
                return Verdict([decide()])
            except ProblemError as problem:
                return Verdict([], [(item_id, problem)])

        changes, refused = await self.execute(judged, reauthorize, (item_id,))
        return self.unknown_outcomes.resolve_repeat(item_id, refused[0][1], is_repeat) if refused else changes[0]

    async def require_item(self, item_id: str) -> Item:
        """Return an item.

        Raises:
            ProblemError: ``item-not-found`` or ``unavailable``.
        """
        await self.fetch_item(item_id)
        return self.board.require(item_id)

    async def fetch_item(self, item_id: str) -> None:
        """See to it that an item that another server has made is on the board.

        Raises:
            ProblemError: ``unavailable``.
        """
        if self.cluster is not None and self.board.get(item_id) is None:
            await self.cluster.fetch([item_id])

    def set_clock(self, seconds: float) -> None:
        """Take over that the clock was set by some seconds: no run ends by it, and no period is cut short."""
        now = self.clock()
        if self.cluster is not None:
            # What is stored is told by several servers, and each has a clock of its own.
            self.board.restart_periods(now)
            self.cluster.stored_board.restart_periods(now)
            return
        changes = self.board.set_clock(now, seconds, now - CLOCK_JUMP_GRACE)
        self.store.enqueue([write for change in changes for write in change.writes()])
        self.hub.notify()

    def check_credentials_age(self) -> None:
        """Refuse a request while nobody knows whether its credential still works: the database does not answer.

        Raises:
            ProblemError: ``unavailable``.
        """
        if self._are_credentials_stale():
            raise ProblemError(
                "unavailable",
                "the database does not answer, and whether this credential still works is not known until it does",
                retry_after=5,
            )

    def _are_credentials_stale(self) -> bool:
        shared = self.store.shared
        return shared is not None and read_monotonic() - shared.confirmed_at > self.settings.credential_age

    def secure_now(self) -> float:
        """Return the instant for what expires: a clock that is set back does not make it earlier."""
        return self._clock_jumps.latest_now()

    def is_expired(self, credential_id: str, expires_at: float | None) -> bool:
        """Return whether a credential has expired: what was once refused for it is refused for good."""
        if expires_at is None:
            return False
        if (credential_id, expires_at) not in self._expired:
            if self.secure_now() < expires_at:
                return False
            if len(self._expired) >= MAX_EXPIRED_CREDENTIALS:
                self._expired.clear()
            self._expired.add((credential_id, expires_at))
        return True

    def is_leader(self) -> bool:
        """Say whether this server is the one that sees to what happens by itself."""
        return self.cluster is None or self.cluster.is_leader

    def sweep_board(self, now: float) -> None:
        """Let items expire and fall silent on the board."""
        if self._are_credentials_stale() is not self._were_credentials_stale:
            self._were_credentials_stale = not self._were_credentials_stale
            if self._were_credentials_stale:
                logger.error("the database does not answer: no credential is accepted until it does")
            self.hub.wake()  # each stream looks whether it may go on
        told = self.read_board
        rev = told.rev
        changes = self.board.sweep(now, expire=self.is_leader())
        if self.cluster is not None:
            told.sweep(now, expire=False)
            told.drain_overdue()
        fallen = self.board.drain_overdue()
        self.notifier.sweep(self.board, fallen, now)
        if told.rev != rev:
            self.hub.notify()
        if self.is_leader() and logs.are_events_logged():
            for item in filter(None, map(self.board.get, fallen)):
                logs.log_event(
                    "item stalled" if is_stalled(item, now) else "item late", item=item.id, run_id=item.run_id
                )
        if not changes:
            return
        if self.cluster is None:
            self.store.enqueue([write for change in changes for write in change.writes()])
            _log_changes(changes)
        else:
            task = asyncio.create_task(self._persist_in_background(changes))
            self._background_tasks.add(task)
            task.add_done_callback(self._background_tasks.discard)

    async def persist_changes(self, changes: Sequence[Change]) -> None:
        """See to it that changes of the board are kept: at once and waiting for it if one must be, else soon.

        Raises:
            ProblemError: ``unavailable``; the board is then as if nothing had happened.
        """
        writes: list[Write] = []
        durable, notifier = False, self.notifier
        for change in changes:
            writes += change.writes()
            durable = durable or change.durable
        if durable or notifier.channels.has_channels:
            # With the change that they tell of, or not at all.
            told = notifier.notices_for(changes)
            writes += told
        else:
            told = []
        if not durable:
            self._enqueue_writes(writes)
            return
        if writes:
            self.hub.notify()
        if self.cluster is not None:
            await self._commit_in_cluster(self.cluster, changes, writes)
            if told:
                notifier.dispatcher.wake()
            return
        try:
            await self.commit(writes)
        except UnknownOutcomeError as problem:
            if problem.outcome is None:
                self._rollback(changes)
            else:
                # It happens still, or fails: until then the board shows what was asked for.
                self.unknown_outcomes.record(changes, problem.outcome)
                problem.outcome.add_done_callback(lambda done: self._finish_late_commit(changes, done.result()))
            raise
        except ProblemError:
            self._rollback(changes)
            raise
        self.unknown_outcomes.forget(changes)
        _log_changes(changes)
        if told:
            notifier.dispatcher.wake()

    def _finish_late_commit(self, changes: Sequence[Change], error: Exception | None) -> None:
        if error is None:
            self.notifier.dispatcher.wake()
            _log_changes(changes)
        else:
            self.unknown_outcomes.forget(changes)
            self._rollback(changes)

    def _rollback(self, changes: Sequence[Change]) -> None:
        for change in reversed(changes):
            # The commit took the place of what waited for this item, so that has to be said again.
            there = self.board.rollback(change)
            self.store.enqueue([DropItem(change.id) if there is None else SaveItem(there)])
        self.hub.notify()

    async def _check_durability(self, reauthorize: Callable[[], object]) -> None:
        """Refuse a write that no commit would follow: the database is not the file at its path, and is not back yet.

        Raises:
            ProblemError: ``unavailable``.
        """
        if self.store.durability_error is not None:
            await self.commit([Probe(self.clock())])
            reauthorize()

    def _enqueue_writes(self, writes: Sequence[Write]) -> None:
        if writes:
            self.hub.notify()
            self.store.enqueue(writes)

    async def commit(self, writes: Sequence[Write], undo_writes: Callable[[], Sequence[Write]] = list) -> None:
        """Wait until the writes are on disk.

        Args:
            writes: All of them are written, or none.
            undo_writes: Returns what takes them back if it was not known in time whether they are written: a secret
                that was
                never shown is of no use.

        Raises:
            OutdatedError: Another server was faster; nothing was changed.
            ProblemError: ``unavailable``: nothing was changed.
            UnknownOutcomeError: Nobody knows.
        """
        try:
            await self._committer.commit(writes)
        except OutdatedError:
            raise
        except CommitTimeoutError as error:
            logger.warning("a commit takes longer than %d s: %s", COMMIT_TIMEOUT, error)
            self._schedule_undo(undo_writes, error.outcome)
            raise UnknownOutcomeError(error.outcome) from error
        except StoreError as error:
            logger.warning("a commit failed: %s", error)
            if not error.is_rolled_back:
                self._schedule_undo(undo_writes, None)
            if error.is_rolled_back or error.detail is not None:
                detail = error.detail or "the server could not write this to its disk; nothing was changed"
                raise ProblemError("unavailable", detail, retry_after=5) from error
            raise UnknownOutcomeError from error
        for write in writes:
            _log_access_write(write)
        if self.cluster is not None and any(isinstance(write, CREDENTIAL_WRITES) for write in writes):
            # What was read a moment before this must not take its place.
            await self.cluster.refresh()

    def _schedule_undo(
        self, undo_writes: Callable[[], Sequence[Write]], outcome: asyncio.Future[Exception | None] | None
    ) -> None:
        """Undo, once it is known what came of them, writes that are of no use to anybody."""

        async def work() -> None:
            if outcome is not None and await outcome is not None:
                return
            while not self.is_stopping:
                with contextlib.suppress(StoreError, TimeoutError):
                    await self._committer.commit(undo_writes())
                    return
                await asyncio.sleep(UNDO_RETRY_DELAY)

        if undo_writes is not list:
            task = asyncio.create_task(work())
            self._undo_tasks.add(task)
            task.add_done_callback(self._undo_tasks.discard)

    async def wait_for_key_changes(self) -> None:
        """Wait for changes of keys whose outcome is not known: what is changed now would rest on a guess.

        Raises:
            UnknownOutcomeError: It is still not known.
        """
        if self._undo_tasks:
            _, pending = await asyncio.wait(list(self._undo_tasks), timeout=COMMIT_TIMEOUT)
            if pending:
                raise UnknownOutcomeError

    async def _commit_in_cluster(
        self, cluster: ClusterSync, changes: Sequence[Change], writes: Sequence[Write]
    ) -> None:
        try:
            await self.commit(writes)
        except UnknownOutcomeError as problem:
            # What became of it is read from the database.
            cluster.rollback(changes)
            self.unknown_outcomes.record(changes, problem.outcome)
            raise
        except (OutdatedError, ProblemError):
            cluster.rollback(changes)
            raise
        self.unknown_outcomes.forget(changes)
        _log_changes(changes)

    async def _persist_in_background(self, changes: Sequence[Change]) -> None:
        """Keep what nobody waits for; what could not be kept is tried again by the next sweep."""
        assert self.cluster is not None
        writes = [write for change in changes for write in change.writes()]
        try:
            await self._commit_in_cluster(self.cluster, changes, writes)
        except OutdatedError as outdated:
            self.cluster.apply(ChangeBatch(outdated.rows, out_of_order=True))
        except ProblemError:
            pass  # it is in the log

    def identify(self, secret: str) -> Principal:
        """Return whom a key stands for, and note that it was used.

        Raises:
            ProblemError: ``unauthorized``.
        """
        self.check_credentials_age()
        now = self.secure_now()
        try:
            principal = authorization.identify(self.keyring, secret, now)
        except ProblemError:
            self._record_expired_key(secret, now)
            # It may have been made on the file a moment ago.
            if not self.refresh_keys():
                raise
            principal = authorization.identify(self.keyring, secret, now)
        if self._expired and self._is_key_expired(principal.id):
            raise ProblemError("unauthorized", "the key has expired")
        if self.monotonic() - self._touched_at.get(principal.id, -math.inf) >= TOUCH_INTERVAL:
            self._touched_at[principal.id] = self.monotonic()
            self.store.enqueue([TouchKey(principal.id, self.clock())])
        return principal

    def _record_expired_key(self, secret: str, now: float) -> None:
        if (record := self.keyring.find(secret, now)) is not None:
            self.is_expired(record.key_id, record.expires_at)

    def _is_key_expired(self, key_id: str) -> bool:
        record = self.keyring.get(key_id)
        return record is not None and self.is_expired(key_id, record.expires_at)

    def find_session(self, cookie: str) -> SessionRecord | None:
        """Return the session of a cookie, if it is still going, and note that it was used."""
        self.check_credentials_age()
        now = self.clock()
        record = self.sessions.find(cookie, -math.inf)
        if record is None or self.is_expired(record.hash, record.expires_at):
            return None
        if abs(now - (record.seen_at or 0.0)) >= TOUCH_INTERVAL:
            self.sessions.touch(record, now)
            self.store.enqueue([TouchSession(record.hash, now)])
        return record

    def identify_session(self, cookie: str) -> Principal | None:
        """Return whom the session of a cookie stands for, and note that it was used."""
        record = self.find_session(cookie)
        if record is None or (record.key_id is not None and self._is_key_expired(record.key_id)):
            return None
        return authorization.principal_of_session(self.keyring, record, self.secure_now(), self.operator_credential)

    async def end_session(self, record: SessionRecord) -> None:
        """End a session at once, and on disk as soon as possible.

        Raises:
            ProblemError: ``unavailable``; the session has ended, but the store does not know of it yet.
        """
        self.sessions.drop(record)
        self.hub.wake()
        try:
            await self.commit([DropSession(record.hash)])
        except BaseException as error:
            self.store.enqueue([DropSession(record.hash)])
            if isinstance(error, ProblemError):
                raise ProblemError(
                    "unavailable",
                    "the session has ended, but the server could not write this to its disk: it tries again, and if "
                    "it is restarted before it succeeds, the session goes on",
                    retry_after=5,
                ) from error
            raise

    def end_stale_sessions(self) -> None:
        """End the sessions of which the credential ended while no server ran: at the start."""
        now = self.clock()
        self._drop_sessions(
            lambda record: (
                authorization.principal_of_session(self.keyring, record, now, self.operator_credential) is not None
            )
        )
        self.apply_key_changes()

    def apply_key_changes(self) -> None:
        """Let sessions end with the secrets of their keys, and let every stream look whether it may go on."""
        now = self.clock()
        self.sessions.limit_expiry(
            lambda record: (
                math.inf
                if record.key_id is None
                else credential_ends_at(self.keyring.get(record.key_id), record.credential)
            )
        )
        self._drop_sessions(lambda record: now < record.expires_at)
        # Of a key that is forgotten nothing stays: over the years there may be a million.
        self._touched_at = {
            key_id: at for key_id, at in self._touched_at.items() if self.keyring.get(key_id) is not None
        }
        self.hub.wake()

    def _drop_sessions(self, is_valid: Callable[[SessionRecord], bool]) -> None:
        over = self.sessions.retain(is_valid)
        for record in over:
            logs.log_event("session ended", session_id=record.session_id)
        if over:
            self.store.enqueue([DropSession(record.hash) for record in over])

    async def reload_credentials(self) -> bool:
        """Look who may do what now, where others may have changed it; say whether there was anything to look at.

        Raises:
            ProblemError: ``unavailable``.
        """
        if self.cluster is None:
            return False
        await self.cluster.refresh()
        return True

    def load_credentials(self) -> None:
        """The same before anything is served.

        Raises:
            StoreError: The database does not answer.
        """
        shared = self.store.shared
        if shared is not None:
            self._apply_credentials(shared.read_credentials())

    def _apply_credentials(self, credentials: Credentials) -> None:
        shared = self.store.shared
        assert shared is not None
        with self.keyring_lock:
            # A look may be overtaken by another, or by a write, which another thread may have made while we waited for
            # the lock: what was revoked must not come back, nor a new key go.
            if credentials.rev < max(self.keyring.rev, shared.credentials_rev):
                return
            self.keyring.replace_all(credentials.keys, credentials.rev)
        self.sessions.replace_all(credentials.sessions)
        self.shares.replace_all(credentials.shares)
        self.apply_key_changes()

    @property
    def read_board(self) -> Board:
        """The board that viewers are told of."""
        return self.board if self.cluster is None else self.cluster.stored_board

    @property
    def rev(self) -> int:
        """The revision that viewers are told: up to it, all is on the board that is shown."""
        return self.board.rev if self.cluster is None else self.cluster.rev

    def refresh_keys(self) -> bool:
        """Take over the keys of the store if they have changed; say whether they had.

        To see that they have not is one row of a small table: less work than the request that asks for it, so a flood
        of unknown keys gains nothing by it.
        """
        if self.cluster is not None:
            return False  # it is told
        # Read and shown without a pause in between, on the thread that answers requests: it costs microseconds, and
        # a pause would let a key that is revoked meanwhile come back.
        with self.keyring_lock:
            try:
                if self.store.read_keys_rev() == self.keyring.rev:
                    return False
                self.keyring.replace_all(*self.store.read_keys())
            except StoreError as error:
                logger.warning("the keys could not be read: %s", error)
                return False
        self.apply_key_changes()
        return True


def _log_changes(changes: Sequence[Change]) -> None:
    if logs.are_events_logged():
        for change in changes:
            item = change.after or change.before
            if change.event is not None and item is not None:
                status = (
                    item.status if change.ended_run is None or change.after is not None else change.ended_run.status
                )
                logs.log_event(change.event, item=item.id, run_id=item.run_id, status=status, key_id=item.owner_id)


def _log_key_event(event: str, record: KeyRecord) -> None:
    logs.log_event(event, key_id=record.key_id, name=record.name, type=record.type)


def _log_access_write(write: Write) -> None:
    match write:
        case SaveSession(session):
            logs.log_event("session begun", session_id=session.session_id, key_id=session.key_id)
        case DropSession(hash_):
            logs.log_event("session ended", session_id=hash_[:16])
        case SaveShare(share):
            logs.log_event("share made", share_id=share.share_id, item=share.item, group=share.group)
        case DropShare(share_id):
            logs.log_event("share ended", share_id=share_id)
