"""Databases after a failover: a former primary that still runs, and the promoted standby without its latest writes."""

from __future__ import annotations

import itertools
import queue
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

import psycopg
import pytest

from progressbar_tracker import ConfigError
from progressbar_tracker.server.access import keys
from progressbar_tracker.server.mutations import SaveItem, SaveKey
from progressbar_tracker.server.stores.postgres import PostgresStore
from progressbar_tracker.server.stores.postgres.database import Database, RefusedDatabaseError, split_hosts
from progressbar_tracker.server.stores.postgres.schema import open_database
from tests.support.database_proxy import StallingProxy
from tests.support.items import make_item
from tests.support.postgres import EXTERNAL_URL, Cluster
from tests.support.server import RunningServer
from tests.support.sse import SseStream

if TYPE_CHECKING:
    from collections.abc import Iterator

    from progressbar_tracker.server.stores.base import ChangeBatch

pytestmark = pytest.mark.skipif(EXTERNAL_URL is not None, reason="starts PostgreSQL servers of its own")

TEMPLATE_DATABASE = "before_the_failover"

_numbers = itertools.count()


class Fork(NamedTuple):
    """One database on a former primary and on the promoted standby, equal at first."""

    former: str
    promoted: str

    @property
    def both(self) -> str:
        """The URL with both hosts, the former primary first."""
        former, promoted = urlsplit(self.former), urlsplit(self.promoted)
        hosts = f"127.0.0.1:{former.port},127.0.0.1:{promoted.port}"
        return former._replace(netloc=f"{former.netloc.rpartition('@')[0]}@{hosts}").geturl()


