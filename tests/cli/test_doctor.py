"""``doctor``: each line is in order or says what to do."""

from __future__ import annotations

import contextlib
import re
import sqlite3
from datetime import UTC, datetime, timedelta

import pytest

from progressbar_tracker.cli import doctor
from progressbar_tracker.server.stores import check
from tests.support.server import start_server


def split_lines(done):
    return {
        line[6:].partition(": ")[0]: (line[:4].strip(), line[6:].partition(": ")[2]) for line in done.out.splitlines()
    }


def test_what_works_is_told_line_by_line(configured_server, command):
    done = command("doctor")
    found = split_lines(done)
    assert done.code == 0
    assert {what: state for what, (state, _) in found.items()} == dict.fromkeys(
        ("versions", "configuration", "server", "key", "clock", "database"), "ok"
    )
    assert found["configuration"][1] == f"{configured_server.url}, from PROGRESSBAR_URL"
    assert found["key"][1] == "write: may read, create, update_own, delete_own"


def test_with_no_configuration_it_says_what_to_do(command):
    done = command("doctor")
    assert done.code == 1
    state, text = split_lines(done)["configuration"]
    assert state == "BAD"
    assert "progressbar-tracker serve" in text
    assert "progressbar-tracker login URL" in text


@pytest.mark.parametrize(
    ("variable", "value", "what", "told"),
    [
        ("PROGRESSBAR_URL", "http://127.0.0.1:1", "server", "is it running, and is the URL right?"),
        ("PROGRESSBAR_URL", "ftp://server", "server", "http"),
        ("PROGRESSBAR_API_KEY", "pbt_w_nonsense", "key", "log in again"),
        ("PROGRESSBAR_DISABLE", "1", "tracking", "PROGRESSBAR_DISABLE turns it off: unset it"),
        ("PROGRESSBAR_DATABASE", "/nowhere/progress.db", "database", "there is no database /nowhere/progress.db"),
        (
            "PROGRESSBAR_DATABASE",
            "postgresql://me:very-secret@127.0.0.1:1/x",
            "database",
            "me@127.0.0.1:1/x cannot be used",
        ),
    ],
)
def test_what_does_not_work_is_bad_and_says_why(configured_server, command, monkeypatch, variable, value, what, told):
    monkeypatch.setenv(variable, value)
    done = command("doctor")
    assert done.code == 1
    bad = [line for line in done.out.splitlines() if line.startswith("BAD")]
    assert len(bad) == 1
    assert bad[0].startswith(f"BAD   {what}: ")
    assert told in bad[0]
    assert "very-secret" not in done.out


def test_a_read_key_cannot_track(server, command, monkeypatch):
    monkeypatch.setenv("PROGRESSBAR_URL", server.url)
    monkeypatch.setenv("PROGRESSBAR_API_KEY", server.create_key("read", "wall"))
    done = command("doctor")
    assert (done.code, split_lines(done)["key"]) == (1, ("BAD", "read: may only read; track() needs a write key"))


def test_a_config_file_that_others_can_read_is_bad(server, command, monkeypatch, tmp_path):
    path = tmp_path / "config.toml"
    path.write_text(f'url = "{server.url}"\napi_key = "{server.create_key("write", "me")}"\n')
    path.chmod(0o644)
    monkeypatch.setenv("PROGRESSBAR_CONFIG", str(path))
    done = command("doctor")
    assert split_lines(done)["config file"] == ("BAD", f"others can read the key in {path}: chmod 600 {path}")


def test_a_database_is_looked_at_while_a_server_runs_on_it(command, tmp_path):
    path = tmp_path / "progress.db"
    with start_server(path):
        done = command("doctor", "--database", path)
    assert split_lines(done)["database"][0] == "ok"
    assert "is whole, 0 items, 0 runs of the history, 1 keys" in split_lines(done)["database"][1]


def test_room_that_deleted_rows_have_left_is_told_with_what_to_do(command, tmp_path, monkeypatch):
    path = tmp_path / "progress.db"
    start_server(path).close()
    monkeypatch.setattr(check, "_MIN_SPARE_BYTES", 1e6)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("CREATE TABLE much AS SELECT randomblob(2000000) AS bytes")
        connection.execute("DROP TABLE much")
    state, text = split_lines(command("doctor", "--database", path))["database"]
    assert state == "ok"
    assert "2 MB of it free for what comes (backup and restore make it small)" in text


def test_a_server_that_cannot_write_is_bad_and_says_so_itself(configured_server, command, monkeypatch):
    monkeypatch.setattr(configured_server.app.services, "is_stopping", True)
    done = command("doctor")
    assert done.code == 1
    assert split_lines(done)["database"] == ("BAD", "the server is stopping: check the server's log and its disk")


def test_clocks_that_differ_are_told_with_what_to_do(configured_server, command, monkeypatch):
    monkeypatch.setattr(doctor, "parsedate_to_datetime", lambda _: datetime.now(UTC) + timedelta(seconds=90))
    state, text = split_lines(command("doctor"))["clock"]
    assert state == "note"
    assert re.match(r"the server's is (89|90|91) s ahead: set both by NTP", text)


def test_a_server_of_another_version_is_told_with_what_to_do(configured_server, command, monkeypatch):
    monkeypatch.setattr(doctor, "VERSION", "1.0.0")
    state, text = split_lines(command("doctor"))["server"]
    assert state == "note"
    assert text.endswith("this is version 1.0.0: update the older of the two")


def test_a_damaged_database_is_bad(command, tmp_path):
    path = tmp_path / "progress.db"
    start_server(path).close()
    with sqlite3.connect(path) as connection:
        (size,) = connection.execute("PRAGMA page_size").fetchone()
    connection.close()
    content = bytearray(path.read_bytes())
    content[size : size * 2] = b"x" * size
    path.write_bytes(content)
    assert split_lines(command("doctor", "--database", path))["database"][0] == "BAD"


def test_a_postgresql_database_is_looked_at(command, postgres_url):
    empty = command("doctor", "--database", postgres_url)
    assert split_lines(empty)["database"][1].endswith("is empty: the first server makes its tables")
    with start_server(postgres_url):
        done = command("doctor", "--database", postgres_url, "--json")
    (found,) = [one for one in done.json if one["what"] == "database"]
    assert found["state"] == "ok"
    assert "takes writes, 0 items" in found["text"]
