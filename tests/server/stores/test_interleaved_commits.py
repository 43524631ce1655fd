"""Commits of several servers whose statements interleave in a random order: each batch of a follower is exact.

The threads of writers and followers stop before each of their steps, and a scheduler lets one of them go on.
"""

from __future__ import annotations

import random
import threading
from itertools import pairwise
from typing import TYPE_CHECKING

import psycopg
import pytest

from progressbar_tracker.server.models import EndedRun, Item
from progressbar_tracker.server.mutations import ANY_STATE, AddHistory, DropItem, SaveItem, SaveKey
from progressbar_tracker.server.stores.postgres import PostgresStore, follower, rows
from progressbar_tracker.server.stores.postgres.follower import Follower
from progressbar_tracker.server.stores.postgres.writer import PostgresWriter
from tests.server.stores.test_postgres import make_key
from tests.support.items import make_item
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from concurrent.futures import Future

    from progressbar_tracker.server.mutations import Write
    from progressbar_tracker.server.stores.base import ChangeBatch

STORE_COUNT = 3
ITEM_IDS = ("a", "b", "c", "d", "e")
STEP_COUNT = 150


class Turns:
    """Stops threads at the beginning of their steps."""

    def __init__(self) -> None:
        self.is_over = False
        self._lock = threading.Lock()
        self._stopped: dict[threading.Thread, threading.Event] = {}

    def wrap(self, step: Callable[..., object]) -> Callable[..., object]:
        def stop_first(*arguments: object, **named: object) -> object:
            with self._lock:
                turn = threading.Event()
                if not self.is_over:
                    self._stopped[threading.current_thread()] = turn
                else:
                    turn.set()
            assert turn.wait(60)
            return step(*arguments, **named)

        return stop_first

    def list_stopped(self) -> list[threading.Thread]:
        with self._lock:
            return sorted(self._stopped, key=lambda thread: thread.native_id or 0)

    def release(self, thread: threading.Thread) -> None:
        with self._lock:
            self._stopped.pop(thread).set()

    def end(self) -> None:
        with self._lock:
            self.is_over = True
            for turn in self._stopped.values():
                turn.set()
            self._stopped.clear()


