"""The interface of a store. Every implementation passes ``tests/server/stores/test_store_contract.py``."""

from __future__ import annotations

from concurrent.futures import Future
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, Protocol

import msgspec

from progressbar_tracker.server.items.former_runs import MAX_FORMER_RUNS
from progressbar_tracker.server.models import ScheduleMark

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
    from contextlib import AbstractContextManager

    from progressbar_tracker.server.counters import CommitStats
    from progressbar_tracker.server.items.curves import Curve, StoredCurve
    from progressbar_tracker.server.items.former_runs import FormerRunRow
    from progressbar_tracker.server.models import (
        DeliveryStats,
        EndedRun,
        EndStatus,
        Item,
        KeyRecord,
        Notice,
        PingTokenRecord,
        PushSubscription,
        RunRow,
        Sample,
        SampledRun,
        ScheduleRecord,
        SessionRecord,
        ShareRecord,
        StoredTail,
    )
    from progressbar_tracker.server.mutations import KeptMessage, Write
    from progressbar_tracker.server.pools import Cancellation


class StoreError(Exception):
    """An operation failed; the message is for the log.

    Attributes:
        is_rolled_back: Nothing was written. If false, the outcome is unknown.
        detail: The reason for clients; ``None`` if only the log contains it.
    """

    def __init__(self, message: str, *, is_rolled_back: bool = True, detail: str | None = None) -> None:
        super().__init__(message)
        self.is_rolled_back = is_rolled_back
        self.detail = detail


class OutdatedError(StoreError):
    """Writes are based on outdated states, because another server changed them. None of them was made.

    Attributes:
        rows: The stored rows, by item.
    """

    def __init__(self, rows: Mapping[str, ItemRow]) -> None:
        super().__init__(f"{len(rows)} items have changed in the meantime")
        self.rows = rows


class StoredState(msgspec.Struct, frozen=True):
    """The state that a server keeps in memory, of one instant.

    Attributes:
        curves: The curves of the running items.
        vapid_keys: The private keys that sign Web Push messages, the newest first; empty until there is one.
    """

    items: list[Item]
    keys: list[KeyRecord]
    keys_rev: int
    sessions: list[SessionRecord]
    sampled_runs: list[SampledRun]
    shares: list[ShareRecord]
    curves: list[StoredCurve] = []
    schedules: list[ScheduleRecord] = []
    schedule_mark: ScheduleMark = ScheduleMark()
    subscriptions: list[PushSubscription] = []
    vapid_keys: tuple[str, ...] = ()
    ping_tokens: list[PingTokenRecord] = []


class ItemRow(msgspec.Struct, frozen=True):
    """A stored item, or ``None`` for a deleted one, with the revision of its latest change."""

    rev: int
    item: Item | None


class Credentials(msgspec.Struct, frozen=True):
    """Keys, sessions, shares, push subscriptions and ping tokens, of one instant.

    ``vapid_keys`` is as in :class:`StoredState`.
    """

    rev: int
    keys: list[KeyRecord]
    sessions: list[SessionRecord]
    shares: list[ShareRecord]
    subscriptions: list[PushSubscription] = []
    vapid_keys: tuple[str, ...] = ()
    ping_tokens: list[PingTokenRecord] = []


class ChangeBatch(msgspec.Struct, frozen=True):
    """Changes of a shared database.

    Attributes:
        rows: Changed items, by id.
        ended_runs: Runs that moved to the history.
        rev: This batch completes all changes up to this revision, and has none of a later one. ``None`` if it is out of
            order or has no items.
        credentials: All credentials, if any has changed.
        full: ``rows`` holds all items of the database.
        epoch: The database has lost its latest changes, in a failover or by a restore: the epoch of its revisions from
            now on. ``full`` and ``credentials`` are set, too.
        sampled_runs: Sample counts of running runs, for a server that becomes the leader.
        curves: The curves of running runs, for that server.
        schedules: Changed schedules, or all of them if ``all_schedules`` is set.
        schedule_mark: The progress of the monitor of schedules, for a server that becomes the leader.
        out_of_order: The rows may be newer than those of the next batch.
    """

    rows: Mapping[str, ItemRow] = {}
    ended_runs: Sequence[EndedRun] = ()
    rev: int | None = None
    credentials: Credentials | None = None
    full: bool = False
    epoch: str | None = None
    sampled_runs: Sequence[SampledRun] | None = None
    curves: Sequence[StoredCurve] | None = None
    schedules: Sequence[ScheduleRecord] = ()
    all_schedules: bool = False
    schedule_mark: ScheduleMark | None = None
    out_of_order: bool = False


