"""The store's face: what the server asks of it, put together from the writer, the follower and a pool for reading."""

from __future__ import annotations

import contextlib
import time
import weakref
from typing import TYPE_CHECKING, Final, Self

import psycopg
import psycopg_pool

from progressbar_tracker._errors import ConfigError
from progressbar_tracker.server.clock import count_seconds
from progressbar_tracker.server.settings import without_password
from progressbar_tracker.server.stores.base import Credentials, HistoryRow, Loaded, Row, Seen, StoreError, committed

from . import follower, rows
from .follower import Follower
from .schema import CONNECT, STARTING, configure, cut, impatient, plain, prepare
from .writer import Writer

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
    from concurrent.futures import Future
    from types import TracebackType

    from progressbar_tracker.server.counters import Commits
    from progressbar_tracker.server.models import EndStatus, Item, KeyRecord, Notice, Outcome, Sample, Write
    from progressbar_tracker.server.pools import Cancellation

    from .schema import Connection

READERS: Final = 6
"""The most connections for reading: more than the searches and other looks at the past take together."""

CANCEL: Final = 2.0
"""Seconds in which the database takes note that a search is cancelled."""


class PostgresStore:
    """A store in a PostgreSQL database, which other servers may use at the same time.

    Args:
        url: ``postgresql://user:password@host:port/name``, or any connection string of libpq.
        now: Seconds since the epoch.

    Raises:
        ConfigError: The database cannot be used: it does not answer, refuses us, or belongs to a newer version.
    """

    def __init__(self, url: str, *, now: Callable[[], float] = time.time) -> None:
        prepare(url)
        self._url = url
        self._tell: Callable[[Seen], None] = _nobody
        self._follower: Follower | None = None
        self.rev = 0
        self.epoch = ""
        self._credentials_rev = 0
        self._connections: weakref.WeakSet[Connection] = weakref.WeakSet()
        self._loaded_at = count_seconds()
        self._pool = psycopg_pool.ConnectionPool(
            impatient(url),
            min_size=1,
            max_size=READERS,
            timeout=CONNECT,
            kwargs={"autocommit": True},
            configure=self._configure,
            check=psycopg_pool.ConnectionPool.check_connection,
            name="progressbar-readers",
            open=True,
        )
        self._writer = Writer(url, now=now, tell=lambda seen: self._tell(seen))
        try:
            with self._reading() as connection:
                (epoch,) = connection.execute("SELECT epoch FROM meta").fetchone() or ("",)
                self.epoch = str(epoch)
        except StoreError as error:
            self.close()
            raise ConfigError(f"the database {without_password(url)} cannot be used: {error}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def lost(self) -> None:
        """PostgreSQL itself looks after its files."""
        return

    @property
    def shared(self) -> PostgresStore:
        """This store is one to which others write, too."""
        return self

    @property
    def leading(self) -> bool:
        """Whether this server is the one that sees to what happens by itself."""
        return self._follower is not None and self._follower.leading

    @property
    def credentials_rev(self) -> int:
        """The newest revision of the credentials that was written here."""
        return self._writer.credentials_rev

    @property
    def confirmed_at(self) -> float:
        """Since when the credentials that were told may have changed, by :func:`~.clock.count_seconds`."""
        return self._loaded_at if self._follower is None else max(self._loaded_at, self._follower.confirmed_at)

    def load(self) -> Loaded:
        """Return all hot state; what changes from then on can be followed."""
        self._loaded_at = count_seconds()
        with self._reading() as connection:
            found, self.rev = follower.whole(connection)
            known = rows.credentials(connection)
            sampled = rows.sampled(connection)
        self._credentials_rev = known.rev
        items = [row.item for row in found.values() if row.item is not None]
        return Loaded(items, known.keys, known.rev, known.sessions, sampled, known.shares)

    def follow(self, tell: Callable[[Seen], None]) -> None:
        """Tell from now on what becomes of the database since it was loaded."""
        self._tell = tell
        self._follower = Follower(
            self._url,
            rev=self.rev,
            credentials_rev=self._credentials_rev,
            tell=tell,
            unsure=self._writer.unsure,
        )

    def submit(self, writes: Sequence[Write], done: Callable[[Exception | None], object], /) -> None:
        """Write all or nothing with the next group."""
        self._writer.submit(writes, done)

    def wake(self) -> None:
        """Begin with what was submitted."""
        self._writer.wake()

    def commit(self, writes: Sequence[Write]) -> Future[None]:
        """Write all or nothing with the next group."""
        return committed(self, writes)

    def later(self, writes: Sequence[Write]) -> None:
        """Write within half a second, of each item only the newest state."""
        self._writer.later(writes)

    def flush(self, timeout: float) -> bool:
        """Write what waits now; say whether all of it was written within ``timeout`` seconds."""
        return self._writer.flush(timeout)

    @property
    def commits(self) -> Commits:
        """What is counted of the commits."""
        return self._writer.commits

    def queued(self) -> int:
        """Return how many writes wait for a commit."""
        return self._writer.queued()

    def waiting(self, item_id: str, rev: int) -> Item | bool:
        """Say what of this server's own is not yet in the row of an item at a revision."""
        return self._writer.waiting(item_id, rev)

    def told(self, rev: int) -> None:
        """Note that all up to a revision has been taken over."""
        self._writer.told(rev)

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Keep other servers that start at the same time from doing the same thing.

        Raises:
            StoreError: The database does not answer.
        """
        with self._reading() as connection:
            connection.execute("SELECT pg_advisory_lock(%s)", [STARTING])
            try:
                yield
            finally:
                connection.execute("SELECT pg_advisory_unlock(%s)", [STARTING])

    def read(self, ids: Iterable[str]) -> dict[str, Row]:
        """Return what is stored under ids now."""
        with self._reading() as connection:
            return follower.read(connection, ids)

    def credentials(self) -> Credentials:
        """Return who may do what now."""
        with self._reading() as connection:
            return rows.credentials(connection)

    @property
    def identity(self) -> str:
        """What tells this database from any other."""
        return self.epoch

    def has_ended(self, secret_hash: str) -> bool:
        """Say whether a secret was one of a key, and is one no more."""
        with self._reading() as connection:
            return rows.has_ended(connection, secret_hash)

    def keys(self) -> tuple[list[KeyRecord], int]:
        """Return all keys, and their revision."""
        known = self.credentials()
        return known.keys, known.rev

    def keys_rev(self) -> int:
        """Return the revision of the keys."""
        with self._reading() as connection:
            (rev,) = connection.execute("SELECT credentials_rev FROM meta").fetchone() or (0,)
        return int(rev)

    def history(
        self,
        *,
        group: str | None = None,
        status: EndStatus | None = None,
        item_id: str | None = None,
        text: str | None = None,
        after: int | None = None,
        limit: int = 100,
        cancellation: Cancellation | None = None,
    ) -> list[HistoryRow]:
        """Return runs that left the board, newest first."""
        with self._reading() as connection, _interruptible(connection, cancellation):
            return rows.history(
                connection, group=group, status=status, item_id=item_id, text=text, after=after, limit=limit
            )

    def samples(self, item_id: str, run_id: str, *, cancellation: Cancellation | None = None) -> list[Sample]:
        """Return the samples of a run, oldest first."""
        with self._reading() as connection, _interruptible(connection, cancellation):
            return rows.samples(connection, item_id, run_id)

    def notices(self, now: float, limit: int, *, but: Collection[str] = ()) -> list[Notice]:
        """Return the notices that are to be sent now, the longest due first."""
        with self._reading() as connection:
            return rows.notices(connection, now, limit, but)

    def outcomes(self) -> list[Outcome]:
        """Return what became of the notices to each channel, as far as is remembered."""
        with self._reading() as connection:
            return rows.outcomes(connection)

    def close(self) -> None:
        """Write what waits, then let go of everything. Idempotent."""
        if self._follower is not None:
            self._follower.closing()
        self._writer.close()
        if self._follower is not None:
            self._follower.close()
        self._pool.close(timeout=0.1)  # for each of its threads

    def abandon(self) -> None:
        """Let everything fail that waits for the database, and try nothing again: the server has to end."""
        self._writer.abandon()
        for connection in list(self._connections):
            cut(connection)
        if self._follower is not None:
            self._follower.close()

    def _configure(self, connection: Connection) -> None:
        configure(connection)
        self._connections.add(connection)

    def _reading(self) -> _Reading:
        return _Reading(self._pool)


class _Reading:
    """A connection for reading, whose errors are a store's."""

    def __init__(self, pool: psycopg_pool.ConnectionPool[Connection]) -> None:
        self._context = pool.connection()

    def __enter__(self) -> Connection:
        try:
            return self._context.__enter__()
        except (psycopg.Error, psycopg_pool.PoolTimeout) as error:
            raise StoreError(plain(error)) from error

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._context.__exit__(kind, error, trace)
        if isinstance(error, psycopg.Error):
            raise StoreError(plain(error)) from error


def _interruptible(
    connection: Connection, cancellation: Cancellation | None
) -> contextlib.AbstractContextManager[None]:
    """Let a cancellation interrupt what a connection does, until it is given back."""

    def interrupt() -> None:
        with contextlib.suppress(psycopg.Error):
            connection.cancel_safe(timeout=CANCEL)

    return contextlib.nullcontext() if cancellation is None else cancellation.interrupting(interrupt)


def _nobody(_: Seen) -> None:
    """Tell nobody."""
