"""Persist changes of the board: decide, commit, and roll back what was not committed."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Final

from . import audit_log
from .cluster import Verdict
from .items.change import list_writes
from .items.tail_quota import TailQuota
from .mutations import CREDENTIAL_WRITES, DropItem, Probe, SaveItem
from .problems import ProblemError
from .stores.base import ChangeBatch, OutdatedError, StoreError
from .stores.committer import Committer, CommitTimeoutError
from .unknown_outcomes import UnknownOutcomeError, UnknownOutcomes

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Sequence

    from .cluster import ClusterSync
    from .hub import Hub
    from .items.board import Board
    from .items.change import Change
    from .mutations import Write
    from .notifications.notifier import Notifier
    from .stores.base import Store

logger = logging.getLogger("progressbar_tracker.server")

COMMIT_TIMEOUT: Final = 15.0
"""Seconds that a request waits for its commit."""

UNDO_RETRY_DELAY: Final = 1.0
"""Seconds between two attempts to undo writes."""


class UnitOfWork:
    """Runs each request's changes as one unit: all of them are persisted, or none.

    Args:
        store: Persists the mutations.
        board: Holds the items.
        cluster: Synchronizes the board with other servers; ``None`` if the database has one server.
        hub: Is notified of each change.
        notifier: Adds the notices of each change to its commit.
        clock: Returns seconds since the epoch.

    Attributes:
        unknown_outcomes: The changes whose commit did not finish in time.
    """

    def __init__(
        self,
        store: Store,
        board: Board,
        cluster: ClusterSync | None,
        hub: Hub,
        notifier: Notifier,
        clock: Callable[[], float],
    ) -> None:
        self._store = store
        self._board = board
        self._cluster = cluster
        self._hub = hub
        self._notifier = notifier
        self._clock = clock
        self._tail_quota = TailQuota()
        self._committer = Committer(store, COMMIT_TIMEOUT)
        self._background_tasks: set[asyncio.Task[None]] = set()
        self._undo_tasks: set[asyncio.Task[None]] = set()
        self.unknown_outcomes = UnknownOutcomes()

    async def execute(
        self, decide: Callable[[], Verdict], reauthorize: Callable[[], object], item_ids: Iterable[str]
    ) -> Verdict:
        """Apply a request to the board and persist its changes.

        Args:
            decide: Applies the request to the board. In a cluster it may be called again.
            reauthorize: Is called before ``decide`` is called again. It raises if the client is no longer authorized.
            item_ids: The items that the request concerns.

        Raises:
            ProblemError: ``unavailable``: the board was rolled back. ``outcome-unknown``.
        """
        await self.unknown_outcomes.wait(item_ids, COMMIT_TIMEOUT, reauthorize)
        if self._cluster is not None:
            return await self._cluster.execute(decide, self.persist_changes, reauthorize)
        await self._check_durability(reauthorize)
        verdict = decide()
        await self.persist_changes(verdict.changes)
        return verdict

    async def change_item(
        self,
        item_id: str,
        decide: Callable[[], Change],
        reauthorize: Callable[[], object],
        is_repeat: Callable[[Change], bool] = lambda _change: False,
    ) -> Change:
        """Apply one change of an item and persist it; the other arguments are those of :meth:`execute`.

        Args:
            item_id: The item.
            decide: Applies the change.
            reauthorize: See :meth:`execute`.
            is_repeat: Returns whether an earlier change of unknown outcome is the requested one.

        Raises:
            ProblemError: The board refused the change, ``unavailable`` or ``outcome-unknown``.
        """
        if self._cluster is None:
            await self.unknown_outcomes.wait((item_id,), COMMIT_TIMEOUT, reauthorize)
            await self._check_durability(reauthorize)
            try:
                change = decide()
            except ProblemError as problem:
                return self.unknown_outcomes.resolve_repeat(item_id, problem, is_repeat)
            if change.durable or self._notifier.channels.has_channels:
                await self.persist_changes([change])
            else:
                self._enqueue_writes(change.writes())
            return change

        def decide_one() -> Verdict:
            try:
                return Verdict([decide()])
            except ProblemError as problem:
                return Verdict([], [(item_id, problem)])

        changes, problems = await self.execute(decide_one, reauthorize, (item_id,))
        return self.unknown_outcomes.resolve_repeat(item_id, problems[0][1], is_repeat) if problems else changes[0]

    async def persist_changes(self, changes: Sequence[Change]) -> None:
        """Persist changes: wait for the commit if any is durable, otherwise queue them.

        Raises:
            ProblemError: ``unavailable``: the board was rolled back.
        """
        writes: list[Write] = []
        durable, notifier = False, self._notifier
        for change in changes:
            writes += change.writes()
            durable = durable or change.durable
            if (trim := self._tail_quota.check(change)) is not None:
                writes.append(trim)
        notices: Sequence[Write] = ()
        if durable or notifier.channels.has_channels:
            # Notices are committed together with their changes.
            notices = notifier.notices_for(changes)
            writes += notices
        if not durable:
            self._enqueue_writes(writes)
            return
        if writes:
            self._hub.notify()
        await self._commit_changes(changes, writes)
        if notices:
            notifier.dispatcher.wake()

    def persist_in_background(self, changes: Sequence[Change]) -> None:
        """Persist changes that no request waits for. In a cluster the next sweep repeats what was not committed."""
        if self._cluster is None:
            self._store.enqueue(list_writes(changes))
            audit_log.log_item_changes(changes)
        else:
            _start_task(self._commit_in_background(self._cluster, changes), self._background_tasks)

    async def commit(self, writes: Sequence[Write], undo_writes: Callable[[], Sequence[Write]] = list) -> None:
        """Wait until mutations are on disk.

        Args:
            writes: All of them are committed, or none.
            undo_writes: Returns the mutations that undo these. They are executed if the outcome is not known in time:
                a secret that was never shown is useless.

        Raises:
            OutdatedError: Another server changed the same items first; nothing was changed.
            ProblemError: ``unavailable``: nothing was changed.
            UnknownOutcomeError: The commit did not finish in time.
        """
        try:
            await self._committer.commit(writes)
        except OutdatedError:
            raise
        except CommitTimeoutError as error:
            logger.warning("a commit takes longer than %d s: %s", COMMIT_TIMEOUT, error)
            self._schedule_undo(undo_writes, error.outcome)
            raise UnknownOutcomeError(error.outcome) from error
        except StoreError as error:
            logger.warning("a commit failed: %s", error)
            if not error.is_rolled_back:
                self._schedule_undo(undo_writes, None)
            if error.is_rolled_back or error.detail is not None:
                detail = error.detail or "the server could not write this to its disk; nothing was changed"
                raise ProblemError("unavailable", detail, retry_after=5) from error
            raise UnknownOutcomeError from error
        audit_log.log_credential_writes(writes)
        if self._cluster is not None and any(isinstance(write, CREDENTIAL_WRITES) for write in writes):
            # A read that began before this commit must not replace its result.
            await self._cluster.refresh()

    async def wait_for_undo(self) -> None:
        """Wait until all useless writes are undone: a change of keys must not rest on an unknown outcome.

        Raises:
            UnknownOutcomeError: Some are still not undone.
        """
        if self._undo_tasks:
            _, pending = await asyncio.wait(list(self._undo_tasks), timeout=COMMIT_TIMEOUT)
            if pending:
                raise UnknownOutcomeError

    async def _check_durability(self, reauthorize: Callable[[], object]) -> None:
        """Reject a write that cannot be committed: the file at the database's path is missing or another one.

        Raises:
            ProblemError: ``unavailable``.
        """
        if self._store.durability_error is not None:
            await self.commit([Probe(self._clock())])
            reauthorize()

    def _enqueue_writes(self, writes: Sequence[Write]) -> None:
        if writes:
            self._hub.notify()
            self._store.enqueue(writes)

    async def _commit_changes(self, changes: Sequence[Change], writes: Sequence[Write]) -> None:
        try:
            await self.commit(writes)
        except UnknownOutcomeError as problem:
            if self._cluster is not None:
                # The outcome is read from the database.
                self._rollback(changes)
                self.unknown_outcomes.record(changes, problem.outcome)
            elif problem.outcome is None:
                self._rollback(changes)
            else:
                # The commit may still succeed: until it ends, the board shows the requested state.
                self.unknown_outcomes.record(changes, problem.outcome)
                problem.outcome.add_done_callback(lambda done: self._finish_late_commit(changes, done.result()))
            raise
        except (OutdatedError, ProblemError):
            self._rollback(changes)
            raise
        self.unknown_outcomes.forget(changes)
        audit_log.log_item_changes(changes)

    async def _commit_in_background(self, cluster: ClusterSync, changes: Sequence[Change]) -> None:
        try:
            await self._commit_changes(changes, list_writes(changes))
        except OutdatedError as outdated:
            cluster.apply(ChangeBatch(outdated.rows, out_of_order=True))
        except ProblemError:
            pass  # it is logged

    def _finish_late_commit(self, changes: Sequence[Change], error: Exception | None) -> None:
        if error is None:
            self._notifier.dispatcher.wake()
            audit_log.log_item_changes(changes)
        else:
            self.unknown_outcomes.forget(changes)
            self._rollback(changes)

    def _rollback(self, changes: Sequence[Change]) -> None:
        if self._cluster is not None:
            self._cluster.rollback(changes)
            return
        for change in reversed(changes):
            # The commit replaced the queued writes of this item, so queue its state again.
            item = self._board.rollback(change)
            self._store.enqueue([DropItem(change.id) if item is None else SaveItem(item)])
        self._hub.notify()

    def _schedule_undo(
        self, undo_writes: Callable[[], Sequence[Write]], outcome: asyncio.Future[Exception | None] | None
    ) -> None:
        """Undo useless writes once their outcome is known."""

        async def undo() -> None:
            if outcome is not None and await outcome is not None:
                return
            while not self._hub.closed:
                with contextlib.suppress(StoreError, TimeoutError):
                    await self._committer.commit(undo_writes())
                    return
                await asyncio.sleep(UNDO_RETRY_DELAY)

        if undo_writes is not list:
            _start_task(undo(), self._undo_tasks)


def _start_task(coroutine: Coroutine[object, object, None], tasks: set[asyncio.Task[None]]) -> None:
    """Start a task; ``tasks`` holds it while it runs, because the event loop does not."""
    task = asyncio.create_task(coroutine)
    tasks.add(task)
    task.add_done_callback(tasks.discard)
