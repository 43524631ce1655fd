"""Unreadable rows of each table and kind, in both databases, do not affect other rows."""

from __future__ import annotations

import contextlib
import json
import logging
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import psycopg
import pytest

from progressbar_tracker.server.access.key_admin import KeyAdmin
from progressbar_tracker.server.items.curves import Curve, encode_curve
from progressbar_tracker.server.models import Notice, Sample
from progressbar_tracker.server.mutations import AddNotice, AddSample
from progressbar_tracker.server.stores import reading
from progressbar_tracker.server.stores.reading import SkippedRows, encode_tail, read_history_page
from tests.support.clock import START_TIME, ManualClock
from tests.support.postgres import create_database
from tests.support.server import RunningServer, make_legacy_item
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

VALID_STATE = json.dumps(
    {
        "id": "x",
        "owner_id": "k",
        "owner": "k",
        "run_id": "r",
        "created_at": START_TIME,
        "updated_at": START_TIME,
        "pace_at": START_TIME,
    }
)


def change_state(**fields: object) -> str:
    return json.dumps(json.loads(VALID_STATE) | fields)


INVALID_STATES = {
    "empty": "",
    "no JSON": "{",
    "truncated": VALID_STATE[: len(VALID_STATE) // 2],
    "null": "null",
    "list": "[]",
    "number": "17",
    "nothing in it": "{}",
    "wrong type": change_state(value="half"),
    "null field": change_state(run_id=None),
    "unknown status": change_state(status="gone"),
    "huge integer": change_state(completed=10**400),
    "huge instant": change_state(updated_at=1e300),
    "negative instant": change_state(created_at=-1e18),
    "instant as a text": change_state(ended_at="yesterday"),
    "value out of range": change_state(value=17.0),
    "meta": change_state(meta={"a": {"b": 1}}),
    "parts": change_state(parts={"a": {"completed": 10**400, "seq": 1}}),
    "lone surrogate": '{"id": "\\ud800"}',
    "nested": "[" * 100_000,
}


VALID_CURVE = encode_curve(Curve(0.5, [0.0, 1.0]))
INVALID_CURVES = (
    b"", b"\1", VALID_CURVE[:-1], VALID_CURVE[:9], b"\2" + VALID_CURVE[1:], VALID_CURVE + bytes(1000),
    encode_curve(Curve(0.0, [1.0])), encode_curve(Curve(float("nan"), [1.0])), VALID_CURVE[:-4] + b"\0\0\xc0\x7f",
)  # fmt: skip

VALID_TAIL, _ = encode_tail("some text")
INVALID_TAILS = (
    (START_TIME, b""), (START_TIME, b"text"), (START_TIME, VALID_TAIL[:-1]), (START_TIME, VALID_TAIL[:5]),
    (START_TIME, b"\0" + VALID_TAIL), (float("inf"), VALID_TAIL), (-5.0, VALID_TAIL), (1e300, VALID_TAIL),
)  # fmt: skip


class Database:
    """Executes statements in the database of a stopped server."""

    def __init__(self, url: object) -> None:
        self.url = url
        self.is_file = not isinstance(url, str)

    def execute(self, statement: str, *values: object) -> None:
        if self.is_file:
            with contextlib.closing(sqlite3.connect(str(self.url), isolation_level=None)) as file:
                file.execute("PRAGMA ignore_check_constraints = ON")
                file.execute(statement, values)
        else:
            with psycopg.connect(str(self.url), autocommit=True) as connection:
                connection.execute("SET search_path TO progressbar_tracker")
                connection.execute(statement.replace("?", "%s").encode(), values)


@pytest.fixture(params=["sqlite", "postgresql"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[RunningServer]:
    """A stopped server with data, on each kind of store."""
    url = None if request.param == "sqlite" else create_database(request.getfixturevalue("postgres_cluster"))
    served = RunningServer(tmp_path, ManualClock(), database=url, local_key=False)
    http = served.client("admin")
    for name in ("before", "after"):
        http.post("/progress", json=make_legacy_item(name)).raise_for_status()
        http.post("/progress", json=make_legacy_item("gone", 1)).raise_for_status()
        http.delete("/progress?id=gone").raise_for_status()
    http.post("/api/v1/shares", json={"group": "g"}).raise_for_status()
    served.stop()
    yield served
    served.stop()


@pytest.fixture(autouse=True)
def skipped_rows(monkeypatch: pytest.MonkeyPatch) -> SkippedRows:
    """A new counter of skipped rows."""
    skipped = SkippedRows()
    monkeypatch.setattr(reading, "skipped_rows", skipped)
    from progressbar_tracker.server import metrics

    monkeypatch.setattr(metrics, "skipped_rows", skipped)
    return skipped


def bad_rows(served: RunningServer) -> list[tuple[str, str, tuple[object, ...]]]:
    """Return statements that insert unreadable rows, with their table and values."""
    file = Database(served.database).is_file
    rows: list[tuple[str, str, tuple[object, ...]]] = []
    for state in INVALID_STATES.values():
        name = f"bad-{len(rows)}"
        rows.append(("items", "INSERT INTO items (id, state) VALUES (?, ?)", (name, state)))
        rows.append(("history", 'INSERT INTO history (id, status, ended_at, state) VALUES (?, ?, ?, ?)' if file else
                     "INSERT INTO history (id, status, ended_at, state, run_id, searched) "
                     "VALUES (?, ?, ?, ?, '', '')", (name, "failed", START_TIME, state)))  # fmt: skip
    good = VALID_STATE
    for status, ended_at in (("lost", START_TIME), ("failed", 1e300), ("failed", -1e18), ("failed", float("inf"))):
        rows.append(("history", 'INSERT INTO history (id, status, ended_at, state) VALUES (?, ?, ?, ?)' if file else
                     "INSERT INTO history (id, status, ended_at, state, run_id, searched) "
                     "VALUES (?, ?, ?, ?, '', '')", ("x", status, ended_at, good)))  # fmt: skip
    for number, (status, at) in enumerate((("lost", START_TIME), ("failed", -1.0), ("failed", float("inf")))):
        rows.append(("runs", ("INSERT INTO runs (n, id, run_id, status, is_inner, started_at, ended_at, title) "
                     "VALUES (?, 'x', 'r', ?, 0, ?, ?, '')"), (1000 + number, status, at, at)))  # fmt: skip
    key = ("name", "type", "hash", "created_at", "expires_at")
    for values in (
        ("n", "owner", "h1", START_TIME, None), ("n", "admin", "h2", 1e300, None), ("n", "admin", "h3", START_TIME,
        float("inf")),
        ("n", "admin", "h4", -1e300, None),
    ):  # fmt: skip
        document = dict(zip(key, values, strict=True)) | {"key_id": f"bad{values[2]}"}
        rows.append(
            ("keys", "INSERT INTO keys (name, type, hash, created_at, expires_at, key_id) VALUES (?, ?, ?, ?, ?, ?)",
             tuple(document.values()))
            if file else
            ("keys", "INSERT INTO credentials (kind, id, state) VALUES ('key', ?, ?)",
             (document["key_id"], json.dumps(document)))
        )  # fmt: skip
    for number, (table, kind) in enumerate({"sessions": "session", "shares": "share"}.items()):
        if file:
            column = "hash" if table == "sessions" else "share_id, hash"
            marks = "?" if table == "sessions" else "?, 'h'"
            rows.append((table, f"INSERT INTO {table} ({column}, created_at, expires_at) VALUES ({marks}, ?, 1e300)",
                         (f"bad-{number}", START_TIME)))  # fmt: skip
        else:
            for n, state in enumerate(("", "{", "null", "[]", '{"hash": 5}')):
                rows.append((table, "INSERT INTO credentials (kind, id, state) VALUES (?, ?, ?)",
                             (kind, f"bad-{n}", state)))  # fmt: skip
    for n, (at, value) in enumerate(((START_TIME, float("inf")), (1e300, 0.5), (-5.0, 0.5))):
        rows.append(("samples", "INSERT INTO samples (id, run_id, at, value) VALUES (?, ?, ?, ?)",
                     (f"before-{n}", "r", at, value)))  # fmt: skip
    for n, curve in enumerate(INVALID_CURVES):
        rows.append(("curves", "INSERT INTO curves (id, run_id, curve) VALUES (?, 'r', ?)", (f"bad-{n}", curve)))
    for n, (at, tail) in enumerate(INVALID_TAILS):
        item_id = "before" if n == 0 else f"bad-{n}"
        run = "json_extract(state, '$.run_id')" if file else "state::json->>'run_id'"
        rows.append(("tails", ("INSERT INTO tails (id, run_id, at, tail) "
                     f"SELECT ?, {run}, ?, ? FROM items WHERE id = 'before'"), (item_id, at, tail)))  # fmt: skip
    for n, body in enumerate(("", "{", "[]", "null", "{}")):
        rows.append(("outbox", ("INSERT INTO outbox (notice_id, channel, item_id, run_id, event, at, body, next_at) "
                     "VALUES (?, 'hook', 'a', 'r', 'failed', ?, ?, ?)"),
                     (f"bad-{n}", 1e300 if body == "{}" else START_TIME, body, START_TIME - 100)))  # fmt: skip
    if file:
        raw = "CAST(x'ff' AS TEXT)"
        rows += [
            ("items", f"INSERT INTO items (id, state) VALUES ('raw', {raw})", ()),
            ("items", f"INSERT INTO items (id, state) VALUES ({raw}, ?)", (VALID_STATE,)),
            ("history", f"INSERT INTO history (id, status, ended_at, state) VALUES ('raw', 'failed', 5, {raw})", ()),
            ("runs", ("INSERT INTO runs (n, id, run_id, status, is_inner, started_at, ended_at, title) "
             f"VALUES (1010, 'x', {raw}, 'failed', 0, 5, 5, '')"), ()),
            ("keys", ("INSERT INTO keys (key_id, name, type, hash, created_at) "
             f"VALUES ('raw', {raw}, 'admin', 'h', 5)"), ()),
            ("sessions", f"INSERT INTO sessions (hash, created_at, expires_at, agent) VALUES ('raw', 5, 9e9, {raw})",
             ()),
            ("outbox", ("INSERT INTO outbox (notice_id, channel, item_id, run_id, event, at, body, next_at) "
             f"VALUES ('raw', 'hook', {raw}, 'r', 'failed', 5, '{{}}', 5)"), ()),
        ]  # fmt: skip
    return rows


PAGE_PATHS = (
    "/", "/history", "/items/before", "/items/x", "/admin", "/channels", "/progress", "/api/v1/items",
    "/api/v1/history", "/api/v1/history.csv", "/api/v1/history.jsonl", "/api/v1/history?q=a", "/api/v1/keys",
    "/api/v1/sessions", "/api/v1/shares", "/metrics", "/api/v1/items/before/samples", "/api/v1/timeline",
    "/api/v1/history:recent?id=x", "/api/v1/history:statistics?id=x",
)  # fmt: skip


def test_unreadable_rows_are_skipped_and_others_served(
    server: RunningServer, skipped_rows: SkippedRows, caplog: pytest.LogCaptureFixture
) -> None:
    database = Database(server.database)
    rows = bad_rows(server)
    for _, statement, values in rows:
        database.execute(statement, *values)
    with caplog.at_level(logging.WARNING):
        server.start()
        http, browser = server.client("admin"), server.browser()
        for _ in range(2):
            for path in PAGE_PATHS:
                for client in (http, browser):
                    assert client.get(path).status_code < 500, path
        assert {item["id"] for item in http.get("/progress").json()} == {"before", "after"}
        for query in ("limit=1", "limit=2", "limit=100", "q=gone&limit=1"):
            ids, path = [], f"/api/v1/history?{query}"
            while path:
                response = http.get(path)
                ids += [run["id"] for run in response.json()["items"]]
                path = "/api/v1/" + response.links["next"]["url"] if "next" in response.links else ""
            assert ids == ["gone", "gone"], query
        assert not any(key["key_id"].startswith(("bad", "raw")) for key in http.get("/api/v1/keys").json()["keys"])
        assert len(http.get("/api/v1/shares").json()["shares"]) == 1
        store = server.background.store
        store.commit([AddNotice(Notice("good", "hook", "a", "r", "failed", START_TIME, "{}", START_TIME))]).result(60)
        assert [notice.notice_id for notice in store.read_due_notices(START_TIME, 1)] == ["good"]
        store.commit([AddSample("before", "r", Sample(START_TIME, 0.5, None))]).result(60)
        assert store.read_curves([(f"bad-{n}", "r") for n in range(len(INVALID_CURVES))]) == {}
        tail = http.get("/api/v1/tails/before").json()
        assert (tail["tail"], tail["updated_at"]) == ("", None)
        for n in range(1, len(INVALID_TAILS)):
            assert store.read_tail(f"bad-{n}", tail["run_id"]) is None
        for n in range(3):
            assert store.read_samples(f"before-{n}", "r") == []
        assert http.put("/api/v1/items/bad-0", json={"run_id": "n"}).status_code == 201
    text = http.get("/metrics").text
    for table in get_args(reading.TableName):
        expected = sum(row_table == table for row_table, _, _ in rows)
        assert f'progressbar_rows_skipped_total{{table="{table}"}} {float(expected)}' in text
    lines = [line for line in caplog.messages if "cannot be read and is skipped" in line]
    assert len(lines) == len(set(lines)) == len(rows)
    assert "Traceback" not in caplog.text


@pytest.mark.parametrize(("after", "page"), [(100, [98, 91, 84, 77, 70]), (10, [7, 0]), (0, [])])
def test_history_page_is_full_despite_unreadable_rows(after: int, page: list[int]) -> None:
    states = (VALID_STATE, *["{}"] * 6)

    def fetch(after: int, count: int) -> list[tuple[object, ...]]:
        return [(n, "succeeded", 1.0, states[n % 7]) for n in range(after - 1, max(after - 1 - count, -1), -1)]

    assert [row.n for row in read_history_page(fetch, after, 5)] == page


def test_unreadable_key_grants_nothing(make_server: Callable[..., RunningServer]) -> None:
    served = make_server(local_key=False)
    secret = served.keys["write"]
    served.stop()
    Database(served.database).execute("UPDATE keys SET type = 'owner' WHERE name = 'write'")
    served.start()
    assert served.client(secret).get("/api/key-info").status_code == 401
    assert served.client("admin").get("/api/key-info").status_code == 200


def test_missing_key_revision_hides_no_revocation(make_server: Callable[..., RunningServer]) -> None:
    served = make_server(local_key=False)
    served.stop()
    Database(served.database).execute("DELETE FROM meta WHERE name = 'keys_rev'")
    served.start()
    reader = served.client("read")
    assert reader.get("/api/key-info").status_code == 200
    with KeyAdmin(Path(str(served.database))) as file:
        file.revoke(next(key.key_id for key in file.list() if key.name == "read"))
    wait_until(lambda: reader.get("/api/key-info").status_code == 401)
