"""Behaviour that only the PostgreSQL store has; the contract covers the rest."""

from __future__ import annotations

import queue
import sys
import threading
from array import array
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import msgspec
import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from progressbar_tracker import ConfigError
from progressbar_tracker.server.items.curves import Curve, StoredCurve, encode_curve
from progressbar_tracker.server.models import EndedRun, Item, KeyRecord, Sample
from progressbar_tracker.server.mutations import (
    AddHistory,
    AddSample,
    DropItem,
    Probe,
    SaveCurve,
    SaveItem,
    SaveKey,
    TrimHistory,
)
from progressbar_tracker.server.run import BackgroundServer
from progressbar_tracker.server.settings import Settings
from progressbar_tracker.server.stores.base import ChangeBatch, HistoryFilter, ItemRow, OutdatedError, StoreError
from progressbar_tracker.server.stores.open import open_store
from progressbar_tracker.server.stores.postgres import (
    PostgresStore,
    credential_rows,
    follower,
    rows,
    run_queries,
    schema,
    writer,
)
from progressbar_tracker.server.stores.postgres.database import Database, split_hosts
from progressbar_tracker.server.stores.postgres.schema import MIGRATIONS, open_database
from tests.support.items import make_item
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from progressbar_tracker.server.mutations import Write
    from progressbar_tracker.server.stores.group_commit import GroupResult
    from progressbar_tracker.server.stores.postgres.writer import PostgresWaiter


@pytest.fixture
def new_store(postgres_url: str) -> Iterator[Callable[[], PostgresStore]]:
    """Open one more store on the same database."""
    opened: list[PostgresStore] = []

    def more() -> PostgresStore:
        opened.append(PostgresStore(postgres_url))
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
    store.commit(writes).result(60)


def make_key() -> KeyRecord:
    return KeyRecord(key_id="k", name="n", type="read", hash="h", created_at=1.0)


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
        batch = read_until(batches, lambda batch: "a" in batch.rows)
        assert batch == ChangeBatch({"a": ItemRow(2, None)}, [EndedRun(make_item(), "deleted", 2.0)], rev=2)


def read_exact_batches(batches: queue.Queue[ChangeBatch], until: int) -> list[ChangeBatch]:
    """Return the batches up to a revision; each has to have all changes since the former one, and no later ones."""
    read, reached = [], 0
    while reached < until:
        batch = batches.get(timeout=10)
        if batch.rows or batch.rev is not None:
            assert batch.rev is not None
            assert all(reached < row.rev <= batch.rev for row in batch.rows.values())
            read.append(batch)
            reached = batch.rev
    return read


def test_commit_between_two_reads_of_a_follower_has_its_revision(new_store, monkeypatch):
    """The follower reads the revision first, and the items later."""
    store, other = new_store(), new_store()
    commit(store, SaveItem(make_item(), None))
    read_credentials = credential_rows.read_credentials

    def commit_meanwhile(connection):
        monkeypatch.setattr(credential_rows, "read_credentials", read_credentials)
        commit(other, AddHistory(EndedRun(make_item(), "deleted", 2.0)), DropItem("a", make_item()))
        return read_credentials(connection)

    monkeypatch.setattr(credential_rows, "read_credentials", commit_meanwhile)
    commit(other, SaveKey(make_key()))
    (batch,) = read_exact_batches(follow_changes(store), 3)
    assert batch.rows == {"a": ItemRow(3, None)}
    assert batch.ended_runs == [EndedRun(make_item(), "deleted", 2.0)]


def test_each_of_many_batches_has_its_revision_and_ended_runs(new_store, monkeypatch):
    monkeypatch.setattr(follower, "MAX_BATCH_ITEMS", 2)
    store = new_store()
    for n in range(3):
        commit(store, SaveItem(make_item(f"{n}"), None))
    commit(store, AddHistory(EndedRun(make_item("0"), "deleted", 2.0)), DropItem("0", make_item("0")))
    commit(store, SaveItem(make_item("3"), None))
    first, second = read_exact_batches(follow_changes(store), 5)
    assert (set(first.rows), first.rev, first.ended_runs) == ({"1", "2"}, 3, [])
    assert (set(second.rows), second.rev) == ({"0", "3"}, 5)
    assert [run.item.id for run in second.ended_runs] == ["0"]


