"""``ping-tokens``: tokens are created, listed and revoked with an admin key."""

from __future__ import annotations

import pytest

from tests.support.connections import open_client
from tests.support.server import start_server


@pytest.fixture
def run_ping_tokens(server, monkeypatch, command):
    """Run ``ping-tokens ...`` with an admin key in the environment."""
    monkeypatch.setenv("PROGRESSBAR_ADMIN_KEY", server.create_key("admin", "operator"))
    return lambda *arguments: command("ping-tokens", *arguments, "--url", server.url)


def test_new_ping_url_is_alone_on_stdout_and_pings(run_ping_tokens, configured_server):
    done = run_ping_tokens("create", "--name", "cron", "--group", "nightly")
    url = done.out.strip()
    assert (done.code, url.startswith(f"{configured_server.url}/ping/")) == (0, True)
    assert url.rpartition("/")[2] not in done.err
    with open_client(configured_server.url, configured_server.create_key("write", "me")) as http:
        http.put("/api/v1/schedules/backup", json={"every": 3600, "group": "nightly"}).raise_for_status()
        assert http.get(f"{url}/backup/start").status_code == 200
        assert http.get("/api/v1/items/backup").json()["owner"] == "cron"


def test_ping_token_list_has_no_secrets(run_ping_tokens):
    url = run_ping_tokens("create", "--name", "cron", "--group", "nightly", "--expires", "7").out.strip()
    done = run_ping_tokens("list")
    assert "nightly" in done.out
    assert url.rpartition("/")[2] not in done.out
    (token,) = run_ping_tokens("list", "--json").json
    assert (token["name"], token["group"], token["expires_at"] is None) == ("cron", "nightly", False)
    assert token["token_id"] in done.out


def test_revoked_ping_token_is_refused(run_ping_tokens, server):
    token = run_ping_tokens("create", "--name", "cron", "--group", "nightly", "--json").json
    assert token["url"] == f"{server.url}/{token['path']}"
    done = run_ping_tokens("revoke", token["token_id"])
    assert (done.code, done.err) == (0, f"Revoked {token['token_id']}.\n")
    with open_client(server.url) as http:
        assert http.get(f"{token['url']}/backup").status_code == 404
    assert run_ping_tokens("list").err == "There is no ping token.\n"


def test_unknown_ping_token_is_one_line(run_ping_tokens):
    done = run_ping_tokens("revoke", "nope1234")
    assert (done.code, done.err.count("\n")) == (1, 1)


@pytest.mark.parametrize("options", [[], ["--name", "a"], ["--group", "b"]], ids=str)
def test_ping_token_needs_name_and_group(run_ping_tokens, options):
    assert run_ping_tokens("create", *options).code == 2


def test_write_key_cannot_create_ping_tokens(configured_server, command):
    done = command("ping-tokens", "create", "--name", "a", "--group", "b")
    assert (done.code, done.out, done.err.count("\n")) == (1, "", 1)
    assert "PROGRESSBAR_ADMIN_KEY" in done.err


def test_ping_token_of_a_server_with_a_public_url_has_its_url(tmp_path, monkeypatch, command):
    with start_server(tmp_path / "progress.db", public_url="https://progress.example.org/p") as server:
        monkeypatch.setenv("PROGRESSBAR_ADMIN_KEY", server.create_key("admin", "operator"))
        done = command("ping-tokens", "create", "--name", "a", "--group", "b", "--url", server.url)
    assert done.out.startswith("https://progress.example.org/p/ping/")
