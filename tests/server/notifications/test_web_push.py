"""Deliver Web Push messages from real servers to a local push service, which decrypts and verifies them."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
from typing import TYPE_CHECKING

import httpx
import pytest

from progressbar_tracker.server.access import keys, subscriptions
from progressbar_tracker.server.models import MAX_WAITING_PUSHES, Notice
from progressbar_tracker.server.mutations import AddNotice
from progressbar_tracker.server.notifications import dispatcher, messages, web_push
from progressbar_tracker.server.notifications.dispatcher import MAX_MESSAGE_AGE, MIN_BACKOFF_SECONDS, PUSH_LABEL
from tests.server.notifications.test_delivery import allow_long_requests
from tests.support.push_service import PushService, follow, get_counts, list_own, patch_item, put_item
from tests.support.waiting import wait_until
from tests.support.webhook_receiver import make_response

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.push_service import Browser, PushMessage
    from tests.support.server import RunningServer, ServerGroup

pytestmark = pytest.mark.usefixtures("fast_timers")

ADMIN_KEY = "a-key-of-our-own-0123456789"


def summarize(message: PushMessage) -> tuple[object, object]:
    return message.document["event"], message.document["url"]


def find_channel_stats(served: RunningServer, subscription: dict[str, object]) -> tuple[int, int, int]:
    """Return how many messages of a subscription wait, were delivered, and were given up."""
    channel = f"push:{subscription['subscription_id']}"
    for stats in served.background.store.read_delivery_stats():
        if stats.channel == channel:
            return stats.waiting, stats.delivered, stats.given_up
    return 0, 0, 0


# Delivery.


def test_end_is_pushed_encrypted_and_signed(served: RunningServer, service: PushService, browser: Browser) -> None:
    put_item(served, title="Import", completed=1, total=4)
    public_key = served.client("read").get("/api/v1/push/key").json()["public_key"]
    subscription = follow(served, browser, item="a")
    patch_item(served, status="failed", error="ValueError: no")
    (message,) = service.wait_for_messages(1)
    assert message.document["title"] == "Import has failed"
    assert str(message.document["text"]).startswith("ValueError: no\n25 %, 1 of 4")
    assert message.document["url"] == "items/a?run=r"
    assert message.public_key == public_key
    assert message.claims["exp"] == int(served.clock()) + web_push.TOKEN_SECONDS
    assert (message.headers["urgency"], message.headers["ttl"]) == ("high", "86400")
    assert len(message.headers["topic"]) == 32
    wait_until(lambda: find_channel_stats(served, subscription) == (0, 1, 0))
    assert b"ValueError" not in service.received[0].body


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        (("end",), ["succeeded", "failed", "stopped"]), (("failure",), ["failed"]), (("stuck",), ["stuck", "stalled"]),
        (("failure", "stuck"), ["failed", "stuck", "stalled"]),
    ],
)  # fmt: skip
def test_only_the_chosen_events_are_pushed(
    push_server: RunningServer, service: PushService, browser: Browser, events: tuple[str, ...], expected: list[str]
) -> None:
    for name in ("succeeded", "failed", "stopped", "stuck", "stalled"):
        put_item(push_server, name, group="g", stuck_after=30 if name == "stuck" else None)
    follow(push_server, browser, group="g", events=events)
    for name in ("succeeded", "failed", "stopped"):
        patch_item(push_server, name, status=name)
    patch_item(push_server, "stalled", heartbeat_timeout=10)
    for _ in range(4):
        push_server.pass_time(10)
        patch_item(push_server, "stuck")  # a sign of life, without progress
    follow(push_server, last := service.subscribe(), item="last")
    put_item(push_server, "last", status="failed")
    wait_until(lambda: service.list_messages(last))
    wait_until(lambda: len(service.list_messages(browser)) >= len(expected))
    assert sorted(str(message.document["event"]) for message in service.list_messages(browser)) == sorted(expected)


def test_run_subscription_ignores_other_runs(
    push_server: RunningServer, service: PushService, browser: Browser
) -> None:
    put_item(push_server)
    follow(push_server, browser, item="a", run_id="r")
    put_item(push_server, status="succeeded")
    put_item(push_server, run_id="next", status="failed")
    follow(push_server, other := service.subscribe(), item="b")
    put_item(push_server, "b", status="failed")
    service.wait_for_messages(2)
    assert [summarize(message) for message in service.list_messages(browser)] == [("succeeded", "items/a?run=r")]
    assert len(service.list_messages(other)) == 1


def test_browser_with_two_subscriptions_gets_one_message(
    push_server: RunningServer, service: PushService, browser: Browser
) -> None:
    put_item(push_server, group="g")
    for subject in ({"item": "a"}, {"group": "g"}, {"item": "a", "run_id": "r"}):
        follow(push_server, browser, **subject)
    patch_item(push_server, status="failed")
    service.wait_for_messages(1)
    wait_until(lambda: push_server.background.store.read_due_notices(1e12, 10) == [])
    assert len(service.received) == 1


def test_messages_of_an_item_share_topic_and_tag(
    push_server: RunningServer, service: PushService, browser: Browser
) -> None:
    follow(push_server, browser, item="a", events=("end", "stuck"))
    put_item(push_server, heartbeat_timeout=10)
    push_server.clock.advance(11)
    service.wait(1)
    patch_item(push_server, status="succeeded")
    stalled, ended = service.wait_for_messages(2)
    assert stalled.headers["topic"] == ended.headers["topic"]
    assert stalled.document["tag"] == ended.document["tag"]
    assert (stalled.headers["urgency"], ended.headers["urgency"]) == ("high", "normal")


def test_hostile_long_item_fits_into_a_message(
    push_server: RunningServer, service: PushService, browser: Browser
) -> None:
    item_id, run_id = "\U0001f600" * 200, "\U0001f600" * 200
    with push_server.client("write") as http:
        follow(push_server, browser, item=item_id)
        path = "/api/v1/items:batch"
        fields = {"run_id": run_id, "title": '"' * 200, "error": '"\n' * 900, "status": "failed"}
        assert http.post(path, json={"ops": [{"op": "put", "id": item_id, **fields}]}).is_success
    (message,) = service.wait_for_messages(1)
    assert str(message.document["url"]).startswith("items/%F0%9F%98%80")
    assert str(message.document["title"]).startswith('"""')