def test_items_of_a_failed_commit_are_read_out_of_order(store):
    """They may be newer than the followed revision, so streams must not show them before it."""
    store._writer._uncertain_ids.add("a")
    batch = read_until(follow_changes(store), lambda batch: "a" in batch.rows)
    assert (batch.out_of_order, batch.rev) == (True, None)


def test_items_of_a_failed_commit_are_read_again_after_an_error(store, monkeypatch):
    read_items = follower.read_items

    def fail_once(connection, ids):
        monkeypatch.setattr(follower, "read_items", read_items)
        raise psycopg.OperationalError("the connection is lost")

    monkeypatch.setattr(follower, "read_items", fail_once)
    store._writer._uncertain_ids.add("a")
    batch = read_until(follow_changes(store), lambda batch: "a" in batch.rows)
    assert batch.rows["a"] == ItemRow(0, None)


def test_restored_older_copy_replaces_everything(store, postgres_url):
    """The commit of a lost item is no longer pending, and an older revision of the credentials is not outdated."""
    commit(store, SaveItem(make_item("kept"), None))
    commit(store, SaveItem(make_item("lost"), None), SaveKey(make_key()))
    assert store.find_pending_base("lost", 1) is True
    with psycopg.connect(postgres_url) as connection:
        connection.execute("SET search_path TO progressbar_tracker")
        connection.execute("DELETE FROM items WHERE id = 'lost'")
        connection.execute("DELETE FROM credentials")
        connection.execute("UPDATE meta SET rev = 1, credentials_rev = 0")
    store.rev = 2
    batch = read_until(follow_changes(store), lambda batch: batch.full)
    assert (batch.rows, batch.rev, batch.epoch) == ({"kept": ItemRow(1, make_item("kept"))}, 1, store.epoch)
    assert batch.credentials is not None
    assert (batch.credentials.rev, store.credentials_rev) == (0, 0)
    assert store.find_pending_base("lost", 1) is False


@pytest.mark.parametrize(
    ("table", "write"),
    [
        ("meta", SaveItem(make_item("new"), None)),
        ("items", SaveItem(make_item(completed=5), make_item())),
        ("items", DropItem("a", make_item())),
        ("history", AddHistory(EndedRun(make_item("gone"), "deleted", 2.0))),
        ("runs", AddHistory(EndedRun(make_item("gone"), "deleted", 2.0))),
        ("credentials", SaveKey(make_key())),
        ("samples", AddSample("a", "r", Sample(1.0, 0.5, None))),
        ("curves", SaveCurve("a", "r", b"curve")),
        ("meta", Probe(1.0)),
    ],
)
def test_write_that_changes_no_row_is_no_success(store, postgres_url, table, write):
    commit(store, SaveItem(make_item(), None))
    with psycopg.connect(postgres_url) as connection:
        connection.execute("SET search_path TO progressbar_tracker")
        connection.execute("CREATE FUNCTION skip() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'")
        connection.execute(
            f"CREATE TRIGGER skip BEFORE INSERT OR UPDATE OR DELETE ON {table} FOR EACH ROW EXECUTE FUNCTION skip()"
        )
    with pytest.raises(StoreError, match="has written 0 rows instead of 1") as raised:
        commit(store, write)
    assert raised.value.is_rolled_back


def test_parameters_of_the_url_are_kept(postgres_url):
    url = f"{postgres_url}?options=-c%20statement_timeout%3D7s&application_name=mine&connect_timeout=9"
    with Database(url).connect() as connection:
        names = ("statement_timeout", "lock_timeout", "application_name", "search_path")
        shown = [connection.execute(f"SHOW {name}").fetchone()[0] for name in names]
        assert shown == ["7s", "10s", "mine", "progressbar_tracker"]
        assert connection.info.get_parameters()["connect_timeout"] == "9"


@pytest.mark.parametrize(
    ("url", "hosts"),
    [
        ("postgresql://a/x", [("a", None, None)]),
        ("postgresql:///x", [(None, None, None)]),
        ("postgresql://a:1,b:2/x", [("a", None, "1"), ("b", None, "2")]),
        ("postgresql://a,b/x?port=7", [("a", None, "7"), ("b", None, "7")]),
        ("postgresql://a,b/x?hostaddr=::1,::2", [("a", "::1", None), ("b", "::2", None)]),
        ("host=/run/a,/run/b dbname=x", [("/run/a", None, None), ("/run/b", None, None)]),
    ],
)
def test_hosts_of_a_url_are_connected_one_by_one(monkeypatch, url, hosts):
    for variable in ("PGHOST", "PGHOSTADDR", "PGPORT"):
        monkeypatch.delenv(variable, raising=False)
    found = [conninfo_to_dict(conninfo) for conninfo in split_hosts(url).values()]
    assert [tuple(params.get(name) or None for name in ("host", "hostaddr", "port")) for params in found] == hosts


