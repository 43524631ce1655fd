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
from progressbar_tracker.server.access.devices import DEVICE
from progressbar_tracker.server.access.keys import Keyring, credential_ends_at
from progressbar_tracker.server.access.rate_limit import Allowance
from progressbar_tracker.server.access.shares import Shares
from progressbar_tracker.server.budget import MAX_EXPORTS, ByteBudget, Slots
from progressbar_tracker.server.clock import Jumps, count_seconds, monotonic_of
from progressbar_tracker.server.cluster import Judged, Replica
from progressbar_tracker.server.counters import Measures
from progressbar_tracker.server.hosts import AllowedHosts
from progressbar_tracker.server.hub import Hub
from progressbar_tracker.server.items.board import Board, Change
from progressbar_tracker.server.items.samples import Samples
from progressbar_tracker.server.items.serializer import stalled
from progressbar_tracker.server.long_responses import Responses
from progressbar_tracker.server.metrics import Metrics
from progressbar_tracker.server.models import (
    CREDENTIALS,
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
from progressbar_tracker.server.stores.base import OutdatedError, Seen, Store, StoreError
from progressbar_tracker.server.stores.committer import Committer, CommitTimeoutError

from .unconfirmed import UnknownOutcomeError, Unsettled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from progressbar_tracker.server.access.authorization import Principal
    from progressbar_tracker.server.models import Item, KeyRecord, SessionRecord
    from progressbar_tracker.server.settings import Settings
    from progressbar_tracker.server.stores.base import Credentials


logger = logging.getLogger("progressbar_tracker.server")

TOUCH: Final = 60.0
"""Seconds between two notes of a key's use, or of a session's."""


SEARCHES: Final = 2
"""The most searches at a time."""

MAX_SHORT_JOBS: Final = 512
MAX_SHORT_JOBS_OF_HOLDER: Final = 128
"""The most jobs that wait if each takes milliseconds: a link to a share may be opened by many behind one address."""

PASSWORDS: Final = 4
"""The most passwords that wait to be verified."""

PASSWORD_WAIT: Final = 0.25
"""Seconds that a verification of a password waits for its turn; with its own time, less than half a second."""

COMMIT: Final = 15.0
"""Seconds that a request waits for its commit."""

HEARD: Final = 2.0
"""Seconds before the clock is found to have been set in which a run may have been heard of by the clock as it is."""

OVER: Final = 100_000
"""The most credentials that are remembered as expired."""

ABANDON: Final = 2.0
"""Seconds after a signal until a database that does not answer is given up: all is over within five."""

UNDO_PAUSE: Final = 1.0
"""Seconds until writes that are of no use are undone again, if that failed."""


class Pools:
    """The pools of threads, by purpose.

    Attributes:
        search: Searches of the history for a text.
        past: Other looks at the history, which an index answers, and at samples and the outbox.
        pages: Pages with thousands of items.
        password: Verifications of passwords; browsers that signed in before go first.
    """

    def __init__(self) -> None:
        self.search = Pool(SEARCHES)
        self.past = Pool(2, max_waiting=MAX_SHORT_JOBS, max_waiting_of_holder=MAX_SHORT_JOBS_OF_HOLDER)
        self.pages = Pool(2, max_waiting=MAX_SHORT_JOBS, max_waiting_of_holder=MAX_SHORT_JOBS_OF_HOLDER)
        self.password = Pool(1, max_waiting=PASSWORDS, max_waiting_of_holder=2, max_wait=PASSWORD_WAIT)


class Services:
    """Board, store, keys and sessions of one server, and the clock they share.

    Attributes:
        stopping: The server takes no more work than what is under way.
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
        self._jumps = Jumps(clock)
        self._over: set[tuple[str, float]] = set()
        self._were_credentials_old = False
        self.stopping = False
        self.measures = Measures()
        shared = store.shared
        # What was told by one of several servers on a database can be gone on with at another.
        self.boot_id = boot_id if shared is None else shared.epoch
        self.life = boot_id
        self.board = Board(
            max_items=settings.max_items, new_run_id=new_run_id, items=loaded.items, silent=shared is not None,
            keep=settings.keep, give_up=settings.give_up,
        )  # fmt: skip
        self.replica = None if shared is None else Replica(shared, self.board)
        if self.replica is None:
            self.board.set_clock(clock(), 0.0, 0.0)
        self.hub = Hub(
            self.shown,
            epoch=self.boot_id,
            clock=clock,
            stamp=None if self.replica is None else self.replica.stamp,
        )
        self.ring = Keyring(loaded.keys, loaded.keys_rev, tell=_tell_of_key)
        self.sessions = sessions.Sessions(settings.session_seconds, loaded.sessions)
        self.samples = Samples(loaded.sampled)
        self.shares = Shares(loaded.shares)
        self.links = sessions.Links(settings.sign_in_seconds)
        self.attempts = sessions.Attempts()
        self.pools = Pools()
        self.allowance = Allowance(settings.max_requests) if settings.max_requests else None
        identity = store.identity
        self.cookie_names = sessions.cookie_names(identity, settings.base_path)
        self.device_cookie_names = sessions.cookie_names(identity, settings.base_path, DEVICE)
        self.password = (
            None
            if settings.admin_username is None or settings.admin_password is None
            else sessions.Password(settings.admin_username, settings.admin_password, identity)
        )
        # A new name or password, or none any more, ends what was signed in by a link, too.
        self.operator_credential = sessions.BY_LINK if self.password is None else self.password.fingerprint
        self.budget = ByteBudget(settings.max_unread * 1024 * 1024)
        self.exports = Slots("exports", MAX_EXPORTS)
        self.responses = Responses()
        self.openapi = openapi
        self.rendered_docs: dict[object, bytes] = {}
        self.proxies = TrustedProxies(settings.trusted_proxies)
        self.hosts = AllowedHosts(
            settings.allowed_hosts, listens_on=settings.host, public_url=settings.public_url
        )  # fmt: skip
        self.notifier = Notifier(
            settings.channels, store, public_url=settings.public_url, leads=self.leads, clock=clock
        )
        self.metrics = Metrics(self, version, notified=lambda: self.notifier.courier.counts)
        self.changing_keys = asyncio.Lock()
        # Held from reading or writing the stored keys until the ring shows them: what was read a moment before
        # another thread's change must not replace it.
        self.ring_lock = threading.Lock()
        self._touched: dict[str, float] = {}
        self._committer = Committer(store, COMMIT)
        self._background: set[asyncio.Task[None]] = set()
        self.unsettled = Unsettled()
        self._undoing: set[asyncio.Task[None]] = set()

    def stop(self) -> None:
        """Say that the server is about to stop, and end all streams."""
        logs.tell("server stopping", streams=self.hub.streams)
        self.stopping = True
        self.hub.close()
        if (shared := self.store.shared) is not None:
            timer = threading.Timer(ABANDON, shared.abandon)
            timer.daemon = True
            timer.start()

    def follow(self) -> None:
        """Take over from now on what other servers write, in the loop that runs."""
        if self.replica is not None:
            self.replica.follow(
                changed=self.hub.changed,
                take_credentials=self._take_credentials,
                take_samples=self.samples.replace_all,
                moved=self.notifier.moved,
            )

    async def carry_out(
        self, judge: Callable[[], Judged], reauthorize: Callable[[], object], ids: Iterable[str]
    ) -> Judged:
        """Have a request judged by the board, and what came of it kept.

        Args:
            judge: Judges it; where other servers write to the database, it may be called again.
            reauthorize: Called before ``judge`` is called again; raises if the client may no longer do it.
            ids: The items that are judged.

        Raises:
            ProblemError: ``unavailable``; the board is then as if nothing had happened. ``outcome-unknown``.
        """
        await self.unsettled.wait(ids, COMMIT, reauthorize)
        if self.replica is not None:
            return await self.replica.carry_out(judge, self.settle, reauthorize)
        await self._check_file(reauthorize)
        judged = judge()
        await self.settle(judged.changes)
        return judged

    async def change(
        self,
        item_id: str,
        judge: Callable[[], Change],
        reauthorize: Callable[[], object],
        repeats: Callable[[Change], bool] = lambda _change: False,
    ) -> Change:
        """Have one change of an item judged and kept; the arguments are those of :meth:`carry_out`.

        Args:
            item_id: Which.
            judge: Judges it.
            reauthorize: As there.
            repeats: Whether a change whose outcome was not known in time is the one that is asked for.

        Raises:
            ProblemError: What the board says, ``unavailable`` or ``outcome-unknown``.
        """
        if self.replica is None:
            await self.unsettled.wait((item_id,), COMMIT, reauthorize)
            await self._check_file(reauthorize)
            try:
                change = judge()
            except ProblemError as problem:
                return self.unsettled.repeated(item_id, problem, repeats)
            if change.durable or self.notifier.channels.any:
                await self.settle([change])
            else:
                self._keep_soon(change.writes())
            return change

        def judged() -> Judged:
            try:
                return Judged([judge()])
            except ProblemError as problem:
                return Judged([], [(item_id, problem)])

        changes, refused = await self.carry_out(judged, reauthorize, (item_id,))
        return self.unsettled.repeated(item_id, refused[0][1], repeats) if refused else changes[0]

    async def item(self, item_id: str) -> Item:
        """Return an item.

        Raises:
            ProblemError: ``item-not-found`` or ``unavailable``.
        """
        await self.fetch(item_id)
        return self.board.need(item_id)

    async def fetch(self, item_id: str) -> None:
        """See to it that an item that another server has made is on the board.

        Raises:
            ProblemError: ``unavailable``.
        """
        if self.replica is not None and self.board.get(item_id) is None:
            await self.replica.fetch([item_id])

    def set_clock(self, seconds: float) -> None:
        """Take over that the clock was set by some seconds: no run ends by it, and no period is cut short."""
        now = self.clock()
        if self.replica is not None:
            # What is stored is told by several servers, and each has a clock of its own.
            self.board.restart_periods(now)
            self.replica.stored.restart_periods(now)
            return
        changes = self.board.set_clock(now, seconds, now - HEARD)
        self.store.later([write for change in changes for write in change.writes()])
        self.hub.changed()

    def check_credentials_age(self) -> None:
        """Refuse a request while nobody knows whether its credential still works: the database does not answer.

        Raises:
            ProblemError: ``unavailable``.
        """
        if self._are_credentials_old():
            raise ProblemError(
                "unavailable",
                "the database does not answer, and whether this credential still works is not known until it does",
                retry_after=5,
            )

    def _are_credentials_old(self) -> bool:
        shared = self.store.shared
        return shared is not None and count_seconds() - shared.confirmed_at > self.settings.credential_age

    def secure_now(self) -> float:
        """Return the instant for what expires: a clock that is set back does not make it earlier."""
        return self._jumps.secure_now()

    def is_over(self, name: str, expires_at: float | None) -> bool:
        """Return whether a credential has expired: what was once refused for it is refused for good."""
        if expires_at is None:
            return False
        if (name, expires_at) not in self._over:
            if self.secure_now() < expires_at:
                return False
            if len(self._over) >= OVER:
                self._over.clear()
            self._over.add((name, expires_at))
        return True

    def leads(self) -> bool:
        """Say whether this server is the one that sees to what happens by itself."""
        return self.replica is None or self.replica.leading

    def sweep(self, now: float) -> None:
        """Let items expire and fall silent on the board."""
        if self._are_credentials_old() is not self._were_credentials_old:
            self._were_credentials_old = not self._were_credentials_old
            if self._were_credentials_old:
                logger.error("the database does not answer: no credential is accepted until it does")
            self.hub.ring()  # each stream looks whether it may go on
        told = self.shown
        rev = told.rev
        changes = self.board.sweep(now, expire=self.leads())
        if self.replica is not None:
            told.sweep(now, expire=False)
            told.overdue()
        fallen = self.board.overdue()
        self.notifier.sweep(self.board, fallen, now)
        if told.rev != rev:
            self.hub.changed()
        if self.leads() and logs.telling():
            for item in filter(None, map(self.board.get, fallen)):
                logs.tell("item stalled" if stalled(item, now) else "item late", item=item.id, run_id=item.run_id)
        if not changes:
            return
        if self.replica is None:
            self.store.later([write for change in changes for write in change.writes()])
            _tell_of_items(changes)
        else:
            task = asyncio.create_task(self._keep(changes))
            self._background.add(task)
            task.add_done_callback(self._background.discard)

    async def settle(self, changes: Sequence[Change]) -> None:
        """See to it that changes of the board are kept: at once and waiting for it if one must be, else soon.

        Raises:
            ProblemError: ``unavailable``; the board is then as if nothing had happened.
        """
        writes: list[Write] = []
        durable, notifier = False, self.notifier
        for change in changes:
            writes += change.writes()
            durable = durable or change.durable
        if durable or notifier.channels.any:
            # With the change that they tell of, or not at all.
            told = notifier.of(changes)
            writes += told
        else:
            told = []
        if not durable:
            self._keep_soon(writes)
            return
        if writes:
            self.hub.changed()
        if self.replica is not None:
            await self._settle_with_others(self.replica, changes, writes)
            if told:
                notifier.courier.wake()
            return
        try:
            await self.commit(writes)
        except UnknownOutcomeError as problem:
            if problem.outcome is None:
                self._undo(changes)
            else:
                # It happens still, or fails: until then the board shows what was asked for.
                self.unsettled.note(changes, problem.outcome)
                problem.outcome.add_done_callback(lambda done: self._settle_late(changes, done.result()))
            raise
        except ProblemError:
            self._undo(changes)
            raise
        self.unsettled.settle(changes)
        _tell_of_items(changes)
        if told:
            notifier.courier.wake()

    def _settle_late(self, changes: Sequence[Change], error: Exception | None) -> None:
        if error is None:
            self.notifier.courier.wake()
            _tell_of_items(changes)
        else:
            self.unsettled.settle(changes)
            self._undo(changes)

    def _undo(self, changes: Sequence[Change]) -> None:
        for change in reversed(changes):
            # The commit took the place of what waited for this item, so that has to be said again.
            there = self.board.restore(change)
            self.store.later([DropItem(change.id) if there is None else SaveItem(there)])
        self.hub.changed()

    async def _check_file(self, reauthorize: Callable[[], object]) -> None:
        """Refuse a write that no commit would follow: the database is not the file at its path, and is not back yet.

        Raises:
            ProblemError: ``unavailable``.
        """
        if self.store.lost is not None:
            await self.commit([Probe(self.clock())])
            reauthorize()

    def _keep_soon(self, writes: Sequence[Write]) -> None:
        if writes:
            self.hub.changed()
            self.store.later(writes)

    async def commit(self, writes: Sequence[Write], undo: Callable[[], Sequence[Write]] = list) -> None:
        """Wait until the writes are on disk.

        Args:
            writes: All of them are written, or none.
            undo: Returns what takes them back if it was not known in time whether they are written: a secret that was
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
            logger.warning("a commit takes longer than %d s: %s", COMMIT, error)
            self._undo_late(undo, error.outcome)
            raise UnknownOutcomeError(error.outcome) from error
        except StoreError as error:
            logger.warning("a commit failed: %s", error)
            if not error.is_certain:
                self._undo_late(undo, None)
            if error.is_certain or error.detail is not None:
                detail = error.detail or "the server could not write this to its disk; nothing was changed"
                raise ProblemError("unavailable", detail, retry_after=5) from error
            raise UnknownOutcomeError from error
        for write in writes:
            _tell_of_access(write)
        if self.replica is not None and any(isinstance(write, CREDENTIALS) for write in writes):
            # What was read a moment before this must not take its place.
            await self.replica.look()

    def _undo_late(self, undo: Callable[[], Sequence[Write]], outcome: asyncio.Future[Exception | None] | None) -> None:
        """Undo, once it is known what came of them, writes that are of no use to anybody."""

        async def work() -> None:
            if outcome is not None and await outcome is not None:
                return
            while not self.stopping:
                with contextlib.suppress(StoreError, TimeoutError):
                    await self._committer.commit(undo())
                    return
                await asyncio.sleep(UNDO_PAUSE)

        if undo is not list:
            task = asyncio.create_task(work())
            self._undoing.add(task)
            task.add_done_callback(self._undoing.discard)

    async def credentials_settled(self) -> None:
        """Wait for changes of keys whose outcome is not known: what is changed now would rest on a guess.

        Raises:
            UnknownOutcomeError: It is still not known.
        """
        if self._undoing:
            _, pending = await asyncio.wait(list(self._undoing), timeout=COMMIT)
            if pending:
                raise UnknownOutcomeError

    async def _settle_with_others(self, replica: Replica, changes: Sequence[Change], writes: Sequence[Write]) -> None:
        try:
            await self.commit(writes)
        except UnknownOutcomeError as problem:
            # What became of it is read from the database.
            replica.undo(changes)
            self.unsettled.note(changes, problem.outcome)
            raise
        except (OutdatedError, ProblemError):
            replica.undo(changes)
            raise
        self.unsettled.settle(changes)
        _tell_of_items(changes)

    async def _keep(self, changes: Sequence[Change]) -> None:
        """Keep what nobody waits for; what could not be kept is tried again by the next sweep."""
        assert self.replica is not None
        writes = [write for change in changes for write in change.writes()]
        try:
            await self._settle_with_others(self.replica, changes, writes)
        except OutdatedError as outdated:
            self.replica.take(Seen(outdated.rows, aside=True))
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
            principal = authorization.identify(self.ring, secret, now)
        except ProblemError:
            self._note_expired_key(secret, now)
            # It may have been made on the file a moment ago.
            if not self.refresh_keys():
                raise
            principal = authorization.identify(self.ring, secret, now)
        if self._over and self._has_expired(principal.id):
            raise ProblemError("unauthorized", "the key has expired")
        if self.monotonic() - self._touched.get(principal.id, -math.inf) >= TOUCH:
            self._touched[principal.id] = self.monotonic()
            self.store.later([TouchKey(principal.id, self.clock())])
        return principal

    def _note_expired_key(self, secret: str, now: float) -> None:
        if (record := self.ring.find(secret, now)) is not None:
            self.is_over(record.key_id, record.expires_at)

    def _has_expired(self, key_id: str) -> bool:
        record = self.ring.get(key_id)
        return record is not None and self.is_over(key_id, record.expires_at)

    def session(self, cookie: str) -> SessionRecord | None:
        """Return the session of a cookie, if it is still going, and note that it was used."""
        self.check_credentials_age()
        now = self.clock()
        record = self.sessions.find(cookie, -math.inf)
        if record is None or self.is_over(record.hash, record.expires_at):
            return None
        if abs(now - (record.seen_at or 0.0)) >= TOUCH:
            self.sessions.touch(record, now)
            self.store.later([TouchSession(record.hash, now)])
        return record

    def signed_in(self, cookie: str) -> Principal | None:
        """Return whom the session of a cookie stands for, and note that it was used."""
        record = self.session(cookie)
        if record is None or (record.key_id is not None and self._has_expired(record.key_id)):
            return None
        return authorization.signed_in(self.ring, record, self.secure_now(), self.operator_credential)

    async def end_session(self, record: SessionRecord) -> None:
        """End a session at once, and on disk as soon as possible.

        Raises:
            ProblemError: ``unavailable``; the session has ended, but the store does not know of it yet.
        """
        self.sessions.drop(record)
        self.hub.ring()
        try:
            await self.commit([DropSession(record.hash)])
        except BaseException as error:
            self.store.later([DropSession(record.hash)])
            if isinstance(error, ProblemError):
                raise ProblemError(
                    "unavailable",
                    "the session has ended, but the server could not write this to its disk: it tries again, and if "
                    "it is restarted before it succeeds, the session goes on",
                    retry_after=5,
                ) from error
            raise

    def end_former_sessions(self) -> None:
        """End the sessions of which the credential ended while no server ran: at the start."""
        now = self.clock()
        self._drop_sessions(
            lambda record: authorization.signed_in(self.ring, record, now, self.operator_credential) is not None
        )
        self.keys_changed()

    def keys_changed(self) -> None:
        """Let sessions end with the secrets of their keys, and let every stream look whether it may go on."""
        now = self.clock()
        self.sessions.limit(
            lambda record: (
                math.inf
                if record.key_id is None
                else credential_ends_at(self.ring.get(record.key_id), record.credential)
            )
        )
        self._drop_sessions(lambda record: now < record.expires_at)
        # Of a key that is forgotten nothing stays: over the years there may be a million.
        self._touched = {key_id: at for key_id, at in self._touched.items() if self.ring.get(key_id) is not None}
        self.hub.ring()

    def _drop_sessions(self, stays: Callable[[SessionRecord], bool]) -> None:
        over = self.sessions.leave(stays)
        for record in over:
            logs.tell("session ended", session_id=record.session_id)
        if over:
            self.store.later([DropSession(record.hash) for record in over])

    async def look_again(self) -> bool:
        """Look who may do what now, where others may have changed it; say whether there was anything to look at.

        Raises:
            ProblemError: ``unavailable``.
        """
        if self.replica is None:
            return False
        await self.replica.look()
        return True

    def look_at_once(self) -> None:
        """The same before anything is served.

        Raises:
            StoreError: The database does not answer.
        """
        shared = self.store.shared
        if shared is not None:
            self._take_credentials(shared.credentials())

    def _take_credentials(self, known: Credentials) -> None:
        shared = self.store.shared
        assert shared is not None
        with self.ring_lock:
            # A look may be overtaken by another, or by a write, which another thread may have made while we waited for
            # the lock: what was revoked must not come back, nor a new key go.
            if known.rev < max(self.ring.rev, shared.credentials_rev):
                return
            self.ring.replace_all(known.keys, known.rev)
        self.sessions.replace_all(known.sessions)
        self.shares.replace_all(known.shares)
        self.keys_changed()

    @property
    def shown(self) -> Board:
        """The board that viewers are told of."""
        return self.board if self.replica is None else self.replica.stored

    @property
    def rev(self) -> int:
        """The revision that viewers are told: up to it, all is on the board that is shown."""
        return self.board.rev if self.replica is None else self.replica.rev

    def refresh_keys(self) -> bool:
        """Take over the keys of the store if they have changed; say whether they had.

        To see that they have not is one row of a small table: less work than the request that asks for it, so a flood
        of unknown keys gains nothing by it.
        """
        if self.replica is not None:
            return False  # it is told
        # Read and shown without a pause in between, on the thread that answers requests: it costs microseconds, and
        # a pause would let a key that is revoked meanwhile come back.
        with self.ring_lock:
            try:
                if self.store.keys_rev() == self.ring.rev:
                    return False
                self.ring.replace_all(*self.store.keys())
            except StoreError as error:
                logger.warning("the keys could not be read: %s", error)
                return False
        self.keys_changed()
        return True


def _tell_of_items(changes: Sequence[Change]) -> None:
    if logs.telling():
        for change in changes:
            item = change.after or change.before
            if change.event is not None and item is not None:
                status = item.status if change.ended is None or change.after is not None else change.ended.status
                logs.tell(change.event, item=item.id, run_id=item.run_id, status=status, key_id=item.owner_id)


def _tell_of_key(event: str, record: KeyRecord) -> None:
    logs.tell(event, key_id=record.key_id, name=record.name, type=record.type)


def _tell_of_access(write: Write) -> None:
    match write:
        case SaveSession(session):
            logs.tell("session begun", session_id=session.session_id, key_id=session.key_id)
        case DropSession(hash_):
            logs.tell("session ended", session_id=hash_[:16])
        case SaveShare(share):
            logs.tell("share made", share_id=share.share_id, item=share.item, group=share.group)
        case DropShare(share_id):
            logs.tell("share ended", share_id=share_id)