class HistoryRow(msgspec.Struct, frozen=True):
    """A run of the history; ``n`` grows with every row and is the cursor."""

    n: int
    item: Item
    status: EndStatus
    ended_at: float


class HistoryFilter(NamedTuple):
    """The criteria of a search of the history; ``None`` matches all runs.

    Attributes:
        text: A part of the id or the title, regardless of case.
        parent: The id of the enclosing item.
        inner: Whether to include runs with a parent that have not failed.
        since: Only runs that ended at this instant or later.
        until: Only runs that started at this instant or earlier.
    """

    group: str | None = None
    status: EndStatus | None = None
    id: str | None = None
    text: str | None = None
    run_id: str | None = None
    parent: str | None = None
    inner: bool = True
    since: float | None = None
    until: float | None = None


ALL_RUNS: Final = HistoryFilter()


class Timeline(NamedTuple):
    """The runs of an interval.

    Attributes:
        runs: The runs, latest end first.
        omitted: The number of further runs, which ended earlier.
    """

    runs: list[RunRow]
    omitted: int


class WriteQueue(Protocol):
    """Commits writes in groups. Its methods may be called from any thread and never wait for the disk."""

    def submit(self, writes: Sequence[Write], on_done: Callable[[Exception | None], object], /) -> None:
        """Write all or nothing with the next group.

        Args:
            writes: The writes. The group starts with :meth:`wake`, if no other event starts it.
            on_done: Called once, from any thread: with ``None`` when the writes are on disk, else with the
                :class:`StoreError`. It must not raise.
        """

    def wake(self) -> None:
        """Start a group with the submitted writes."""


def commit_now(store: WriteQueue, writes: Sequence[Write]) -> Future[None]:
    """Start a commit; return a future that is done when the writes are on disk. For threads."""
    future: Future[None] = Future()
    # Disable cancellation: the write happens anyway, and its future must accept the outcome.
    future.set_running_or_notify_cancel()

    def done(error: Exception | None) -> None:
        if error is None:
            future.set_result(None)
        else:
            future.set_exception(error)

    store.submit(writes, done)
    store.wake()
    return future


