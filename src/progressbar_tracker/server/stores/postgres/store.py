"""Store in a PostgreSQL database: a writer, a follower and a pool of connections for reads."""

from __future__ import annotations

import contextlib
import weakref
from typing import TYPE_CHECKING, Final, Literal, Self

import psycopg
import psycopg_pool

from progressbar_tracker._errors import ConfigError
from progressbar_tracker._text import summarize_error
from progressbar_tracker.server.clock import read_monotonic
from progressbar_tracker.server.items.former_runs import MAX_FORMER_RUNS
from progressbar_tracker.server.settings import strip_password
from progressbar_tracker.server.stores.base import (
    ALL_RUNS,
    ChangeBatch,
    Credentials,
    HistoryFilter,
    HistoryRow,
    ItemRow,
    StoredState,
    StoreError,
    Timeline,
)
from progressbar_tracker.server.stores.group_commit import GroupCommitStore

from . import credential_rows, follower, rows, run_queries, schedules
from .database import CONNECT_TIMEOUT, Connection, abort_connection
from .follower import Follower
from .schema import STARTUP_LOCK_ID, open_database
from .writer import PostgresWriter

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator
    from types import TracebackType

    from progressbar_tracker.server.items.curves import Curve
    from progressbar_tracker.server.items.former_runs import FormerRunRow
    from progressbar_tracker.server.models import (
        DeliveryStats,
        Item,
        KeyRecord,
        Notice,
        RunRow,
        Sample,
        ScheduleRecord,
        StoredTail,
    )
    from progressbar_tracker.server.mutations import KeptMessage
    from progressbar_tracker.server.pools import Cancellation

MAX_READ_CONNECTIONS: Final = 6
"""More than all concurrent searches and history queries use."""

CANCEL_TIMEOUT: Final = 2.0
"""Seconds for the request that cancels a query."""