def test_render_push_never_exceeds_the_limit() -> None:
    for error in ('"' * 2000, "\n" * 2000, "ü" * 2000, "\U0001f600" * 2000, "a" * 2000):
        body = json.dumps({"id": "a", "title": "\U0001f600" * 200, "value": 0.5, "error": error, "status": "failed"})
        notice = Notice("n" * 36, "push:x", "\U0001f600" * 200, "r" * 200, "failed", 1.5, body, 1.5)
        rendered = messages.render_push(notice)
        assert len(rendered) <= messages.MAX_PUSH_BYTES
        assert error.startswith(json.loads(rendered)["text"].split("\n50 %")[0][:20])


# Failures.


def test_failed_push_is_retried_with_the_same_id(served: RunningServer, service: PushService, browser: Browser) -> None:
    service.script += [make_response(500), b"", make_response(429)]
    put_item(served)
    subscription = follow(served, browser, item="a")
    patch_item(served, status="failed")
    for count in (1, 2, 3):
        service.wait(count)
        wait_until(lambda: get_counts(served)[1] == count)  # noqa: B023  # called at once
        wait_until(lambda: [n.attempts for n in served.background.store.read_due_notices(1e12, 9)] == [count])  # noqa: B023
        served.clock.advance(MIN_BACKOFF_SECONDS * 2**count)
    received = service.wait_for_messages(4)
    wait_until(lambda: find_channel_stats(served, subscription) == (0, 1, 0))
    assert len({message.document["id"] for message in received}) == 1
    assert received[-1].headers["ttl"] == str(86400 - int(MIN_BACKOFF_SECONDS * (2 + 4 + 8)))


@pytest.mark.parametrize("status", [404, 410])
def test_unknown_subscription_is_removed(
    served: RunningServer, service: PushService, browser: Browser, status: int
) -> None:
    subscription = follow(served, browser, item="a")
    service.script.append(make_response(status))
    put_item(served, status="failed")
    wait_until(lambda: find_channel_stats(served, subscription) == (0, 0, 1))
    wait_until(lambda: list_own(served.client("read")) == [])
    served.restart()
    assert list_own(served.client("read")) == []
    assert len(service.received) == 1


