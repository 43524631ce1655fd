"""Migrate a database with data of each schema version."""

from __future__ import annotations

import json
import sqlite3
from typing import TYPE_CHECKING

import msgspec
import pytest

from progressbar_tracker._errors import ConfigError
from progressbar_tracker.server.access import keys
from progressbar_tracker.server.items.curves import Curve, encode_curve
from progressbar_tracker.server.stores.base import HistoryFilter
from progressbar_tracker.server.stores.sqlite.files import migrate
from progressbar_tracker.server.stores.sqlite.migrations import MIGRATIONS
from progressbar_tracker.server.stores.sqlite.store import SqliteStore
from tests.support.clock import ManualClock
from tests.support.connections import open_client
from tests.support.schedules import make_schedule
from tests.support.server import start_server

if TYPE_CHECKING:
    from pathlib import Path

OLD_KEY = keys.new_key("admin", "old", 1.0)
OLD_SCHEDULE = make_schedule("live")
SCHEMA_VERSIONS = range(1, len(MIGRATIONS) + 1)


def make_state(item_id: str, **fields: object) -> str:
    """Return an item in the format of the first version."""
    return json.dumps({"id": item_id, "owner_id": "k", "owner": "ci", "run_id": "r", "created_at": 1.0,
                       "updated_at": 1.0, "title": f"The {item_id}", "value": 0.5, "status": "running", "seq": 3,
                       **fields})  # fmt: skip


# Statements with their values, by the first version whose schema supports them.
VERSION_STATEMENTS: dict[int, list[tuple[str, tuple[object, ...]]]] = {
    1: [
        ("INSERT INTO items (id, state) VALUES (?, ?)", ("live", make_state("live"))),
        *(
            (
                'INSERT INTO history (id, "group", status, ended_at, state) VALUES (?, ?, ?, ?, ?)',
                (name, "night", "failed", at, make_state(name, status="failed", group="night", error="ValueError: x")),
            )
            for name, at in (("first", 2e9), ("second", 2e9 + 1))
        ),
        (
            "INSERT INTO keys (key_id, name, type, hash, created_at) VALUES (?, ?, ?, ?, ?)",
            (OLD_KEY.record.key_id, "old", "admin", OLD_KEY.record.hash, 1.0),
        ),
        ("INSERT INTO sessions (hash, created_at, expires_at) VALUES ('browser', 1.0, 4e9)", ()),
    ],
    3: [("INSERT INTO samples (id, run_id, at, value, completed) VALUES ('live', 'r', 1.5, 0.25, 1)", ())],
    4: [("INSERT INTO shares (share_id, hash, item, created_at) VALUES ('s', 'link', 'live', 1.0)", ())],
    9: [
        (
            """INSERT INTO outbox (notice_id, channel, item_id, run_id, event, at, body, next_at)
            VALUES ('n', 'phone', 'live', 'r', 'failed', 1.0, '{}', 1.0)""",
            (),
        )
    ],
    11: [
        ("INSERT INTO curves (id, run_id, curve) VALUES ('live', 'r', ?)", (encode_curve(Curve(0.5, [0.0, 1.0])),)),
        (
            """INSERT INTO history (id, title, status, ended_at, pattern, state)
            VALUES ('job-12345', '', 'succeeded', 3.0, 'job-*', ?)""",
            (make_state("job-12345", status="succeeded", ended_at=3.0),),
        ),
    ],
    14: [("INSERT INTO schedules (id, state) VALUES ('live', ?)", (msgspec.json.encode(OLD_SCHEDULE).decode(),))],
    19: [("INSERT INTO kept_messages VALUES ('chat', 'live', 'r', 'p', '1000', 1.0, 0)", ())],
}


def make_database(path: Path, version: int) -> None:
    """Create a database of a version, with the rows that its schema supports."""
    database = sqlite3.connect(path, isolation_level=None)
    for number in range(1, version + 1):
        migrate(database, path, MIGRATIONS[:number])
        for statement, values in VERSION_STATEMENTS.get(number, []):
            database.execute(statement, values)
    assert database.execute("PRAGMA user_version").fetchone() == (version,)
    database.close()


@pytest.mark.parametrize("version", SCHEMA_VERSIONS)
def test_database_of_each_old_schema_is_migrated_completely(version: int, tmp_path: Path) -> None:
    path = tmp_path / "progress.db"
    make_database(path, version)
    store = SqliteStore(path)
    loaded = store.load()
    assert [(item.id, item.title, item.value, item.seq) for item in loaded.items] == [("live", "The live", 0.5, 3)]
    assert [(key.key_id, key.hash) for key in loaded.keys] == [(OLD_KEY.record.key_id, OLD_KEY.record.hash)]
    assert [session.hash for session in loaded.sessions] == ["browser"]
    assert [row.item.id for row in store.read_history()] == ["job-12345"] * (version >= 11) + ["second", "first"]
    assert [
        row.item.id for row in store.read_history(HistoryFilter(group="night", status="failed", text="THE FIRST"))
    ] == ["first"]
    assert [row.item.error for row in store.read_history(HistoryFilter(id="second"))] == ["ValueError: x"]
    assert [notice.notice_id for notice in store.read_due_notices(2.0, 9)] == (["n"] if version >= 9 else [])
    assert [sample.value for sample in store.read_samples("live", "r")] == ([0.25] if version >= 3 else [])
    assert [share.hash for share in loaded.shares] == (["link"] if version >= 4 else [])
    assert [list(stored.curve.positions) for stored in loaded.curves] == ([[0.0, 1.0]] if version >= 11 else [])
    assert list(store.read_former_runs(["job-*"], by="pattern")) == (["job-*"] if version >= 11 else [])
    kept = store.read_kept_message("chat", "live", "r")
    assert (kept is not None and kept.message_id) == (version >= 19 and "1000")
    store.close()
    opened = sqlite3.connect(path)
    assert opened.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS),)
    assert opened.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    fresh = sqlite3.connect(tmp_path / "fresh.db")
    migrate(fresh, tmp_path / "fresh.db")
    tables = "SELECT type, name, sql FROM sqlite_schema WHERE name NOT LIKE 'sqlite_%' ORDER BY name"
    assert opened.execute(tables).fetchall() == fresh.execute(tables).fetchall()
    opened.close()
    fresh.close()