class ForkedClusters:
    """A former primary, and the standby that was promoted while it ran."""

    def __init__(self) -> None:
        self.former = Cluster()
        with psycopg.connect(self.former.url, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {TEMPLATE_DATABASE}")
            connection.execute("CREATE ROLE limited LOGIN")
        open_database(self.find_url(self.former, TEMPLATE_DATABASE))
        self.promoted = Cluster(self.former)
        with pytest.raises(ConfigError) as raised:
            open_database(self.find_url(self.promoted, TEMPLATE_DATABASE))
        self.standby_error = str(raised.value)
        self.promoted.promote()

    def find_url(self, cluster: Cluster, name: str) -> str:
        return urlsplit(cluster.url)._replace(path=f"/{name}").geturl()

    def create_database(self) -> Fork:
        name = f"bars_{next(_numbers)}"
        urls = []
        for cluster in (self.former, self.promoted):
            with psycopg.connect(cluster.url, autocommit=True) as connection:
                connection.execute(f"CREATE DATABASE {name} TEMPLATE {TEMPLATE_DATABASE}")
            urls.append(self.find_url(cluster, name))
        return Fork(*urls)


@pytest.fixture(scope="module")
def clusters() -> Iterator[ForkedClusters]:
    """A former primary and a promoted standby."""
    forked = ForkedClusters()
    yield forked
    forked.former.remove()
    forked.promoted.remove()


@pytest.fixture
def fork(clusters: ForkedClusters) -> Fork:
    """An empty database on both."""
    return clusters.create_database()


@pytest.fixture
def limited_fork(fork: Fork) -> Fork:
    """A database with a user that cannot read its timeline, as on a managed service."""
    for url in fork:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("REVOKE EXECUTE ON FUNCTION pg_walfile_name(pg_lsn) FROM PUBLIC")
            connection.execute("GRANT ALL ON SCHEMA progressbar_tracker TO limited")
            connection.execute("GRANT ALL ON ALL TABLES IN SCHEMA progressbar_tracker TO limited")
    return Fork(*(url.replace("postgres@", "limited@") for url in fork))


@pytest.fixture
def proxy(fork: Fork) -> Iterator[StallingProxy]:
    """A proxy in front of the former primary, which may switch to the promoted one."""
    proxy = StallingProxy(urlsplit(fork.former).port or 0)
    yield proxy
    proxy.close()


@pytest.fixture
def proxied_url(fork: Fork, proxy: StallingProxy) -> str:
    """The URL of the database behind the proxy."""
    return urlsplit(fork.former)._replace(netloc=f"postgres@127.0.0.1:{proxy.port}").geturl()


def write(url: str, *writes: object) -> None:
    """Commit writes to a database."""
    with PostgresStore(url) as store:
        store.commit(writes).result(30)


def get_port(url: str) -> int | None:
    return urlsplit(url).port


def switch_to_promoted(proxy: StallingProxy, fork: Fork, *, keep_open: bool = False) -> None:
    proxy.switch(get_port(fork.promoted) or 0, keep_open=keep_open)


# Connections


def test_host_of_the_newest_timeline_is_chosen(fork):
    """A server that starts now has seen no timeline before."""
    with Database(fork.both).connect() as connection:
        assert (connection.info.port, connection.timeline) == (get_port(fork.promoted), 2)


def test_former_primary_is_refused_after_the_newer_one(fork, proxy, proxied_url):
    database = Database(proxied_url)
    switch_to_promoted(proxy, fork)
    database.connect().close()
    proxy.switch(get_port(fork.former))
    with pytest.raises(RefusedDatabaseError, match="it is on timeline 1, and the primary is on 2"):
        database.connect()


def test_all_connections_of_a_store_move_to_the_newest_timeline(fork, proxy, proxied_url):
    """Reads and writes on open connections to the former primary end when one connection has seen the newer one."""
    with PostgresStore(proxied_url) as store:
        store.load()
        store.commit([SaveItem(make_item("former"), None)]).result(30)
        switch_to_promoted(proxy, fork, keep_open=True)
        store._database.connect().close()
        assert store.read_items(["former"])["former"].item is None
        store.commit([SaveItem(make_item("new"), None)]).result(30)
    with PostgresStore(fork.promoted) as store:
        assert [item.id for item in store.load().items] == ["new"]


def test_standby_is_no_primary(clusters):
    assert "it is a standby, which takes no writes" in clusters.standby_error


def test_another_cluster_is_another_database(fork, proxy, proxied_url, postgres_cluster):
    database = Database(proxied_url)
    database.connect().close()
    database._hosts = split_hosts(postgres_cluster.url)
    with pytest.raises(RefusedDatabaseError, match="it is another database"):
        database.connect()


def test_different_clusters_as_hosts_are_refused(fork, postgres_cluster):
    hosts = ",".join(urlsplit(url).netloc.rpartition("@")[2] for url in (fork.former, postgres_cluster.url))
    with pytest.raises(ConfigError, match="its hosts are different databases"):
        open_database(f"postgresql://postgres@{hosts}/postgres")


def test_several_hosts_are_refused_if_the_timeline_is_unknown(limited_fork):
    with pytest.raises(ConfigError, match=r"timeline cannot be read \(permission denied.*name one host only"):
        open_database(limited_fork.both)


def test_one_host_works_if_the_timeline_is_unknown(limited_fork):
    with PostgresStore(limited_fork.promoted) as store:
        store.load()
        assert (store.timeline, "." in store.epoch) == (0, False)
        store.commit([SaveItem(make_item(), None)]).result(30)
        assert store.read_items(["a"])["a"].item == make_item()


def test_host_that_does_not_answer_delays_no_connection(fork):
    url = fork.both.replace("postgres@", "postgres@192.0.2.1:5432,")
    with Database(url).connect() as connection:
        assert connection.info.port == get_port(fork.promoted)


def test_no_host_as_primary_names_each_reason():
    with pytest.raises(ConfigError, match=r"127\.0\.0\.1:1: .*refused.*; 127\.0\.0\.1:2: .*refused"):
        open_database("postgresql://127.0.0.1:1,127.0.0.1:2/x")


# Reloading


def test_follower_reloads_everything_of_another_timeline(fork, proxy, proxied_url, tmp_path):
    """Lost items leave, unseen ones come, and streams get a snapshot, although the revisions have grown."""
    write(fork.former, SaveItem(make_item("phantom"), None), SaveItem(make_item("same"), None))
    for name in ("same", "missing 1", "missing 2", "missing 3"):
        write(fork.promoted, SaveItem(make_item(name), None))
    key = keys.new_key("read", "wall", 1.0)
    write(fork.promoted, SaveKey(key.record))
    for _ in range(3):
        write(fork.former, SaveKey(key.record))
    server = RunningServer(tmp_path, database=proxied_url, keys={"read": key.secret})
    try:
        stream = SseStream(server, "read")
        event = stream.next()
        assert event is not None
        assert {item["id"] for item in event.data["items"]} == {"phantom", "same"}
        former_epoch = server.client().get("/healthz").json()["boot_id"]
        assert event.id.rpartition("-")[0] == former_epoch
        switch_to_promoted(proxy, fork)
        event = stream.read_until(lambda event: event.name == "snapshot")[-1]
        expected = {"same", "missing 1", "missing 2", "missing 3"}
        assert {item["id"] for item in event.data["items"]} == expected
        assert event.id.rpartition("-")[0] != former_epoch
        assert {item.id for item in server.background.app.services.board.snapshot()} == expected
        # The other keys were created on the former primary.
        assert [record.name for record in server.background.app.services.keyring.all()] == ["wall"]
        stream.close()
    finally:
        server.stop()


def test_other_timeline_with_a_higher_revision_is_reloaded(fork, proxy, proxied_url):
    """A server that was suspended while another one wrote past its revision."""
    batches: queue.Queue[ChangeBatch] = queue.Queue()
    for name in ("kept", "missing 1", "missing 2"):
        write(fork.promoted, SaveItem(make_item(name), None))
    with PostgresStore(proxied_url) as store:
        store.load()
        store.commit([SaveItem(make_item("lost"), None)]).result(30)
        store.follow(batches.put)
        assert store.find_pending_base("lost", 0) is True
        switch_to_promoted(proxy, fork)
        batch = batches.get(timeout=60)
        while not batch.full:
            batch = batches.get(timeout=60)
        assert (set(batch.rows), batch.rev) == ({"kept", "missing 1", "missing 2"}, 3)
        assert batch.epoch not in (None, store.epoch)
        assert store.find_pending_base("lost", 0) is False