class PostgresStore(GroupCommitStore):
    """A store in a PostgreSQL database, which other servers may use at the same time.

    Args:
        url: ``postgresql://user:password@host:port/name``, or any connection string of libpq.

    Raises:
        ConfigError: The database does not answer, refuses the connection, or belongs to a newer version.
    """

    def __init__(self, url: str) -> None:
        self._database = database = open_database(url)
        self._publish: Callable[[ChangeBatch], None] = _discard_batch
        self._follower: Follower | None = None
        self.rev = 0
        self.epoch = ""
        self._database_id = ""
        self._loaded_timeline = self._credentials_rev = self._schedules_rev = 0
        self._connections: weakref.WeakSet[Connection] = weakref.WeakSet()
        self._loaded_at = read_monotonic()

        class PooledConnection(Connection):
            @classmethod
            def connect(cls, *_: object, **__: object) -> Connection:  # type: ignore[override]  # as the pool calls it
                return database.connect()

        self._pool: psycopg_pool.ConnectionPool[Connection] = psycopg_pool.ConnectionPool(
            connection_class=PooledConnection,
            min_size=1,
            max_size=MAX_READ_CONNECTIONS,
            timeout=CONNECT_TIMEOUT,
            configure=self._connections.add,
            check=self._check_connection,
            name="progressbar-readers",
            open=True,
        )
        self._writer = PostgresWriter(database, publish=lambda batch: self._publish(batch))
        super().__init__(self._writer)
        try:
            with self._borrow_connection() as connection:
                (database_id,) = connection.execute("SELECT epoch FROM meta").fetchone() or ("",)
                self._database_id = str(database_id)
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
    def timeline(self) -> int:
        """The newest timeline of the database, see :class:`~.database.Database`."""
        return self._database.timeline

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
            credentials = credential_rows.read_credentials(connection)
            sampled_runs = run_queries.read_sampled_runs(connection)
            curves = run_queries.read_running_curves(connection)
            records, revisions = schedules.read_all_schedules(connection)
            self._loaded_timeline = connection.timeline
        self._credentials_rev, self._schedules_rev = credentials.rev, revisions.rev
        self.epoch = follower.build_epoch(self._database_id, self._loaded_timeline)
        items = [row.item for row in stored.values() if row.item is not None]
        return StoredState(
            items, credentials.keys, credentials.rev, credentials.sessions, sampled_runs, credentials.shares, curves,
            records, subscriptions=credentials.subscriptions, vapid_keys=credentials.vapid_keys,
            ping_tokens=credentials.ping_tokens,
        )  # fmt: skip

    def follow(self, publish: Callable[[ChangeBatch], None]) -> None:
        """Publish all changes of the database since it was loaded."""
        self._publish = publish
        self._follower = Follower(
            self._database,
            database_id=self._database_id,
            timeline=self._loaded_timeline,
            rev=self.rev,
            credentials_rev=self._credentials_rev,
            schedules_rev=self._schedules_rev,
            publish=publish,
            drain_uncertain=self._writer.drain_uncertain,
            forget_commits=self._writer.forget_commits,
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

    def read_schedules(self, ids: Iterable[str]) -> list[ScheduleRecord]:
        """Return the stored schedules of some ids."""
        with self._borrow_connection() as connection:
            return schedules.read_schedules(connection, ids)

    def read_credentials(self) -> Credentials:
        """Return the stored credentials."""
        with self._borrow_connection() as connection:
            return credential_rows.read_credentials(connection)

    @property
    def database_id(self) -> str:
        """A unique id of this database."""
        return self._database_id

    def is_secret_retired(self, secret_hash: str) -> bool:
        """Return whether a secret once belonged to a key, and no longer does."""
        with self._borrow_connection() as connection:
            return credential_rows.is_secret_retired(connection, secret_hash)

    def read_keys(self) -> tuple[list[KeyRecord], int]:
        """Return all keys and their revision."""
        credentials = self.read_credentials()
        return credentials.keys, credentials.rev

    def read_keys_rev(self) -> int:
        """Return the revision of the keys."""
        with self._borrow_connection() as connection:
            (rev,) = connection.execute("SELECT credentials_rev FROM meta").fetchone() or (0,)
        return int(rev)

    def read_vapid_keys(self) -> tuple[str, ...]:
        """Return the private keys that sign Web Push messages, the newest first."""
        return self.read_credentials().vapid_keys

    def read_history(
        self,
        criteria: HistoryFilter = ALL_RUNS,
        *,
        after: int | None = None,
        limit: int = 100,
        cancellation: Cancellation | None = None,
    ) -> list[HistoryRow]:
        """Return runs that left the board, newest first."""
        with self._borrow_connection() as connection, _interrupt_on_cancel(connection, cancellation):
            return run_queries.read_history(connection, criteria, after=after, limit=limit)

    def read_timeline(
        self,
        since: float,
        until: float,
        *,
        group: str | None = None,
        limit: int,
        cancellation: Cancellation | None = None,
    ) -> Timeline:
        """Return the runs of the history that overlap an interval, without inner ones that have not failed."""
        with self._borrow_connection() as connection, _interrupt_on_cancel(connection, cancellation):
            return run_queries.read_timeline(connection, since, until, group, limit)

    def read_recent_runs(
        self, ids: Collection[str], *, limit: int, cancellation: Cancellation | None = None
    ) -> dict[str, list[RunRow]]:
        """Return the newest runs of many ids, newest first."""
        with self._borrow_connection() as connection, _interrupt_on_cancel(connection, cancellation):
            return run_queries.read_recent_runs(connection, ids, limit)

    def read_samples(self, item_id: str, run_id: str, *, cancellation: Cancellation | None = None) -> list[Sample]:
        """Return the samples of a run, oldest first."""
        with self._borrow_connection() as connection, _interrupt_on_cancel(connection, cancellation):
            return run_queries.read_samples(connection, item_id, run_id)

    def read_former_runs(
        self,
        keys: Collection[str],
        *,
        by: Literal["id", "pattern"],
        limit: int = MAX_FORMER_RUNS,
        cancellation: Cancellation | None = None,
    ) -> dict[str, list[FormerRunRow]]:
        """Return the successful runs of many ids or patterns, newest first."""
        with self._borrow_connection() as connection, _interrupt_on_cancel(connection, cancellation):
            return run_queries.read_former_runs(connection, keys, by, limit)

    def read_curves(
        self, runs: Collection[tuple[str, str]], *, cancellation: Cancellation | None = None
    ) -> dict[tuple[str, str], Curve]:
        """Return the stored curves of runs, by id and run id."""
        with self._borrow_connection() as connection, _interrupt_on_cancel(connection, cancellation):
            return run_queries.read_curves(connection, runs)

    def read_tail(self, item_id: str, run_id: str, *, cancellation: Cancellation | None = None) -> StoredTail | None:
        """Return the output tail of a run, or ``None``."""
        with self._borrow_connection() as connection, _interrupt_on_cancel(connection, cancellation):
            return run_queries.read_tail(connection, item_id, run_id)

    def read_due_notices(self, now: float, limit: int, *, excluded_channels: Collection[str] = ()) -> list[Notice]:
        """Return the notices that are due, longest due first."""
        with self._borrow_connection() as connection:
            return rows.read_due_notices(connection, now, limit, excluded_channels)

    def read_kept_message(self, channel: str, item_id: str, run_id: str) -> KeptMessage | None:
        """Return the message of a channel about a run, or ``None``."""
        with self._borrow_connection() as connection:
            return rows.read_kept_message(connection, channel, item_id, run_id)

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

    def _check_connection(self, connection: Connection) -> None:
        self._database.check_connection(connection)
        psycopg_pool.ConnectionPool.check_connection(connection)

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
