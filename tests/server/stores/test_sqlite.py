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
from progressbar_tracker.server.stores.base import StoreError
from progressbar_tracker.server.stores.sqlite import rows
from progressbar_tracker.server.stores.sqlite.files import connect, migrate
from progressbar_tracker.server.stores.sqlite.migrations import MIGRATIONS
from progressbar_tracker.server.stores.sqlite.rows import TRIM_BATCH_SIZE
from progressbar_tracker.server.stores.sqlite.store import SqliteStore
from progressbar_tracker.server.stores.sqlite.writer import MAX_GROUP_STATES
from tests.support.items import make_item

if TYPE_CHECKING:
    from tests.support.server import FullDisk


def test_nobody_else_may_read_the_files(store: SqliteStore) -> None:
    store.commit([SaveItem(make_item())]).result(10)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in store.path.parent.iterdir()}
    assert modes == dict.fromkeys(("progress.db", "progress.db-shm", "progress.db-wal", "progress.db.lock"), 0o600)


def test_a_commit_is_on_disk_in_full(store: SqliteStore) -> None:
    pragmas = {
        name: store._write_connection.execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("journal_mode", "synchronous")
    }
    assert pragmas == {"journal_mode": "wal", "synchronous": 2}


def test_two_probes_of_one_instant_both_reach_the_disk(store: SqliteStore) -> None:
    wal = store.path.with_name(store.path.name + "-wal")
    store.commit([Probe(1e9)]).result(10)
    size = wal.stat().st_size
    store.commit([Probe(1e9)]).result(10)
    assert wal.stat().st_size > size


def test_a_second_server_on_the_same_file_is_refused(store: SqliteStore) -> None:
    with pytest.raises(ConfigError, match=r"^a server is running on the database .*progress\.db already$"):
        SqliteStore(store.path)


def test_a_file_is_free_again_after_closing(store: SqliteStore) -> None:
    store.close()
    SqliteStore(store.path).close()


def test_another_process_that_looks_at_the_file_takes_nothing_away(store: SqliteStore) -> None:
    look = "import sqlite3, sys; print(sqlite3.connect(sys.argv[1]).execute('SELECT id FROM items').fetchall())"
    for n in range(3):
        store.commit([SaveItem(make_item(str(n)))]).result(10)
        seen = subprocess.run([sys.executable, "-c", look, store.path], capture_output=True, timeout=30, check=True)
        assert seen.stdout.decode().strip() == str([(str(one),) for one in range(n + 1)])


def test_a_failed_commit_fails_its_waiters_and_the_thread_goes_on(store: SqliteStore, disk: FullDisk) -> None:
    disk.full = True
    failed = [store.commit([SaveItem(make_item(str(n)))]) for n in range(3)]
    for future in failed:
        with pytest.raises(StoreError, match="full"):
            future.result(10)
    disk.full = False
    store.commit([SaveItem(make_item("later"))]).result(10)
    assert [kept.id for kept in store.load().items] == ["later"]


def test_what_may_wait_is_tried_again_after_a_failure(store: SqliteStore, disk: FullDisk) -> None:
    disk.full = True
    store.enqueue([SaveItem(make_item("a", seq=1)), SaveItem(make_item("b", seq=1))])
    assert not store.flush(10)
    store.enqueue([SaveItem(make_item("b", seq=2))])
    disk.full = False
    assert store.flush(10)
    assert sorted((kept.id, kept.seq) for kept in store.load().items) == [("a", 1), ("b", 2)]


def test_a_state_that_failed_never_undoes_a_commit_that_came_meanwhile(store: SqliteStore, disk: FullDisk) -> None:
    tried, go_on = threading.Event(), threading.Event()
    disk.full = True
    disk.before_failing = lambda: (tried.set(), go_on.wait(10))
    store.enqueue([SaveItem(make_item("a", seq=1)), SaveItem(make_item("b", seq=1))])
    assert tried.wait(10)
    newer = store.commit([SaveItem(make_item("a", seq=2))])
    disk.full = False
    go_on.set()
    newer.result(10)
    assert store.flush(10)
    assert sorted((kept.id, kept.seq) for kept in store.load().items) == [("a", 2), ("b", 1)]


