"""The follower: one thread that reads what has changed, woken by notifications and, for they may be lost, by a clock.

Its connection holds the lock of who leads, too: when it breaks, another server takes over within a second.
"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Final

import psycopg

from progressbar_tracker.server import logs
from progressbar_tracker.server.clock import count_seconds
from progressbar_tracker.server.stores.base import Row, Seen

from . import rows
from .schema import CHANNEL, LEADING, connect, cut, plain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from .schema import Connection

logger = logging.getLogger("progressbar_tracker.server.store")

POLL: Final = 1.0
"""Seconds between two looks when no notification comes."""

GATHER: Final = 0.02
"""Least seconds between two looks: many servers' commits are read at once."""

SLICE: Final = 2000
"""The most items that are told at a time: who takes them over has other things to do, too."""


class Follower:
    """Reads what has changed since a revision, and tells it.

    Args:
        url: The database.
        rev: Up to where all is known.
        credentials_rev: The same of keys, sessions and shares.
        tell: Told what is found, from this thread.
        unsure: Asked for items that are to be told whether they have changed or not.

    Attributes:
        leading: This server is the one that leads.
        confirmed_at: When a look at the credentials began that was answered, by :func:`~.clock.count_seconds`.
    """

    def __init__(
        self,
        url: str,
        *,
        rev: int,
        credentials_rev: int,
        tell: Callable[[Seen], None],
        unsure: Callable[[], set[str]],
    ) -> None:
        self._url = url
        self._rev = rev
        self._credentials_rev = credentials_rev
        self._tell = tell
        self._unsure = unsure
        self._closing = threading.Event()
        self._connection: Connection | None = None
        self.confirmed_at = count_seconds()
        self.leading = False
        self._thread = threading.Thread(target=self._work, name="progressbar-follower", daemon=True)
        self._thread.start()

    def closing(self) -> None:
        """End at the next look; a notification makes it come at once."""
        self._closing.set()

    def close(self) -> None:
        """Stop, whether or not the database answers."""
        self._closing.set()
        if (connection := self._connection) is not None:
            cut(connection)
        self._thread.join(0.3)

    def _work(self) -> None:
        while not self._closing.is_set():
            try:
                with connect(self._url) as connection:
                    self._connection = connection
                    connection.execute(f"LISTEN {CHANNEL}")
                    while not self._closing.is_set():
                        self._look(connection)
                        for _ in connection.notifies(timeout=POLL, stop_after=1):
                            pass
                        self._closing.wait(GATHER)
            except psycopg.Error as error:
                if not self._closing.is_set():
                    logger.warning("the database cannot be followed: %s", plain(error))
            except Exception:
                logger.exception("the database cannot be followed")
            self._connection = None
            if self.leading:
                self.leading = False
                logs.tell("leadership lost")
            self._closing.wait(POLL)

    def _look(self, connection: Connection) -> None:
        if not self.leading:
            found = connection.execute("SELECT pg_try_advisory_lock(%s)", [LEADING]).fetchone()
            if found is not None and found[0]:
                self._tell(Seen(sampled=rows.sampled(connection)))
                self.leading = True
                logs.tell("leadership gained")
        if unsure := self._unsure():
            self._tell(Seen(read(connection, unsure)))
        begun = count_seconds()
        meta = connection.execute("SELECT rev, credentials_rev, forgotten_rev FROM meta").fetchone()
        if meta is None:
            return
        rev, credentials_rev, forgotten_rev = meta
        if credentials_rev != self._credentials_rev:
            credentials = rows.credentials(connection)
            self._tell(Seen(credentials=credentials))
            self._credentials_rev = credentials.rev
        self.confirmed_at = begun
        if self._rev < forgotten_rev or rev < self._rev:
            # Away for so long that it is not known any more what went; or the database was put back in time.
            items, self._rev = whole(connection)
            self._tell(Seen(items, rev=self._rev, whole=True))
        elif rev > self._rev:
            self._read_on(connection, rev)

    def _read_on(self, connection: Connection, rev: int) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SELECT id, rev, state FROM items WHERE rev > %s ORDER BY rev", [self._rev])
            ended = rows.ended_since(connection, self._rev, rev)
            while found := cursor.fetchmany(SLICE):
                self._tell(Seen({item_id: rows.row_of(item_id, at, state) for item_id, at, state in found}))
        self._rev = rev
        self._tell(Seen(ended=ended, rev=rev))


def read(connection: Connection, ids: Iterable[str]) -> dict[str, Row]:
    """Return what is stored under ids now."""
    wanted = list(ids)
    found = connection.execute("SELECT id, rev, state FROM items WHERE id = ANY(%s)", [wanted]).fetchall()
    there = {item_id: rows.row_of(item_id, rev, state) for item_id, rev, state in found}
    return {item_id: there.get(item_id, Row(0, None)) for item_id in wanted}


def whole(connection: Connection) -> tuple[dict[str, Row], int]:
    """Return all items, and the revision of which they are."""
    with connection.transaction():
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        (rev,) = connection.execute("SELECT rev FROM meta").fetchone() or (0,)
        found = connection.execute("SELECT id, rev, state FROM items WHERE state IS NOT NULL").fetchall()
    return {item_id: rows.row_of(item_id, at, state) for item_id, at, state in found}, int(rev)