def test_undeliverable_push_is_given_up_after_a_day(
    push_server: RunningServer, service: PushService, browser: Browser
) -> None:
    service.default_response = make_response(503)
    subscription = follow(push_server, browser, item="a")
    put_item(push_server, status="failed")
    service.wait(1)
    wait_until(lambda: [n.attempts for n in push_server.background.store.read_due_notices(1e12, 9)] == [1])
    push_server.clock.advance(MAX_MESSAGE_AGE + 60)
    wait_until(lambda: find_channel_stats(push_server, subscription) == (0, 0, 1))
    assert len(list_own(push_server.client("read"))) == 1


def test_older_message_does_not_follow_a_newer_one(
    push_server: RunningServer, service: PushService, browser: Browser
) -> None:
    subscription = follow(push_server, browser, item="a", events=("end", "stuck"))
    pauses = iter([MIN_BACKOFF_SECONDS, 0.5])  # of the message, and of its channel
    push_server.background.app.services.notifier.dispatcher._uniform = lambda low, high: next(pauses)
    service.script.append(make_response(500))
    put_item(push_server, heartbeat_timeout=10)
    push_server.clock.advance(11)
    service.wait(1)
    wait_until(lambda: [n.attempts for n in push_server.background.store.read_due_notices(1e12, 9)] == [1])
    push_server.clock.advance(1)
    patch_item(push_server, status="succeeded")
    wait_until(lambda: find_channel_stats(push_server, subscription) == (1, 1, 0))
    push_server.clock.advance(MIN_BACKOFF_SECONDS)
    wait_until(lambda: find_channel_stats(push_server, subscription) == (0, 1, 1))
    assert [message.document["event"] for message in service.wait_for_messages(2)] == ["stalled", "succeeded"]


def test_clock_that_is_set_back_drops_no_message(
    push_server: RunningServer, service: PushService, browser: Browser
) -> None:
    follow(push_server, browser, item="a")
    put_item(push_server, run_id="r1", status="failed")
    service.wait_for_messages(1)
    push_server.clock.set_back(3600)
    put_item(push_server, run_id="r2", status="succeeded")
    assert [message.document["event"] for message in service.wait_for_messages(2)] == ["failed", "succeeded"]


def test_hanging_service_delays_no_other_owner(
    push_server: RunningServer, service: PushService, browser: Browser
) -> None:
    with PushService() as slow:
        slow.default_response = slow.hang
        allow_long_requests(push_server)
        allowed = push_server.background.app.services.notifier.dispatcher._web_push
        allowed._private_origins = frozenset({service.origin, slow.origin})
        http = push_server.client("other")
        for number in range(web_push.MAX_PUSHES_OF_OWNER + 2):
            record = {**slow.subscribe().fields, "endpoint": f"{slow.origin}/push/{number}"}
            endpoint = f"{service.origin}/push/{number}"
            body = {**record, "endpoint": endpoint, "events": ["end"], "item": "a"}
            assert http.post("/api/v1/push/subscriptions", json=body).is_success
        known = push_server.background.app.services.credentials.subscriptions
        from msgspec.structs import replace

        known.replace_all([replace(r, endpoint=r.endpoint.replace(service.origin, slow.origin)) for r in known.all()])
        follow(push_server, browser, item="a")
        put_item(push_server, status="failed")
        slow.wait(web_push.MAX_PUSHES_OF_OWNER)
        assert service.wait_for_messages(1)
        assert len(slow.received) == web_push.MAX_PUSHES_OF_OWNER


# The holder of a subscription.


def end_session(served: RunningServer, http: httpx.Client) -> None:
    http.post("/logout")


def revoke_key(served: RunningServer, key: str) -> None:
    record = served.background.app.services.keyring.find(served.keys[key], served.clock())
    assert record is not None
    assert served.client("admin").delete(f"/api/v1/keys/{record.key_id}").status_code == 200


def rotate_key(served: RunningServer, key: str) -> None:
    record = served.background.app.services.keyring.find(served.keys[key], served.clock())
    assert record is not None
    assert served.client("admin").post(f"/api/v1/keys/{record.key_id}/rotate").status_code == 200


