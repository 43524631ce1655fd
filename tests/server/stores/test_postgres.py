"""Behaviour that only the PostgreSQL store has; the contract covers the rest."""

from __future__ import annotations

import queue
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import psycopg
import pytest

from progressbar_tracker import ConfigError
from progressbar_tracker.server.models import EndedRun, Item, Sample
from progressbar_tracker.server.mutations import AddHistory, AddSample, DropItem, SaveItem, TrimHistory
from progressbar_tracker.server.run import BackgroundServer
from progressbar_tracker.server.settings import Settings
from progressbar_tracker.server.stores.base import ChangeBatch, ItemRow, OutdatedError
from progressbar_tracker.server.stores.open import open_store
from progressbar_tracker.server.stores.postgres import PostgresStore, rows
from progressbar_tracker.server.stores.postgres.schema import MIGRATIONS, ensure_schema
from tests.support.clock import ManualClock
from tests.support.items import make_item

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from progressbar_tracker.server.mutations import Write
    from progressbar_tracker.server.stores.group_commit import GroupResult
    from progressbar_tracker.server.stores.postgres.writer import PostgresWaiter


@pytest.fixture
def clock() -> ManualClock:
    """The wall clock of all stores."""
    return ManualClock(10_000.0)


@pytest.fixture
def new_store(postgres_url: str, clock: ManualClock) -> Iterator[Callable[[], PostgresStore]]:
    """Open one more store on the same database."""
    opened: list[PostgresStore] = []

    def more() -> PostgresStore:
        opened.append(PostgresStore(postgres_url, now=clock))
        opened[-1].load()
        return opened[-1]

    yield more
    for store in opened:
        store.close()


@pytest.fixture
def store(new_store: Callable[[], PostgresStore]) -> PostgresStore:
    """A store on an empty database."""
    return new_store()


def commit(store: PostgresStore, *writes: object) -> None:
    store.commit(writes).result(10)


def follow_changes(store: PostgresStore) -> queue.Queue[ChangeBatch]:
    batches: queue.Queue[ChangeBatch] = queue.Queue()
    store.follow(batches.put)
    return batches


def read_until(batches: queue.Queue[ChangeBatch], wanted: Callable[[ChangeBatch], bool]) -> ChangeBatch:
    while True:
        batch = batches.get(timeout=10)
        if wanted(batch):
            return batch


def test_commit_is_published_to_all_followers(new_store):
    first, second = new_store(), new_store()
    followers = [follow_changes(store) for store in (first, second)]
    commit(first, SaveItem(make_item(), None))
    for batches in followers:
        batch = read_until(batches, lambda batch: "a" in batch.rows)
        assert batch.rows["a"] == ItemRow(1, make_item())
    commit(second, AddHistory(EndedRun(make_item(), "deleted", 2.0)), DropItem("a", make_item()))
    for batches in followers:
        assert read_until(batches, lambda batch: "a" in batch.rows).rows["a"] == ItemRow(2, None)
        assert read_until(batches, lambda batch: batch.rev == 2).ended_runs == [EndedRun(make_item(), "deleted", 2.0)]


def test_revisions_of_several_writers_have_no_gaps(new_store):
    stores = [new_store(), new_store()]
    with ThreadPoolExecutor(2) as pool:
        for futures in pool.map(
            lambda store: [store.commit([SaveItem(make_item(f"{id(store)} {n}"), None)]) for n in range(50)], stores
        ):
            for future in futures:
                future.result(10)
    with psycopg.connect(stores[0]._url) as connection:
        revs = connection.execute("SELECT rev FROM progressbar_tracker.items ORDER BY rev").fetchall()
    assert [rev for (rev,) in revs] == list(range(1, 101))


def test_second_create_of_an_item_gets_the_stored_row(new_store):
    first, second = new_store(), new_store()
    commit(first, SaveItem(make_item(), None))
    with pytest.raises(OutdatedError) as raised:
        commit(second, SaveItem(make_item(run_id="other"), None))
    assert raised.value.rows == {"a": ItemRow(1, make_item())}


def test_queued_state_is_pending_until_it_is_published(store):
    batches = follow_changes(store)
    first, second, third = (make_item(seq=n, own=n, completed=n) for n in range(3))
    commit(store, SaveItem(first, None))
    assert store.find_pending_base("a", 0) is True
    read_until(batches, lambda batch: batch.rev == 1)
    store.acknowledge(1)
    assert store.find_pending_base("a", 1) is False
    store.enqueue([SaveItem(second, first)])
    store.enqueue([SaveItem(third, second)])
    assert store.find_pending_base("a", 1) in (first, True)  # True if the commit has already started
    assert store.flush(10)
    assert read_until(batches, lambda batch: "a" in batch.rows).rows["a"].item == third


