"""A session, its streams and an imported key end with their secret."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from msgspec.structs import replace

from progressbar_tracker.server.access import keys
from progressbar_tracker.server.access.authorization import identify, make_session_principal
from progressbar_tracker.server.access.key_admin import KeyAdmin
from progressbar_tracker.server.access.keys import ROTATION_GRACE_SECONDS, Keyring
from progressbar_tracker.server.access.sessions import LINK_CREDENTIAL, Sessions
from progressbar_tracker.server.models import credential_digest, digest
from progressbar_tracker.server.mutations import DropKey, SaveKey
from progressbar_tracker.server.problems import ProblemError
from tests.support.sse import SseStream

if TYPE_CHECKING:
    from collections.abc import Callable

    import httpx

    from tests.support.server import RunningServer

EXTERNAL_ADMIN_KEY = "an-admin-key-from-outside-0123456789"
OTHER_ADMIN_KEY = "another-admin-key-from-outside-012345"


# Sessions


def rotate(served: RunningServer, key_id: str) -> None:
    served.client("admin").post(f"/api/v1/keys/{key_id}/rotate").raise_for_status()


def rotate_and_wait(served: RunningServer, key_id: str) -> None:
    rotate(served, key_id)
    served.clock.advance(ROTATION_GRACE_SECONDS)


def rotate_twice(served: RunningServer, key_id: str) -> None:
    rotate(served, key_id)
    rotate(served, key_id)


def revoke(served: RunningServer, key_id: str) -> None:
    served.client("admin").delete(f"/api/v1/keys/{key_id}").raise_for_status()


def rotate_by_command_line(served: RunningServer, key_id: str) -> None:
    with KeyAdmin(served.settings.database, now=served.clock) as file:
        file.rotate(key_id)
        file.rotate(key_id)


def revoke_by_command_line(served: RunningServer, key_id: str) -> None:
    with KeyAdmin(served.settings.database, now=served.clock) as file:
        file.revoke(key_id)


def expire(served: RunningServer, _: str) -> None:
    served.clock.advance(3 * 86400.0)


def demote(served: RunningServer, key_id: str) -> None:
    record = served.background.app.services.keyring.get(key_id)
    assert record is not None
    served.background.store.commit([SaveKey(replace(record, type="read"))]).result(60)


def forget(served: RunningServer, key_id: str) -> None:
    served.background.store.commit([DropKey(key_id)]).result(60)


ENDING_ACTIONS = [
    rotate_and_wait, rotate_twice, revoke, rotate_by_command_line, revoke_by_command_line, expire, demote, forget,
]  # fmt: skip


def sign_in_with(served: RunningServer, secret: str) -> httpx.Client:
    browser = served.client()
    assert browser.post("/login", data={"key": secret}).status_code == 303
    return browser


@pytest.mark.parametrize("restarted", [False, True], ids=["running", "restarted"])
@pytest.mark.parametrize("end", ENDING_ACTIONS)
def test_session_and_stream_end_with_the_secret(
    server: RunningServer, end: Callable[[RunningServer, str], None], restarted: bool
) -> None:
    secret = server.background.create_key("admin", "ending", expires_at=server.clock() + 3 * 86400)
    browser = sign_in_with(server, secret)
    cookie = {"Cookie": f"{server.cookie_name}={browser.cookies[server.cookie_name]}"}
    stream = SseStream(server, None, **cookie)
    try:
        first = stream.next()
        assert first is not None
        assert first.name == "snapshot"
        end(server, secret.split("_")[2])
        assert stream.next() is None
    finally:
        stream.close()
    if restarted:
        server.restart()
    assert server.client(**cookie).get("/api/v1/items").status_code == 401
    assert server.client("admin").get("/api/v1/sessions").json()["sessions"] == []
    end_at = time.monotonic() + 20
    while server.background.store.load().sessions:  # until the next maintenance
        assert time.monotonic() < end_at
        assert server.background.store.flush(60)


def test_stream_of_an_ended_session_does_not_become_a_guests(make_server: Callable[..., RunningServer]) -> None:
    served = make_server(public_read=True)
    browser = sign_in_with(served, served.keys["write"])
    stream = SseStream(served, None, Cookie=f"{served.cookie_name}={browser.cookies[served.cookie_name]}")
    try:
        assert stream.next() is not None
        revoke(served, served.keys["write"].split("_")[2])
        assert stream.next() is None
    finally:
        stream.close()


def test_session_of_the_current_secret_stays(server: RunningServer) -> None:
    secret = server.background.create_key("write", "rotating")
    key_id, http = secret.split("_")[2], server.client("admin")
    newest = http.post(f"/api/v1/keys/{key_id}/rotate").json()["key"]
    browser = sign_in_with(server, newest)
    server.clock.advance(ROTATION_GRACE_SECONDS)
    assert browser.get("/api/v1/items").status_code == 200


STEP_LISTS = some.lists(some.sampled_from(["rotate", "sign in", "wait an hour", "wait a day", "revoke"]), max_size=12)


@given(STEP_LISTS)
@settings(max_examples=300, deadline=None)
def test_session_is_valid_exactly_while_its_secret_is(steps: list[str]) -> None:
    """After any changes of a key, a session is valid if and only if its secret is."""
    now, key = 0.0, keys.new_key("write", "k", 0.0, expires_at=5 * 86400.0)
    ring, sessions, secrets = Keyring([key.record]), Sessions(1e9), [key.secret]
    cookies: list[tuple[str, str]] = []
    for step in steps:
        record = ring.get(key.record.key_id)
        assert record is not None
        if step == "rotate" and keys.is_usable(record, now):
            rotated = keys.rotate_key(record, now)
            ring.add(rotated.record)
            secrets.append(rotated.secret)
        elif step == "sign in":
            for secret in secrets:
                record = ring.find(secret, now)
                if record is not None and keys.is_usable(record, now):
                    credential = credential_digest(record.type, digest(secret))
                    cookies.append((secret, sessions.begin(now, key_id=record.key_id, credential=credential)[0]))
        elif step == "revoke":
            ring.add(keys.revoke_key(record, now))
        else:
            now += 3600.0 if step == "wait an hour" else 86400.0
        for secret, cookie in cookies:
            session = sessions.find(cookie, now)
            assert session is not None
            try:
                expected = identify(ring, secret, now)
            except ProblemError:
                expected = None
            assert make_session_principal(ring, session, now, LINK_CREDENTIAL) == expected


PASSWORD_CHANGES = [
    ({}, {}, True),
    ({"admin_username": "root", "admin_password": "one"}, {"admin_username": "root", "admin_password": "one"}, True),
    ({"admin_username": "root", "admin_password": "one"}, {"admin_username": "root", "admin_password": "two"}, False),
    ({"admin_username": "root", "admin_password": "one"}, {"admin_username": "toor", "admin_password": "one"}, False),
    ({"admin_username": "root", "admin_password": "one"}, {}, False),
    ({}, {"admin_username": "root", "admin_password": "one"}, False),
]


@pytest.mark.parametrize(
    ("before", "after", "stays", "by"),
    [*((*row, "link") for row in PASSWORD_CHANGES), *((*row, "password") for row in PASSWORD_CHANGES if row[0])],
)
def test_operator_sessions_end_when_the_password_changes(
    make_server: Callable[..., RunningServer], before: dict[str, str], after: dict[str, str], stays: bool, by: str
) -> None:
    served = make_server(**before)
    browser = served.client()
    if by == "link":
        assert browser.get(served.background.create_sign_in_url()).status_code == 303
    else:
        data = {"username": before["admin_username"], "password": before["admin_password"]}
        assert browser.post("/login", data=data).status_code == 303
    cookie = browser.cookies[served.cookie_name]
    served.stop()
    lacking = {"admin_username": None, "admin_password": None}
    served.settings = replace(served.settings, **(lacking | after))
    served.start()
    status = served.client(Cookie=f"{served.cookie_name}={cookie}").get("/api/v1/items").status_code
    assert status == (200 if stays else 401)
    assert served.background.store.flush(60)
    assert len(served.background.store.load().sessions) == stays


# Imported keys


def is_secret_accepted(served: RunningServer, secret: str) -> bool:
    return served.client(secret).get("/api/v1/keys").status_code == 200


def get_key_id(served: RunningServer, secret: str) -> str:
    record = served.background.app.services.keyring.find_any(secret)
    assert record is not None
    return record.key_id


def replace_in_environment(served: RunningServer, _: str) -> None:
    served.stop()
    served.settings = replace(served.settings, admin_key=OTHER_ADMIN_KEY)
    served.start()
    served.stop()
    served.settings = replace(served.settings, admin_key=EXTERNAL_ADMIN_KEY)
    served.start()


def expire_in_database(served: RunningServer, key_id: str) -> None:
    record = served.background.app.services.keyring.get(key_id)
    assert record is not None
    served.background.store.commit([SaveKey(replace(record, expires_at=served.clock() + 1.0))]).result(60)
    served.clock.advance(1.0)


EXTERNAL_KEY_ENDINGS = {
    revoke: "was revoked", revoke_by_command_line: "was revoked", rotate_and_wait: "was replaced",
    rotate_twice: "has ended", rotate_by_command_line: "has ended", expire_in_database: "has expired",
    replace_in_environment: "has ended",
}  # fmt: skip


@pytest.fixture(params=["file", "postgres"])
def given_key_server(request: pytest.FixtureRequest, make_server: Callable[..., RunningServer]) -> RunningServer:
    """A server whose admin key comes from its settings, on each kind of store."""
    database = request.getfixturevalue("postgres_url") if request.param == "postgres" else None
    served = make_server(admin_key=EXTERNAL_ADMIN_KEY, **({} if database is None else {"database": database}))
    assert is_secret_accepted(served, EXTERNAL_ADMIN_KEY)
    return served


@pytest.mark.parametrize("end", EXTERNAL_KEY_ENDINGS)
def test_ended_admin_key_of_the_settings_is_always_refused(
    given_key_server: RunningServer, end: Callable[[RunningServer, str], None], caplog: pytest.LogCaptureFixture
) -> None:
    """It is refused even after the key was deleted, 90 days later."""
    key_id = get_key_id(given_key_server, EXTERNAL_ADMIN_KEY)
    end(given_key_server, key_id)
    for why in (EXTERNAL_KEY_ENDINGS[end], None):
        caplog.clear()
        given_key_server.restart()
        assert not is_secret_accepted(given_key_server, EXTERNAL_ADMIN_KEY)
        assert is_secret_accepted(given_key_server, given_key_server.keys["admin"])
        (refusal,) = (record for record in caplog.records if record.levelno == logging.ERROR)
        assert "PROGRESSBAR_ADMIN_KEY" in refusal.getMessage()
        assert EXTERNAL_ADMIN_KEY not in refusal.getMessage()
        assert why is None or why in refusal.getMessage()
        forget(given_key_server, key_id)
        given_key_server.restart()
        assert given_key_server.background.app.services.keyring.get(key_id) is None


@pytest.mark.parametrize("type", ["read", "write", "admin"])
@pytest.mark.parametrize("forgotten", [False, True])
def test_ended_generated_key_cannot_be_imported(
    given_key_server: RunningServer, caplog: pytest.LogCaptureFixture, type: str, forgotten: bool
) -> None:
    secret = given_key_server.background.create_key(type, "own")
    revoke(given_key_server, secret.split("_")[2])
    if forgotten:
        forget(given_key_server, secret.split("_")[2])
    given_key_server.stop()
    given_key_server.settings = replace(given_key_server.settings, admin_key=secret)
    given_key_server.start()
    assert not is_secret_accepted(given_key_server, secret)
    assert "PROGRESSBAR_ADMIN_KEY" in caplog.text


def test_lesser_key_cannot_be_imported_as_admin_key(server: RunningServer, caplog: pytest.LogCaptureFixture) -> None:
    server.stop()
    server.settings = replace(server.settings, admin_key=server.keys["write"])
    server.start()
    assert not is_secret_accepted(server, server.keys["write"])
    assert "is a write key and is refused" in caplog.text


def test_imported_key_takes_the_id_of_a_revoked_one(given_key_server: RunningServer) -> None:
    before = get_key_id(given_key_server, EXTERNAL_ADMIN_KEY)
    revoke(given_key_server, before)
    given_key_server.stop()
    given_key_server.settings = replace(given_key_server.settings, admin_key=OTHER_ADMIN_KEY)
    given_key_server.start()
    assert is_secret_accepted(given_key_server, OTHER_ADMIN_KEY)
    assert not is_secret_accepted(given_key_server, EXTERNAL_ADMIN_KEY)
    assert get_key_id(given_key_server, OTHER_ADMIN_KEY) == before


def test_key_revoked_on_one_server_cannot_be_imported_by_another(
    make_server: Callable[..., RunningServer], postgres_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    one = make_server(admin_key=EXTERNAL_ADMIN_KEY, database=postgres_url)
    other = make_server(admin_key=EXTERNAL_ADMIN_KEY, database=postgres_url, keys=one.keys)
    revoke(other, get_key_id(other, EXTERNAL_ADMIN_KEY))
    one.restart()
    assert not is_secret_accepted(one, EXTERNAL_ADMIN_KEY)
    assert not is_secret_accepted(other, EXTERNAL_ADMIN_KEY)
    assert "was revoked and is refused" in caplog.text
