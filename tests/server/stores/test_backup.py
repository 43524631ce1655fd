from __future__ import annotations

import os
import sqlite3
import stat
import sys
import threading
from array import array
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from progressbar_tracker._errors import ConfigError
from progressbar_tracker.server.items.curves import Curve, encode_curve
from progressbar_tracker.server.models import EndedRun
from progressbar_tracker.server.mutations import AddHistory, DropItem, SaveCurve, SaveItem
from progressbar_tracker.server.stores.sqlite import backup as backups
from progressbar_tracker.server.stores.sqlite.backup import create_backup, restore_backup
from progressbar_tracker.server.stores.sqlite.files import connect, migrate
from progressbar_tracker.server.stores.sqlite.migrations import APPLICATION_ID, MIGRATIONS
from progressbar_tracker.server.stores.sqlite.store import SqliteStore
from tests.support.items import make_item

if TYPE_CHECKING:
    from collections.abc import Callable


def list_ids(path: Path) -> list[str]:
    store = SqliteStore(path)
    try:
        return sorted(item.id for item in store.load().items)
    finally:
        store.close()


def make_database(path: Path, *items: str) -> Path:
    store = SqliteStore(path)
    store.commit([SaveItem(make_item(item_id)) for item_id in items]).result(60)
    store.close()
    return path


def check_one_line_error(reason: str, call: Callable[[], object]) -> None:
    with pytest.raises(ConfigError, match=reason) as error:
        call()
    assert "\n" not in str(error.value)


# Backup


def test_backup_during_writes_contains_all_earlier_commits(store: SqliteStore, tmp_path: Path) -> None:
    store.commit([AddHistory(EndedRun(item=make_item("past"), status="succeeded", ended_at=2.0))]).result(60)
    committed: list[int] = []
    stop = threading.Event()

    def write() -> None:
        for n in range(1_000_000):
            if stop.is_set():
                return
            store.commit([SaveItem(make_item(f"{n:06}")), *([DropItem(f"{n - 50:06}")] if n >= 50 else [])]).result(60)
            committed.append(n)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for round in range(8):
            while len(committed) < 60 * (round + 1):
                stop.wait(0.001)
            before = committed[-1]
            summary = create_backup(store.path, tmp_path / "copy.db", replace=True)
            after = committed[-1] + 2
            ids = list_ids(tmp_path / "copy.db")
            last = int(ids[-1])
            # A consistent state, with all commits that were acknowledged before the backup started.
            assert before <= last <= after
            assert ids == [f"{n:06}" for n in range(last - 49, last + 1)]
            assert summary[:3] == (50, 1, 0)
    finally:
        stop.set()
        writer.join()


def test_backup_contains_curves_and_patterns(store: SqliteStore, tmp_path: Path) -> None:
    curve = Curve(0.5, array("f", [0.0, 1.0]))
    ended = EndedRun(make_item("night-2026-11-28"), "succeeded", 2.0)
    store.commit([AddHistory(ended), SaveCurve("night-2026-11-28", "r", encode_curve(curve))]).result(60)
    create_backup(store.path, tmp_path / "copy.db")
    copy = SqliteStore(tmp_path / "copy.db")
    assert [run.curve for run in copy.read_former_runs(["night-*"], by="pattern")["night-*"]] == [curve]
    copy.close()


def test_backup_is_one_complete_private_file(store: SqliteStore, tmp_path: Path) -> None:
    folder = tmp_path / "copies"
    folder.mkdir()
    create_backup(store.path, folder / "copy.db")
    assert [path.name for path in folder.iterdir()] == ["copy.db"]
    assert stat.S_IMODE((folder / "copy.db").stat().st_mode) == 0o600
    opened = sqlite3.connect(folder / "copy.db")
    assert opened.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert opened.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS),)
    assert opened.execute("PRAGMA application_id").fetchone() == (APPLICATION_ID,)
    opened.close()