def test_one_that_cannot_be_written_does_not_take_the_others_with_it(store: SqliteStore) -> None:
    with store._writer._condition:  # holds the thread back, so that all are one group
        good = store.commit([SaveItem(make_item("good"))])
        bad = store.commit([SaveItem(make_item("\ud800"))])
    good.result(10)
    with pytest.raises(StoreError):
        bad.result(10)
    assert [kept.id for kept in store.load().items] == ["good"]


def test_a_locked_file_fails_a_whole_group_after_one_wait(store: SqliteStore) -> None:
    store._write_connection.execute("PRAGMA busy_timeout = 200")
    other = sqlite3.connect(store.path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    begun = time.monotonic()
    with store._writer._condition:
        futures = [store.commit([SaveItem(make_item(str(n)))]) for n in range(20)]
    for future in futures:
        with pytest.raises(StoreError, match="locked"):
            future.result(10)
    assert time.monotonic() - begun < 3  # and not twenty times 0.2 seconds
    other.close()
    store.commit([SaveItem(make_item("later"))]).result(10)


def test_waiters_of_a_failed_group_hear_of_it_newest_first(store: SqliteStore, disk: FullDisk) -> None:
    heard: list[int] = []
    disk.full = True
    with store._writer._condition:
        futures = [store.commit([SaveItem(make_item(str(n)))]) for n in range(4)]
        for n, future in enumerate(futures):
            future.add_done_callback(lambda _, n=n: heard.append(n))
    for future in futures:
        assert future.exception(10) is not None
    store.close()
    assert heard == [3, 2, 1, 0]


def test_a_waiter_that_went_away_does_not_stop_the_thread(store: SqliteStore) -> None:
    with store._writer._condition:
        gone = store.commit([SaveItem(make_item("gone"))])
        assert not gone.cancel()
    store.commit([SaveItem(make_item("later"))]).result(10)
    assert sorted(kept.id for kept in store.load().items) == ["gone", "later"]


def test_an_item_that_cannot_be_read_is_left_out_and_logged(
    store: SqliteStore, caplog: pytest.LogCaptureFixture
) -> None:
    store.commit([SaveItem(make_item("good"))]).result(10)
    other = sqlite3.connect(store.path)
    other.execute("INSERT INTO items VALUES ('bad', '{}')")
    other.commit()
    other.close()
    assert [kept.id for kept in store.load().items] == ["good"]
    assert "'bad'" in caplog.text


# Files that cannot be used: one plain sentence each.


def check_refused(path: Path, reason: str) -> None:
    for opened in (SqliteStore, KeyAdmin):
        with pytest.raises(ConfigError, match=reason) as error:
            opened(path)
        assert str(path.name) in str(error.value)
        assert "\n" not in str(error.value)


def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "p.db"
    made = connect(path)
    made.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    made.close()
    check_refused(path, "newer version of progressbar-tracker")


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "p.db"
    path.write_text("this is a letter to my aunt, and no database at all" * 50)
    check_refused(path, "file is not a database")


def test_another_programs_database_is_refused_and_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "p.db"
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE t (x)")
    other.close()
    before = path.read_bytes()
    check_refused(path, "belongs to another program")
    assert path.read_bytes() == before


def test_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "p.db").mkdir()
    check_refused(tmp_path / "p.db", "cannot be")


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's; run the tests on Linux")
def test_a_folder_that_cannot_be_written_is_refused() -> None:
    check_refused(Path("/proc/p.db"), "cannot be")


def test_a_parent_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    check_refused(tmp_path / "file" / "p.db", "cannot be")


# Migrations


def test_an_empty_file_is_led_to_the_newest_schema(tmp_path: Path) -> None:
    made = connect(tmp_path / "p.db")
    assert made.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS),)
    made.close()