def test_server_continues_runs_of_the_oldest_schema(tmp_path: Path) -> None:
    make_database(tmp_path / "progress.db", 1)
    with (
        start_server(tmp_path / "progress.db") as server,
        open_client(server.url, OLD_KEY.secret) as http,
    ):
        patch = {"run_id": "r", "seq": 4, "completed": 4, "total": 4, "status": "succeeded"}
        assert http.patch("/api/v1/items/live", json=patch).status_code == 200
        assert http.delete("/api/v1/items/live").status_code == 200
        runs = http.get("/api/v1/history").json()["items"]
        assert [(run["id"], run["status"]) for run in runs] == [
            ("live", "succeeded"),
            ("second", "failed"),
            ("first", "failed"),
        ]


def test_item_of_the_oldest_schema_starts_with_its_creation(tmp_path: Path) -> None:
    make_database(tmp_path / "progress.db", 1)
    clock = ManualClock()
    with (
        start_server(tmp_path / "progress.db", clock=clock) as server,
        open_client(server.url, OLD_KEY.secret) as http,
    ):
        old = http.get("/api/v1/items/live").json()
        assert (old["started_at"], old["progressed_at"]) == (old["created_at"], old["updated_at"])
        body = {"run_id": "r", "seq": 4, "stuck_after": 60, "heartbeat_timeout": 60}
        item = http.patch("/api/v1/items/live", json=body).json()
        assert (item["started_at"], item["progressed_at"], item["stuck"]) == (*[old["created_at"]] * 2, False)


def test_runs_of_older_schema_are_former_runs_of_their_id(tmp_path: Path) -> None:
    path = tmp_path / "progress.db"
    make_database(path, 10)
    old = sqlite3.connect(path)
    state = make_state("job-12345", status="succeeded", ended_at=3.0)
    values = ("job-12345", "succeeded", 3.0, state)
    old.execute("INSERT INTO history (id, status, ended_at, state) VALUES (?, ?, ?, ?)", values)
    old.commit()
    old.close()
    store = SqliteStore(path)
    ((former,),) = store.read_former_runs(["job-12345", "first"], by="id").values()
    assert (former.item.id, former.ended_at, former.curve) == ("job-12345", 3.0, None)
    assert store.read_former_runs(["job-*"], by="pattern") == {}
    store.close()


def test_runs_of_older_schema_are_in_the_timeline(tmp_path: Path) -> None:
    """A row with invalid JSON keeps its columns."""
    path = tmp_path / "progress.db"
    make_database(path, 11)
    old = sqlite3.connect(path)
    error = "E: " + "x" * 300 + "\nline"
    states = (
        make_state("inner", parent="p", started_at=4.0, run_id="r1"),
        make_state("failed", parent="p", started_at=5.0, run_id="r2", error=error),
        make_state("short", started_at=6.0, run_id="r3", error="one\ntwo"),
        "{",
    )
    for item_id, status, state in zip(
        ("inner", "failed", "short", "bad"), ("succeeded", "failed", "stopped", "failed"), states, strict=True
    ):
        old.execute(
            'INSERT INTO history (id, title, "group", status, ended_at, state) VALUES (?, ?, ?, ?, ?, ?)',
            (item_id, "T", "g", status, 9.0, state),
        )
    old.commit()
    old.close()
    store = SqliteStore(path)
    found = {run.id: run for run in store.read_timeline(8.0, 10.0, group="g", limit=9).runs}
    assert {name: (run.run_id, run.started_at, run.error, run.group, run.title) for name, run in found.items()} == {
        "failed": ("r2", 5.0, error[:200], "g", "T"),
        "short": ("r3", 6.0, "one", "g", "T"),
        "bad": ("", 9.0, None, "g", "T"),
    }
    assert [row.item.run_id for row in store.read_history(HistoryFilter(parent="p"))] == ["r2", "r1"]
    assert [run.started_at for run in store.read_recent_runs(["first"], limit=9)["first"]] == [1.0]
    store.close()


def test_database_of_newer_schema_is_refused_unchanged(tmp_path: Path) -> None:
    path = tmp_path / "progress.db"
    make_database(path, len(MIGRATIONS))
    newer = sqlite3.connect(path)
    newer.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    newer.close()
    before = path.read_bytes()
    with pytest.raises(ConfigError) as error:
        SqliteStore(path)
    assert str(error.value) == (
        f"the database {path} was written by a newer version of progressbar-tracker "
        f"(schema {len(MIGRATIONS) + 1}, this one knows {len(MIGRATIONS)})"
    )
    assert path.read_bytes() == before