def test_hosts_of_the_environment_are_connected_one_by_one(monkeypatch):
    monkeypatch.setenv("PGHOST", "a,b")
    monkeypatch.setenv("PGPORT", "1,2")
    assert list(split_hosts("postgresql:///x")) == ["a:1", "b:2"]


def test_unequal_numbers_of_hosts_and_ports_are_an_error():
    with pytest.raises(ConfigError, match="3 hosts"):
        PostgresStore("host=a,b,c port=1,2")


def test_revisions_of_several_writers_have_no_gaps(new_store):
    stores = [new_store(), new_store()]
    with ThreadPoolExecutor(2) as pool:
        for futures in pool.map(
            lambda store: [store.commit([SaveItem(make_item(f"{id(store)} {n}"), None)]) for n in range(50)], stores
        ):
            for future in futures:
                future.result(60)
    with psycopg.connect(stores[0]._database.url) as connection:
        log = connection.execute("SELECT since, rev FROM progressbar_tracker.changes ORDER BY rev").fetchall()
    assert [since for since, _ in log] == [0, *(rev for _, rev in log[:-1])]
    assert log[-1][1] == 100


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
    assert store.flush(60)
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
            assert self.released.wait(60)
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
    assert groups.reached.wait(60)
    future = store.commit([SaveItem(states[2], states[1])])
    store.enqueue([SaveItem(states[3], states[2])])
    groups.released.set()
    future.result(60)
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


def test_runs_of_an_older_postgres_schema_are_former_runs(postgres_url, monkeypatch):
    monkeypatch.setattr(schema, "MIGRATIONS", MIGRATIONS[:4])
    open_database(postgres_url)
    state = msgspec.json.encode(make_item("job-12345", status="succeeded", ended_at=3.0)).decode()
    with psycopg.connect(postgres_url) as connection:
        connection.execute(
            "INSERT INTO progressbar_tracker.history (rev, id, run_id, status, ended_at, searched, state) "
            "VALUES (1, 'job-12345', 'r', 'succeeded', 3.0, '', %s)",
            [state],
        )
    monkeypatch.undo()
    with PostgresStore(postgres_url) as store:
        commit(store, AddHistory(EndedRun(make_item("job-54321", run_id="s"), "succeeded", 4.0)))
        ((former,),) = store.read_former_runs(["job-12345"], by="id").values()
        assert (former.item.id, former.ended_at, former.curve) == ("job-12345", 3.0, None)
        assert [row.item.id for row in store.read_former_runs(["job-*"], by="pattern")["job-*"]] == ["job-54321"]


def test_new_leader_gets_the_curves_of_running_items(new_store):
    first, second = new_store(), new_store()
    curve = Curve(0.5, array("f", [0.0, 1.0]))
    writes = [SaveCurve(name, "r", encode_curve(curve)) for name in "ab"]
    commit(first, SaveItem(make_item("a")), SaveItem(make_item("b", status="failed", ended_at=2.0)), *writes)
    follow_changes(first)
    wait_until(lambda: first.is_leader)
    batches = follow_changes(second)
    first.close()
    batch = read_until(batches, lambda batch: batch.curves is not None)
    assert batch.curves == [StoredCurve("a", "r", curve)]


def test_former_runs_are_read_by_indexes_of_a_large_history(store, postgres_url):
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute("SET search_path TO progressbar_tracker")
        connection.execute(
            "INSERT INTO history (id, run_id, status, ended_at, searched, pattern, state) "
            "SELECT 'a' || n % 200, n::text, 'succeeded', n, '', 'p' || n % 200, '{}' "
            "FROM generate_series(1, 20000) AS n"
        )
        connection.execute("INSERT INTO curves SELECT id, run_id, 'x' FROM history")
        connection.execute("ANALYZE")
        for name, query in run_queries.FORMER_RUNS_QUERIES.items():
            plan = str(connection.execute(b"EXPLAIN " + query, ['["a1", "p1"]', 16]).fetchall())
            assert f"history_succeeded_{name}" in plan
            assert "Seq Scan" not in plan
            assert "Sort Key: history" not in plan


