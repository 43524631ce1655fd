"""Connection poolers: one that keeps a backend for each session works, the others are refused."""

from __future__ import annotations

import queue

import psycopg
import pytest

from progressbar_tracker import ConfigError
from progressbar_tracker.server.mutations import SaveItem
from progressbar_tracker.server.stores.base import ChangeBatch, StoreError
from progressbar_tracker.server.stores.check import check_database
from progressbar_tracker.server.stores.postgres import PostgresStore
from progressbar_tracker.server.stores.postgres.database import Database
from tests.support.items import make_item
from tests.support.pgbouncer import Pgbouncer
from tests.support.waiting import wait_until


@pytest.mark.parametrize("use", [PostgresStore, check_database])
@pytest.mark.parametrize(
    ("mode", "reason"), [("transaction", "needs session mode"), ("statement", "statement pooling")]
)
def test_pooler_without_sessions_is_refused(postgres_url, mode, reason, use):
    with Pgbouncer(postgres_url, mode) as pooler, pytest.raises(ConfigError, match=reason):
        use(pooler.url)


def test_pooler_with_other_clients_is_refused(postgres_url):
    """The other sessions leave several idle backends in the pool."""
    with Pgbouncer(postgres_url, "transaction") as pooler:
        others = [psycopg.connect(pooler.url) for _ in range(4)]
        for other in others:
            other.execute("SELECT 1")  # a transaction each
        for other in others:
            other.rollback()
        with pytest.raises(ConfigError, match="needs session mode"):
            PostgresStore(pooler.url)
        for other in others:
            other.close()


def test_pooler_in_session_mode_works(postgres_url):
    batches: queue.Queue[ChangeBatch] = queue.Queue()
    with Pgbouncer(postgres_url, "session") as pooler:
        with PostgresStore(pooler.url) as store:
            store.load()
            store.follow(batches.put)
            for n in range(10):
                store.commit([SaveItem(make_item(str(n)), None)]).result(60)
            wait_until(lambda: store.is_leader)
            with Database(pooler.url).connect() as connection:
                assert connection.is_pooled
            wait_until(lambda: batches.get(timeout=30).rev == 10)
        assert "10 items" in (summary := check_database(pooler.url))
        assert "through a connection pooler in session mode" in summary


def test_direct_connection_is_not_pooled(postgres_url):
    with Database(postgres_url).connect() as connection:
        assert not connection.is_pooled


def test_commit_on_the_backend_of_another_session_is_rolled_back(postgres_url):
    """A pooler may change its mode while it runs."""
    with PostgresStore(postgres_url) as store:
        store.commit([SaveItem(make_item("a"), None)]).result(60)
        store._writer._connection.backend_pid = 1
        with pytest.raises(StoreError, match="needs session mode") as raised:
            store.commit([SaveItem(make_item("b"), None)]).result(60)
        assert raised.value.is_rolled_back
        assert store.read_items(["b"])["b"].item is None
