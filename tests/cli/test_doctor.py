"""``doctor``: each finding that is not ok says what to do."""

from __future__ import annotations

import contextlib
import re
import sqlite3
from datetime import UTC, datetime, timedelta

import pytest

from progressbar_tracker.cli import doctor
from progressbar_tracker.server.stores import check
from tests.support.server import start_server


def read_findings(done):
    """Return the state and text of each finding by its subject."""
    return {
        line[6:].partition(": ")[0]: (line[:4].strip(), line[6:].partition(": ")[2]) for line in done.out.splitlines()
    }


def test_doctor_reports_each_working_part(configured_server, command):
    done = command("doctor")
    findings = read_findings(done)
    assert done.code == 0
    assert {subject: state for subject, (state, _) in findings.items()} == dict.fromkeys(
        ("versions", "configuration", "server", "key", "clock", "database"), "ok"
    )
    assert findings["configuration"][1] == f"{configured_server.url}, from PROGRESSBAR_URL"
    assert findings["key"][1] == "write: may read, create, update_own, delete_own"


def test_doctor_without_configuration_names_the_commands(command):
    done = command("doctor")
    assert done.code == 1
    state, text = read_findings(done)["configuration"]
    assert state == "BAD"
    assert "progressbar-tracker serve" in text
    assert "progressbar-tracker login URL" in text


@pytest.mark.parametrize(
    ("variable", "value", "subject", "reason"),
    [
        ("PROGRESSBAR_URL", "http://127.0.0.1:1", "server", "is it running, and is the URL right?"),
        ("PROGRESSBAR_URL", "ftp://server", "configuration", "PROGRESSBAR_URL must be a URL such as 'http://"),
        ("PROGRESSBAR_URL", "127.0.0.1:9102", "configuration", "PROGRESSBAR_URL must be a URL such as 'http://"),
        ("PROGRESSBAR_API_KEY", "pbt_w_nonsense", "key", "the key is from PROGRESSBAR_API_KEY: correct or unset it"),
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
def test_doctor_reports_a_broken_part_with_its_reason(
    configured_server, command, monkeypatch, variable, value, subject, reason
):
    monkeypatch.setenv(variable, value)
    done = command("doctor")
    assert done.code == 1
    bad = [line for line in done.out.splitlines() if line.startswith("BAD")]
    assert len(bad) == 1
    assert bad[0].startswith(f"BAD   {subject}: ")
    assert reason in bad[0]
    assert "very-secret" not in done.out


def test_doctor_recommends_no_login_to_an_invalid_url(command):
    done = command("doctor", "--url", "127.0.0.1:9102")
    state, text = read_findings(done)["configuration"]
    assert (state, text.startswith("--url must be a URL such as 'http://"), "login" in text) == ("BAD", True, False)


def test_doctor_reports_a_read_key_as_bad(server, command, monkeypatch):
    monkeypatch.setenv("PROGRESSBAR_URL", server.url)
    monkeypatch.setenv("PROGRESSBAR_API_KEY", server.create_key("read", "wall"))
    done = command("doctor")
    assert (done.code, read_findings(done)["key"]) == (1, ("BAD", "read: may only read; track() needs a write key"))


def test_doctor_reports_a_readable_config_file_as_bad(server, command, monkeypatch, tmp_path):
    path = tmp_path / "config.toml"
    path.write_text(f'url = "{server.url}"\napi_key = "{server.create_key("write", "me")}"\n')
    path.chmod(0o644)
    monkeypatch.setenv("PROGRESSBAR_CONFIG", str(path))
    done = command("doctor")
    assert read_findings(done)["config file"] == ("BAD", f"others can read the key in {path}: chmod 600 {path}")


def test_doctor_checks_the_database_of_a_running_server(command, tmp_path):
    path = tmp_path / "progress.db"
    with start_server(path):
        done = command("doctor", "--database", path)
    assert read_findings(done)["database"][0] == "ok"
    assert "is whole, 0 items, 0 runs of the history, 1 key" in read_findings(done)["database"][1]


def test_doctor_reports_space_of_deleted_rows_with_a_remedy(command, tmp_path, monkeypatch):
    path = tmp_path / "progress.db"
    start_server(path).close()
    monkeypatch.setattr(check, "_MIN_SPARE_BYTES", 1e6)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("CREATE TABLE much AS SELECT randomblob(2000000) AS bytes")
        connection.execute("DROP TABLE much")
    state, text = read_findings(command("doctor", "--database", path))["database"]
    assert state == "ok"
    assert "2 MB of it free for new data (backup and restore make it small)" in text


def test_doctor_repeats_the_servers_reason_for_no_writes(configured_server, command, monkeypatch):
    monkeypatch.setattr(configured_server.app.services, "is_draining", True)
    done = command("doctor")
    assert done.code == 1
    assert read_findings(done)["database"] == ("BAD", "the server is stopping: check the server's log and its disk")


def test_doctor_reports_clock_skew_with_a_remedy(configured_server, command, monkeypatch):
    monkeypatch.setattr(doctor, "parsedate_to_datetime", lambda _: datetime.now(UTC) + timedelta(seconds=90))
    state, text = read_findings(command("doctor"))["clock"]
    assert state == "note"
    assert re.match(r"the server's is (89|90|91) s ahead: set both by NTP", text)


def test_doctor_reports_another_server_version_with_a_remedy(configured_server, command, monkeypatch):
    monkeypatch.setattr(doctor, "VERSION", "1.0.0")
    state, text = read_findings(command("doctor"))["server"]
    assert state == "note"
    assert text.endswith("this is version 1.0.0: update the older of the two")


def test_doctor_reports_a_damaged_database_as_bad(command, tmp_path):
    path = tmp_path / "progress.db"
    start_server(path).close()
    with sqlite3.connect(path) as connection:
        (size,) = connection.execute("PRAGMA page_size").fetchone()
    connection.close()
    content = bytearray(path.read_bytes())
    content[size : size * 2] = b"x" * size
    path.write_bytes(content)
    assert read_findings(command("doctor", "--database", path))["database"][0] == "BAD"


def test_doctor_checks_a_postgresql_database(command, postgres_url):
    empty = command("doctor", "--database", postgres_url)
    assert read_findings(empty)["database"][1].endswith("is empty: the first server makes its tables")
    with start_server(postgres_url):
        done = command("doctor", "--database", postgres_url, "--json")
    (finding,) = [finding for finding in done.json if finding["what"] == "database"]
    assert finding["state"] == "ok"
    assert "takes writes, 0 items" in finding["text"]
