from __future__ import annotations

import re
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from progressbar_tracker._errors import ConfigError
from progressbar_tracker.server.access.key_admin import KeyAdmin
from progressbar_tracker.server.models import EndedRun, Sample
from progressbar_tracker.server.mutations import AddHistory, AddSample, Probe, SaveItem, TrimHistory
from progressbar_tracker.server.stores.base import HistoryFilter, StoreError
from progressbar_tracker.server.stores.sqlite import rows
from progressbar_tracker.server.stores.sqlite.files import connect, migrate
from progressbar_tracker.server.stores.sqlite.migrations import MIGRATIONS
from progressbar_tracker.server.stores.sqlite.rows import (
    CURVES_QUERY,
    FORMER_RUNS_QUERIES,
    TRIM_BATCH_SIZE,
)
from progressbar_tracker.server.stores.sqlite.run_queries import build_history_query
from progressbar_tracker.server.stores.sqlite.store import SqliteStore
from progressbar_tracker.server.stores.sqlite.writer import MAX_GROUP_STATES
from tests.support.items import make_item
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from tests.support.server import FullDisk


def test_database_files_are_private(store: SqliteStore) -> None:
    store.commit([SaveItem(make_item())]).result(60)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in store.path.parent.iterdir()}
    assert modes == dict.fromkeys(("progress.db", "progress.db-shm", "progress.db-wal", "progress.db.lock"), 0o600)


def test_commits_are_synchronous(store: SqliteStore) -> None:
    pragmas = {
        name: store._write_connection.execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("journal_mode", "synchronous")
    }
    assert pragmas == {"journal_mode": "wal", "synchronous": 2}


def test_two_probes_of_one_instant_both_reach_the_disk(store: SqliteStore) -> None:
    wal = store.path.with_name(store.path.name + "-wal")
    store.commit([Probe(1e9)]).result(60)
    size = wal.stat().st_size
    store.commit([Probe(1e9)]).result(60)
    assert wal.stat().st_size > size


def test_second_server_on_the_same_file_is_refused(store: SqliteStore) -> None:
    with pytest.raises(ConfigError, match=r"^a server is running on the database .*progress\.db already$"):
        SqliteStore(store.path)


def test_closed_store_releases_its_lock(store: SqliteStore) -> None:
    store.close()
    SqliteStore(store.path).close()


def test_read_by_another_process_keeps_the_log(store: SqliteStore) -> None:
    script = "import sqlite3, sys; print(sqlite3.connect(sys.argv[1]).execute('SELECT id FROM items').fetchall())"
    for n in range(3):
        store.commit([SaveItem(make_item(str(n)))]).result(60)
        result = subprocess.run([sys.executable, "-c", script, store.path], capture_output=True, timeout=30, check=True)
        assert result.stdout.decode().strip() == str([(str(number),) for number in range(n + 1)])


def test_failed_commit_fails_its_waiters_only(store: SqliteStore, disk: FullDisk) -> None:
    disk.full = True
    failed = [store.commit([SaveItem(make_item(str(n)))]) for n in range(3)]
    for future in failed:
        with pytest.raises(StoreError, match="full"):
            future.result(60)
    disk.full = False
    store.commit([SaveItem(make_item("later"))]).result(60)
    assert [item.id for item in store.load().items] == ["later"]


def test_queued_states_are_retried_after_a_failure(store: SqliteStore, disk: FullDisk) -> None:
    disk.full = True
    store.enqueue([SaveItem(make_item("a", seq=1)), SaveItem(make_item("b", seq=1))])
    assert not store.flush(10)
    store.enqueue([SaveItem(make_item("b", seq=2))])
    disk.full = False
    assert store.flush(60)
    assert sorted((item.id, item.seq) for item in store.load().items) == [("a", 1), ("b", 2)]


def test_retried_state_never_undoes_a_newer_commit(store: SqliteStore, disk: FullDisk) -> None:
    reached, released = threading.Event(), threading.Event()
    disk.full = True
    disk.before_failing = lambda: (reached.set(), released.wait(10))
    store.enqueue([SaveItem(make_item("a", seq=1)), SaveItem(make_item("b", seq=1))])
    assert reached.wait(60)
    newer = store.commit([SaveItem(make_item("a", seq=2))])
    disk.full = False
    released.set()
    newer.result(60)
    assert store.flush(60)
    assert sorted((item.id, item.seq) for item in store.load().items) == [("a", 2), ("b", 1)]


def test_unwritable_item_fails_alone(store: SqliteStore) -> None:
    with store._writer._condition:  # blocks the thread, so that all writes join one group
        good = store.commit([SaveItem(make_item("good"))])
        bad = store.commit([SaveItem(make_item("\ud800"))])
    good.result(60)
    with pytest.raises(StoreError):
        bad.result(60)
    assert [item.id for item in store.load().items] == ["good"]