def test_subscription_ends_with_its_key(served: RunningServer, service: PushService, browser: Browser) -> None:
    put_item(served)
    subscription = follow(served, browser, item="a")
    follow(served, kept := service.subscribe(), "admin", item="a")
    revoke_key(served, "read")
    wait_until(lambda: len(served.background.app.services.credentials.subscriptions) == 1)
    patch_item(served, status="failed")
    service.wait_for_messages(1)
    assert service.list_messages(browser) == []
    assert len(service.list_messages(kept)) == 1
    assert find_channel_stats(served, subscription) == (0, 0, 0)


def test_subscription_ends_with_its_session(served: RunningServer, service: PushService, browser: Browser) -> None:
    put_item(served)
    signed_in = served.browser()
    follow(served, browser, signed_in, item="a")
    follow(served, kept := service.subscribe(), served.browser(), item="a")
    assert signed_in.post("/logout").status_code == 303
    wait_until(lambda: len(served.background.app.services.credentials.subscriptions) == 1)
    patch_item(served, status="failed")
    service.wait_for_messages(1)
    assert service.list_messages(browser) == []
    assert len(service.list_messages(kept)) == 1
    served.restart()
    assert len(served.background.app.services.credentials.subscriptions) == 1


def test_waiting_message_is_not_sent_after_the_revocation(
    push_server: RunningServer, service: PushService, browser: Browser
) -> None:
    service.script.append(make_response(500))
    follow(push_server, browser, item="a")
    put_item(push_server, status="failed")
    service.wait(1)
    wait_until(lambda: get_counts(push_server)[1] == 1)
    revoke_key(push_server, "read")
    push_server.clock.advance(3600)
    follow(push_server, service.subscribe(), "admin", item="b")
    put_item(push_server, "b", status="failed")
    service.wait(2)
    wait_until(lambda: push_server.background.store.read_due_notices(1e12, 9) == [])
    assert len(service.list_messages(browser)) == 1


def test_subscription_of_a_rotated_key_ends_with_the_old_secret(
    push_server: RunningServer, service: PushService, browser: Browser
) -> None:
    follow(push_server, browser, item="a")
    follow(push_server, kept := service.subscribe(), "admin", item="a")
    rotate_key(push_server, "read")
    put_item(push_server, status="failed")
    service.wait_for_messages(2)
    push_server.clock.advance(keys.ROTATION_GRACE_SECONDS + 1)
    put_item(push_server, run_id="next", status="failed")
    wait_until(lambda: len(service.list_messages(kept)) == 2)
    wait_until(lambda: push_server.background.store.read_due_notices(1e12, 9) == [])
    assert len(service.list_messages(browser)) == 1


def test_expired_session_gets_nothing(push_server: RunningServer, service: PushService, browser: Browser) -> None:
    follow(push_server, browser, push_server.browser(), item="a")
    push_server.clock.advance(push_server.settings.session_seconds + 1)
    follow(push_server, kept := service.subscribe(), "admin", item="a")
    put_item(push_server, status="failed")
    wait_until(lambda: service.list_messages(kept))
    wait_until(lambda: push_server.background.store.read_due_notices(1e12, 9) == [])
    assert service.list_messages(browser) == []


def test_holder_sees_and_deletes_only_its_own(push_server: RunningServer, service: PushService) -> None:
    subscription = follow(push_server, service.subscribe(), item="a")
    path = f"/api/v1/push/subscriptions/{subscription['subscription_id']}"
    for other in (push_server.client("admin"), push_server.browser(), push_server.client("write")):
        assert list_own(other) == []
        assert other.delete(path).status_code == 404
    mine = push_server.client("read")
    assert list_own(mine) == [subscription]
    assert mine.delete(path).json() == subscription
    assert mine.delete(path).status_code == 404
    assert list_own(mine) == []


def test_deleted_subscription_drops_its_waiting_message(
    served: RunningServer, service: PushService, browser: Browser
) -> None:
    service.default_response = make_response(500)
    subscription = follow(served, browser, item="a")
    put_item(served, status="failed")
    service.wait(1)
    # A message that is under way is dropped later, when its next attempt is due.
    wait_until(lambda: [n.attempts for n in served.background.store.read_due_notices(1e12, 9)] == [1])
    http = served.client("read")
    assert http.delete(f"/api/v1/push/subscriptions/{subscription['subscription_id']}").status_code == 200
    wait_until(lambda: find_channel_stats(served, subscription) == (0, 0, 1))


