"""Follow the changes of a database in one thread, woken by notifications and by a timer, since these may be lost.

Its connection also holds the leader lock: if the connection breaks, another server becomes the leader within a second.
"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Final

import psycopg

from progressbar_tracker._text import summarize_error
from progressbar_tracker.server import logs
from progressbar_tracker.server.clock import read_monotonic
from progressbar_tracker.server.stores.base import ChangeBatch, ItemRow

from . import rows
from .schema import LEADER_LOCK_ID, NOTIFY_CHANNEL, abort_connection, connect

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from .schema import Connection

logger = logging.getLogger("progressbar_tracker.server.store")

POLL_INTERVAL: Final = 1.0
"""Seconds between two reads without a notification."""

MIN_POLL_INTERVAL: Final = 0.02
"""Minimum seconds between two reads: one read covers the commits of many servers."""

MAX_BATCH_ITEMS: Final = 2000
"""Items in one batch: the event loop applies a batch in one turn."""


class Follower:
    """Reads the changes since a revision, and publishes them.

    Args:
        url: The database.
        rev: The revision of the loaded items.
        credentials_rev: The revision of the loaded keys, sessions and shares.
        publish: Receives batches of changes, in this thread.
        drain_uncertain: Returns items to publish in any case, changed or not.

    Attributes:
        is_leader: Whether this server holds the leader lock.
        confirmed_at: Start of the latest successful read of the credentials, by :func:`~.clock.read_monotonic`.
    """

    def __init__(
        self,
        url: str,
        *,
        rev: int,
        credentials_rev: int,
        publish: Callable[[ChangeBatch], None],
        drain_uncertain: Callable[[], set[str]],
    ) -> None:
        self._url = url
        self._rev = rev
        self._credentials_rev = credentials_rev
        self._publish = publish
        self._drain_uncertain = drain_uncertain
        self._closing = threading.Event()
        self._connection: Connection | None = None
        self.confirmed_at = read_monotonic()
        self.is_leader = False
        self._thread = threading.Thread(target=self._run_loop, name="progressbar-follower", daemon=True)
        self._thread.start()

    def request_close(self) -> None:
        """Stop at the next read. A notification triggers it at once."""
        self._closing.set()

    def close(self) -> None:
        """Stop, even if the database does not answer."""
        self._closing.set()
        if (connection := self._connection) is not None:
            abort_connection(connection)
        self._thread.join(0.3)

    def _run_loop(self) -> None:
        while not self._closing.is_set():
            try:
                with connect(self._url) as connection:
                    self._connection = connection
                    connection.execute(f"LISTEN {NOTIFY_CHANNEL}")
                    while not self._closing.is_set():
                        self._poll(connection)
                        for _ in connection.notifies(timeout=POLL_INTERVAL, stop_after=1):
                            pass
                        self._closing.wait(MIN_POLL_INTERVAL)
            except psycopg.Error as error:
                if not self._closing.is_set():
                    logger.warning("the database cannot be followed: %s", summarize_error(error))
            except Exception:
                logger.exception("the database cannot be followed")
            self._connection = None
            if self.is_leader:
                self.is_leader = False
                logs.log_event("leadership lost")
            self._closing.wait(POLL_INTERVAL)

    def _poll(self, connection: Connection) -> None:
        if not self.is_leader:
            row = connection.execute("SELECT pg_try_advisory_lock(%s)", [LEADER_LOCK_ID]).fetchone()
            if row is not None and row[0]:
                self._publish(ChangeBatch(sampled_runs=rows.read_sampled_runs(connection)))
                self.is_leader = True
                logs.log_event("leadership gained")
        if uncertain := self._drain_uncertain():
            self._publish(ChangeBatch(read_items(connection, uncertain)))
        started_at = read_monotonic()
        meta = connection.execute("SELECT rev, credentials_rev, forgotten_rev FROM meta").fetchone()
        if meta is None:
            return
        rev, credentials_rev, forgotten_rev = meta
        if credentials_rev != self._credentials_rev:
            credentials = rows.read_credentials(connection)
            self._publish(ChangeBatch(credentials=credentials))
            self._credentials_rev = credentials.rev
        self.confirmed_at = started_at
        if self._rev < forgotten_rev or rev < self._rev:
            # The tombstones since this revision are deleted, or an older copy of the database was restored.
            items, self._rev = read_all_items(connection)
            self._publish(ChangeBatch(items, rev=self._rev, full=True))
        elif rev > self._rev:
            self._read_changes(connection, rev)

    def _read_changes(self, connection: Connection, rev: int) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SELECT id, rev, state FROM items WHERE rev > %s ORDER BY rev", [self._rev])
            ended = rows.read_ended_runs(connection, self._rev, rev)
            while batch := cursor.fetchmany(MAX_BATCH_ITEMS):
                self._publish(
                    ChangeBatch({item_id: rows.parse_item_row(item_id, at, state) for item_id, at, state in batch})
                )
        self._rev = rev
        self._publish(ChangeBatch(ended_runs=ended, rev=rev))


def read_items(connection: Connection, ids: Iterable[str]) -> dict[str, ItemRow]:
    """Return the stored rows; an item that never existed has revision 0."""
    wanted = list(ids)
    result = connection.execute("SELECT id, rev, state FROM items WHERE id = ANY(%s)", [wanted])
    stored = {item_id: rows.parse_item_row(item_id, rev, state) for item_id, rev, state in result}
    return {item_id: stored.get(item_id, ItemRow(0, None)) for item_id in wanted}


def read_all_items(connection: Connection) -> tuple[dict[str, ItemRow], int]:
    """Return all items and their revision, in one transaction."""
    with connection.transaction():
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        (rev,) = connection.execute("SELECT rev FROM meta").fetchone() or (0,)
        items = connection.execute("SELECT id, rev, state FROM items WHERE state IS NOT NULL").fetchall()
    return {item_id: rows.parse_item_row(item_id, at, state) for item_id, at, state in items}, int(rev)
