"""``backup`` and ``restore``."""

from __future__ import annotations

import pytest

from progressbar_tracker import ProgressBar
from tests.support.server import start_server


def test_backup_of_a_running_server_is_restored_for_the_next(server, command, monkeypatch, tmp_path):
    key = server.create_key("write", "ci")
    with ProgressBar(server.url, key) as pb:
        pb.create("before", "Before", "", 0.5)
        done = command("backup", tmp_path / "copy.db", "--database", server.settings.database)
        assert (done.code, done.err) == (0, "")
        # The second key is the administrator's.
        assert done.out == f"Wrote {tmp_path / 'copy.db'}: 1 item, 0 runs of the history, 2 keys.\n"
        pb.create("after", "After", "", 0.5)
    monkeypatch.setenv("PROGRESSBAR_DATABASE", str(server.settings.database))
    done = command("restore", tmp_path / "copy.db")
    assert (done.code, done.err.count("\n")) == (1, 1)
    assert "a server is running" in done.err
    server.close()
    done = command("restore", tmp_path / "copy.db")
    assert (done.code, done.err) == (0, "")
    assert "1 item, 0 runs of the history, 2 keys" in done.out
    assert f"The former file is {server.settings.database}.2" in done.out
    with (
        start_server(server.settings.database) as restored_server,
        ProgressBar(restored_server.url, key) as pb,
    ):
        assert [item["id"] for item in pb.get_all()] == ["before"]


def test_backup_overwrites_only_with_force(server, command, tmp_path):
    arguments = (tmp_path / "copy.db", "--database", server.settings.database)
    assert command("backup", *arguments).code == 0
    done = command("backup", *arguments)
    assert (done.code, done.out, done.err.count("\n")) == (1, "", 1)
    assert command("backup", "--force", *arguments).code == 0


@pytest.mark.parametrize("verb", ["backup", "restore"])
def test_copy_of_postgresql_names_its_tools_without_the_password(command, monkeypatch, tmp_path, verb):
    url = "postgresql://progress:hunter2@db/progress"
    with_option = command(verb, tmp_path / "copy.db", "--database", url)
    monkeypatch.setenv("PROGRESSBAR_DATABASE", url)
    with_variable = command(verb, tmp_path / "copy.db")
    for done in (with_option, with_variable):
        assert (done.code, done.out, done.err.count("\n")) == (1, "", 1)
        assert "pg_restore" in done.err
        assert "hunter2" not in done.err


def test_backup_of_a_missing_database_writes_nothing(command, tmp_path):
    done = command("backup", tmp_path / "copy.db", "--database", tmp_path / "nothing.db")
    assert (done.code, done.err.count("\n")) == (1, 1)
    assert f"there is no database {tmp_path / 'nothing.db'}: " in done.err
    assert "--database" in done.err
    assert not (tmp_path / "nothing.db").exists()
    assert not (tmp_path / "copy.db").exists()