def test_backup_replaces_existing_file_only_on_request(store: SqliteStore, tmp_path: Path) -> None:
    target = tmp_path / "copy.db"
    target.write_text("precious")
    check_one_line_error(r"^there is a file .*copy\.db already$", lambda: create_backup(store.path, target))
    assert target.read_text() == "precious"
    create_backup(store.path, target, replace=True)
    assert list_ids(target) == []


def test_backup_never_replaces_a_database_in_use(store: SqliteStore, tmp_path: Path) -> None:
    (tmp_path / "link.db").symlink_to(store.path)
    for target in (store.path, tmp_path / "link.db"):
        check_one_line_error(
            "is the database itself", lambda target=target: create_backup(store.path, target, replace=True)
        )
    other = SqliteStore(tmp_path / "other.db")
    check_one_line_error("in use", lambda: create_backup(store.path, tmp_path / "other.db", replace=True))
    other.close()


@pytest.mark.parametrize("target", ["folder", "nowhere/copy.db"])
def test_backup_to_unwritable_target_is_one_sentence(store: SqliteStore, tmp_path: Path, target: str) -> None:
    (tmp_path / "folder").mkdir()
    check_one_line_error(r"is a folder|cannot be written", lambda: create_backup(store.path, tmp_path / target))


def test_backup_on_full_disk_leaves_no_files(
    store: SqliteStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "copy.db").write_text("the former copy")
    real_connect = sqlite3.connect
    monkeypatch.setattr(
        backups.sqlite3, "connect", lambda *args, **options: _FullConnection(real_connect(*args, **options))
    )
    before = sorted(path.name for path in tmp_path.iterdir())
    check_one_line_error(
        "cannot be copied: database or disk is full",
        lambda: create_backup(store.path, tmp_path / "copy.db", replace=True),
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    assert (tmp_path / "copy.db").read_text() == "the former copy"


class _FullConnection:
    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def execute(self, statement: str, *values: object) -> sqlite3.Cursor:
        if statement.startswith("VACUUM"):
            raise sqlite3.OperationalError("database or disk is full")
        return self._connection.execute(statement, *values)

    def close(self) -> None:
        self._connection.close()


@pytest.mark.parametrize("call", [create_backup, restore_backup])
def test_foreign_file_is_not_copied(call: Callable[..., object], tmp_path: Path) -> None:
    (tmp_path / "letter.db").write_text("this is a letter to my aunt, and no database at all" * 50)
    (tmp_path / "empty.db").touch()
    other = sqlite3.connect(tmp_path / "other.db")
    other.execute("CREATE TABLE t (x)")
    other.close()
    newer = connect(tmp_path / "newer.db")
    newer.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    newer.close()
    database = (
        make_database(tmp_path / "target" / "progress.db", "kept") if call is restore_backup else tmp_path / "target.db"
    )
    for name, reason in (
        ("letter.db", "not a database"),
        ("empty.db", "is empty"),
        ("other.db", "another program"),
        ("newer.db", "newer version of progressbar-tracker"),
        ("missing.db", "there is no (database|copy) "),
        ("target", "there is no (database|copy) "),
    ):
        check_one_line_error(reason, lambda name=name: call(tmp_path / name, database))
    assert not (tmp_path / "missing.db").exists()
    if call is restore_backup:
        assert list_ids(database) == ["kept"]
    else:
        assert not database.exists()


def test_damaged_copy_is_not_restored(tmp_path: Path) -> None:
    copy, database = (
        make_database(tmp_path / "copy.db", *map(str, range(300))),
        make_database(tmp_path / "progress.db", "kept"),
    )
    content = bytearray(copy.read_bytes())
    content[8192:20000] = os.urandom(20000 - 8192)
    copy.write_bytes(content)
    check_one_line_error("copy", lambda: restore_backup(copy, database))
    assert list_ids(database) == ["kept"]


# Restore


def test_restore_installs_copy_and_keeps_former_file(tmp_path: Path) -> None:
    database = make_database(tmp_path / "progress.db", "a")
    create_backup(database, tmp_path / "copy.db")
    make_database(database, "b")
    summary = restore_backup(tmp_path / "copy.db", database, now=lambda: 1_800_000_000.0)
    assert summary == (1, 0, 0, tmp_path / "progress.db.20270115T080000Z")
    assert list_ids(database) == ["a"]
    assert list_ids(summary.previous_path) == ["a", "b"]
    again = restore_backup(tmp_path / "copy.db", database, now=lambda: 1_800_000_000.0)
    assert again.previous_path == tmp_path / "progress.db.20270115T080000Z-2"
    assert list_ids(summary.previous_path) == ["a", "b"]
    assert not list(tmp_path.glob(".*"))
    assert stat.S_IMODE(database.stat().st_mode) == 0o600


def test_restore_keeps_log_of_killed_server_with_former_file(tmp_path: Path) -> None:
    copy = make_database(tmp_path / "copy.db", "copied")
    running = SqliteStore(tmp_path / "running.db")
    running.commit([SaveItem(make_item("in the log"))]).result(60)
    database = tmp_path / "progress.db"
    for end in ("", "-wal"):  # like after kill -9
        Path(f"{database}{end}").write_bytes(Path(f"{running.path}{end}").read_bytes())
    running.close()
    former = restore_backup(copy, database).previous_path
    assert former is not None
    assert list_ids(database) == ["copied"]
    assert list_ids(former) == ["in the log"]


def test_restore_over_damaged_file_succeeds(tmp_path: Path) -> None:
    copy = make_database(tmp_path / "copy.db", "copied")
    database = tmp_path / "progress.db"
    database.write_bytes(os.urandom(5000))
    Path(f"{database}-wal").write_bytes(b"left over")
    former = restore_backup(copy, database).previous_path
    assert former is not None
    assert (former.stat().st_size, Path(f"{former}-wal").read_bytes()) == (5000, b"left over")
    assert list_ids(database) == ["copied"]


def test_restore_to_missing_path_creates_database(tmp_path: Path) -> None:
    copy = make_database(tmp_path / "copy.db", "a")
    assert restore_backup(copy, tmp_path / "new" / "progress.db").previous_path is None
    assert list_ids(tmp_path / "new" / "progress.db") == ["a"]
    assert list_ids(copy) == ["a"]


def test_restore_under_running_server_is_refused(store: SqliteStore, tmp_path: Path) -> None:
    store.commit([SaveItem(make_item("kept"))]).result(60)
    copy = make_database(tmp_path / "copy.db", "copied")
    check_one_line_error("a server is running on the database", lambda: restore_backup(copy, store.path))
    assert [item.id for item in store.load().items] == ["kept"]


def test_restore_from_same_file_is_refused(tmp_path: Path) -> None:
    database = make_database(tmp_path / "progress.db", "a")
    check_one_line_error("is the database itself", lambda: restore_backup(database, database))
    assert list_ids(database) == ["a"]


def test_restore_migrates_old_copy_without_changing_it(tmp_path: Path) -> None:
    copy = tmp_path / "copy.db"
    old = sqlite3.connect(copy)
    for statement in MIGRATIONS[0]:
        old.execute(statement)
    old.execute("INSERT INTO sessions VALUES ('h', 1.0, 2.0)")
    old.execute("PRAGMA user_version = 1")
    old.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    old.commit()
    old.close()
    before = copy.read_bytes()
    restore_backup(copy, tmp_path / "progress.db")
    assert copy.read_bytes() == before
    store = SqliteStore(tmp_path / "progress.db")
    assert [(session.hash, session.seen_at) for session in store.load().sessions] == [("h", None)]
    store.close()


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() != 0, reason="only root can give a file away")
def test_restore_by_root_keeps_owner_of_file_or_folder(tmp_path: Path) -> None:
    copy = make_database(tmp_path / "copy.db", "a")
    folder = tmp_path / "service"
    folder.mkdir()
    os.chown(folder, 1234, 1235)
    restore_backup(copy, folder / "progress.db")
    assert {(path.stat().st_uid, path.stat().st_gid) for path in folder.iterdir()} == {(1234, 1235)}
    os.chown(folder / "progress.db", 2234, 2235)
    restore_backup(copy, folder / "progress.db")
    assert ((folder / "progress.db").stat().st_uid, (folder / "progress.db").stat().st_gid) == (2234, 2235)