class Store(WriteQueue, Protocol):
    """Persistence. ``commit`` and ``enqueue`` may be called from any thread and never wait for the disk."""

    @property
    def commit_stats(self) -> CommitStats:
        """Counters of the commits."""

    def count_pending_writes(self) -> int:
        """Return how many writes wait for a commit."""

    @property
    def durability_error(self) -> StoreError | None:
        """Why the latest commit would not survive a restart; ``None`` if it would."""

    @property
    def shared(self) -> SharedStore | None:
        """The store itself if other servers may write to it, else ``None``."""

    def load(self) -> StoredState:
        """Return the state to keep in memory."""

    def commit(self, writes: Sequence[Write]) -> Future[None]:
        """Write all or nothing; the future is done when the writes are on disk, or fails with :class:`StoreError`."""

    def enqueue(self, writes: Sequence[Write]) -> None:
        """Write within half a second. A newer state of an item replaces an older one that waits."""

    def flush(self, timeout: float) -> bool:
        """Write the queue now; return whether it is empty within ``timeout`` seconds."""

    @property
    def database_id(self) -> str:
        """A unique id of this database, of 12 characters or more."""

    def is_secret_retired(self, secret_hash: str) -> bool:
        """Return whether a secret once belonged to a key, and was replaced or deleted with its key."""

    def read_keys(self) -> tuple[list[KeyRecord], int]:
        """Return all keys, and their revision."""

    def read_keys_rev(self) -> int:
        """Return the revision of the keys; it grows with each change of a key, and of the keys of Web Push."""

    def read_vapid_keys(self) -> tuple[str, ...]:
        """Return the private keys that sign Web Push messages, the newest first."""

    def read_history(
        self,
        criteria: HistoryFilter = ALL_RUNS,
        *,
        after: int | None = None,
        limit: int = 100,
        cancellation: Cancellation | None = None,
    ) -> list[HistoryRow]:
        """Return runs that left the board, newest first. May block: use a thread.

        Args:
            criteria: The filter.
            after: Start after this row.
            limit: Maximum number of rows.
            cancellation: Interrupts the query, which then fails with :class:`StoreError`.
        """

    def read_timeline(
        self,
        since: float,
        until: float,
        *,
        group: str | None = None,
        limit: int,
        cancellation: Cancellation | None = None,
    ) -> Timeline:
        """Return the runs of the history that overlap an interval, without inner ones that have not failed.

        May block: use a thread.

        Args:
            since: The start of the interval.
            until: The end of the interval, included.
            group: Only runs of this group.
            limit: Maximum number of runs.
            cancellation: See :meth:`read_history`.
        """

    def read_recent_runs(
        self, ids: Collection[str], *, limit: int, cancellation: Cancellation | None = None
    ) -> dict[str, list[RunRow]]:
        """Return the newest runs of many ids, newest first; ids without a run are absent. May block: use a thread.

        Args:
            ids: The ids.
            limit: Maximum number of runs of each.
            cancellation: See :meth:`read_history`.
        """

    def read_samples(self, item_id: str, run_id: str, *, cancellation: Cancellation | None = None) -> list[Sample]:
        """Return the samples of a run, oldest first. May block: use a thread."""

    def read_former_runs(
        self,
        keys: Collection[str],
        *,
        by: Literal["id", "pattern"],
        limit: int = MAX_FORMER_RUNS,
        cancellation: Cancellation | None = None,
    ) -> dict[str, list[FormerRunRow]]:
        """Return the successful runs of many ids or patterns, newest first. May block: use a thread.

        Args:
            keys: The ids or the patterns.
            by: The kind of ``keys``. A run has a pattern if it differs from the id; see
                :func:`~.items.patterns.find_pattern`. Runs of earlier versions have none.
            limit: Maximum number of runs of each.
            cancellation: See :meth:`read_history`.

        Returns:
            The runs of each key that has any.
        """

    def read_curves(
        self, runs: Collection[tuple[str, str]], *, cancellation: Cancellation | None = None
    ) -> dict[tuple[str, str], Curve]:
        """Return the stored curves of runs, by id and run id. May block: use a thread."""

    def read_tail(self, item_id: str, run_id: str, *, cancellation: Cancellation | None = None) -> StoredTail | None:
        """Return the output tail of a run, or ``None``. May block: use a thread."""

    def read_due_notices(self, now: float, limit: int, *, excluded_channels: Collection[str] = ()) -> list[Notice]:
        """Return the notices that are due, longest due first. May block: use a thread.

        Args:
            now: The current instant.
            limit: Maximum number of notices.
            excluded_channels: Channels to skip.
        """

    def read_kept_message(self, channel: str, item_id: str, run_id: str) -> KeptMessage | None:
        """Return the message of a channel about a run, or ``None``. May block: use a thread."""

    def read_delivery_stats(self) -> list[DeliveryStats]:
        """Return the delivery statistics of each channel, from the retained notices. May block: use a thread."""

    def close(self) -> None:
        """Write the queue, then release all resources. Idempotent."""


class SharedStore(Store, Protocol):
    """A store to which other servers write, too.

    Attributes:
        epoch: A unique id of this database and its timeline, which identifies the sequence of the loaded revision.
        rev: The revision of the loaded state.
    """

    epoch: str
    rev: int

    @property
    def timeline(self) -> int:
        """The timeline of the database, which grows with each failover; 0 if it is not known."""

    @property
    def is_leader(self) -> bool:
        """Whether this server runs background maintenance."""

    @property
    def credentials_rev(self) -> int:
        """The newest revision of the credentials that this server wrote; an older one that arrives is outdated."""

    @property
    def confirmed_at(self) -> float:
        """Start of the latest successful read of the credentials, by :func:`~.clock.read_monotonic`."""

    def abandon(self) -> None:
        """Fail all pending operations and retry nothing, because the server must end."""

    def exclusive(self) -> AbstractContextManager[None]:
        """Hold a lock against other servers that start at the same time."""

    def follow(self, publish: Callable[[ChangeBatch], None]) -> None:
        """Publish all further changes of the database, from any thread and of any server."""

    def read_items(self, ids: Iterable[str]) -> dict[str, ItemRow]:
        """Return the stored rows; an item that never existed has revision 0. May block: use a thread."""

    def read_credentials(self) -> Credentials:
        """Return the stored credentials. May block: use a thread."""

    def read_schedules(self, ids: Iterable[str]) -> list[ScheduleRecord]:
        """Return the stored schedules of some ids. May block: use a thread."""

    def find_pending_base(self, item_id: str, rev: int) -> Item | bool:
        """Return which changes of this server are not yet in the row of an item at a revision.

        Returns:
            ``False`` for none. ``True`` for a change that the row must not undo. An item for queued states: the base of
            the oldest one.
        """

    def acknowledge(self, rev: int) -> None:
        """Note that the server has applied all changes up to a revision."""