def test_a_migration_keeps_what_is_there_and_happens_once(tmp_path: Path) -> None:
    path = tmp_path / "p.db"
    made = connect(path)
    made.execute("INSERT INTO items VALUES ('a', '{}')")
    longer = (*MIGRATIONS, ("ALTER TABLE items ADD COLUMN more TEXT",))
    migrate(made, path, longer)
    migrate(made, path, longer)
    assert made.execute("SELECT * FROM items").fetchall() == [("a", "{}", None)]
    made.close()


def test_a_migration_that_fails_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "p.db"
    made = connect(path)
    with pytest.raises(sqlite3.OperationalError):
        migrate(made, path, (*MIGRATIONS, ("DROP TABLE items", "NOT SQL")))
    assert made.execute("SELECT count(*) FROM items").fetchone() == (0,)
    assert made.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS),)
    made.close()


# Keys from the command line


def test_keys_can_be_made_listed_rotated_and_revoked_on_the_file(tmp_path: Path) -> None:
    with KeyAdmin(tmp_path / "p.db", now=lambda: 5.0) as file:
        made = file.create("write", "ci", group="g")
        assert file.list() == [made.record]
        rotated = file.rotate(made.record.key_id)
        assert rotated.record.key_id == made.record.key_id
        assert file.revoke(made.record.key_id).revoked_at == 5.0
        for attempt in (
            lambda: file.rotate(made.record.key_id), lambda: file.revoke("nobody"), lambda: file.create("write", "")
        ):  # fmt: skip
            with pytest.raises(ConfigError):
                attempt()


def test_a_file_that_fails_later_is_told_in_one_sentence(store: SqliteStore) -> None:
    with KeyAdmin(store.path) as file:
        file._key_store._connection.execute("DROP TABLE keys")
        for attempt in (file.list, lambda: file.create("write", "ci")):
            with pytest.raises(ConfigError, match=r"progress\.db cannot be used: no such table"):
                attempt()


def test_keys_can_be_changed_while_a_server_holds_the_file(store: SqliteStore) -> None:
    with KeyAdmin(store.path) as file:
        made = file.create("admin", "boss")
    assert store.read_keys() == ([made.record], 1)


def test_the_past_is_forgotten_a_little_at_a_time_and_all_of_it(store: SqliteStore) -> None:
    runs = [EndedRun(make_item(str(n), run_id="r"), "succeeded", float(n)) for n in range(3 * TRIM_BATCH_SIZE)]
    samples = [AddSample(str(n), "r", Sample(1.0, 0.5, None)) for n in range(5)]
    store.commit([*map(AddHistory, runs), *samples]).result(10)
    store.commit([TrimHistory(2.5 * TRIM_BATCH_SIZE)]).result(10)
    begun = time.monotonic()
    while len(store.read_history(limit=1000)) > TRIM_BATCH_SIZE // 2:
        assert time.monotonic() - begun < 10
        time.sleep(0.01)
    assert [row.ended_at for row in store.read_history(limit=1)] == [3 * TRIM_BATCH_SIZE - 1]
    assert store.read_samples("4", "r") == []


def test_every_look_at_the_past_is_answered_by_an_index(store: SqliteStore) -> None:
    for conditions, index in {
        "1": None, "n < 7": None, '"group" = 1': "history_group", "status = 1": "history_status",
        '"group" = 1 AND status = 1 AND n < 7': "history_group_status", "id = 1": "history_id",
    }.items():  # fmt: skip
        plan = store._history_connection.execute(
            f"EXPLAIN QUERY PLAN SELECT * FROM history WHERE {conditions} ORDER BY n DESC LIMIT 9"
        )
        told = " ".join(str(step[-1]) for step in plan)
        assert "TEMP B-TREE" not in told
        assert index is None or f"USING INDEX {index} " in told


def test_a_commit_does_not_wait_for_all_states_that_may_wait_and_none_is_forgotten(store: SqliteStore) -> None:
    states = [SaveItem(make_item(str(n))) for n in range(2 * MAX_GROUP_STATES + 1)]
    with store._writer._condition:
        store.enqueue(states)
        waited = store.commit([SaveItem(make_item("at once"))])
        waited.add_done_callback(lambda _: left.append(len(store._writer._queue)))
    left: list[int] = []
    waited.result(10)
    assert store.flush(20)
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