# Copies from other sources


FOREIGN_SCHEMAS = {
    "trigger": ["CREATE TRIGGER x AFTER INSERT ON items BEGIN DELETE FROM keys; END"],
    "temporary name": ["CREATE TRIGGER sqlitex AFTER UPDATE ON meta BEGIN SELECT 1; END"],
    "view": ["CREATE VIEW x AS SELECT * FROM keys"],
    "view in the place of a table": ["DROP TABLE shares", "CREATE VIEW shares AS SELECT * FROM sessions"],
    "virtual table": ["CREATE VIRTUAL TABLE x USING fts5(a)"],
    "table": ["CREATE TABLE x (a)"],
    "table that looks like statistics": ["CREATE TABLE x (sqlite_stat1)"],
    "index": ["CREATE INDEX x ON keys (hash)"],
    "index with an expression": ["CREATE INDEX x ON items (json_extract(state, '$.id'))"],
    "another index by a name of ours": ["DROP INDEX runs_id", "CREATE INDEX runs_id ON runs (abs(n))"],
    "partial index": ["DROP INDEX outbox_done", "CREATE INDEX outbox_done ON outbox (at) WHERE length(body) > 0"],
    "generated column": ["ALTER TABLE items ADD COLUMN x TEXT AS (upper(id))"],
    "column": ["ALTER TABLE keys ADD COLUMN x TEXT"],
    "renamed column": ["ALTER TABLE keys RENAME COLUMN name TO x"],
    "dropped column": ["ALTER TABLE sessions DROP COLUMN agent"],
    "dropped index": ["DROP INDEX runs_id"],
    "dropped table": ["DROP TABLE outbox"],
    "check": ["DROP TABLE shares", "CREATE TABLE shares (share_id TEXT PRIMARY KEY CHECK (random() > 0))"],
    "foreign key": ["DROP TABLE samples", "CREATE TABLE samples (id TEXT REFERENCES items ON DELETE CASCADE)"],
}