def test_runs_of_an_older_schema_are_in_the_timeline(postgres_url):
    """A row with invalid JSON, or with a text that PostgreSQL cannot hold, keeps its columns."""
    state = {"id": "a", "owner_id": "k", "owner": "ci", "created_at": 2.0, "updated_at": 9.0}
    error = "E: " + "x" * 300 + "\nline"
    runs = (
        ("inner", "succeeded", {**state, "started_at": 4.0, "parent": "p", "run_id": "r1"}),
        ("failed", "failed", {**state, "started_at": 0.0, "parent": "p", "run_id": "r2", "title": "T", "error": error}),
        ("short", "stopped", {**state, "started_at": 6.0, "parent": "", "run_id": "r3", "error": "one\ntwo"}),
        ("null", "failed", {**state, "started_at": 6.0, "title": "\0", "run_id": "r4"}),
    )
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute("CREATE SCHEMA progressbar_tracker")
        connection.execute("SET search_path TO progressbar_tracker")
        connection.execute("CREATE TABLE schema (version integer NOT NULL)")
        connection.execute("INSERT INTO schema VALUES (5)")
        for migration in MIGRATIONS[:5]:
            for statement in migration:
                connection.execute(statement)
        for item_id, status, fields in (*runs, ("bad", "failed", None)):
            connection.execute(
                "INSERT INTO history (rev, id, run_id, status, ended_at, searched, state) "
                "VALUES (1, %s, 'stored', %s, 9, '', %s)",
                [item_id, status, "{" if fields is None else msgspec.json.encode(fields).decode()],
            )
    with PostgresStore(postgres_url) as store:
        found = {run.id: run for run in store.read_timeline(8.0, 10.0, limit=9).runs}
        assert {name: (run.run_id, run.started_at, run.title, run.error) for name, run in found.items()} == {
            "failed": ("r2", 2.0, "T", error[:200]),
            "short": ("r3", 6.0, "", "one"),
            "null": ("stored", 9.0, "", None),
            "bad": ("stored", 9.0, "", None),
        }
        assert [run.started_at for run in store.read_recent_runs(["inner"], limit=9)["inner"]] == [4.0]


def test_queries_of_runs_use_indexes_of_a_large_history(store, postgres_url):
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute("SET search_path TO progressbar_tracker")
        connection.execute(
            "INSERT INTO history (id, run_id, status, ended_at, searched, state) "
            "SELECT 'a' || n % 200, n::text, 'failed', n, '', '{}' FROM generate_series(1, 20000) AS n"
        )
        connection.execute(
            'INSERT INTO runs (n, id, run_id, parent, "group", status, is_inner, started_at, ended_at, title) '
            "SELECT n, id, run_id, 'p' || n % 500, 'g' || n % 20, 'failed', 0, ended_at - 9, ended_at, '' FROM history"
        )
        connection.execute("ANALYZE")

        def explain(query: bytes, values: list[object]) -> str:
            return "\n".join(row for (row,) in connection.execute(b"EXPLAIN " + query, values).fetchall())

        for criteria in (
            HistoryFilter(id="a1", status="failed"),
            HistoryFilter(run_id="77", id="a1"),
            HistoryFilter(parent="p3", inner=False),
            HistoryFilter(group="g1", inner=False, since=5.0),
            HistoryFilter(text="x", id="a1"),
        ):
            query, values, texts = run_queries.build_history_query(criteria)
            plan = explain(query, [*values, 2**62, *texts, 50])
            assert "Seq Scan" not in plan, plan
        plan = explain(run_queries.RECENT_RUNS_QUERY, ['["a1", "a2"]', 20])
        assert "runs_id" in plan
        assert "Seq Scan" not in plan


def test_trimmed_log_makes_an_old_follower_reload(new_store, monkeypatch):
    monkeypatch.setattr(writer, "CHANGES_RETENTION", 0.0)
    store, away = new_store(), new_store()
    commit(store, SaveItem(make_item("a"), None), SaveItem(make_item("b"), None))
    commit(store, DropItem("a", make_item("a")))
    with psycopg.connect(store._database.url) as connection:
        assert connection.execute("SELECT rev FROM progressbar_tracker.changes").fetchall() == [(3,)]
    batch = read_until(follow_changes(away), lambda batch: batch.full)
    assert (set(batch.rows), batch.rev) == ({"b"}, 3)


