"""Deliver notifications from real servers to real receivers."""

from __future__ import annotations

import base64
import email
import email.policy
import json
import logging
import os
import signal
import sqlite3
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import httpx
import pytest
from aiosmtpd.controller import Controller
from standardwebhooks.webhooks import Webhook

from progressbar_tracker import ProgressBar
from progressbar_tracker._errors import ConfigError
from progressbar_tracker.server import maintenance
from progressbar_tracker.server.models import Notice, rfc3339
from progressbar_tracker.server.mutations import AddNotice
from progressbar_tracker.server.notifications import dispatcher
from progressbar_tracker.server.notifications.dispatcher import (
    MAX_BACKOFF_SECONDS,
    MAX_MESSAGE_AGE,
    MIN_BACKOFF_SECONDS,
    OutboxDispatcher,
)
from tests.support.connections import find_free_port
from tests.support.server import ServerGroup
from tests.support.waiting import wait_until
from tests.support.webhook_receiver import WebhookReceiver, make_response

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.postgres import Cluster
    from tests.support.server import RunningServer

SIGNING_SECRET = "whsec_" + base64.b64encode(bytes(range(40))).decode()


def write_channels(folder: Path, receiver: WebhookReceiver, more: str = "", **fields: object) -> Path:
    """Write a file with one channel named ``hook``."""
    lines = "".join(f"{name} = {json.dumps(value)}\n" for name, value in fields.items())
    path = folder / "channels.toml"
    path.write_text(
        f'[channels.hook]\nurl = "{receiver.url}?token=VerySecret"\nsecret = "{SIGNING_SECRET}"\nallow_private = true\n'
        f"{lines}{more}"
    )
    return path


@pytest.fixture
def make_hook_server(
    make_server: Callable[..., RunningServer], tmp_path: Path, receiver: WebhookReceiver
) -> Callable[..., RunningServer]:
    """Start servers with the channel ``hook``."""

    def start(more: str = "", **fields: object) -> RunningServer:
        return make_server(channels=write_channels(tmp_path, receiver, more, **fields))

    return start


def put_item(served: RunningServer, item_id: str = "a", **fields: object) -> None:
    body = {"run_id": "r", "notify": ["hook"], **fields}
    assert served.client("write").put(f"/api/v1/items/{item_id}", json=body).is_success


def patch_item(served: RunningServer, item_id: str = "a", **fields: object) -> None:
    assert served.client("write").patch(f"/api/v1/items/{item_id}", json={"run_id": "r", **fields}).is_success


def allow_long_requests(served: RunningServer) -> None:
    """Let a message that hangs outlive the test, however slow the machine is."""
    served.background.app.services.notifier.dispatcher._webhooks._timeout = 150.0


def received_documents(receiver: WebhookReceiver) -> list[dict[str, object]]:
    return [json.loads(request.body) for request in receiver.received]


def get_channel(served: RunningServer, name: str = "hook") -> dict[str, object]:
    channels = served.client("admin").get("/api/v1/channels").json()["channels"]
    return next(channel for channel in channels if channel["name"] == name)


def is_outbox_empty(served: RunningServer) -> bool:
    """Return whether the outbox had messages, and all of them are done."""
    channel = get_channel(served)
    return channel["waiting"] == 0 and channel["delivered"] + channel["given_up"] > 0


def count_attempts(served: RunningServer) -> int:
    """Return the number of failed attempts in the outbox."""
    return sum(notice.attempts for notice in served.background.store.read_due_notices(1e12, 10))


