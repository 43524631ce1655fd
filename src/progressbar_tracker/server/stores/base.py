"""The interface of a store. Every implementation passes ``tests/server/stores/test_store_contract.py``."""

from __future__ import annotations

from concurrent.futures import Future
from typing import TYPE_CHECKING, Protocol

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
    from contextlib import AbstractContextManager

    from progressbar_tracker.server.counters import CommitStats
    from progressbar_tracker.server.models import (
        DeliveryStats,
        EndedRun,
        EndStatus,
        Item,
        KeyRecord,
        Notice,
        Sample,
        SampledRun,
        SessionRecord,
        ShareRecord,
    )
    from progressbar_tracker.server.mutations import Write
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
    """The state that a server keeps in memory, of one instant."""

    items: list[Item]
    keys: list[KeyRecord]
    keys_rev: int
    sessions: list[SessionRecord]
    sampled_runs: list[SampledRun]
    shares: list[ShareRecord]


class ItemRow(msgspec.Struct, frozen=True):
    """A stored item, or ``None`` for a deleted one, with the revision of its latest change."""

    rev: int
    item: Item | None


class Credentials(msgspec.Struct, frozen=True):
    """Keys, sessions and shares, of one instant."""

    rev: int
    keys: list[KeyRecord]
    sessions: list[SessionRecord]
    shares: list[ShareRecord]


class ChangeBatch(msgspec.Struct, frozen=True):
    """Changes of a shared database.

    Attributes:
        rows: Changed items, by id.
        ended_runs: Runs that moved to the history.
        rev: This batch completes all changes up to this revision; ``None`` if more follow.
        credentials: All credentials, if any has changed.
        full: ``rows`` holds all items of the database.
        sampled_runs: Sample counts of running runs, for a server that becomes the leader.
        out_of_order: The rows may be newer than those of the next batch.
    """

    rows: Mapping[str, ItemRow] = {}
    ended_runs: Sequence[EndedRun] = ()
    rev: int | None = None
    credentials: Credentials | None = None
    full: bool = False
    sampled_runs: Sequence[SampledRun] | None = None
    out_of_order: bool = False


class HistoryRow(msgspec.Struct, frozen=True):
    """A run of the history; ``n`` grows with every row and is the cursor."""

    n: int
    item: Item
    status: EndStatus
    ended_at: float


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
        """Return the revision of the keys; it grows with each change of a key."""

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
        """Return runs that left the board, newest first. May block: use a thread.

        Args:
            group: Only runs of this group.
            status: Only runs with this end.
            item_id: Only runs of this item.
            text: Only runs whose id or title contains this text, regardless of case.
            after: Start after this row.
            limit: Maximum number of rows.
            cancellation: Interrupts the query, which then fails with :class:`StoreError`.
        """

    def read_samples(self, item_id: str, run_id: str, *, cancellation: Cancellation | None = None) -> list[Sample]:
        """Return the samples of a run, oldest first. May block: use a thread."""

    def read_due_notices(self, now: float, limit: int, *, excluded_channels: Collection[str] = ()) -> list[Notice]:
        """Return the notices that are due, longest due first. May block: use a thread.

        Args:
            now: The current instant.
            limit: Maximum number of notices.
            excluded_channels: Channels to skip.
        """

    def read_delivery_stats(self) -> list[DeliveryStats]:
        """Return the delivery statistics of each channel, from the retained notices. May block: use a thread."""

    def close(self) -> None:
        """Write the queue, then release all resources. Idempotent."""


class SharedStore(Store, Protocol):
    """A store to which other servers write, too.

    Attributes:
        epoch: A unique id of this database, which identifies its sequence of revisions.
        rev: The revision of the loaded state.
    """

    epoch: str
    rev: int

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

    def find_pending_base(self, item_id: str, rev: int) -> Item | bool:
        """Return which changes of this server are not yet in the row of an item at a revision.

        Returns:
            ``False`` for none. ``True`` for a change that the row must not undo. An item for queued states: the base of
            the oldest one.
        """

    def acknowledge(self, rev: int) -> None:
        """Note that the server has applied all changes up to a revision."""
