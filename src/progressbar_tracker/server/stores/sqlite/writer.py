"""Write to a SQLite file: the connection that commits, and the check that the file is still at its path."""

from __future__ import annotations

import contextlib
import logging
import sqlite3
from typing import TYPE_CHECKING, Final

from progressbar_tracker.server.mutations import SaveItem, TrimHistory, Write
from progressbar_tracker.server.stores.base import StoreError
from progressbar_tracker.server.stores.group_commit import GroupResult, GroupWriter, Waiter, get_item_id

from .rows import execute_writes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .guard import FileGuard

logger = logging.getLogger("progressbar_tracker.server.store")

FLUSH_DELAY: Final = 0.4
"""Seconds that a state may wait: with the commit itself, less than the promised half second."""

TRIM_PAUSE: Final = 0.05
"""Seconds between two batches of one trim."""

MAX_GROUP_STATES: Final = 5000
"""Queued states in one group, at most: the waiters of the group wait for all of them."""

FILE_LOST_DETAIL: Final = (
    "the server's database file was deleted, moved, replaced or overwritten while the server ran; the server refuses "
    "all writes until the file is back, and its log says what happened to which file"
)


class SqliteWriter(GroupWriter[Waiter]):
    """Commits writes to one file in groups.

    Args:
        connection: The only connection that writes. The caller closes it after :meth:`close`.
        guard: Watches the file.

    Attributes:
        durability_error: Why the latest commit would not survive a restart; ``None`` if it would.
    """

    def __init__(self, connection: sqlite3.Connection, guard: FileGuard) -> None:
        super().__init__(FLUSH_DELAY)
        self.durability_error: StoreError | None = None
        self._connection = connection
        self._guard = guard
        self._must_checkpoint = False
        self._thread.start()

    def _admit(self, writes: Sequence[Write], on_done: Callable[[Exception | None], object]) -> Waiter:
        for write in writes:
            # A queued state of the same item is older. Written later, it would undo this write.
            item_id = get_item_id(write)
            if item_id is not None:
                self._queue.pop(item_id, None)
        return Waiter(writes, on_done)

    def _split_queue(self) -> tuple[dict[object, Write], dict[object, Write]]:
        if len(self._queue) <= MAX_GROUP_STATES:
            return self._queue, {}
        states = [key for key, write in self._queue.items() if isinstance(write, SaveItem)]
        later = {key: self._queue[key] for key in states[MAX_GROUP_STATES:]}
        return {key: write for key, write in self._queue.items() if key not in later}, later

    def _write_group(self, waiters: list[Waiter], queued: dict[object, Write]) -> GroupResult[Waiter]:
        writes = [*(write for waiter in waiters for write in waiter.writes), *queued.values()]
        if writes:
            try:
                unfinished = self._transact(writes)
            finally:
                if self._connection.in_transaction:
                    with contextlib.suppress(sqlite3.Error):
                        self._connection.execute("ROLLBACK")
                if self._must_checkpoint:
                    self._must_checkpoint = False
                    with contextlib.suppress(sqlite3.Error):
                        self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
            for trim in unfinished:
                self._continue_later(trim, TRIM_PAUSE)
        return GroupResult([(waiter, None) for waiter in waiters])

    def _transact(self, writes: Sequence[Write]) -> list[TrimHistory]:
        self._connection.execute("BEGIN IMMEDIATE")
        self._check_file(is_rolled_back=True)
        unfinished = execute_writes(self._connection, writes)
        try:
            self._connection.execute("COMMIT")
            self._check_file(is_rolled_back=False)
        except StoreError:
            raise
        except Exception as error:
            if _is_rolled_back(error):
                raise
            raise StoreError(str(error), is_rolled_back=False) from error
        return unfinished

    def _classify_failure(self, error: Exception) -> tuple[StoreError, bool]:
        # A lock, a disk or a lost file fails every part alike, and each part would wait for the lock again.
        is_common = isinstance(error, (sqlite3.OperationalError, StoreError))
        return error if isinstance(error, StoreError) else StoreError(str(error)), is_common

    def _requeue(self, failed: dict[object, Write]) -> None:
        if self.durability_error is None:  # which is logged already
            logger.warning("%d states could not be written and wait", len(failed))
        super()._requeue(failed)

    def _check_file(self, *, is_rolled_back: bool) -> None:
        """Check that the database is still the file at its path.

        Raises:
            StoreError: It is not.
        """
        fault = self._guard.find_fault()
        if fault is not None and self.durability_error is None and self._guard.is_moved():
            # A checkpoint puts all acknowledged writes into the moved file, whatever happens to its log.
            self._must_checkpoint = True
        self.durability_error = (
            None if fault is None else StoreError(fault, is_rolled_back=is_rolled_back, detail=FILE_LOST_DETAIL)
        )
        if self.durability_error is not None:
            raise self.durability_error


def _is_rolled_back(error: Exception) -> bool:
    """Return whether a failed COMMIT left nothing behind: the log does not hold its complete last frame."""
    code = getattr(error, "sqlite_errorcode", None)
    return code in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE}