# Requests.


def test_repeated_subscription_replaces_the_events(push_server: RunningServer, browser: Browser) -> None:
    first = follow(push_server, browser, item="a", events=("end",))
    second = follow(push_server, browser, item="a", events=("stuck", "failure"))
    assert second == {**first, "events": ["failure", "stuck"]}
    assert list_own(push_server.client("read")) == [second]
    assert browser.fields["endpoint"] not in json.dumps(second)


def test_holder_has_at_most_twenty_subscriptions(push_server: RunningServer, browser: Browser) -> None:
    for number in range(subscriptions.MAX_SUBSCRIPTIONS):
        follow(push_server, browser, item=str(number))
    http = push_server.client("read")
    body = {**browser.fields, "events": ["end"], "item": "one more"}
    refused = http.post("/api/v1/push/subscriptions", json=body)
    assert (refused.status_code, refused.json()["type"]) == (409, "/problems/too-many-subscriptions")
    follow(push_server, browser, item="0", events=("stuck",))
    follow(push_server, browser, push_server.browser(), item="one more")


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"endpoint": "http://push.example.org/1"}, "endpoint"),
        ({"endpoint": "https://push.example.org:8443/1"}, "endpoint"),
        ({"endpoint": "https://user@push.example.org/1"}, "endpoint"),
        ({"endpoint": "https://[::1]/1"}, "endpoint"),
        ({"endpoint": "https:///1"}, "endpoint"),
        ({"endpoint": "https://push.example.org\\@127.0.0.1/"}, "endpoint"),
        ({"endpoint": "https://push.example.org/#x"}, "endpoint"),
        ({"endpoint": "file:///etc/passwd"}, "endpoint"),
        ({"endpoint": "http://127.0.0.1:1/1"}, "endpoint"),
        ({"endpoint": "https://push.example.org/" + "x" * 1000}, "endpoint"),
        ({"endpoint": None}, "endpoint"),
        ({"p256dh": "A" * 87}, "p256dh"),
        ({"p256dh": "B"}, "p256dh"),
        ({"p256dh": 1}, "p256dh"),
        ({"auth": "x" * 21}, "auth"),
        ({"auth": "*" * 22}, "auth"),
        ({"events": []}, "events"),
        ({"events": ["end", "other"]}, "events"),
        ({"events": [{}]}, "events"),
        ({"events": "end"}, "events"),
        ({"item": None}, "item"),
        ({"group": "g"}, "item"),
        ({"item": "\u0000"}, "item"),
        ({"item": None, "group": "g", "run_id": "r"}, "run_id"),
        ({"run_id": ""}, "run_id"),
    ],
)
def test_invalid_subscription_is_refused(
    module_server: RunningServer, browser: Browser, fields: dict[str, object], field: str
) -> None:
    valid = {**browser.fields, "endpoint": "https://push.example.org/1", "events": ["end"], "item": "a"}
    reply = module_server.client("read").post("/api/v1/push/subscriptions", json={**valid, **fields})
    assert (reply.status_code, reply.json()["field"]) == (422, field)
    assert "127.0.0.1" not in reply.text


def test_endpoint_in_a_private_network_is_never_contacted(
    make_server: Callable[..., RunningServer], service: PushService, caplog: pytest.LogCaptureFixture
) -> None:
    served = make_server()
    body = {**service.subscribe().fields, "endpoint": "https://localhost/push", "events": ["end"], "item": "a"}
    assert served.client("read").post("/api/v1/push/subscriptions", json=body).status_code == 201
    assert served.client("read").get("/api/v1/push/key").is_success
    put_item(served, status="failed")
    wait_until(lambda: "which a webhook may not lead to" in caplog.text)
    assert service.received == []


