"""``login`` and ``logout``: what is stored on this machine, and that no output has the key."""

from __future__ import annotations

import io
import os
import stat
from pathlib import Path

import pytest


def test_login_stores_a_valid_key_for_the_user_only(server, monkeypatch, command):
    key = server.create_key("write", "me")
    monkeypatch.setattr("click.termui.visible_prompt_func", lambda _: key)
    monkeypatch.setattr("progressbar_tracker.cli.login.ask_secret", lambda _: key)
    done = command("login", server.url)
    assert done.code == 0, done.err
    assert key not in done.out + done.err
    path = os.environ["PROGRESSBAR_CONFIG"]
    assert stat.S_IMODE(Path(path).stat().st_mode) == 0o600
    assert command("ls").code == 0


def test_login_with_a_wrong_key_stores_nothing(server, monkeypatch, command):
    monkeypatch.setattr("progressbar_tracker.cli.login.ask_secret", lambda _: "wrong-key")
    done = command("login", server.url)
    assert done.code == 1
    assert not Path(os.environ["PROGRESSBAR_CONFIG"]).exists()


def test_login_with_an_invalid_url_is_one_line(command):
    done = command("login", "server:8989")
    assert (done.code, done.err.count("\n")) == (1, 1)


def test_login_reads_the_key_from_stdin(server, monkeypatch, command):
    key = server.create_key("write", "me")
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{key}\nmore\n"))
    done = command("login", server.url, "--key-stdin")
    assert (done.code, key in done.out + done.err) == (0, False)
    assert command("ls").code == 0


@pytest.mark.parametrize("text", ["", "\n"], ids=["ended", "blank"])
def test_login_without_a_key_on_stdin_stores_nothing(server, monkeypatch, command, text):
    monkeypatch.setattr("sys.stdin", io.StringIO(text))
    done = command("login", server.url, "--key-stdin")
    assert (done.code, done.err.count("\n")) == (1, 1)
    assert not Path(os.environ["PROGRESSBAR_CONFIG"]).exists()


def test_logout_removes_the_stored_key(server, monkeypatch, command):
    key = server.create_key("write", "me")
    monkeypatch.setattr("sys.stdin", io.StringIO(key))
    command("login", server.url, "--key-stdin")
    done = command("logout")
    path = os.environ["PROGRESSBAR_CONFIG"]
    assert (done.code, done.out) == (0, f"Removed the key for {server.url}, with {path}.\n")
    assert key not in done.out + done.err
    assert not Path(path).exists()
    assert command("ls").code == 1


def test_logout_names_a_variable_with_a_key(server, monkeypatch, command):
    key = server.create_key("write", "me")
    monkeypatch.setattr("sys.stdin", io.StringIO(key))
    command("login", server.url, "--key-stdin")
    monkeypatch.setenv("PROGRESSBAR_API_KEY", key)
    done = command("logout")
    assert (done.code, done.err) == (0, "PROGRESSBAR_API_KEY still has a key in this shell.\n")


def test_logout_without_a_stored_key_is_an_error(command):
    done = command("logout")
    assert (done.code, done.out) == (1, "")
    assert done.err == f"progressbar-tracker: nothing is stored: there is no {os.environ['PROGRESSBAR_CONFIG']}\n"


def test_logout_keeps_a_file_that_is_no_config_file(command):
    path = Path(os.environ["PROGRESSBAR_CONFIG"])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("url = ")
    done = command("logout")
    assert (done.code, path.exists(), done.err.count("\n")) == (1, True, 1)