def test_locked_file_fails_a_group_after_one_wait(store: SqliteStore) -> None:
    store._write_connection.execute("PRAGMA busy_timeout = 500")
    other = sqlite3.connect(store.path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    started_at = time.monotonic()
    with store._writer._condition:
        futures = [store.commit([SaveItem(make_item(str(n)))]) for n in range(100)]
    for future in futures:
        with pytest.raises(StoreError, match="locked"):
            future.result(60)
    assert time.monotonic() - started_at < 45  # and not 100 times 0.5 seconds
    other.close()
    store.commit([SaveItem(make_item("later"))]).result(60)


def test_waiters_of_a_failed_group_fail_newest_first(store: SqliteStore, disk: FullDisk) -> None:
    order: list[int] = []
    disk.full = True
    with store._writer._condition:
        futures = [store.commit([SaveItem(make_item(str(n)))]) for n in range(4)]
        for n, future in enumerate(futures):
            future.add_done_callback(lambda _, n=n: order.append(n))
    for future in futures:
        assert future.exception(10) is not None
    store.close()
    assert order == [3, 2, 1, 0]


def test_cancelled_waiter_does_not_stop_the_thread(store: SqliteStore) -> None:
    with store._writer._condition:
        gone = store.commit([SaveItem(make_item("gone"))])
        assert not gone.cancel()
    store.commit([SaveItem(make_item("later"))]).result(60)
    assert sorted(item.id for item in store.load().items) == ["gone", "later"]


def test_unreadable_item_is_skipped_and_logged(store: SqliteStore, caplog: pytest.LogCaptureFixture) -> None:
    store.commit([SaveItem(make_item("good"))]).result(60)
    other = sqlite3.connect(store.path)
    other.execute("INSERT INTO items VALUES ('bad', '{}')")
    other.commit()
    other.close()
    assert [item.id for item in store.load().items] == ["good"]
    assert "'bad'" in caplog.text


# Unusable files.


def check_refused(path: Path, reason: str) -> None:
    for open_database in (SqliteStore, KeyAdmin):
        with pytest.raises(ConfigError, match=reason) as error:
            open_database(path)
        assert str(path.name) in str(error.value)
        assert "\n" not in str(error.value)


def test_file_of_newer_schema_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "p.db"
    connection = connect(path)
    connection.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    connection.close()
    check_refused(path, "newer version of progressbar-tracker")


def test_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "p.db"
    path.write_text("this is a letter to my aunt, and no database at all" * 50)
    check_refused(path, "file is not a database")


def test_database_of_another_program_is_refused_unchanged(tmp_path: Path) -> None:
    path = tmp_path / "p.db"
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE t (x)")
    other.close()
    before = path.read_bytes()
    check_refused(path, "belongs to another program")
    assert path.read_bytes() == before


def test_folder_as_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "p.db").mkdir()
    check_refused(tmp_path / "p.db", "cannot be")


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's; run the tests on Linux")
def test_database_in_read_only_folder_is_refused() -> None:
    check_refused(Path("/proc/p.db"), "cannot be")


def test_database_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    check_refused(tmp_path / "file" / "p.db", "cannot be")


# Migrations


def test_empty_file_gets_the_newest_schema(tmp_path: Path) -> None:
    connection = connect(tmp_path / "p.db")
    assert connection.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS),)
    connection.close()


def test_migration_keeps_rows_and_runs_once(tmp_path: Path) -> None:
    path = tmp_path / "p.db"
    connection = connect(path)
    connection.execute("INSERT INTO items VALUES ('a', '{}')")
    longer = (*MIGRATIONS, ("ALTER TABLE items ADD COLUMN more TEXT",))
    migrate(connection, path, longer)
    migrate(connection, path, longer)
    assert connection.execute("SELECT * FROM items").fetchall() == [("a", "{}", None)]
    connection.close()


def test_failed_migration_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "p.db"
    connection = connect(path)
    with pytest.raises(sqlite3.OperationalError):
        migrate(connection, path, (*MIGRATIONS, ("DROP TABLE items", "NOT SQL")))
    assert connection.execute("SELECT count(*) FROM items").fetchone() == (0,)
    assert connection.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS),)
    connection.close()


# Keys from the command line


def test_key_admin_creates_lists_rotates_and_revokes(tmp_path: Path) -> None:
    with KeyAdmin(tmp_path / "p.db", now=lambda: 5.0) as file:
        key = file.create("write", "ci", group="g")
        assert file.list() == [key.record]
        rotated = file.rotate(key.record.key_id)
        assert rotated.record.key_id == key.record.key_id
        assert file.revoke(key.record.key_id).revoked_at == 5.0
        for attempt in (
            lambda: file.rotate(key.record.key_id), lambda: file.revoke("nobody"), lambda: file.create("write", "")
        ):  # fmt: skip
            with pytest.raises(ConfigError):
                attempt()


def test_key_admin_error_of_sqlite_is_one_sentence(store: SqliteStore) -> None:
    with KeyAdmin(store.path) as file:
        file._key_store._connection.execute("DROP TABLE keys")
        for attempt in (file.list, lambda: file.create("write", "ci")):
            with pytest.raises(ConfigError, match=r"progress\.db cannot be used: no such table"):
                attempt()