class FailingGroups:
    """Makes the next attempts to write a group fail, each after ``released``."""

    def __init__(self, store: PostgresStore, count: int) -> None:
        self.reached, self.released = threading.Event(), threading.Event()
        self._left = count
        self._write_group = store._writer._write_group
        store._writer._write_group = self._fail_or_write

    def _fail_or_write(self, waiters: list[PostgresWaiter], queued: dict[object, Write]) -> GroupResult[PostgresWaiter]:
        if self._left:
            self._left -= 1
            self.reached.set()
            assert self.released.wait(10)
            raise RuntimeError("the group fails")
        return self._write_group(waiters, queued)


def make_states() -> list[Item]:
    return [make_item(seq=n, own=n, completed=n) for n in range(4)]


def read_seq(store: PostgresStore) -> int:
    while not store.flush(10):
        pass  # a failed state waits to be retried
    return store.read_items(["a"])["a"].item.seq


def test_state_queued_behind_a_commit_survives_a_failure(store):
    states = make_states()
    commit(store, SaveItem(states[0], None))
    groups = FailingGroups(store, 1)
    store.enqueue([SaveItem(states[1], states[0])])
    assert groups.reached.wait(10)
    future = store.commit([SaveItem(states[2], states[1])])
    store.enqueue([SaveItem(states[3], states[2])])
    groups.released.set()
    future.result(10)
    assert read_seq(store) == 3


def test_newest_state_is_retried_if_a_group_fails(store):
    states = make_states()
    commit(store, SaveItem(states[0], None))
    groups = FailingGroups(store, 3)  # the group, and its two parts
    groups.released.set()
    with store._writer._condition:
        store.enqueue([SaveItem(states[1], states[0])])
        future = store.commit([SaveItem(states[2], states[1])])
        store.enqueue([SaveItem(states[3], states[2])])
    assert future.exception(10) is not None
    assert read_seq(store) == 3


def test_trim_deletes_old_runs_and_samples_in_batches(store, monkeypatch):
    monkeypatch.setattr(rows, "TRIM_BATCH_SIZE", 2)
    for n in range(5):
        commit(
            store,
            AddSample(str(n), "r", Sample(1.0, 0.5, None)),
            AddHistory(EndedRun(make_item(str(n)), "stopped", float(n))),
        )
    commit(store, TrimHistory(4.0))
    while not store.flush(10) or len(store.read_history()) > 1:
        pass  # pytest-timeout ends an endless loop
    assert [row.item.id for row in store.read_history()] == ["4"]
    assert [len(store.read_samples(str(n), "r")) for n in range(5)] == [0, 0, 0, 0, 1]


def test_expired_tombstone_makes_an_old_follower_reload(new_store, clock):
    store, away = new_store(), new_store()
    commit(store, SaveItem(make_item("a"), None), SaveItem(make_item("b"), None))
    commit(store, DropItem("a", make_item("a")))
    clock.now += 3601
    commit(store, TrimHistory(0.0))
    with psycopg.connect(store._url) as connection:
        assert connection.execute("SELECT id FROM progressbar_tracker.items").fetchall() == [("b",)]
    batch = read_until(follow_changes(away), lambda batch: batch.full)
    assert (set(batch.rows), batch.rev) == ({"b"}, 3)


def test_change_without_notification_is_found_by_the_timer(new_store):
    store = new_store()
    commit(store, SaveItem(make_item(), None))
    batches = follow_changes(store)
    with psycopg.connect(store._url) as connection:  # without NOTIFY: a notification may be lost
        connection.execute("UPDATE progressbar_tracker.meta SET rev = rev + 1")
        connection.execute("UPDATE progressbar_tracker.items SET rev = 2, state = NULL, gone_at = 1")
    batch = read_until(batches, lambda batch: "a" in batch.rows and batch.rows["a"].rev == 2)
    assert batch.rows["a"].item is None


def test_missing_driver_error_names_the_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(ConfigError, match=r"pip install 'progressbar-tracker\[postgres\]'"):
        open_store("postgresql://127.0.0.1/x")


def test_postgres_database_of_newer_version_is_refused(postgres_url):
    ensure_schema(postgres_url)
    with psycopg.connect(postgres_url) as connection:
        connection.execute("UPDATE progressbar_tracker.schema SET version = 99")
    with pytest.raises(ConfigError, match=rf"newer version .*schema 99, this one knows {len(MIGRATIONS)}"):
        PostgresStore(postgres_url)


def test_concurrent_first_starts_create_one_schema_and_key(postgres_url):
    settings = Settings(database=postgres_url, port=0, local_key=False, admin_key="an-admin-key-from-outside")
    with ThreadPoolExecutor(3) as pool:
        servers = list(pool.map(BackgroundServer, [settings] * 3))
    try:
        assert [record.name for record in servers[0].store.read_keys()[0]] == ["admin"]
    finally:
        for server in servers:
            server.close()


@pytest.mark.parametrize(
    "url", ["postgresql://127.0.0.1:1/x", "postgresql://me@[::1", "postgresql://127.0.0.1:1/x?nonsense=1"]
)
def test_unusable_url_error_is_one_line(url):
    with pytest.raises(ConfigError) as raised:
        PostgresStore(url)
    assert "\n" not in str(raised.value)
