"""What every route works with, put together in one place by ``create_app``."""

from __future__ import annotations

import asyncio
import logging
import threading
from typing import TYPE_CHECKING, Final

from progressbar_tracker.server import auth, sessions
from progressbar_tracker.server.board import Board, Change
from progressbar_tracker.server.keys import Keyring
from progressbar_tracker.server.live import Hub
from progressbar_tracker.server.problems import ProblemError
from progressbar_tracker.server.records import DropItem, DropSession, SaveItem, TouchKey, TouchSession, Write
from progressbar_tracker.server.samples import Samples
from progressbar_tracker.server.shares import Shares
from progressbar_tracker.server.stores.base import Store, StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from progressbar_tracker.server.auth import Principal
    from progressbar_tracker.server.records import SessionRecord
    from progressbar_tracker.server.settings import Settings

logger = logging.getLogger("progressbar_tracker.server")

TOUCH: Final = 60.0
"""Seconds between two notes of a key's use, or of a session's."""


class Services:
    """Board, store, keys and sessions of one server, and the clock they share."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        *,
        clock: Callable[[], float],
        boot_id: str,
        new_run_id: Callable[[], str],
    ) -> None:
        loaded = store.load()
        self.settings = settings
        self.store = store
        self.clock = clock
        self.boot_id = boot_id
        self.board = Board(max_items=settings.max_items, new_run_id=new_run_id, items=loaded.items)
        self.hub = Hub(self.board, epoch=boot_id, clock=clock)
        self.ring = Keyring(loaded.keys, loaded.keys_rev)
        self.sessions = sessions.Sessions(settings.session_seconds, loaded.sessions)
        self.samples = Samples(loaded.sampled)
        self.shares = Shares(loaded.shares)
        self.links = sessions.Links(settings.sign_in_seconds)
        self.attempts = sessions.Attempts()
        self.password = (
            None
            if settings.admin_username is None or settings.admin_password is None
            else sessions.Password(settings.admin_username, settings.admin_password)
        )
        self.changing_keys = asyncio.Lock()
        # Held from reading or writing the stored keys until the ring shows them: what was read a moment before
        # another thread's change must not replace it.
        self.ring_lock = threading.Lock()
        self._touched: dict[str, float] = {}

    async def settle(self, changes: Sequence[Change]) -> None:
        """See to it that changes of the board are kept: at once and waiting for it if one must be, else soon.

        Raises:
            ProblemError: ``unavailable``; the board is then as if nothing had happened.
        """
        writes = [write for change in changes for write in change.writes()]
        if writes:
            self.hub.changed()
        if not any(change.durable for change in changes):
            if writes:
                self.store.later(writes)
            return
        try:
            await self.commit(writes)
        except ProblemError:
            for change in reversed(changes):
                # The commit took the place of what waited for this item, so that has to be said again.
                there = self.board.restore(change)
                self.store.later([DropItem(change.id) if there is None else SaveItem(there)])
            self.hub.changed()
            raise

    async def commit(self, writes: Sequence[Write]) -> None:
        """Wait until the writes are on disk.

        Raises:
            ProblemError: ``unavailable``.
        """
        try:
            await asyncio.wrap_future(self.store.commit(writes))
        except StoreError as error:
            logger.warning("a commit failed: %s", error)
            raise ProblemError(
                "unavailable", "the server could not write this to its disk; nothing was changed", retry_after=5
            ) from error

    def identify(self, secret: str) -> Principal:
        """Return whom a key stands for, and note that it was used.

        Raises:
            ProblemError: ``unauthorized``.
        """
        now = self.clock()
        try:
            principal = auth.identify(self.ring, secret, now)
        except ProblemError:
            # It may have been made on the file a moment ago.
            if not self.refresh_keys():
                raise
            principal = auth.identify(self.ring, secret, now)
        if now - self._touched.get(principal.id, -TOUCH) >= TOUCH:
            self._touched[principal.id] = now
            self.store.later([TouchKey(principal.id, now)])
        return principal

    def session(self, cookie: str) -> SessionRecord | None:
        """Return the session of a cookie, if it is still going, and note that it was used."""
        now = self.clock()
        record = self.sessions.find(cookie, now)
        if record is not None and now - (record.seen_at or 0.0) >= TOUCH:
            self.sessions.touch(record, now)
            self.store.later([TouchSession(record.hash, now)])
        return record

    def signed_in(self, cookie: str) -> Principal | None:
        """Return whom the session of a cookie stands for, and note that it was used."""
        record = self.session(cookie)
        return None if record is None else auth.signed_in(self.ring, record, self.clock())

    def keys_changed(self) -> None:
        """End the sessions of keys that work no more, and let every stream look whether it may go on."""
        now = self.clock()
        over = self.sessions.leave(lambda record: auth.signed_in(self.ring, record, now) is not None)
        if over:
            self.store.later([DropSession(record.hash) for record in over])
        self.hub.ring()

    def refresh_keys(self) -> bool:
        """Take over the keys of the store if they have changed; say whether they had.

        To see that they have not is one row of a small table: less work than the request that asks for it, so a flood
        of unknown keys gains nothing by it.
        """
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