class Truth:
    """The changes of all commits, by revision, as the writers made them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.changes: dict[int, tuple[str, Item | None]] = {}
        self.ended: dict[int, list[EndedRun]] = {}
        self.commits: list[tuple[int, int]] = []  # revisions before and after
        self._written = threading.local()
        write_changes, commit_changes = PostgresWriter._write_changes, PostgresWriter._commit_changes

        def write(writer, cursor, resolver, *arguments):
            self._written.items, self._written.runs = resolver.changed_items, resolver.ended_runs
            return write_changes(writer, cursor, resolver, *arguments)

        def commit(writer, *arguments):
            rev = commit_changes(writer, *arguments)
            if rev is not None:
                self._record(rev, dict(self._written.items), list(self._written.runs))
            return rev

        monkeypatch.setattr(PostgresWriter, "_write_changes", write)
        monkeypatch.setattr(PostgresWriter, "_commit_changes", commit)

    def _record(self, rev: int, items: dict[str, Item | None], runs: list[EndedRun]) -> None:
        self.commits.append((rev - max(len(items), 1), rev))
        self.changes |= dict(enumerate(items.items(), rev - len(items) + 1))
        if runs:
            self.ended[rev] = runs

    @property
    def rev(self) -> int:
        return max((rev for _, rev in self.commits), default=0)

    def check_follower(self, batches: Sequence[ChangeBatch]) -> None:
        """Check that each batch has all changes up to its revision, unless a later one replaced them, and no other."""
        reached, ended = 0, list[EndedRun]()
        for batch in batches:
            if batch.rev is None:
                continue
            assert not batch.full
            for item_id, row in batch.rows.items():
                assert reached < row.rev <= batch.rev
                assert self.changes[row.rev] == (item_id, row.item)
            for rev in range(reached + 1, batch.rev + 1):
                item_id = self.changes.get(rev, ("",))[0]
                if item_id and (item_id not in batch.rows or batch.rows[item_id].rev < rev):
                    assert any(self.changes.get(later, ("",))[0] == item_id for later in range(batch.rev, self.rev + 1))
            assert list(batch.ended_runs) == [
                run for rev in range(reached + 1, batch.rev + 1) for run in self.ended.get(rev, ())
            ]
            ended += batch.ended_runs
            reached = batch.rev
        assert reached == self.rev


def choose_writes(choose: random.Random, number: int) -> list[Write]:
    writes: list[Write] = []
    for item_id in choose.sample(ITEM_IDS, choose.randint(1, 3)):
        item = make_item(item_id, run_id=f"r{number}", completed=number)
        match choose.randrange(4):
            case 0:
                writes += [AddHistory(EndedRun(item, "deleted", 2.0)), DropItem(item_id, ANY_STATE)]
            case _:
                writes.append(SaveItem(item, ANY_STATE))
    return [*writes, SaveKey(make_key())] if choose.random() < 0.1 else writes


def is_blocked(connection: psycopg.Connection, store: PostgresStore) -> bool:
    """Return whether the transaction of a store waits for that of another one."""
    backend = store._writer._connection
    row = backend and connection.execute("SELECT cardinality(pg_blocking_pids(%s))", [backend.backend_pid]).fetchone()
    return bool(row and row[0])


@pytest.mark.parametrize("seed", range(6))
def test_batches_of_interleaved_commits_are_exact(postgres_url, monkeypatch, seed):
    choose = random.Random(seed)
    monkeypatch.setattr(follower, "MAX_BATCH_ITEMS", 2)
    monkeypatch.setattr(follower, "POLL_INTERVAL", 0.01)
    truth, turns = Truth(monkeypatch), Turns()
    stores = [PostgresStore(postgres_url) for _ in range(STORE_COUNT)]
    batches: list[list[ChangeBatch]] = [[] for _ in stores]
    for name in ("lock_items", "write_items", "add_history", "record_commit"):
        monkeypatch.setattr(rows, name, turns.wrap(getattr(rows, name)))
    for name in ("_poll", "_read_changes"):
        monkeypatch.setattr(Follower, name, turns.wrap(getattr(Follower, name)))
    by_thread = {store._writer._thread: place for place, store in enumerate(stores)}
    pending: list[Future[None] | None] = [None for _ in stores]
    try:
        for store, received in zip(stores, batches, strict=True):
            store.load()
            store.follow(received.append)
        with psycopg.connect(postgres_url, autocommit=True) as connection:
            for number in range(STEP_COUNT):
                place = choose.randrange(STORE_COUNT)
                future = pending[place]
                if future is None or future.done():
                    if choose.random() < 0.3:
                        item = make_item(choose.choice(ITEM_IDS), run_id=f"q{number}", completed=number)
                        stores[place].enqueue([SaveItem(item, ANY_STATE)])
                    pending[place] = stores[place].commit(choose_writes(choose, number))
                    thread = stores[place]._writer._thread
                else:
                    wait_until(turns.list_stopped)
                    thread = choose.choice(turns.list_stopped())
                    turns.release(thread)
                    place = by_thread.get(thread, -1)
                if place >= 0:  # until the writer has made its step, or waits for a transaction of another one
                    future, store = pending[place], stores[place]
                    wait_until(
                        lambda future=future, store=store, thread=thread: (
                            thread in turns.list_stopped()
                            or (future is not None and future.done())
                            or is_blocked(connection, store)
                        )
                    )
        turns.end()
        for future in pending:
            if future is not None:
                future.result(60)
        for store in stores:
            assert store.flush(60)
        wait_until(lambda: all(any(batch.rev == truth.rev for batch in received) for received in batches))
    finally:
        turns.end()
        for store in stores:
            store.close()
    log = sorted(truth.commits)
    assert all(rev == since for (_, rev), (since, _) in pairwise([(0, 0), *log]))
    for received in batches:
        truth.check_follower(received)
