"""Store in a PostgreSQL database: a writer, a follower and a pool of connections for reads."""

from __future__ import annotations

import contextlib
import time
import weakref
from typing import TYPE_CHECKING, Final, Self

import psycopg
import psycopg_pool

from progressbar_tracker._errors import ConfigError
from progressbar_tracker._text import summarize_error
from progressbar_tracker.server.clock import read_monotonic
from progressbar_tracker.server.settings import strip_password
from progressbar_tracker.server.stores.base import (
    ChangeBatch,
    Credentials,
    HistoryRow,
    ItemRow,
    StoredState,
    StoreError,
)
from progressbar_tracker.server.stores.group_commit import GroupCommitStore

from . import follower, rows
from .follower import Follower
from .schema import (
    CONNECT_TIMEOUT,
    STARTUP_LOCK_ID,
    abort_connection,
    add_timeouts,
    ensure_schema,
    set_search_path,
)
from .writer import PostgresWriter

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator
    from types import TracebackType

    from progressbar_tracker.server.models import DeliveryStats, EndStatus, Item, KeyRecord, Notice, Sample
    from progressbar_tracker.server.pools import Cancellation

    from .schema import Connection

MAX_READ_CONNECTIONS: Final = 6
"""More than all concurrent searches and history queries use."""

CANCEL_TIMEOUT: Final = 2.0
"""Seconds for the request that cancels a query."""


