"""``shares``: links are created, listed and revoked with an admin key."""

from __future__ import annotations

import pytest

from tests.support.connections import open_client
from tests.support.server import start_server


@pytest.fixture
def run_shares(server, monkeypatch, command):
    """Run ``shares ...`` with an admin key in the environment."""
    monkeypatch.setenv("PROGRESSBAR_ADMIN_KEY", server.create_key("admin", "operator"))
    return lambda *arguments: command("shares", *arguments, "--url", server.url)


def test_new_share_is_alone_on_stdout_and_opens(run_shares, server):
    done = run_shares("create", "--item", "nightly import")
    url = done.out.strip()
    assert (done.code, url.startswith(f"{server.url}/s/")) == (0, True)
    assert f"{server.url}/badge/" in done.err
    with open_client(server.url) as http:
        assert http.get(url).status_code == 200


def test_share_list_has_no_links(run_shares):
    link = run_shares("create", "--group", "nightly", "--expires", "7").out.strip()
    done = run_shares("list")
    assert "nightly" in done.out
    assert link.rpartition("/")[2] not in done.out
    (share,) = run_shares("list", "--json").json
    assert (share["group"], share["item"], share["expires_at"] is None) == ("nightly", None, False)
    assert share["share_id"] in done.out


def test_revoked_share_is_closed(run_shares, server):
    share = run_shares("create", "--item", "job", "--json").json
    assert share["url"] == f"{server.url}/{share['path']}"
    done = run_shares("revoke", share["share_id"])
    assert (done.code, done.err) == (0, f"Revoked {share['share_id']}.\n")
    with open_client(server.url) as http:
        assert http.get(share["url"]).status_code == 404
    assert run_shares("list").err == "There is no share.\n"


def test_unknown_share_is_one_line(run_shares):
    done = run_shares("revoke", "nope1234")
    assert (done.code, done.err.count("\n")) == (1, 1)


@pytest.mark.parametrize("options", [[], ["--item", "a", "--group", "b"]], ids=str)
def test_share_of_an_item_or_a_group_only(run_shares, options):
    assert run_shares("create", *options).code == 2


def test_write_key_cannot_share(server, monkeypatch, command):
    monkeypatch.setenv("PROGRESSBAR_URL", server.url)
    monkeypatch.setenv("PROGRESSBAR_API_KEY", server.create_key("write", "me"))
    done = command("shares", "create", "--item", "job")
    assert (done.code, done.out, done.err.count("\n")) == (1, "", 1)
    assert "403" in done.err
    assert "PROGRESSBAR_ADMIN_KEY" in done.err
    assert "the server printed one at its first start" in done.err
    assert "keys create --type admin" in done.err


def test_share_of_a_server_with_a_public_url_has_its_links(tmp_path, monkeypatch, command):
    with start_server(tmp_path / "progress.db", public_url="https://progress.example.org/p") as server:
        monkeypatch.setenv("PROGRESSBAR_ADMIN_KEY", server.create_key("admin", "operator"))
        done = command("shares", "create", "--item", "job", "--url", server.url)
        share = command("shares", "create", "--item", "job", "--json", "--url", server.url).json
    assert done.out.startswith("https://progress.example.org/p/s/")
    assert "https://progress.example.org/p/badge/" in done.err
    assert share["url"] == f"https://progress.example.org/p/{share['path']}"
    assert share["badge_url"] == f"https://progress.example.org/p/{share['badge']}"
