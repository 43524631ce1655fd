"""A session, its streams and a key from the environment last no longer than the secret that they rest on."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from msgspec.structs import replace

from progressbar_tracker.server.access import keys
from progressbar_tracker.server.access.authorization import identify, signed_in
from progressbar_tracker.server.access.key_admin import KeyFile
from progressbar_tracker.server.access.keys import OVERLAP, Keyring
from progressbar_tracker.server.access.sessions import BY_LINK, Sessions
from progressbar_tracker.server.models import DropKey, SaveKey, credential_of, digest
from progressbar_tracker.server.problems import ProblemError
from tests.support.sse import Stream

if TYPE_CHECKING:
    from collections.abc import Callable

    import httpx

    from tests.support.server import Served

FROM_OUTSIDE = "an-admin-key-from-outside-0123456789"
ANOTHER = "another-admin-key-from-outside-012345"


# Sessions


def rotate(served: Served, key_id: str) -> None:
    served.client("admin").post(f"/api/v1/keys/{key_id}/rotate").raise_for_status()


def rotate_and_wait(served: Served, key_id: str) -> None:
    rotate(served, key_id)
    served.clock.pass_(OVERLAP)


def rotate_twice(served: Served, key_id: str) -> None:
    rotate(served, key_id)
    rotate(served, key_id)


def revoke(served: Served, key_id: str) -> None:
    served.client("admin").delete(f"/api/v1/keys/{key_id}").raise_for_status()


def rotate_by_command_line(served: Served, key_id: str) -> None:
    with KeyFile(served.settings.database, now=served.clock) as file:
        file.rotate(key_id)
        file.rotate(key_id)


def revoke_by_command_line(served: Served, key_id: str) -> None:
    with KeyFile(served.settings.database, now=served.clock) as file:
        file.revoke(key_id)


def expire(served: Served, _: str) -> None:
    served.clock.pass_(3 * 86400.0)


def demote(served: Served, key_id: str) -> None:
    record = served.server.app.services.ring.get(key_id)
    assert record is not None
    served.server.store.commit([SaveKey(replace(record, type="read"))]).result(10)


def forget(served: Served, key_id: str) -> None:
    served.server.store.commit([DropKey(key_id)]).result(10)


ENDS = [
    rotate_and_wait, rotate_twice, revoke, rotate_by_command_line, revoke_by_command_line, expire, demote, forget,
]  # fmt: skip


def signed_in_with(served: Served, secret: str) -> httpx.Client:
    browser = served.client()
    assert browser.post("/login", data={"key": secret}).status_code == 303
    return browser


@pytest.mark.parametrize("restarted", [False, True], ids=["running", "restarted"])
@pytest.mark.parametrize("end", ENDS)
def test_a_session_and_its_stream_end_with_their_secret(
    served: Served, end: Callable[[Served, str], None], restarted: bool
) -> None:
    secret = served.server.create_key("admin", "ending", expires_at=served.clock() + 3 * 86400)
    browser = signed_in_with(served, secret)
    cookie = {"Cookie": f"{served.cookie_name}={browser.cookies[served.cookie_name]}"}
    stream = Stream(served, None, **cookie)
    try:
        first = stream.next()
        assert first is not None
        assert first.name == "snapshot"
        end(served, secret.split("_")[2])
        assert stream.next(10) is None
    finally:
        stream.close()
    if restarted:
        served.restart()
    assert served.client(**cookie).get("/api/v1/items").status_code == 401
    assert served.client("admin").get("/api/v1/sessions").json()["sessions"] == []
    end_at = time.monotonic() + 20
    while served.server.store.load().sessions:  # until the next sweep
        assert time.monotonic() < end_at
        assert served.server.store.flush(10)


def test_a_stream_does_not_go_on_as_a_guests(serve: Callable[..., Served]) -> None:
    served = serve(public_read=True)
    browser = signed_in_with(served, served.keys["write"])
    stream = Stream(served, None, Cookie=f"{served.cookie_name}={browser.cookies[served.cookie_name]}")
    try:
        assert stream.next() is not None
        revoke(served, served.keys["write"].split("_")[2])
        assert stream.next(10) is None
    finally:
        stream.close()


def test_a_session_of_the_secret_that_stays_goes_on(served: Served) -> None:
    secret = served.server.create_key("write", "rotating")
    key_id, http = secret.split("_")[2], served.client("admin")
    newest = http.post(f"/api/v1/keys/{key_id}/rotate").json()["key"]
    browser = signed_in_with(served, newest)
    served.clock.pass_(OVERLAP)
    assert browser.get("/api/v1/items").status_code == 200


STEPS = some.lists(some.sampled_from(["rotate", "sign in", "wait an hour", "wait a day", "revoke"]), max_size=12)


@given(STEPS)
@settings(max_examples=300, deadline=None)
def test_a_session_works_exactly_while_its_secret_does(steps: list[str]) -> None:
    """The model: whatever becomes of a key, a session is accepted if and only if the secret it rests on is."""
    now, made = 0.0, keys.new_key("write", "k", 0.0, expires_at=5 * 86400.0)
    ring, sessions, secrets = Keyring([made.record]), Sessions(1e9), [made.secret]
    begun: list[tuple[str, str]] = []
    for step in steps:
        record = ring.get(made.record.key_id)
        assert record is not None
        if step == "rotate" and keys.usable(record, now):
            rotated = keys.rotated(record, now)
            ring.add(rotated.record)
            secrets.append(rotated.secret)
        elif step == "sign in":
            for secret in secrets:
                found = ring.find(secret, now)
                if found is not None and keys.usable(found, now):
                    credential = credential_of(found.type, digest(secret))
                    begun.append((secret, sessions.begin(now, key_id=found.key_id, credential=credential)[0]))
        elif step == "revoke":
            ring.add(keys.revoked(record, now))
        else:
            now += 3600.0 if step == "wait an hour" else 86400.0
        for secret, cookie in begun:
            session = sessions.find(cookie, now)
            assert session is not None
            try:
                expected = identify(ring, secret, now)
            except ProblemError:
                expected = None
            assert signed_in(ring, session, now, BY_LINK) == expected


PASSWORDS = [
    ({}, {}, True),
    ({"admin_username": "root", "admin_password": "one"}, {"admin_username": "root", "admin_password": "one"}, True),
    ({"admin_username": "root", "admin_password": "one"}, {"admin_username": "root", "admin_password": "two"}, False),
    ({"admin_username": "root", "admin_password": "one"}, {"admin_username": "toor", "admin_password": "one"}, False),
    ({"admin_username": "root", "admin_password": "one"}, {}, False),
    ({}, {"admin_username": "root", "admin_password": "one"}, False),
]


@pytest.mark.parametrize(
    ("before", "after", "stays", "by"),
    [*((*row, "link") for row in PASSWORDS), *((*row, "password") for row in PASSWORDS if row[0])],
)
def test_the_operators_sessions_end_when_the_password_changes(
    serve: Callable[..., Served], before: dict[str, str], after: dict[str, str], stays: bool, by: str
) -> None:
    served = serve(**before)
    browser = served.client()
    if by == "link":
        assert browser.get(served.server.sign_in_url()).status_code == 303
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
    assert served.server.store.flush(10)
    assert len(served.server.store.load().sessions) == stays


# Keys from the environment


def works(served: Served, secret: str) -> bool:
    return served.client(secret).get("/api/v1/keys").status_code == 200


def id_of(served: Served, secret: str) -> str:
    record = served.server.app.services.ring.owner_of(secret)
    assert record is not None
    return record.key_id


def replace_in_environment(served: Served, _: str) -> None:
    served.stop()
    served.settings = replace(served.settings, admin_key=ANOTHER)
    served.start()
    served.stop()
    served.settings = replace(served.settings, admin_key=FROM_OUTSIDE)
    served.start()


def expire_in_database(served: Served, key_id: str) -> None:
    record = served.server.app.services.ring.get(key_id)
    assert record is not None
    served.server.store.commit([SaveKey(replace(record, expires_at=served.clock() + 1.0))]).result(10)
    served.clock.pass_(1.0)


ENDS_OF_GIVEN = {
    revoke: "was revoked", revoke_by_command_line: "was revoked", rotate_and_wait: "was replaced",
    rotate_twice: "has ended", rotate_by_command_line: "has ended", expire_in_database: "has expired",
    replace_in_environment: "has ended",
}  # fmt: skip


@pytest.fixture(params=["file", "postgres"])
def given_key(request: pytest.FixtureRequest, serve: Callable[..., Served]) -> Served:
    database = request.getfixturevalue("postgres_url") if request.param == "postgres" else None
    served = serve(admin_key=FROM_OUTSIDE, **({} if database is None else {"database": database}))
    assert works(served, FROM_OUTSIDE)
    return served


@pytest.mark.parametrize("end", ENDS_OF_GIVEN)
def test_a_given_admin_key_that_ended_is_refused_at_each_start(
    given_key: Served, end: Callable[[Served, str], None], caplog: pytest.LogCaptureFixture
) -> None:
    """Also once the key itself is forgotten, 90 days later."""
    key_id = id_of(given_key, FROM_OUTSIDE)
    end(given_key, key_id)
    for why in (ENDS_OF_GIVEN[end], None):
        caplog.clear()
        given_key.restart()
        assert not works(given_key, FROM_OUTSIDE)
        assert works(given_key, given_key.keys["admin"])
        (refusal,) = (record for record in caplog.records if record.levelno == logging.ERROR)
        assert "PROGRESSBAR_ADMIN_KEY" in refusal.getMessage()
        assert FROM_OUTSIDE not in refusal.getMessage()
        assert why is None or why in refusal.getMessage()
        forget(given_key, key_id)
        given_key.restart()
        assert given_key.server.app.services.ring.get(key_id) is None


@pytest.mark.parametrize("type", ["read", "write", "admin"])
@pytest.mark.parametrize("forgotten", [False, True])
def test_an_ended_key_of_the_servers_own_is_no_admin_key_either(
    given_key: Served, caplog: pytest.LogCaptureFixture, type: str, forgotten: bool
) -> None:
    secret = given_key.server.create_key(type, "own")
    revoke(given_key, secret.split("_")[2])
    if forgotten:
        forget(given_key, secret.split("_")[2])
    given_key.stop()
    given_key.settings = replace(given_key.settings, admin_key=secret)
    given_key.start()
    assert not works(given_key, secret)
    assert "PROGRESSBAR_ADMIN_KEY" in caplog.text


def test_a_key_that_may_not_manage_does_not_become_an_admin_key(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    served.stop()
    served.settings = replace(served.settings, admin_key=served.keys["write"])
    served.start()
    assert not works(served, served.keys["write"])
    assert "is a write key and is refused" in caplog.text


def test_a_new_given_key_takes_the_identity_of_a_revoked_one(given_key: Served) -> None:
    before = id_of(given_key, FROM_OUTSIDE)
    revoke(given_key, before)
    given_key.stop()
    given_key.settings = replace(given_key.settings, admin_key=ANOTHER)
    given_key.start()
    assert works(given_key, ANOTHER)
    assert not works(given_key, FROM_OUTSIDE)
    assert id_of(given_key, ANOTHER) == before


def test_a_key_revoked_at_one_server_is_refused_by_another(
    serve: Callable[..., Served], postgres_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    one = serve(admin_key=FROM_OUTSIDE, database=postgres_url)
    other = serve(admin_key=FROM_OUTSIDE, database=postgres_url, keys=one.keys)
    revoke(other, id_of(other, FROM_OUTSIDE))
    one.restart()
    assert not works(one, FROM_OUTSIDE)
    assert not works(other, FROM_OUTSIDE)
    assert "was revoked and is refused" in caplog.text
