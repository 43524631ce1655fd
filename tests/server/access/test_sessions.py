"""Sessions of browsers, and guests if reading is public."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.sse import SseStream

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.server import RunningServer


def test_admin_lists_sessions(server: RunningServer) -> None:
    other = server.browser()
    server.clock.advance(100)
    browser = server.browser()
    assert browser.get("/").status_code == 200
    first, second = browser.get("/api/v1/sessions").json()["sessions"]
    assert (first["current"], second["current"]) == (True, False)
    assert second["created_at"] == "2027-01-15T08:00:00.000Z"
    assert first["seen_at"] == "2027-01-15T08:01:40.000Z"
    assert first["expires_at"] == "2027-01-22T08:01:40.000Z"
    page = browser.get("/keys").text
    assert page.count("this browser</strong>") == 1
    for cookie in (*browser.cookies.values(), *other.cookies.values()):
        assert cookie not in page
    assert not any(record.hash in page for record in server.background.app.services.sessions.all(server.clock()))


def test_agent_and_key_of_a_session_survive_a_restart(server: RunningServer) -> None:
    agent = "Mozilla/5.0 (X11; Linux x86_64; rv:133.0) Gecko/20100101 Firefox/133.0"
    for name in (agent, "<b>" * 200):
        server.client(**{"User-Agent": name}).post("/login", data={"key": server.keys["write"]})
        server.clock.advance(1)
    server.restart()
    browser = server.browser()
    own, hostile, firefox = browser.get("/api/v1/sessions").json()["sessions"]
    key_id = server.keys["write"].split("_")[2]
    assert (firefox["agent"], firefox["key_id"], own["key_id"]) == (agent, key_id, None)
    assert len(hostile["agent"]) == 300
    page = browser.get("/keys").text
    assert f'<bdi title="{agent}">Firefox on Linux</bdi>' in page
    assert "<b>" not in page


def test_last_use_of_a_session_is_recorded_once_a_minute(server: RunningServer) -> None:
    browser = server.browser()

    def last_seen() -> str:
        return browser.get("/api/v1/sessions").json()["sessions"][0]["seen_at"]

    assert last_seen() == "2027-01-15T08:00:00.000Z"
    server.clock.advance(59)
    assert last_seen() == "2027-01-15T08:00:00.000Z"
    server.clock.advance(1)
    assert last_seen() == "2027-01-15T08:01:00.000Z"
    cookies = dict(browser.cookies)
    server.restart()
    browser = server.client()
    browser.cookies.update(cookies)
    assert last_seen() == "2027-01-15T08:01:00.000Z"


def test_revoked_session_ends_with_its_streams(server: RunningServer) -> None:
    browser, other = server.browser(), server.browser()
    cookie = other.cookies[server.cookie_name]
    stream = SseStream(server, None, Cookie=f"{server.cookie_name}={cookie}")
    try:
        assert stream.next().name == "snapshot"
        sessions = browser.get("/api/v1/sessions").json()["sessions"]
        (session_id,) = [session["session_id"] for session in sessions if not session["current"]]
        assert browser.delete(f"/api/v1/sessions/{session_id}").status_code == 200
        assert stream.next() is None
    finally:
        stream.close()
    assert other.get("/").status_code == 303
    assert browser.get("/").status_code == 200
    assert browser.delete(f"/api/v1/sessions/{session_id}").status_code == 404
    server.restart()
    other = server.client(Cookie=f"{server.cookie_name}={cookie}")
    assert other.get("/").status_code == 303


def test_guest_reads_pages_and_stream_only_if_enabled(
    make_server: Callable[..., RunningServer],
) -> None:
    closed, public = make_server(), make_server(public_read=True)
    assert closed.client().get("/").status_code == 303
    assert closed.client().get("/api/v1/events").status_code == 401
    public.client("write").put("/api/v1/items/a", json={"run_id": "r", "title": "Seen by all"})
    guest = public.client()
    for path in ("/", "/items/a", "/history"):
        page = guest.get(path).text
        assert "Sign in" in page
        assert "Sign out" not in page
        assert 'href="keys' not in page.replace("../", "")
    assert "Seen by all" in guest.get("/api/v1/items").text
    assert guest.get("/keys").headers["Location"] == "login?next=keys"
    assert guest.get("/api/key-info").status_code == 401
    stream = SseStream(public, None)
    try:
        assert stream.next().name == "snapshot"
        public.client("write").patch("/api/v1/items/a", json={"title": "Changed"})
        assert [item["title"] for item in stream.next().data["items"]] == ["Changed"]
    finally:
        stream.close()


def test_signed_in_operator_is_no_guest_if_reading_is_public(
    make_server: Callable[..., RunningServer],
) -> None:
    public = make_server(public_read=True)
    browser = public.browser()
    assert "Sign out" in browser.get("/").text
    assert browser.get("/keys").status_code == 200
    browser.post("/logout")
    assert "Sign in" in browser.get("/").text


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
def test_guest_cannot_write(make_server: Callable[..., RunningServer], method: str) -> None:
    public = make_server(public_read=True)
    public.client("write").put("/api/v1/items/a", json={"run_id": "r"})
    assert public.client().request(method, "/api/v1/items/a", json={"title": "x"}).status_code == 401
    ops = [{"op": "delete", "id": "a"}]
    assert public.client().post("/api/v1/items:batch", json={"ops": ops}).status_code == 401
    assert public.client("read").get("/api/v1/items/a").status_code == 200