def test_server_without_the_packages_refuses_subscriptions(
    push_server: RunningServer, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("progressbar_tracker.server.api.subscriptions.is_installed", lambda: False)
    http = push_server.client("read")
    replies = [
        http.get("/api/v1/push/key"),
        http.post("/api/v1/push/subscriptions", json={**browser.fields, "events": ["end"], "item": "a"}),
    ]
    assert [(reply.status_code, reply.json()["type"]) for reply in replies] == [(501, "/problems/push-unavailable")] * 2


def test_waiting_pushes_leave_room_for_channels(push_server: RunningServer, monkeypatch: pytest.MonkeyPatch) -> None:
    store = push_server.background.store
    monkeypatch.setattr("progressbar_tracker.server.models.MAX_WAITING_PUSHES", 2)
    assert MAX_WAITING_PUSHES == 5000
    at = push_server.clock() + 1e6
    for channel in ("push:1", "push:2", "push:3", "hook"):
        store.commit([AddNotice(Notice(channel, channel, "a", "r", "failed", at, "{}", at))]).result(60)
    assert sorted(notice.channel for notice in store.read_due_notices(at, 9)) == ["hook", "push:1", "push:2"]


def test_secrets_of_browsers_are_neither_shown_nor_logged(
    push_server: RunningServer, service: PushService, browser: Browser, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    follow(push_server, browser, item="a")
    service.script += [make_response(500)]
    put_item(push_server, status="failed")
    service.wait(1)
    wait_until(lambda: get_counts(push_server)[1] == 1)
    push_server.clock.advance(MIN_BACKOFF_SECONDS)
    wait_until(lambda: get_counts(push_server)[0] == 1)
    http = push_server.client("admin")
    text = caplog.text + http.get("/metrics").text + http.get("/api/v1/channels").text
    text += repr(push_server.background.app.services.credentials.subscriptions.all())
    private_key = push_server.background.app.services.credentials.vapid_key
    assert private_key is not None
    for secret in (*browser.fields.values(), browser.path, private_key):
        assert secret not in text
    assert f'progressbar_notifications_total{{channel="{PUSH_LABEL}",result="delivered"}} 1.0' in text


# Restarts and several servers.


def test_subscription_and_key_survive_a_restart(served: RunningServer, service: PushService, browser: Browser) -> None:
    follow(served, browser, item="a")
    put_item(served)
    public_key = served.client("read").get("/api/v1/push/key").json()["public_key"]
    served.restart()
    patch_item(served, status="failed")
    (message,) = service.wait_for_messages(1)
    assert message.public_key == public_key


def test_unmarked_push_is_resent_with_the_same_id(
    served: RunningServer, service: PushService, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def no_mark(dispatcher: dispatcher.OutboxDispatcher, mark: object) -> bool:
        dispatcher._unrecorded[mark.notice_id] = mark
        return False

    follow(served, browser, item="a")
    with monkeypatch.context() as patched:
        patched.setattr(dispatcher.OutboxDispatcher, "_record_result", no_mark)
        put_item(served, status="failed")
        service.wait(1)
        served.stop()
    served.start()
    first, second = service.wait_for_messages(2)
    assert first.document == second.document


class ServeProcess:
    """A server process that a test can kill."""

    def __init__(self, database: str, service: PushService) -> None:
        environ = os.environ | {
            "PROGRESSBAR_DATABASE": database, "PROGRESSBAR_PORT": "0", "PROGRESSBAR_ADMIN_KEY": ADMIN_KEY,
            "PROGRESSBAR_LOCAL_KEY": "0", "PROGRESSBAR_PUSH_ORIGINS": service.origin,
        }  # fmt: skip
        self._process = subprocess.Popen(
            [sys.executable, "-m", "progressbar_tracker", "serve"], env=environ, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        line = next(line for line in self._process.stdout if line.startswith("Serving on "))
        self.http = httpx.Client(base_url=line.split()[2], headers={"X-API-KEY": ADMIN_KEY}, timeout=60)

    def kill(self) -> None:
        self.http.close()
        self._process.send_signal(signal.SIGKILL)
        self._process.communicate(timeout=60)


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_killed_server_loses_no_push(
    request: pytest.FixtureRequest, tmp_path: Path, service: PushService, kind: str
) -> None:
    database = request.getfixturevalue("postgres_url") if kind == "postgres" else str(tmp_path / "p.db")
    browsers = [service.subscribe() for _ in range(5)]
    server = ServeProcess(database, service)
    try:
        assert server.http.get("/api/v1/push/key").is_success
        for number, browser in enumerate(browsers):
            body = {**browser.fields, "events": ["end"], "item": str(number)}
            assert server.http.post("/api/v1/push/subscriptions", json=body).status_code == 201
        service.script += [make_response(200), service.hang, make_response(200), service.hang]
        ops = [{"op": "put", "id": str(number), "run_id": "r", "status": "failed"} for number in range(5)]
        assert server.http.post("/api/v1/items:batch", json={"ops": ops}).is_success
        service.wait(3, 60)
        server.kill()
        server = ServeProcess(database, service)
        wait_until(lambda: all(service.list_messages(browser) for browser in browsers))
        for browser in browsers:
            assert len({message.document["id"] for message in service.list_messages(browser)}) == 1
    finally:
        server.kill()


def test_servers_share_the_key_and_push_each_event_once(
    replicas: tuple[ServerGroup, RunningServer, RunningServer], service: PushService
) -> None:
    _, follower, leader = replicas
    browsers = [service.subscribe() for _ in range(8)]
    public_keys = {served.client("read").get("/api/v1/push/key").json()["public_key"] for served in (follower, leader)}
    assert len(public_keys) == 1
    for number, browser in enumerate(browsers):
        # The end arrives at a server that may not know of the subscription yet.
        first, second = (follower, leader) if number % 2 else (leader, follower)
        follow(first, browser, item=str(number))
        put_item(second, str(number), status="failed")
    wait_until(lambda: all(service.list_messages(browser) for browser in browsers))
    wait_until(lambda: leader.background.store.read_due_notices(1e12, 99) == [])
    assert [len(service.list_messages(browser)) for browser in browsers] == [1] * 8


def test_end_stored_by_an_unaware_server_is_pushed(
    replicas: tuple[ServerGroup, RunningServer, RunningServer],
    service: PushService,
    browser: Browser,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _, follower, leader = replicas
    put_item(follower, "a")
    unaware = follower.background.app.services.notifier
    monkeypatch.setattr(unaware, "_build_end_pushes", lambda before, after: [])
    follow(leader, browser, item="a")
    patch_item(follower, "a", status="failed")
    service.wait_for_messages(1)
    wait_until(lambda: leader.background.store.read_due_notices(1e12, 99) == [])
    assert len(service.received) == 1


def test_new_leader_continues_the_pushes(
    replicas: tuple[ServerGroup, RunningServer, RunningServer], service: PushService, browser: Browser
) -> None:
    group, follower, leader = replicas
    follow(follower, browser, item="a")
    service.script.append(make_response(500))
    put_item(follower, status="failed")
    service.wait(1)
    wait_until(lambda: [n.attempts for n in follower.background.store.read_due_notices(1e12, 9)] == [1])
    leader.stop()
    group.clock.advance(MIN_BACKOFF_SECONDS)
    first, second = service.wait_for_messages(2)
    assert first.document == second.document


def test_key_revoked_on_one_server_ends_the_pushes_of_all(
    replicas: tuple[ServerGroup, RunningServer, RunningServer], service: PushService, browser: Browser
) -> None:
    group, follower, leader = replicas
    follow(leader, browser, item="a")
    follow(leader, kept := service.subscribe(), "admin", item="a")
    revoke_key(follower, "read")
    group.wait_for_all(lambda served: len(served.background.app.services.credentials.subscriptions), 1)
    put_item(leader, status="failed")
    wait_until(lambda: service.list_messages(kept))
    wait_until(lambda: leader.background.store.read_due_notices(1e12, 9) == [])
    assert service.list_messages(browser) == []


def test_endpoints_are_stored_in_their_own_table_only(
    push_server: RunningServer, service: PushService, browser: Browser
) -> None:
    follow(push_server, browser, item="a")
    put_item(push_server, status="failed")
    service.wait_for_messages(1)
    push_server.stop()
    with sqlite3.connect(push_server.database) as database:
        lines = [line for line in database.iterdump() if browser.path in line]
    database.close()
    push_server.start()
    assert [line.split("(")[0] for line in lines] == ['INSERT INTO "subscriptions" VALUES']


def test_server_without_subscriptions_starts_no_thread(make_server: Callable[..., RunningServer]) -> None:
    served = make_server()
    put_item(served, status="failed")
    assert served.background.app.services.notifier.dispatcher._thread is None
    assert served.background.app.services.credentials.vapid_key is None
