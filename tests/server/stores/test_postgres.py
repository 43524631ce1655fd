"""What is PostgreSQL's own of its store; what every store does is in the contract."""

from __future__ import annotations

import queue
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import psycopg
import pytest

from progressbar_tracker import ConfigError
from progressbar_tracker.server.models import (
    AddHistory,
    AddSample,
    DropItem,
    Ended,
    Item,
    Sample,
    SaveItem,
    TrimHistory,
)
from progressbar_tracker.server.run import BackgroundServer
from progressbar_tracker.server.settings import Settings
from progressbar_tracker.server.stores.base import OutdatedError, Row, Seen
from progressbar_tracker.server.stores.open import open_store
from progressbar_tracker.server.stores.postgres import PostgresStore, rows
from progressbar_tracker.server.stores.postgres.schema import MIGRATIONS, prepare

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Clock:
    def __init__(self) -> None:
        self.now = 10_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def another(postgres_url: str, clock: Clock) -> Iterator[Callable[[], PostgresStore]]:
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
def store(another: Callable[[], PostgresStore]) -> PostgresStore:
    return another()


def item(item_id: str = "a", **fields: object) -> Item:
    return Item(**{"id": item_id, "owner_id": "k", "owner": "ci", "run_id": "r", "created_at": 1.0, "updated_at": 1.0,
                   **fields})  # fmt: skip


def commit(store: PostgresStore, *writes: object) -> None:
    store.commit(writes).result(10)


def followed(store: PostgresStore) -> queue.Queue[Seen]:
    seen: queue.Queue[Seen] = queue.Queue()
    store.follow(seen.put)
    return seen


def until(seen: queue.Queue[Seen], wanted: Callable[[Seen], bool]) -> Seen:
    while True:
        found = seen.get(timeout=10)
        if wanted(found):
            return found


def test_what_one_store_commits_is_told_to_all_that_follow(another):
    first, second = another(), another()
    told = [followed(store) for store in (first, second)]
    commit(first, SaveItem(item(), None))
    for seen in told:
        found = until(seen, lambda found: "a" in found.rows)
        assert found.rows["a"] == Row(1, item())
    commit(second, AddHistory(Ended(item(), "deleted", 2.0)), DropItem("a", item()))
    for seen in told:
        assert until(seen, lambda found: "a" in found.rows).rows["a"] == Row(2, None)
        assert until(seen, lambda found: found.rev == 2).ended == [Ended(item(), "deleted", 2.0)]


def test_revisions_have_no_gaps_whoever_writes(another):
    stores = [another(), another()]
    with ThreadPoolExecutor(2) as pool:
        for futures in pool.map(
            lambda store: [store.commit([SaveItem(item(f"{id(store)} {n}"), None)]) for n in range(50)], stores
        ):
            for future in futures:
                future.result(10)
    with psycopg.connect(stores[0]._url) as connection:
        found = connection.execute("SELECT rev FROM progressbar_tracker.items ORDER BY rev").fetchall()
    assert [rev for (rev,) in found] == list(range(1, 101))


def test_a_create_that_comes_second_is_told_what_is_there(another):
    first, second = another(), another()
    commit(first, SaveItem(item(), None))
    with pytest.raises(OutdatedError) as raised:
        commit(second, SaveItem(item(run_id="other"), None))
    assert raised.value.rows == {"a": Row(1, item())}


def test_what_waits_is_a_base_until_it_is_told(store):
    seen = followed(store)
    first, second, third = (item(seq=n, own=n, completed=n) for n in range(3))
    commit(store, SaveItem(first, None))
    assert store.waiting("a", 0) is True
    until(seen, lambda found: found.rev == 1)
    store.told(1)
    assert store.waiting("a", 1) is False
    store.later([SaveItem(second, first)])
    store.later([SaveItem(third, second)])
    assert store.waiting("a", 1) in (first, True)  # or it is on its way already
    assert store.flush(10)
    assert until(seen, lambda found: "a" in found.rows).rows["a"].item == third


def test_old_runs_and_their_samples_are_forgotten_in_slices_until_none_is_left(store, monkeypatch):
    monkeypatch.setattr(rows, "SLICE", 2)
    for n in range(5):
        commit(
            store, AddSample(str(n), "r", Sample(1.0, 0.5, None)), AddHistory(Ended(item(str(n)), "stopped", float(n)))
        )
    commit(store, TrimHistory(4.0))
    while not store.flush(10) or len(store.history()) > 1:
        pass  # pytest-timeout ends what never does
    assert [row.item.id for row in store.history()] == ["4"]
    assert [len(store.samples(str(n), "r")) for n in range(5)] == [0, 0, 0, 0, 1]


def test_what_is_gone_is_forgotten_after_an_hour_and_who_was_away_reads_everything_anew(another, clock):
    store, away = another(), another()
    commit(store, SaveItem(item("a"), None), SaveItem(item("b"), None))
    commit(store, DropItem("a", item("a")))
    clock.now += 3601
    commit(store, TrimHistory(0.0))
    with psycopg.connect(store._url) as connection:
        assert connection.execute("SELECT id FROM progressbar_tracker.items").fetchall() == [("b",)]
    found = until(followed(away), lambda found: found.whole)
    assert (set(found.rows), found.rev) == ({"b"}, 3)


def test_what_nobody_notifies_of_is_found_by_the_clock(another):
    store = another()
    commit(store, SaveItem(item(), None))
    seen = followed(store)
    with psycopg.connect(store._url) as connection:  # and no NOTIFY: it is a hint, and may be lost
        connection.execute("UPDATE progressbar_tracker.meta SET rev = rev + 1")
        connection.execute("UPDATE progressbar_tracker.items SET rev = 2, state = NULL, gone_at = 1")
    found = until(seen, lambda found: "a" in found.rows and found.rows["a"].rev == 2)
    assert found.rows["a"].item is None


def test_without_the_driver_it_is_said_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(ConfigError, match=r"pip install 'progressbar-tracker\[postgres\]'"):
        open_store("postgresql://127.0.0.1/x")


def test_a_database_of_a_newer_version_is_refused(postgres_url):
    prepare(postgres_url)
    with psycopg.connect(postgres_url) as connection:
        connection.execute("UPDATE progressbar_tracker.schema SET version = 99")
    with pytest.raises(ConfigError, match=rf"newer version .*schema 99, this one knows {len(MIGRATIONS)}"):
        PostgresStore(postgres_url)


def test_servers_that_start_at_once_make_one_schema_and_one_key(postgres_url):
    settings = Settings(database=postgres_url, port=0, local_key=False, admin_key="an-admin-key-from-outside")
    with ThreadPoolExecutor(3) as pool:
        servers = list(pool.map(BackgroundServer, [settings] * 3))
    try:
        assert [record.name for record in servers[0].store.keys()[0]] == ["admin"]
    finally:
        for server in servers:
            server.close()


@pytest.mark.parametrize(
    "url", ["postgresql://127.0.0.1:1/x", "postgresql://me@[::1", "postgresql://127.0.0.1:1/x?nonsense=1"]
)
def test_a_database_that_cannot_be_used_is_told_in_one_line(url):
    with pytest.raises(ConfigError) as raised:
        PostgresStore(url)
    assert "\n" not in str(raised.value)
