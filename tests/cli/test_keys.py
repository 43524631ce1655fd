"""``keys`` and ``login``."""

from __future__ import annotations

import os
import stat
from pathlib import Path

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


def test_keys_database_and_url_exclude_each_other(command):
    assert command("keys", "list", "--database", "x", "--url", "http://y").code == 2


def test_login_stores_a_valid_key_for_the_user_only(server, monkeypatch, command):
    key = server.create_key("write", "me")
    monkeypatch.setattr("click.termui.visible_prompt_func", lambda _: key)
    monkeypatch.setattr("progressbar_tracker.cli.keys.ask_secret", lambda _: key)
    done = command("login", server.url)
    assert done.code == 0, done.err
    assert key not in done.out + done.err
    path = os.environ["PROGRESSBAR_CONFIG"]
    assert stat.S_IMODE(Path(path).stat().st_mode) == 0o600
    assert command("ls").code == 0


def test_login_with_a_wrong_key_stores_nothing(server, monkeypatch, command):
    monkeypatch.setattr("progressbar_tracker.cli.keys.ask_secret", lambda _: "wrong-key")
    done = command("login", server.url)
    assert done.code == 1
    assert not Path(os.environ["PROGRESSBAR_CONFIG"]).exists()


def test_login_with_an_invalid_url_is_one_line(command):
    done = command("login", "server:8989")
    assert (done.code, done.err.count("\n")) == (1, 1)