def test_deletion_leaves_no_row(store):
    commit(store, SaveItem(make_item("a"), None))
    commit(store, DropItem("a", make_item("a")))
    with psycopg.connect(store._database.url) as connection:
        assert connection.execute("SELECT id FROM progressbar_tracker.items").fetchall() == []


def test_item_that_came_and_went_in_one_commit_is_in_its_log(store):
    batches = follow_changes(store)
    commit(store, SaveItem(make_item("a"), None), DropItem("a", make_item("a")))
    batch = read_until(batches, lambda batch: "a" in batch.rows)
    assert (batch.rows, batch.rev) == ({"a": ItemRow(1, None)}, 1)


def test_server_that_hangs_before_its_commit_blocks_no_other(new_store, monkeypatch):
    """All its rows are written, but the order of commits is still free."""
    slow, other = new_store(), new_store()
    record_commit = rows.record_commit
    reached, released = threading.Event(), threading.Event()

    def hang_once(cursor, recorded):
        monkeypatch.setattr(rows, "record_commit", record_commit)
        reached.set()
        assert released.wait(60)
        record_commit(cursor, recorded)

    monkeypatch.setattr(rows, "record_commit", hang_once)
    first = slow.commit([SaveItem(make_item("a"), None)])
    assert reached.wait(60)
    commit(other, SaveItem(make_item("b"), None))
    released.set()
    first.result(60)
    assert {name: row.rev for name, row in other.read_items(["a", "b"]).items()} == {"a": 2, "b": 2}


def test_group_that_loses_a_deadlock_is_written_again(store, monkeypatch):
    lock_items = rows.lock_items

    def fail_once(cursor, ids):
        monkeypatch.setattr(rows, "lock_items", lock_items)
        cursor.execute("DO $$ BEGIN RAISE SQLSTATE '40P01'; END $$")
        return lock_items(cursor, ids)

    monkeypatch.setattr(rows, "lock_items", fail_once)
    commit(store, SaveItem(make_item("a"), None))
    assert store.read_items(["a"])["a"].item == make_item("a")


def test_probe_alone_makes_no_revision(store):
    commit(store, SaveItem(make_item("a"), None))
    commit(store, Probe(5.0))
    with psycopg.connect(store._database.url) as connection:
        assert connection.execute("SELECT rev, probed_at FROM progressbar_tracker.meta").fetchone() == (1, 5.0)


def test_items_of_an_older_schema_are_kept_without_tombstones(postgres_url, monkeypatch):
    monkeypatch.setattr(schema, "MIGRATIONS", MIGRATIONS[:6])
    open_database(postgres_url)
    with psycopg.connect(postgres_url) as connection:
        connection.execute("SET search_path TO progressbar_tracker")
        connection.execute(
            "INSERT INTO items (id, rev, state, gone_at) VALUES ('a', 1, %s, NULL), ('gone', 2, NULL, 5.0)",
            [msgspec.json.encode(make_item()).decode()],
        )
        connection.execute("UPDATE meta SET rev = 2")
    monkeypatch.undo()
    with PostgresStore(postgres_url) as store:
        assert (store.load().items, store.rev) == ([make_item()], 2)
        batches = follow_changes(store)
        commit(store, DropItem("a", make_item()))
        assert read_until(batches, lambda batch: batch.rev == 3).rows == {"a": ItemRow(3, None)}


def test_change_without_notification_is_found_by_the_timer(new_store):
    store = new_store()
    commit(store, SaveItem(make_item(), None))
    batches = follow_changes(store)
    with psycopg.connect(store._database.url) as connection:  # without NOTIFY: a notification may be lost
        connection.execute("SET search_path TO progressbar_tracker")
        connection.execute("UPDATE meta SET rev = rev + 1")
        connection.execute("INSERT INTO changes (rev, since, ids) VALUES (2, 1, '[\"a\"]')")
        connection.execute("DELETE FROM items")
    batch = read_until(batches, lambda batch: "a" in batch.rows and batch.rows["a"].rev == 2)
    assert batch.rows["a"].item is None


def test_missing_driver_error_names_the_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(ConfigError, match=r"pip install 'psycopg\[binary,pool\]'"):
        open_store("postgresql://127.0.0.1/x")


def test_postgres_database_of_newer_version_is_refused(postgres_url):
    open_database(postgres_url)
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
