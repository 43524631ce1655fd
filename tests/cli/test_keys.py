"""``keys``: in the database of a running server, and over HTTP."""

from __future__ import annotations

import re

import httpx
import pytest

from progressbar_tracker import ProgressBar
from progressbar_tracker._errors import PermissionError
from tests.support.waiting import wait_until


@pytest.fixture(params=["file", "http"])
def run_keys(request, server, monkeypatch, command):
    """Run ``keys ...`` beside a running server: on its database file, and over HTTP with an admin key."""
    options = ["--database", str(server.settings.database)]
    if request.param == "http":
        monkeypatch.setenv("PROGRESSBAR_ADMIN_KEY", server.create_key("admin", "operator"))
        options = ["--url", server.url]
    return lambda verb, *arguments: command("keys", verb, *arguments, *options)


def test_new_key_is_alone_on_stdout_and_works_at_once(run_keys, server):
    done = run_keys("create", "--type", "write", "--name", "ci")
    assert done.code == 0
    with ProgressBar(server.url, done.out.strip()) as pb:
        assert pb.key_info.type == "write"


def test_new_key_with_expiry_has_its_instant(run_keys):
    key = run_keys("create", "--type", "read", "--name", "wall", "--expires", "30", "--json").json
    assert key["expires_at"] is not None
    assert key["key"].startswith("pbt_r_")


def test_key_list_has_names_and_no_secrets(run_keys):
    secret = run_keys("create", "--type", "write", "--name", "ci").out.strip()
    done = run_keys("list")
    assert "ci" in done.out
    assert secret not in done.out
    assert secret not in run_keys("list", "--json").out


def test_key_list_has_local_times_that_fit(run_keys, monkeypatch):
    monkeypatch.setattr("progressbar_tracker.cli.credentials.terminal_width", lambda: 80)
    run_keys("create", "--type", "write", "--name", "ci", "--expires", "90")
    done = run_keys("list")
    assert max(map(len, done.out.splitlines())) <= 80
    assert "…" not in done.out
    assert re.search(r"ci +\d\d:\d\d ", done.out), done.out


def is_refused(pb):
    try:
        pb.get_all()
    except PermissionError:
        return True
    return False


def test_revoked_key_is_refused(run_keys, server):
    key = run_keys("create", "--type", "write", "--name", "ci", "--json").json
    assert run_keys("revoke", key["key_id"]).code == 0
    with ProgressBar(server.url, key["key"], auto_detect=False) as pb:
        wait_until(lambda: is_refused(pb))  # a running server applies a change of its file within half a second


def test_rotated_key_keeps_its_items(run_keys, server):
    key = run_keys("create", "--type", "write", "--name", "ci", "--json").json
    with ProgressBar(server.url, key["key"]) as pb:
        pb.create("job", "Job", "", 0.5)
    new_secret = run_keys("rotate", key["key_id"]).out.strip()
    assert new_secret != key["key"]
    with ProgressBar(server.url, new_secret) as pb:
        pb.update("job", "Job", "", 0.6)


def test_unknown_key_id_is_one_line_and_exit_code_1(run_keys):
    done = run_keys("revoke", "nope1234")
    assert (done.code, done.err.count("\n")) == (1, 1)


def test_write_key_over_http_cannot_create_keys(server, monkeypatch, command):
    monkeypatch.setenv("PROGRESSBAR_API_KEY", server.create_key("write", "me"))
    done = command("keys", "create", "--type", "admin", "--name", "x", "--url", server.url)
    assert (done.code, done.out) == (1, "")
    assert "the server printed one at its first start" in done.err


def test_key_of_a_cell_begins_with_its_name(run_keys):
    create = ["create", "--type", "write", "--name", "ci"]
    key = run_keys(*create, "--cell", "c1", "--json").json
    assert key["key"].startswith(f"pbt_w_{key['key_id']}_")
    assert key["key_id"].startswith("c1-")
    done = run_keys(*create, "--cell", "C 1")
    assert (done.code, done.out, done.err.count("\n")) == (1, "", 1)
    assert "cell must be 1 to 16 lower-case letters and digits" in done.err


def test_keys_database_and_url_exclude_each_other(command):
    assert command("keys", "list", "--database", "x", "--url", "http://y").code == 2


KEY_COMMANDS = [["list"], ["create", "--type", "write", "--name", "ci"], ["revoke", "k7m2p9xq"], ["rotate", "k7m2p9xq"]]


@pytest.mark.parametrize("arguments", KEY_COMMANDS, ids=lambda arguments: arguments[0])
@pytest.mark.parametrize("source", ["option", "variable"])
def test_keys_of_a_missing_database_create_nothing(command, monkeypatch, tmp_path, arguments, source):
    path = tmp_path / "folder" / "mistyped.db"
    options = ["--database", path] if source == "option" else []
    if source == "variable":
        monkeypatch.setenv("PROGRESSBAR_DATABASE", str(path))
    done = command("keys", *arguments, *options)
    assert (done.code, done.out, done.err.count("\n")) == (1, "", 1)
    assert f"there is no database {path}: " in done.err
    assert "--database" in done.err
    assert not path.parent.exists()


def test_keys_leave_an_empty_file_unchanged(command, tmp_path):
    path = tmp_path / "empty.db"
    path.touch()
    done = command("keys", "list", "--database", path)
    assert (done.code, done.out, done.err.count("\n")) == (1, "", 1)
    assert (f"the database {path} is empty" in done.err, path.stat().st_size) == (True, 0)


def read_push_key(server):
    headers = {"X-API-KEY": server.create_key("read", "browser")}
    return httpx.get(f"{server.url}/api/v1/push/key", headers=headers).raise_for_status().json()["public_key"]


def test_rotated_push_key_is_used_by_the_running_server(server, command):
    before = read_push_key(server)
    done = command("keys", "rotate-push", "--database", str(server.settings.database))
    assert (done.code, done.out) == (0, "")
    assert "Replaced the key; 0 subscriptions renew themselves." in done.err
    wait_until(lambda: read_push_key(server) != before)


def test_rotation_without_a_push_key_is_one_line_and_exit_code_1(server, command):
    done = command("keys", "rotate-push", "--database", str(server.settings.database))
    assert (done.code, done.err.count("\n")) == (1, 1)
    assert "no key for messages to browsers yet" in done.err