def test_key_admin_works_beside_a_running_server(store: SqliteStore) -> None:
    with KeyAdmin(store.path) as file:
        key = file.create("admin", "boss")
    assert store.read_keys() == ([key.record], 1)


def test_trim_deletes_all_old_runs_in_batches(store: SqliteStore) -> None:
    runs = [EndedRun(make_item(str(n), run_id="r"), "succeeded", float(n)) for n in range(3 * TRIM_BATCH_SIZE)]
    samples = [AddSample(str(n), "r", Sample(1.0, 0.5, None)) for n in range(5)]
    store.commit([*map(AddHistory, runs), *samples]).result(60)
    store.commit([TrimHistory(2.5 * TRIM_BATCH_SIZE)]).result(60)
    wait_until(lambda: len(store.read_history(limit=1000)) <= TRIM_BATCH_SIZE // 2)
    assert [row.ended_at for row in store.read_history(limit=1)] == [3 * TRIM_BATCH_SIZE - 1]
    assert store.read_samples("4", "r") == []


def test_each_history_query_uses_an_index(store: SqliteStore) -> None:
    for criteria, index in (
        (HistoryFilter(), None),
        (HistoryFilter(inner=False, since=1.0, until=2.0), None),
        (HistoryFilter(group="g", inner=False), "runs_group"),
        (HistoryFilter(status="failed", since=1.0), "runs_status"),
        (HistoryFilter(group="g", status="failed"), "runs_group_status"),
        (HistoryFilter(id="i", group="g", status="failed", parent="p"), "runs_id"),
        (HistoryFilter(parent="p", status="failed", inner=False), "runs_parent"),
        (HistoryFilter(run_id="r", id="i", parent="p", group="g", until=1.0), "runs_run_id"),
    ):
        query, values = build_history_query(criteria, "")
        plan = store._history_connection.execute(f"EXPLAIN QUERY PLAN {query}", (*values, 7, 9))
        text = " ".join(str(step[-1]) for step in plan)
        assert "TEMP B-TREE" not in text
        assert "SCAN" not in text
        assert index is None or f"INDEX {index} " in text


def test_scan_of_runs_does_not_delay_reads_by_index(store: SqliteStore) -> None:
    with store._timeline_lock:
        assert store.read_due_notices(1.0, 1) == []
        assert store.read_recent_runs(["a"], limit=1) == {}
        assert store.read_history(HistoryFilter(id="a", inner=False)) == []
    with store._history_lock, store._search_lock:
        assert store.read_timeline(0.0, 1.0, limit=1).runs == []
        assert store.read_history(HistoryFilter(since=1.0)) == []


def test_former_runs_and_curves_are_read_by_indexes(store: SqliteStore) -> None:
    """A history of millions of runs is not scanned, and the statistics of ANALYZE change no plan."""
    for analyze in (False, True):
        if analyze:
            store.commit([AddHistory(EndedRun(make_item("x-12345"), "succeeded", 1.0))] * 50).result(60)
            store._history_connection.execute("ANALYZE")
        for name, query in FORMER_RUNS_QUERIES.items():
            plan = store._history_connection.execute(f"EXPLAIN QUERY PLAN {query}", ('["a"]', 16))
            steps = [str(step[-1]) for step in plan]
            assert not [step for step in steps if step.startswith("SCAN h")]
            index = f"history_succeeded_{name}"
            assert f"SEARCH history USING INDEX {index} ({name}=?)" in steps
            assert "SEARCH h USING INTEGER PRIMARY KEY (rowid=?)" in steps
        plan = store._history_connection.execute(f"EXPLAIN QUERY PLAN {CURVES_QUERY}", ('[["a", "r"]]',))
        assert "sqlite_autoindex_curves_1 (id=? AND run_id=?)" in " ".join(str(step[-1]) for step in plan)


def test_large_queue_is_split_over_several_groups(store: SqliteStore) -> None:
    states = [SaveItem(make_item(str(n))) for n in range(2 * MAX_GROUP_STATES + 1)]
    with store._writer._condition:
        store.enqueue(states)
        waited = store.commit([SaveItem(make_item("at once"))])
        waited.add_done_callback(lambda _: left.append(len(store._writer._queue)))
    left: list[int] = []
    waited.result(60)
    assert store.flush(60)
    assert left == [MAX_GROUP_STATES + 1]
    store.enqueue(states)
    path = store.path
    store.close()
    again = SqliteStore(path)
    assert len(again.load().items) == 2 * MAX_GROUP_STATES + 2
    again.close()


def test_statements_have_no_numbered_parameters() -> None:
    """CPython 3.12.0 to 3.12.3 take ``?1`` for a named parameter and warn, see gh-117995."""
    sources = list(Path(rows.__file__).parent.glob("*.py"))
    assert len(sources) > 5
    assert [path.name for path in sources if re.search(r"\?\d", path.read_text())] == []