class PostgresStore(GroupCommitStore):
    """A store in a PostgreSQL database, which other servers may use at the same time.

    Args:
        url: ``postgresql://user:password@host:port/name``, or any connection string of libpq.
        now: Seconds since the epoch.

    Raises:
        ConfigError: The database does not answer, refuses the connection, or belongs to a newer version.
    """

    def __init__(self, url: str, *, now: Callable[[], float] = time.time) -> None:
        ensure_schema(url)
        self._url = url
        self._publish: Callable[[ChangeBatch], None] = _discard_batch
        self._follower: Follower | None = None
        self.rev = 0
        self.epoch = ""
        self._credentials_rev = 0
        self._connections: weakref.WeakSet[Connection] = weakref.WeakSet()
        self._loaded_at = read_monotonic()
        self._pool = psycopg_pool.ConnectionPool(
            add_timeouts(url),
            min_size=1,
            max_size=MAX_READ_CONNECTIONS,
            timeout=CONNECT_TIMEOUT,
            kwargs={"autocommit": True},
            configure=self._register_connection,
            check=psycopg_pool.ConnectionPool.check_connection,
            name="progressbar-readers",
            open=True,
        )
        self._writer = PostgresWriter(url, now=now, publish=lambda batch: self._publish(batch))
        super().__init__(self._writer)
        try:
            with self._borrow_connection() as connection:
                (epoch,) = connection.execute("SELECT epoch FROM meta").fetchone() or ("",)
                self.epoch = str(epoch)
        except StoreError as error:
            self.close()
            raise ConfigError(f"the database {strip_password(url)} cannot be used: {error}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def durability_error(self) -> None:
        """``None``: PostgreSQL guards its own files."""
        return

    @property
    def shared(self) -> PostgresStore:
        """The store itself: other servers may write to it."""
        return self

    @property
    def is_leader(self) -> bool:
        """Whether this server runs background maintenance."""
        return self._follower is not None and self._follower.is_leader

    @property
    def credentials_rev(self) -> int:
        """The newest revision of the credentials that this server wrote."""
        return self._writer.credentials_rev

    @property
    def confirmed_at(self) -> float:
        """Start of the latest successful read of the credentials, by :func:`~.clock.read_monotonic`."""
        return self._loaded_at if self._follower is None else max(self._loaded_at, self._follower.confirmed_at)

    def load(self) -> StoredState:
        """Return the state to keep in memory; :meth:`follow` publishes the changes since then."""
        self._loaded_at = read_monotonic()
        with self._borrow_connection() as connection:
            stored, self.rev = follower.read_all_items(connection)
            credentials = rows.read_credentials(connection)
            sampled_runs = rows.read_sampled_runs(connection)
        self._credentials_rev = credentials.rev
        items = [row.item for row in stored.values() if row.item is not None]
        return StoredState(
            items, credentials.keys, credentials.rev, credentials.sessions, sampled_runs, credentials.shares
        )

    def follow(self, publish: Callable[[ChangeBatch], None]) -> None:
        """Publish all changes of the database since it was loaded."""
        self._publish = publish
        self._follower = Follower(
            self._url,
            rev=self.rev,
            credentials_rev=self._credentials_rev,
            publish=publish,
            drain_uncertain=self._writer.drain_uncertain,
        )

    def find_pending_base(self, item_id: str, rev: int) -> Item | bool:
        """Return which changes of this server are not yet in the row of an item at a revision."""
        return self._writer.find_pending_base(item_id, rev)

    def acknowledge(self, rev: int) -> None:
        """Note that the server has applied all changes up to a revision."""
        self._writer.acknowledge(rev)

    @contextlib.contextmanager
    def exclusive(self) -> Iterator[None]:
        """Hold a lock against other servers that start at the same time.

        Raises:
            StoreError: The database does not answer.
        """
        with self._borrow_connection() as connection:
            connection.execute("SELECT pg_advisory_lock(%s)", [STARTUP_LOCK_ID])
            try:
                yield
            finally:
                connection.execute("SELECT pg_advisory_unlock(%s)", [STARTUP_LOCK_ID])

    def read_items(self, ids: Iterable[str]) -> dict[str, ItemRow]:
        """Return the stored rows; an item that never existed has revision 0."""
        with self._borrow_connection() as connection:
            return follower.read_items(connection, ids)

    def read_credentials(self) -> Credentials:
        """Return the stored credentials."""
        with self._borrow_connection() as connection:
            return rows.read_credentials(connection)

    @property
    def database_id(self) -> str:
        """A unique id of this database."""
        return self.epoch

    def is_secret_retired(self, secret_hash: str) -> bool:
        """Return whether a secret once belonged to a key, and no longer does."""
        with self._borrow_connection() as connection:
            return rows.is_secret_retired(connection, secret_hash)

    def read_keys(self) -> tuple[list[KeyRecord], int]:
        """Return all keys and their revision."""
        credentials = self.read_credentials()
        return credentials.keys, credentials.rev

    def read_keys_rev(self) -> int:
        """Return the revision of the keys."""
        with self._borrow_connection() as connection:
            (rev,) = connection.execute("SELECT credentials_rev FROM meta").fetchone() or (0,)
        return int(rev)

    def read_history(
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
        with self._borrow_connection() as connection, _interrupt_on_cancel(connection, cancellation):
            return rows.read_history(
                connection, group=group, status=status, item_id=item_id, text=text, after=after, limit=limit
            )

    def read_samples(self, item_id: str, run_id: str, *, cancellation: Cancellation | None = None) -> list[Sample]:
        """Return the samples of a run, oldest first."""
        with self._borrow_connection() as connection, _interrupt_on_cancel(connection, cancellation):
            return rows.read_samples(connection, item_id, run_id)

    def read_due_notices(self, now: float, limit: int, *, excluded_channels: Collection[str] = ()) -> list[Notice]:
        """Return the notices that are due, longest due first."""
        with self._borrow_connection() as connection:
            return rows.read_due_notices(connection, now, limit, excluded_channels)

    def read_delivery_stats(self) -> list[DeliveryStats]:
        """Return the delivery statistics of each channel."""
        with self._borrow_connection() as connection:
            return rows.read_delivery_stats(connection)

    def close(self) -> None:
        """Write the queue, then release all resources. Idempotent."""
        if self._follower is not None:
            self._follower.request_close()
        self._writer.close()
        if self._follower is not None:
            self._follower.close()
        self._pool.close(timeout=0.1)  # for each of its threads

    def abandon(self) -> None:
        """Fail all pending operations and retry nothing, because the server must end."""
        self._writer.abandon()
        for connection in list(self._connections):
            abort_connection(connection)
        if self._follower is not None:
            self._follower.close()

    def _register_connection(self, connection: Connection) -> None:
        set_search_path(connection)
        self._connections.add(connection)

    def _borrow_connection(self) -> _ReadConnection:
        return _ReadConnection(self._pool)


class _ReadConnection:
    """Lends a connection of the pool, and turns errors of the driver into :class:`StoreError`."""

    def __init__(self, pool: psycopg_pool.ConnectionPool[Connection]) -> None:
        self._context = pool.connection()

    def __enter__(self) -> Connection:
        try:
            return self._context.__enter__()
        except (psycopg.Error, psycopg_pool.PoolTimeout) as error:
            raise StoreError(summarize_error(error)) from error

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._context.__exit__(kind, error, trace)
        if isinstance(error, psycopg.Error):
            raise StoreError(summarize_error(error)) from error


def _interrupt_on_cancel(
    connection: Connection, cancellation: Cancellation | None
) -> contextlib.AbstractContextManager[None]:
    """Let a cancellation interrupt the query of a connection."""

    def interrupt() -> None:
        with contextlib.suppress(psycopg.Error):
            connection.cancel_safe(timeout=CANCEL_TIMEOUT)

    return contextlib.nullcontext() if cancellation is None else cancellation.allow_interrupt(interrupt)


def _discard_batch(_: ChangeBatch) -> None:
    """Ignore changes until :meth:`PostgresStore.follow`."""
