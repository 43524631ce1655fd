"""Sign-in: wrong attempts are limited, keys and links always work, and cookies have safe attributes."""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING

import argon2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from progressbar_tracker.server.access.devices import DEVICE_SECONDS, DeviceCookies
from progressbar_tracker.server.access.sessions import ATTEMPT_WINDOW_SECONDS, MAX_SIGN_IN_ATTEMPTS, SignInAttempts
from progressbar_tracker.server.hub import HEARTBEAT_INTERVAL
from tests.support.clock import ManualClock
from tests.support.server import RunningServer
from tests.support.sse import SseStream

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx

RIGHT_LOGIN = {"username": "root", "password": "right"}
WRONG_LOGIN = {"username": "root", "password": "wrong"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """One server with a password whose hash is cheap to verify."""
    with pytest.MonkeyPatch.context() as patch:
        # A cheap hash: these tests do not measure the cost of a guess.
        patch.setattr(
            argon2, "PasswordHasher", partial(argon2.PasswordHasher, time_cost=1, memory_cost=8, parallelism=1)
        )
        served = RunningServer(
            tmp_path_factory.mktemp("signing-in"), ManualClock(), admin_username="root", admin_password="right"
        )
        yield served
        served.stop()


@pytest.fixture
def client(server: RunningServer) -> httpx.Client:
    """A new client, after all waits are over."""
    server.clock.advance(ATTEMPT_WINDOW_SECONDS)
    return server.client()


def test_forwarded_address_of_a_client_is_ignored(client: httpx.Client) -> None:
    statuses = []
    for n in range(MAX_SIGN_IN_ATTEMPTS + 1):
        address = f"203.0.113.{n}"
        names = ("X-Forwarded-For", "X-Real-IP", "X-Client-IP", "CF-Connecting-IP", "True-Client-IP")
        headers = dict.fromkeys(names, address) | {"Forwarded": f"for={address}"}
        statuses.append(client.post("/login", data={"key": "wrong"}, headers=headers).status_code)
    assert statuses == [403] * MAX_SIGN_IN_ATTEMPTS + [429]


def test_key_or_link_signs_in_despite_wrong_attempts(server: RunningServer, client: httpx.Client) -> None:
    for _ in range(MAX_SIGN_IN_ATTEMPTS):
        assert client.post("/login", data={"key": "wrong"}).status_code == 403
    for data in ({"key": "wrong"}, WRONG_LOGIN, RIGHT_LOGIN):
        assert client.post("/login", data=data).status_code == 429
    assert server.client().post("/login", data={"key": server.keys["admin"]}).status_code == 303
    assert server.client().get(server.background.create_sign_in_url()).status_code == 303


def test_further_guesses_do_not_extend_the_wait(server: RunningServer, client: httpx.Client) -> None:
    for _ in range(MAX_SIGN_IN_ATTEMPTS):
        client.post("/login", data={"key": "wrong"})
    for _ in range(20):
        server.clock.advance(ATTEMPT_WINDOW_SECONDS / 21)
        assert client.post("/login", data=WRONG_LOGIN).status_code == 429
    server.clock.advance(ATTEMPT_WINDOW_SECONDS / 21 + 0.01)
    assert client.post("/login", data=RIGHT_LOGIN).status_code == 303


def test_sign_in_attempts_are_counted_per_network() -> None:
    attempts = SignInAttempts()
    for n in range(MAX_SIGN_IN_ATTEMPTS):
        attempts.record(f"2001:db8::{n}", 0.0)
    assert attempts.retry_after("2001:db8::ffff", 1.0) is not None
    assert attempts.retry_after("2001:db8:0:1::1", 1.0) is None
    for _ in range(MAX_SIGN_IN_ATTEMPTS):
        attempts.record("::ffff:192.0.2.1", 0.0)
    assert attempts.retry_after("192.0.2.1", 1.0) is not None
    assert attempts.retry_after("192.0.2.2", 1.0) is None


def test_counted_addresses_are_bounded() -> None:
    attempts = SignInAttempts()
    for n in range(5000):
        attempts.record(f"10.0.{n // 250}.{n % 250}", 0.0)
    assert len(attempts._failures) == 1000


@pytest.mark.parametrize(
    ("headers", "secure"),
    [({}, False), ({"Origin": "http://{host}"}, False), ({"Origin": "https://{host}"}, True),
     ({"X-Forwarded-Proto": "https"}, False)],  # any client can send it
)  # fmt: skip
def test_sign_in_cookies_have_safe_attributes(
    server: RunningServer, client: httpx.Client, headers: dict[str, str], secure: bool
) -> None:
    host = server.background.url.removeprefix("http://")
    headers = {name: text.format(host=host) for name, text in headers.items()}
    cookies = client.post("/login", data=RIGHT_LOGIN, headers=headers).headers.get_list("Set-Cookie")
    sent = (("pbt_session_", 604800, "Lax"), ("pbt_device_", DEVICE_SECONDS, "Strict"))
    for cookie, (prefix, seconds, same_site) in zip(cookies, sent, strict=True):
        name, *flags = cookie.split("; ")
        assert name.startswith(f"__Host-{prefix}" if secure else prefix)
        expected = {"Path=/", f"Max-Age={seconds}", "HttpOnly", f"SameSite={same_site}"}
        assert set(flags) == expected | ({"Secure"} if secure else set())


@pytest.mark.parametrize("ending", ["sign out", "end the session", "revoke the key", "revoke the link"])
def test_ended_credential_ends_its_stream_at_once(server: RunningServer, ending: str) -> None:
    admin = server.client("admin")
    browser = server.client(**{"Sec-Fetch-Site": "same-origin"})
    secret = server.background.create_key("write", ending)
    assert browser.post("/login", data={"key": secret}).status_code == 303
    share = admin.post("/api/v1/shares", json={"group": "g"}).json()
    cookie = {"Cookie": f"{server.cookie_name}={browser.cookies[server.cookie_name]}"}
    if ending == "revoke the link":
        stream = SseStream(server, None, path=f"/s/{share['token']}/events")
    else:
        stream = SseStream(server, None, **cookie)
    try:
        first = stream.next()
        assert first is not None
        assert first.name == "snapshot"
        if ending == "sign out":
            assert browser.post("/logout").status_code == 303
        elif ending == "end the session":
            (session,) = (
                session
                for session in admin.get("/api/v1/sessions").json()["sessions"]
                if session["key_id"] == secret.split("_")[2]
            )
            assert admin.delete(f"/api/v1/sessions/{session['session_id']}").status_code == 200
        elif ending == "revoke the key":
            assert admin.delete(f"/api/v1/keys/{secret.split('_')[2]}").status_code == 200
        else:
            assert admin.delete(f"/api/v1/shares/{share['share_id']}").status_code == 200
        assert stream.next(HEARTBEAT_INTERVAL / 3) is None
    finally:
        stream.close()
    if ending != "revoke the link":
        assert server.client().get("/api/v1/items", headers=cookie).status_code == 401


def test_wrong_name_and_wrong_password_get_the_same_response(client: httpx.Client) -> None:
    replies = [
        client.post("/login", data=data)
        for data in (WRONG_LOGIN, RIGHT_LOGIN | {"username": "toor"}, {"key": "pbt_a_x_y"}, {"key": ""})
    ]
    # The form keeps the name that was sent.
    assert len({re.sub(r' value="\w*"| autofocus', "", reply.text) for reply in replies}) == 1
    assert {reply.status_code for reply in replies} == {403}


# Browsers with a device cookie


def test_known_browser_signs_in_despite_attempts_of_others(server: RunningServer, client: httpx.Client) -> None:
    assert client.post("/login", data=RIGHT_LOGIN).status_code == 303
    assert client.post("/logout", headers={"Sec-Fetch-Site": "same-origin"}).status_code == 303
    unknown_browser = server.client()
    for _ in range(MAX_SIGN_IN_ATTEMPTS):
        assert unknown_browser.post("/login", data=WRONG_LOGIN).status_code == 403
    assert unknown_browser.post("/login", data=RIGHT_LOGIN).status_code == 429
    assert client.post("/login", data=RIGHT_LOGIN).status_code == 303


def test_known_browser_has_the_same_attempt_limit(client: httpx.Client) -> None:
    assert client.post("/login", data=RIGHT_LOGIN).status_code == 303
    statuses = [client.post("/login", data=WRONG_LOGIN).status_code for _ in range(MAX_SIGN_IN_ATTEMPTS + 1)]
    assert statuses == [403] * MAX_SIGN_IN_ATTEMPTS + [429]


def test_device_cookie_alone_does_not_sign_in(server: RunningServer, client: httpx.Client) -> None:
    client.post("/login", data=RIGHT_LOGIN)
    name = server.background.app.services.device_cookie_names[1]
    for cookie in (name, server.cookie_name):
        reply = server.client(Cookie=f"{cookie}={client.cookies[name]}").get("/api/v1/items")
        assert reply.status_code == 401


def test_sign_in_by_key_sets_no_device_cookie(server: RunningServer, client: httpx.Client) -> None:
    assert client.post("/login", data={"key": server.keys["admin"]}).status_code == 303
    assert [name for name in client.cookies if "device" in name] == []


TEST_DEVICES = DeviceCookies(b"a key")


@given(st.text(max_size=300) | st.from_regex(r"[A-Za-z0-9_-]{0,12}\.[0-9\u0660-\u0669]{0,12}\.[0-9a-f]{0,64}"))
def test_forged_device_cookie_is_refused(text: str) -> None:
    assert TEST_DEVICES.verify(text, 0.0) is None


def test_device_cookie_ends_by_time_and_with_the_password() -> None:
    cookie = TEST_DEVICES.issue(1000.0)
    assert TEST_DEVICES.verify(cookie, 1000.0 + DEVICE_SECONDS - 1) is not None
    assert TEST_DEVICES.verify(cookie, 1000.0 + DEVICE_SECONDS) is None
    assert DeviceCookies(b"another").verify(cookie, 1000.0) is None
    assert TEST_DEVICES.verify(cookie[:-1], 1000.0) is None
    longer = cookie.replace(".", ".9", 1)
    assert TEST_DEVICES.verify(longer, 1000.0) is None