@pytest.fixture(autouse=True)
def fast_timers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the intervals that most tests wait for."""
    monkeypatch.setattr(dispatcher, "POLL_INTERVAL", 0.05)
    monkeypatch.setattr(maintenance, "MAINTENANCE_INTERVAL", 0.05)


# Events.


@pytest.mark.parametrize("end", ["succeeded", "failed"])
def test_end_is_delivered_signed_with_the_item(
    make_hook_server: Callable[..., RunningServer], receiver: WebhookReceiver, end: str
) -> None:
    served = make_hook_server()
    put_item(served, title="Import", completed=1, total=4)
    patch_item(served, status=end, error="ValueError: no" if end == "failed" else None)
    (request,) = receiver.wait(1)
    document = json.loads(request.body)
    assert (document["type"], document["data"]["title"], document["data"]["status"]) == (f"item.{end}", "Import", end)
    headers = {**request.headers, "webhook-timestamp": str(int(time.time()))}
    with pytest.raises(Exception, match=r"too new|too old"):
        Webhook(SIGNING_SECRET).verify(request.body, request.headers)  # the server uses a test clock
    assert set(headers) >= {"webhook-id", "webhook-signature"}
    wait_until(lambda: get_channel(served)["delivered"] == 1)
    assert get_channel(served)["delivered_at"] == rfc3339(served.clock())


def test_item_without_channels_is_not_delivered(
    make_hook_server: Callable[..., RunningServer], receiver: WebhookReceiver
) -> None:
    served = make_hook_server()
    put_item(served, "a", notify=[])
    patch_item(served, "a", status="failed")
    put_item(served, "b")
    patch_item(served, "b", status="failed")
    receiver.wait(1)
    wait_until(lambda: is_outbox_empty(served))
    assert [document["data"]["id"] for document in received_documents(receiver)] == ["b"]


def test_channel_subscribes_to_group_or_all_items(
    make_hook_server: Callable[..., RunningServer], receiver: WebhookReceiver
) -> None:
    served = make_hook_server(
        f'[channels.all]\nurl = "{receiver.url}/all"\nall = true\nallow_private = true\n', groups=["g"]
    )
    put_item(served, "a", notify=[], group="g")
    assert (
        served.client("write")
        .post("/progress", json={"id": "b", "title": "", "description": "", "value": 1, "weight": 0})
        .is_success
    )
    patch_item(served, "a", status="failed")
    lines = {(request.line.split()[1], json.loads(request.body)["data"]["id"]) for request in receiver.wait(3)}
    assert lines == {("/hook?token=VerySecret", "a"), ("/hook/all", "a"), ("/hook/all", "b")}


def test_crossed_percentage_is_delivered_once(
    make_hook_server: Callable[..., RunningServer], receiver: WebhookReceiver
) -> None:
    served = make_hook_server(on=["25%", "75%"])
    put_item(served, completed=0, total=100)
    for completed in (24, 25, 26, 20, 30, 80):
        patch_item(served, completed=completed)
    receiver.wait(2)
    wait_until(lambda: is_outbox_empty(served))
    assert {document["type"] for document in received_documents(receiver)} == {"item.reached"}
    assert sorted(document["percent"] for document in received_documents(receiver)) == [25, 75]


def test_each_stall_of_a_run_is_delivered_once(
    make_hook_server: Callable[..., RunningServer], receiver: WebhookReceiver
) -> None:
    served = make_hook_server(on=["stalled"])
    put_item(served, heartbeat_timeout=60)
    for count in (1, 2):
        served.clock.advance(61)
        receiver.wait(count)
        served.clock.advance(61)
        wait_until(lambda: is_outbox_empty(served))
        patch_item(served)
    assert [document["type"] for document in received_documents(receiver)] == ["item.stalled"] * 2
    assert len({request.headers["webhook-id"] for request in receiver.received}) == 2


def test_late_event_is_delivered_once_per_run(
    make_hook_server: Callable[..., RunningServer], receiver: WebhookReceiver
) -> None:
    served = make_hook_server(on=["late"])
    put_item(served, deadline=rfc3339(served.clock() + 30))
    served.clock.advance(29)
    patch_item(served)
    served.clock.advance(2)
    (request,) = receiver.wait(1)
    document = json.loads(request.body)
    assert (document["type"], document["data"]["late"]) == ("item.late", True)
    patch_item(served, deadline=rfc3339(served.clock() + 10))
    served.clock.advance(11)
    put_item(served, "b", deadline=rfc3339(served.clock()))
    receiver.wait(2)
    assert [document["data"]["id"] for document in received_documents(receiver)] == ["a", "b"]


def test_restart_delivers_nothing_twice(
    make_hook_server: Callable[..., RunningServer], receiver: WebhookReceiver
) -> None:
    served = make_hook_server(on=["stalled", "late", "failed"])
    put_item(served, "a", heartbeat_timeout=60, deadline=rfc3339(served.clock() + 30))
    put_item(served, "b", status="failed")
    served.clock.advance(61)
    receiver.wait(3)
    wait_until(lambda: get_channel(served)["delivered"] == 3)
    served.restart()
    served.clock.advance(61)
    put_item(served, "c", status="failed")
    receiver.wait(4)
    assert [document["data"]["id"] for document in received_documents(receiver)][3:] == ["c"]


def test_unknown_channel_is_accepted_and_logged_once(
    make_hook_server: Callable[..., RunningServer], caplog: pytest.LogCaptureFixture
) -> None:
    served = make_hook_server()
    with caplog.at_level(logging.WARNING):
        put_item(served, "a", notify=["unknown", "hook"])
        put_item(served, "b", notify=["unknown"])
    assert [line for line in caplog.messages if "unknown" in line] == [
        "the item 'a' names the channel 'unknown', which does not exist"
    ]


def test_changed_channel_file_needs_no_restart(
    make_hook_server: Callable[..., RunningServer], receiver: WebhookReceiver, tmp_path: Path
) -> None:
    served = make_hook_server(on=["failed"])
    put_item(served, "a", status="succeeded")
    write_channels(tmp_path, receiver, on=["succeeded"])
    wait_until(lambda: get_channel(served)["on"] == ["succeeded"])
    put_item(served, "b", status="succeeded")
    (request,) = receiver.wait(1)
    assert json.loads(request.body)["data"]["id"] == "b"


def test_invalid_channel_file_fails_the_start(make_server: Callable[..., RunningServer], tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text("[channels.x]\nurll = 1\n")
    with pytest.raises(ConfigError, match=r"c\.toml line 2: channels\.x: unknown field 'urll'"):
        make_server(channels=tmp_path / "c.toml")


def test_tracked_loop_delivers_its_end(
    make_hook_server: Callable[..., RunningServer], receiver: WebhookReceiver
) -> None:
    served = make_hook_server()
    with ProgressBar(served.background.url, served.keys["write"]) as client:
        with pytest.raises(ValueError, match="no"), client.track(total=3, id="a", notify="hook", deadline=3600) as bar:
            bar.advance()
            raise ValueError("no")
        assert client.sender.flush(60)
    (request,) = receiver.wait(1)
    item = json.loads(request.body)["data"]
    assert (item["error"], item["notify"], item["completed"]) == ("ValueError: no", ["hook"], 1)
    assert item["deadline"] is not None


# Failures.


def test_failed_message_is_retried_with_the_same_id(
    make_hook_server: Callable[..., RunningServer], receiver: WebhookReceiver
) -> None:
    served = make_hook_server()
    receiver.script += [make_response(500), b"", b"garbage\r\n\r\n"]
    put_item(served, status="failed")
    for count in (1, 2, 3):
        receiver.wait(count)
        wait_until(lambda: count_attempts(served) == count)  # noqa: B023  # called at once
        served.clock.advance(MIN_BACKOFF_SECONDS * 2**count)
    receiver.wait(4)
    wait_until(lambda: get_channel(served)["delivered"] == 1)
    assert len({request.headers["webhook-id"] for request in receiver.received}) == 1
    assert len({request.body for request in receiver.received}) == 1
    counts = served.background.app.services.notifier.dispatcher.counts["hook"]
    assert (counts.delivered, counts.failed, counts.given_up) == (1, 3, 0)


def test_undeliverable_messages_are_given_up_after_a_day(
    make_hook_server: Callable[..., RunningServer], receiver: WebhookReceiver, caplog: pytest.LogCaptureFixture
) -> None:
    served = make_hook_server()
    receiver.default_response = make_response(503)
    for name in "abc":
        put_item(served, name, status="failed")
    receiver.wait(1)
    wait_until(lambda: get_channel(served)["error"] is not None)
    served.clock.advance(MAX_MESSAGE_AGE + 60)
    wait_until(lambda: get_channel(served)["given_up"] == 3)
    assert get_channel(served)["waiting"] == 0
    assert len([line for line in caplog.messages if line.startswith("a message to hook is given up: failed of ")]) == 3
    assert "VerySecret" not in caplog.text


def test_message_that_cannot_be_rendered_is_given_up_after_a_day(
    make_hook_server: Callable[..., RunningServer], receiver: WebhookReceiver, caplog: pytest.LogCaptureFixture
) -> None:
    served = make_hook_server()
    notice = Notice(
        notice_id="msg_1", channel="hook", item_id="a", run_id="r", event="many%", at=served.clock(), body="{}",
        next_at=served.clock(),
    )  # fmt: skip
    served.background.store.commit([AddNotice(notice)]).result()
    wait_until(lambda: count_attempts(served) == 1)
    served.clock.advance(MAX_MESSAGE_AGE)
    wait_until(lambda: get_channel(served)["given_up"] == 1)
    put_item(served, "b", status="failed")
    served.clock.advance(MAX_BACKOFF_SECONDS)
    receiver.wait(1)
    assert "a message to hook failed: many% of 'a'" in caplog.text


def test_waiting_messages_are_counted_in_the_metrics(
    make_hook_server: Callable[..., RunningServer], receiver: WebhookReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatcher, "TRIM_INTERVAL", 0.0)
    served = make_hook_server()

    def is_exported(count: int) -> bool:
        return f"\nprogressbar_notifications_waiting {count}.0\n" in served.client("read").get("/metrics").text

    receiver.default_response = make_response(503)
    for name in "abc":
        put_item(served, name, status="failed")
    wait_until(lambda: is_exported(3))
    monkeypatch.setattr(served.background.app.services.notifier.dispatcher, "_is_leader", lambda: False)
    wait_until(lambda: is_exported(0))


def test_unsubscribed_receiver_gets_no_more_messages(
    make_hook_server: Callable[..., RunningServer],
    receiver: WebhookReceiver,
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
) -> None:
    served = make_hook_server()
    receiver.script.append(make_response(410))
    put_item(served, "a", status="failed")
    wait_until(lambda: get_channel(served)["off"])
    put_item(served, "b", status="failed")
    wait_until(lambda: get_channel(served)["given_up"] == 2)
    assert len(receiver.received) == 1
    assert any(line.startswith("the channel hook is off until") for line in caplog.messages)
    write_channels(tmp_path, receiver, on=["failed"])
    wait_until(lambda: not get_channel(served)["off"])
    put_item(served, "c", status="failed")
    assert json.loads(receiver.wait(2)[1].body)["data"]["id"] == "c"


def test_hanging_channel_delays_no_other_and_no_request(
    make_hook_server: Callable[..., RunningServer], receiver: WebhookReceiver
) -> None:
    with WebhookReceiver() as other:
        other.default_response = other.hang
        served = make_hook_server(f'[channels.slow]\nurl = "{other.url}"\nallow_private = true\n')
        allow_long_requests(served)
        put_item(served, "a", notify=["slow"], status="failed")
        other.wait(1)
        put_item(served, "b", status="failed")
        receiver.wait(1)


def test_unmarked_message_is_resent_with_the_same_id(
    make_hook_server: Callable[..., RunningServer], receiver: WebhookReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def no_mark(dispatcher: OutboxDispatcher, mark: object) -> bool:
        dispatcher._unrecorded[mark.notice_id] = mark
        return False

    served = make_hook_server()
    with monkeypatch.context() as patched:
        patched.setattr(OutboxDispatcher, "_record_result", no_mark)
        put_item(served, status="failed")
        receiver.wait(1)
        served.stop()
    served.start()
    first, second = receiver.wait(2)
    assert (first.headers["webhook-id"], first.body) == (second.headers["webhook-id"], second.body)


def test_delivered_message_is_not_resent_on_a_full_disk(
    make_hook_server: Callable[..., RunningServer], receiver: WebhookReceiver, disk: object
) -> None:
    served = make_hook_server()

    def fill(connection: object) -> None:
        disk.full = True
        connection.sendall(make_response(200))

    receiver.script.append(fill)
    put_item(served, status="failed")
    receiver.wait(1)
    wait_until(lambda: served.background.app.services.notifier.dispatcher._unrecorded)
    time.sleep(0.3)  # several poll intervals
    assert len(receiver.received) == 1
    disk.full = False
    wait_until(lambda: get_channel(served)["delivered"] == 1)
    assert len(receiver.received) == 1


def test_unmarked_message_holds_the_others_back(
    make_hook_server: Callable[..., RunningServer], receiver: WebhookReceiver, disk: object
) -> None:
    """A server that takes over repeats what has no mark: of a channel it is one message, not a batch of them."""
    served = make_hook_server()
    allow_long_requests(served)
    outbox = served.background.app.services.notifier.dispatcher

    def fill(connection: object) -> None:
        disk.full = True
        connection.sendall(make_response(200))

    def answer_later(connection: object) -> None:
        receiver.released.wait(60)
        connection.sendall(make_response(200))

    receiver.script += [answer_later, fill]
    put_item(served, "a", status="failed")
    receiver.wait(1)
    for name in "bc":  # the next batch
        put_item(served, name, status="failed")
    receiver.released.set()
    receiver.wait(2)
    wait_until(lambda: any(outbox._unrecorded.values()) and not outbox._busy)
    assert len(receiver.received) == 2
    disk.full = False
    wait_until(lambda: get_channel(served)["delivered"] == 3)
    assert len({request.headers["webhook-id"] for request in receiver.received}) == 3


def test_server_killed_before_marking_resends_the_message(tmp_path: Path, receiver: WebhookReceiver) -> None:
    path = write_channels(tmp_path, receiver, all=True)
    environ = os.environ | {
        "PROGRESSBAR_CHANNELS": str(path), "PROGRESSBAR_DATABASE": str(tmp_path / "p.db"), "PROGRESSBAR_PORT": "0",
        "PROGRESSBAR_ADMIN_KEY": "a-key-of-our-own-0123456789", "PROGRESSBAR_LOCAL_KEY": "0",
    }  # fmt: skip

    def start() -> tuple[subprocess.Popen[str], str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "progressbar_tracker", "serve"], env=environ, stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        line = next(line for line in process.stdout if line.startswith("Serving on "))
        return process, line.split()[2]

    receiver.script.append(receiver.hang)
    process, url = start()
    try:
        key = {"X-API-KEY": "a-key-of-our-own-0123456789"}
        assert httpx.put(f"{url}/api/v1/items/a", json={"status": "failed"}, headers=key, timeout=20).is_success
        receiver.wait(1)
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=60)
        process, url = start()
        first, second = receiver.wait(2)
        assert (first.headers["webhook-id"], first.body) == (second.headers["webhook-id"], second.body)
        assert Webhook(SIGNING_SECRET).verify(second.body, second.headers)["type"] == "item.failed"
    finally:
        process.kill()
        process.communicate(timeout=60)


# Several servers.


@pytest.fixture
def replicas(postgres_cluster: Cluster, postgres_url: str, tmp_path: Path) -> Iterator[ServerGroup]:
    """Servers on one PostgreSQL database."""
    group = ServerGroup(tmp_path, postgres_url)
    yield group
    group.stop()


def test_several_servers_deliver_each_event_once(
    replicas: ServerGroup, receiver: WebhookReceiver, tmp_path: Path
) -> None:
    path = write_channels(tmp_path, receiver, on=["failed", "50%", "stalled", "late"])
    first, second = replicas.start(channels=path), replicas.start(channels=path)
    put_item(first, total=100, heartbeat_timeout=60, deadline=rfc3339(replicas.clock() + 30))
    replicas.wait_for_all(lambda served: served.client("read").get("/api/v1/items/a").status_code, 200)
    # Only the sum of both parts crosses 50 %.
    patch_item(first, part="1", completed=30)
    patch_item(second, part="2", completed=30)
    receiver.wait(1)
    replicas.clock.advance(61)
    receiver.wait(3)
    for served in (first, second):
        patch_item(served, status="failed")
    receiver.wait(4)
    wait_until(lambda: get_channel(first)["waiting"] == 0)
    assert sorted(document["type"] for document in received_documents(receiver)) == [
        "item.failed", "item.late", "item.reached", "item.stalled",
    ]  # fmt: skip


def test_new_leader_continues_the_delivery(replicas: ServerGroup, receiver: WebhookReceiver, tmp_path: Path) -> None:
    path = write_channels(tmp_path, receiver)
    servers = replicas.start(channels=path), replicas.start(channels=path)
    wait_until(lambda: any(served.background.app.services.is_leader() for served in servers))
    follower, leader = sorted(servers, key=lambda served: served.background.app.services.is_leader())
    receiver.script.append(make_response(500))
    put_item(follower, status="failed")
    receiver.wait(1)
    wait_until(lambda: get_channel(follower)["error"] is not None)
    leader.stop()
    replicas.clock.advance(MIN_BACKOFF_SECONDS)
    first, second = receiver.wait(2)
    assert first.headers["webhook-id"] == second.headers["webhook-id"]


# Mail, through Apprise.


IGNORE_DEPRECATIONS = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of Apprise


class Mailbox:
    """Collects the received messages."""

    def __init__(self) -> None:
        self.messages: list[email.message.EmailMessage] = []

    async def handle_DATA(self, server: object, session: object, envelope: object) -> str:  # noqa: N802
        self.messages.append(email.message_from_bytes(envelope.content, policy=email.policy.default))
        return "250 OK"


@pytest.fixture
def mailbox() -> Iterator[tuple[Mailbox, int]]:
    """An SMTP server that keeps its mails."""
    box = Mailbox()
    port = find_free_port()
    controller = Controller(box, hostname="127.0.0.1", port=port, ready_timeout=60)
    controller.start()
    yield box, port
    controller.stop()


@IGNORE_DEPRECATIONS
def test_mail_text_arrives_unchanged(
    make_server: Callable[..., RunningServer],
    tmp_path: Path,
    mailbox: tuple[Mailbox, int],
    caplog: pytest.LogCaptureFixture,
) -> None:
    box, port = mailbox
    path = tmp_path / "channels.toml"
    path.write_text(f'[channels.mail]\nurl = "mailto://127.0.0.1:{port}?from=p@example.org&to=me@example.org"\n')
    served = make_server(channels=path)
    put_item(served, notify=["mail"], title="<b>Import</b> ü", error="E: 1 < 2 & \\n *", status="failed")
    wait_until(lambda: box.messages)
    (message,) = box.messages
    assert message["subject"] == "<b>Import</b> ü has failed"
    assert message["to"] == "me@example.org"
    plain = message.get_body(("plain",))
    assert "E: 1 < 2 & \\n *" in plain.get_content()
    wait_until(lambda: get_channel(served, "mail")["delivered"] == 1)


@IGNORE_DEPRECATIONS
def test_unreachable_mail_server_is_retried(
    make_server: Callable[..., RunningServer], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "channels.toml"
    path.write_text('[channels.mail]\nurl = "mailto://me:VerySecret@127.0.0.1:1?from=p@example.org&to=m@example.org"\n')
    served = make_server(channels=path)
    put_item(served, notify=["mail"], status="failed")
    wait_until(lambda: get_channel(served, "mail")["error"] is not None)
    assert get_channel(served, "mail")["waiting"] == 1
    assert "mailto did not take it" in str(get_channel(served, "mail")["error"])
    assert "VerySecret" not in caplog.text


# Pages and metrics for admins.


def send_test(served: RunningServer, name: str = "hook") -> dict[str, object]:
    return served.client("admin").post(f"/api/v1/channels/{name}/test").json()


def test_test_message_reports_its_delivery(
    make_hook_server: Callable[..., RunningServer], receiver: WebhookReceiver
) -> None:
    served = make_hook_server('[channels.dead]\nurl = "http://127.0.0.1:1/"\n')
    receiver.script += [make_response(200), make_response(500)]
    assert send_test(served) == {"delivered": True, "detail": None}
    assert send_test(served) == {"delivered": False, "detail": "127.0.0.1 answered 500"}
    assert [document["type"] for document in received_documents(receiver)] == ["channel.test"] * 2
    refused = send_test(served, "dead")
    assert refused["delivered"] is False
    assert "127.0.0.1 is 127.0.0.1, which a webhook may not lead to" in str(refused["detail"])
    assert get_channel(served)["delivered"] == 0


def test_channel_page_shows_delivery_statistics(
    make_hook_server: Callable[..., RunningServer], receiver: WebhookReceiver
) -> None:
    served = make_hook_server(on=["failed"])
    put_item(served, status="failed")
    wait_until(lambda: get_channel(served)["delivered"] == 1)
    page = served.browser().get("/channels").text
    assert "<bdi>hook</bdi>" in page
    assert "webhook" in page
    assert "failed; " in page
    assert 'aria-label="Test hook"' in page


def test_channel_page_without_channels_shows_an_example(server: RunningServer) -> None:
    page = server.browser().get("/channels").text
    assert "[channels.phone]" in page
    assert server.client("admin").get("/api/v1/channels").json() == {"channels": []}


def test_channel_secrets_are_neither_stored_shown_nor_logged(
    make_hook_server: Callable[..., RunningServer], receiver: WebhookReceiver, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    served = make_hook_server()
    receiver.script += [make_response(500)]
    put_item(served, status="failed")
    wait_until(lambda: get_channel(served)["error"] is not None)
    served.clock.advance(MIN_BACKOFF_SECONDS)
    wait_until(lambda: get_channel(served)["delivered"] == 1)
    send_test(served)
    text = served.browser().get("/channels").text + served.client("admin").get("/api/v1/channels").text
    text += served.client("admin").get("/metrics").text + repr(served.background.app.services.notifier.channels.all())
    served.stop()
    with sqlite3.connect(served.database) as database:
        text += "\n".join(database.iterdump())
    database.close()
    served.start()
    for secret in ("VerySecret", SIGNING_SECRET, SIGNING_SECRET[6:]):
        assert secret not in text
        assert secret not in caplog.text
    assert 'progressbar_notifications_total{channel="hook",result="delivered"} 1.0' in text


@pytest.mark.parametrize("has_tail", [True, False])
def test_message_has_the_output_only_if_the_channel_wants_it(
    make_hook_server: Callable[..., RunningServer], receiver: WebhookReceiver, has_tail: bool
) -> None:
    served = make_hook_server(**({"tail": True} if has_tail else {}))
    put_item(served, tail="first")
    patch_item(served, status="failed", tail="last\npassword=hunter2")
    wait_until(lambda: len(receiver.received) == 1, timeout=60)
    (document,) = received_documents(receiver)
    assert document.get("tail") == ("last\npassword=***" if has_tail else None)
    assert has_tail or "last" not in json.dumps(document)
