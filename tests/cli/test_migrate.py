"""``migrate`` from a database file to PostgreSQL, and ``keys`` in a PostgreSQL database."""

from __future__ import annotations

import httpx
import psycopg
import pytest

from progressbar_tracker.server.items.curves import Curve, encode_curve
from progressbar_tracker.server.models import EndedRun, Notice, StopRequest, StoredTail
from progressbar_tracker.server.mutations import AddHistory, AddNotice, KeepMessage, KeptMessage, SaveCurve, SaveTail
from tests.support.items import make_item
from tests.support.server import start_server
from tests.support.waiting import wait_until


def open_client(server, key):
    return httpx.Client(base_url=server.url, headers={"X-API-KEY": key}, timeout=10)


@pytest.fixture
def filled_database(tmp_path):
    """A file with rows of each kind: its path, keys, the path of a share, and the responses of its server."""
    path = tmp_path / "progress.db"
    with start_server(path) as server:
        write, admin = server.create_key("write", "ci"), server.create_key("admin", "boss")
        with open_client(server, write) as writer, open_client(server, admin) as boss:
            for n in range(30):
                writer.put(f"/api/v1/items/item {n}", json={"run_id": "r", "completed": n, "total": 100, "group": "g"})
            for n in range(10):
                writer.delete(f"/api/v1/items/item {n}")
            share = boss.post("/api/v1/shares", json={"group": "g"}).json()["path"]
            boss.post("/api/v1/keys", json={"type": "read", "name": "gone"})
            notice = Notice(
                notice_id="n", channel="phone", item_id="a", run_id="r", event="failed", at=1.0, body="{}", next_at=2.0
            )
            ended = EndedRun(make_item("nightly-2026-11-28"), "succeeded", 1.0)
            curve = SaveCurve("nightly-2026-11-28", "r", encode_curve(Curve(0.5, [0.0, 1.0])))
            tail = SaveTail("nightly-2026-11-28", "r", StoredTail(1.0, "last line"))
            server.store.commit([AddNotice(notice), AddHistory(ended), curve, tail]).result(60)
            responses = {path: boss.get(path).json() for path in ("/progress", "/api/v1/history", "/api/v1/keys")}
    return path, write, admin, share, responses


def test_migrate_moves_all_data_and_every_key_works(filled_database, postgres_url, command):
    path, write, admin, share, responses = filled_database
    done = command("migrate", "--from", path, "--to", postgres_url)
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("Moved 20 items, 11 runs of the history, ")
    with start_server(postgres_url) as server, open_client(server, write) as writer, open_client(server, admin) as boss:
        for path, before in responses.items():
            after = boss.get(path).json()
            for document in (before, after) if path.endswith("keys") else ():
                for key in document if isinstance(document, list) else document["keys"]:
                    key.pop("last_used_at")
            assert after == before
        assert [notice.notice_id for notice in server.store.read_due_notices(3.0, 9)] == ["n"]
        assert server.store.read_tail("nightly-2026-11-28", "r") == StoredTail(1.0, "last line")
        (former,) = server.store.read_former_runs(["nightly-*"], by="pattern")["nightly-*"]
        assert former.curve is not None
        (run,) = server.store.read_recent_runs(["nightly-2026-11-28"], limit=9)["nightly-2026-11-28"]
        assert (run.run_id, run.started_at, run.ended_at) == ("r", 1.0, 1.0)
        assert list(former.curve.positions) == [0.0, 1.0]
        assert writer.patch("/api/v1/items/item 20", json={"completed": 50}).status_code == 200
        assert httpx.get(f"{server.url}/{share}").status_code == 200


@pytest.fixture
def migrate_writes(tmp_path, postgres_url, command):
    """Return a function that commits writes to a file, migrates it, and returns the store that has them then."""
    servers = []

    def migrate(*writes):
        path = tmp_path / "progress.db"
        with start_server(path) as server:
            server.store.commit(writes).result(60)
        done = command("migrate", "--from", path, "--to", postgres_url)
        assert (done.code, done.err) == (0, "")
        servers.append(start_server(postgres_url))
        return servers[0].store

    yield migrate
    for server in servers:
        server.close()


def test_migrate_moves_the_messages_of_chat_services(migrate_writes):
    messages = [
        KeptMessage("chat", "a", "r", "place", "C1/17.5", 1.5),
        KeptMessage("chat", "b", "r", "place", "", 2.5, is_final=True),
        KeptMessage("phone", "a", "r", "other place", "1001", 3.5),
    ]
    store = migrate_writes(*map(KeepMessage, messages))
    assert [store.read_kept_message(*key) for key in (("chat", "a", "r"), ("chat", "b", "r"), ("phone", "a", "r"))] == (
        messages
    )


@pytest.mark.parametrize("name", ["ci", "Zoë ✓", 'the "night" shift', "a\\b", "tab\tand\nline"])
def test_migrate_moves_the_requester_of_a_stop(migrate_writes, name):
    runs = [
        EndedRun(make_item("stopped", stop_request=StopRequest(2.5, name), status="stopped"), "stopped", 3.0),
        EndedRun(make_item("unrequested", status="stopped"), "stopped", 4.0),
    ]
    store = migrate_writes(*map(AddHistory, runs))
    found = store.read_recent_runs(["stopped", "unrequested"], limit=9)
    assert {run.id: run.stop_requested_by for rows in found.values() for run in rows} == {
        "stopped": name, "unrequested": None,
    }  # fmt: skip


def test_migrate_leaves_a_database_with_items_alone(filled_database, postgres_url, command):
    command("migrate", "--from", filled_database[0], "--to", postgres_url)
    done = command("migrate", "--from", filled_database[0], "--to", postgres_url)
    assert done.code == 1
    assert "is not empty: there are items in it" in done.err
    with psycopg.connect(postgres_url) as connection:
        assert connection.execute("SELECT count(*) FROM progressbar_tracker.items").fetchone() == (20,)


def test_migrate_refuses_the_file_of_a_running_server(tmp_path, postgres_url, command):
    with start_server(tmp_path / "progress.db"):
        done = command("migrate", "--from", tmp_path / "progress.db", "--to", postgres_url)
    assert done.code == 1
    assert "a server is running on the database" in done.err


@pytest.mark.parametrize(
    ("source", "target", "reason"),
    [
        ("missing.db", "postgresql://127.0.0.1:1/x", "there is no database"),
        ("there.db", "postgresql://me:very-secret@127.0.0.1:1/x", "postgresql://me@127.0.0.1:1/x cannot be used"),
        ("there.db", "mysql://127.0.0.1/x", "--to must be a postgresql:// URL"),
    ],
)
def test_migrate_failure_is_one_line_without_the_password(tmp_path, command, source, target, reason):
    start_server(tmp_path / "there.db").close()
    done = command("migrate", "--from", tmp_path / source, "--to", target)
    assert (done.code, done.out, done.err.count("\n")) == (1, "", 1)
    assert reason in done.err
    assert "very-secret" not in done.err


def test_keys_in_postgresql_change_for_a_running_server(postgres_url, command, monkeypatch):
    monkeypatch.setenv("PROGRESSBAR_DATABASE", postgres_url)
    with start_server(postgres_url) as server:
        key = command("keys", "create", "--type", "write", "--name", "ci").out.strip()
        with open_client(server, key) as client:
            assert client.get("/api/key-info").json()["type"] == "write"
        (record,) = [record for record in command("keys", "list", "--json").json if record["name"] == "ci"]
        assert command("keys", "revoke", record["key_id"]).code == 0
        with open_client(server, key) as client:
            wait_until(lambda: client.get("/api/key-info").status_code != 200)