@pytest.mark.parametrize("statements", FOREIGN_SCHEMAS.values(), ids=FOREIGN_SCHEMAS)
@pytest.mark.parametrize("version", [len(MIGRATIONS), len(MIGRATIONS) - 1])
def test_copy_with_foreign_schema_is_refused(tmp_path: Path, statements: list[str], version: int) -> None:
    """Code in a foreign schema would run with the writes of the server."""
    source, database = make_database(tmp_path / "copy.db", "copied"), make_database(tmp_path / "progress.db", "kept")
    opened = sqlite3.connect(source, isolation_level=None)
    for statement in statements:
        opened.execute(statement)
    if version < len(MIGRATIONS):
        opened.execute("DROP TABLE IF EXISTS outbox")
        opened.execute(f"PRAGMA user_version = {version}")
    opened.close()
    if "outbox" in statements[0] and version < len(MIGRATIONS):
        return  # this is the schema of that version
    check_one_line_error("it is not as a server left it|cannot be copied", lambda: restore_backup(source, database))
    assert list_ids(database) == ["kept"]


@pytest.mark.parametrize("version", range(1, len(MIGRATIONS) + 1))
def test_copy_of_each_version_is_restored(tmp_path: Path, version: int) -> None:
    source = tmp_path / "copy.db"
    opened = sqlite3.connect(source, isolation_level=None)
    migrate(opened, source, MIGRATIONS[:version])
    opened.execute("ANALYZE")
    opened.close()
    restore_backup(source, tmp_path / "progress.db")
    assert list_ids(tmp_path / "progress.db") == []


def test_connections_do_not_trust_the_schema(store: SqliteStore) -> None:
    for connection in (
        store._write_connection, store._reader, store._history_connection, store._search_connection,
        store._timeline_connection,
    ):  # fmt: skip
        assert connection.execute("PRAGMA trusted_schema").fetchone() == (0,)
