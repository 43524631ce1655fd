"""People are told: by a served server, to receivers that are really there."""

from __future__ import annotations

import base64
import email
import email.policy
import json
import logging
import os
import signal
import socket
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
from progressbar_tracker.server.models import rfc3339
from progressbar_tracker.server.notifications import dispatcher
from progressbar_tracker.server.notifications.dispatcher import FIRST, GIVE_UP, Courier
from tests.server.test_cluster import Replicas, until
from tests.support.webhook_receiver import Receiver, reply

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.postgres import Cluster
    from tests.support.server import Served

SECRET = "whsec_" + base64.b64encode(bytes(range(40))).decode()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as receiver:
        yield receiver


def written(folder: Path, receiver: Receiver, more: str = "", **fields: object) -> Path:
    """Write a file with one channel, which is called hook."""
    named = "".join(f"{name} = {json.dumps(value)}\n" for name, value in fields.items())
    path = folder / "channels.toml"
    path.write_text(
        f'[channels.hook]\nurl = "{receiver.url}?token=VerySecret"\nsecret = "{SECRET}"\nallow_private = true\n'
        f"{named}{more}"
    )
    return path


@pytest.fixture
def told(serve: Callable[..., Served], tmp_path: Path, receiver: Receiver) -> Callable[..., Served]:
    """Start a server with the channel hook."""

    def start(more: str = "", **fields: object) -> Served:
        return serve(channels=written(tmp_path, receiver, more, **fields))

    return start


def put(served: Served, item_id: str = "a", **fields: object) -> None:
    body = {"run_id": "r", "notify": ["hook"], **fields}
    assert served.client("write").put(f"/api/v1/items/{item_id}", json=body).is_success


def patch(served: Served, item_id: str = "a", **fields: object) -> None:
    assert served.client("write").patch(f"/api/v1/items/{item_id}", json={"run_id": "r", **fields}).is_success


def documents(receiver: Receiver) -> list[dict[str, object]]:
    return [json.loads(request.body) for request in receiver.received]


def channel(served: Served, name: str = "hook") -> dict[str, object]:
    listed = served.client("admin").get("/api/v1/channels").json()["channels"]
    return next(one for one in listed if one["name"] == name)


def quiet(served: Served) -> bool:
    """Whether all that was put into the outbox is done with, and something was."""
    one = channel(served)
    return one["waiting"] == 0 and one["delivered"] + one["given_up"] > 0


def tries(served: Served) -> int:
    """How often a message was sent in vain, as far as that is in the outbox."""
    return sum(notice.attempts for notice in served.server.store.notices(1e12, 10))


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """What tests would wait for most."""
    monkeypatch.setattr(dispatcher, "POLL", 0.05)
    monkeypatch.setattr(maintenance, "TICK", 0.05)


# What is told.


@pytest.mark.parametrize("end", ["succeeded", "failed"])
def test_an_end_is_told_signed_with_the_item(told: Callable[..., Served], receiver: Receiver, end: str) -> None:
    served = told()
    put(served, title="Import", completed=1, total=4)
    patch(served, status=end, error="ValueError: no" if end == "failed" else None)
    (request,) = receiver.wait(1)
    document = json.loads(request.body)
    assert (document["type"], document["data"]["title"], document["data"]["status"]) == (f"item.{end}", "Import", end)
    headers = {**request.headers, "webhook-timestamp": str(int(time.time()))}
    with pytest.raises(Exception, match=r"too new|too old"):
        Webhook(SECRET).verify(request.body, request.headers)  # the server's clock is another in these tests
    assert set(headers) >= {"webhook-id", "webhook-signature"}
    until(lambda: channel(served)["delivered"] == 1)
    assert channel(served)["delivered_at"] == rfc3339(served.clock())


def test_an_item_that_names_nobody_is_told_to_nobody(told: Callable[..., Served], receiver: Receiver) -> None:
    served = told()
    put(served, "a", notify=[])
    patch(served, "a", status="failed")
    put(served, "b")
    patch(served, "b", status="failed")
    receiver.wait(1)
    until(lambda: quiet(served))
    assert [document["data"]["id"] for document in documents(receiver)] == ["b"]


def test_a_channel_may_be_told_of_a_group_or_of_all(told: Callable[..., Served], receiver: Receiver) -> None:
    served = told(f'[channels.all]\nurl = "{receiver.url}/all"\nall = true\nallow_private = true\n', groups=["g"])
    put(served, "a", notify=[], group="g")
    assert (
        served.client("write")
        .post("/progress", json={"id": "b", "title": "", "description": "", "value": 1, "weight": 0})
        .is_success
    )
    patch(served, "a", status="failed")
    lines = {(request.line.split()[1], json.loads(request.body)["data"]["id"]) for request in receiver.wait(3)}
    assert lines == {("/hook?token=VerySecret", "a"), ("/hook/all", "a"), ("/hook/all", "b")}


def test_a_percentage_is_told_once_it_is_crossed(told: Callable[..., Served], receiver: Receiver) -> None:
    served = told(on=["25%", "75%"])
    put(served, completed=0, total=100)
    for done in (24, 25, 26, 20, 30, 80):
        patch(served, completed=done)
    receiver.wait(2)
    until(lambda: quiet(served))
    assert {one["type"] for one in documents(receiver)} == {"item.reached"}
    assert sorted(one["percent"] for one in documents(receiver)) == [25, 75]


def test_silence_is_told_once_and_the_next_one_again(told: Callable[..., Served], receiver: Receiver) -> None:
    served = told(on=["stalled"])
    put(served, heartbeat_timeout=60)
    for count in (1, 2):
        served.clock.pass_(61)
        receiver.wait(count)
        served.clock.pass_(61)
        until(lambda: quiet(served))
        patch(served)
    assert [one["type"] for one in documents(receiver)] == ["item.stalled"] * 2
    assert len({request.headers["webhook-id"] for request in receiver.received}) == 2


def test_lateness_is_told_once_a_run(told: Callable[..., Served], receiver: Receiver) -> None:
    served = told(on=["late"])
    put(served, deadline=rfc3339(served.clock() + 30))
    served.clock.pass_(29)
    patch(served)
    served.clock.pass_(2)
    (request,) = receiver.wait(1)
    document = json.loads(request.body)
    assert (document["type"], document["data"]["late"]) == ("item.late", True)
    patch(served, deadline=rfc3339(served.clock() + 10))
    served.clock.pass_(11)
    put(served, "b", deadline=rfc3339(served.clock()))
    receiver.wait(2)
    assert [one["data"]["id"] for one in documents(receiver)] == ["a", "b"]


def test_nothing_is_told_again_after_a_restart(told: Callable[..., Served], receiver: Receiver) -> None:
    served = told(on=["stalled", "late", "failed"])
    put(served, "a", heartbeat_timeout=60, deadline=rfc3339(served.clock() + 30))
    put(served, "b", status="failed")
    served.clock.pass_(61)
    receiver.wait(3)
    until(lambda: channel(served)["delivered"] == 3)
    served.restart()
    served.clock.pass_(61)
    put(served, "c", status="failed")
    receiver.wait(4)
    assert [one["data"]["id"] for one in documents(receiver)][3:] == ["c"]


def test_an_unknown_name_refuses_nothing_and_is_logged_once(
    told: Callable[..., Served], caplog: pytest.LogCaptureFixture
) -> None:
    served = told()
    with caplog.at_level(logging.WARNING):
        put(served, "a", notify=["nobody", "hook"])
        put(served, "b", notify=["nobody"])
    assert [line for line in caplog.messages if "nobody" in line] == [
        "the item 'a' is to be told to 'nobody', and there is no such channel"
    ]


def test_a_changed_file_counts_without_a_restart(
    told: Callable[..., Served], receiver: Receiver, tmp_path: Path
) -> None:
    served = told(on=["failed"])
    put(served, "a", status="succeeded")
    written(tmp_path, receiver, on=["succeeded"])
    until(lambda: channel(served)["on"] == ["succeeded"])
    put(served, "b", status="succeeded")
    (request,) = receiver.wait(1)
    assert json.loads(request.body)["data"]["id"] == "b"


def test_a_file_that_cannot_be_used_is_said_at_the_start(serve: Callable[..., Served], tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text("[channels.x]\nurll = 1\n")
    with pytest.raises(ConfigError, match=r"c\.toml line 2: channels\.x: unknown field 'urll'"):
        serve(channels=tmp_path / "c.toml")


def test_a_tracked_loop_tells_how_it_ended(told: Callable[..., Served], receiver: Receiver) -> None:
    served = told()
    with ProgressBar(served.server.url, served.keys["write"]) as client:
        with pytest.raises(ValueError, match="no"), client.track(total=3, id="a", notify="hook", deadline=3600) as bar:
            bar.advance()
            raise ValueError("no")
        assert client.sender.flush(10)
    (request,) = receiver.wait(1)
    item = json.loads(request.body)["data"]
    assert (item["error"], item["notify"], item["completed"]) == ("ValueError: no", ["hook"], 1)
    assert item["deadline"] is not None


# Trouble.


def test_what_fails_is_sent_again_by_the_same_id_until_it_is_taken(
    told: Callable[..., Served], receiver: Receiver
) -> None:
    served = told()
    receiver.script += [reply(500), b"", b"garbage\r\n\r\n"]
    put(served, status="failed")
    for count in (1, 2, 3):
        receiver.wait(count)
        until(lambda: tries(served) == count)  # noqa: B023 - it is called at once
        served.clock.pass_(FIRST * 2**count)
    receiver.wait(4)
    until(lambda: channel(served)["delivered"] == 1)
    assert len({request.headers["webhook-id"] for request in receiver.received}) == 1
    assert len({request.body for request in receiver.received}) == 1
    counts = served.server.app.services.notifier.courier.counts["hook"]
    assert (counts.delivered, counts.failed, counts.given_up) == (1, 3, 0)


def test_what_nobody_takes_is_given_up_after_a_day(
    told: Callable[..., Served], receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    served = told()
    receiver.always = reply(503)
    for name in "abc":
        put(served, name, status="failed")
    receiver.wait(1)
    until(lambda: channel(served)["error"] is not None)
    served.clock.pass_(GIVE_UP + 60)
    until(lambda: channel(served)["given_up"] == 3)
    assert channel(served)["waiting"] == 0
    assert len([line for line in caplog.messages if line.startswith("a message to hook is given up: failed of ")]) == 3
    assert "VerySecret" not in caplog.text


def test_a_receiver_that_wants_no_more_is_not_asked_again(
    told: Callable[..., Served], receiver: Receiver, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    served = told()
    receiver.script.append(reply(410))
    put(served, "a", status="failed")
    until(lambda: channel(served)["off"])
    put(served, "b", status="failed")
    until(lambda: channel(served)["given_up"] == 2)
    assert len(receiver.received) == 1
    assert any(line.startswith("the channel hook is off until") for line in caplog.messages)
    written(tmp_path, receiver, on=["failed"])
    until(lambda: not channel(served)["off"])
    put(served, "c", status="failed")
    assert json.loads(receiver.wait(2)[1].body)["data"]["id"] == "c"


def test_one_channel_that_hangs_holds_up_neither_another_nor_a_request(
    told: Callable[..., Served], receiver: Receiver
) -> None:
    with Receiver() as other:
        other.always = other.hang
        served = told(f'[channels.slow]\nurl = "{other.url}"\nallow_private = true\n')
        put(served, "a", notify=["slow"], status="failed")
        other.wait(1)
        began = time.monotonic()
        put(served, "b", status="failed")
        receiver.wait(1)
        assert time.monotonic() - began < 5


def test_what_was_sent_and_not_marked_is_sent_again_by_the_same_id(
    told: Callable[..., Served], receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def no_mark(dispatcher: Courier, mark: object) -> None:
        dispatcher._unmarked[mark.notice_id] = mark

    served = told()
    with monkeypatch.context() as patched:
        patched.setattr(Courier, "_mark", no_mark)
        put(served, status="failed")
        receiver.wait(1)
        served.stop()
    served.start()
    first, second = receiver.wait(2)
    assert (first.headers["webhook-id"], first.body) == (second.headers["webhook-id"], second.body)


def test_a_full_disk_keeps_what_was_delivered_from_being_sent_all_the_time(
    told: Callable[..., Served], receiver: Receiver, disk: object
) -> None:
    served = told()

    def fill(connection: object) -> None:
        disk.full = True
        connection.sendall(reply(200))

    receiver.script.append(fill)
    put(served, status="failed")
    receiver.wait(1)
    until(lambda: served.server.app.services.notifier.courier._unmarked)
    time.sleep(0.3)  # longer than the outbox is left alone
    assert len(receiver.received) == 1
    disk.full = False
    until(lambda: channel(served)["delivered"] == 1)
    assert len(receiver.received) == 1


def test_killed_between_sending_and_marking_it_is_sent_again(tmp_path: Path, receiver: Receiver) -> None:
    path = written(tmp_path, receiver, all=True)
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
        process.communicate(timeout=20)
        process, url = start()
        first, second = receiver.wait(2)
        assert (first.headers["webhook-id"], first.body) == (second.headers["webhook-id"], second.body)
        assert Webhook(SECRET).verify(second.body, second.headers)["type"] == "item.failed"
    finally:
        process.kill()
        process.communicate(timeout=20)


# Several servers.


@pytest.fixture
def replicas(postgres_cluster: Cluster, postgres_url: str, tmp_path: Path) -> Iterator[Replicas]:
    made = Replicas(tmp_path, postgres_url)
    yield made
    made.stop()


def test_several_servers_tell_once_and_add_up_what_is_crossed(
    replicas: Replicas, receiver: Receiver, tmp_path: Path
) -> None:
    path = written(tmp_path, receiver, on=["failed", "50%", "stalled", "late"])
    one, other = replicas.start(channels=path), replicas.start(channels=path)
    put(one, total=100, heartbeat_timeout=60, deadline=rfc3339(replicas.clock() + 30))
    replicas.every(lambda served: served.client("read").get("/api/v1/items/a").status_code, 200)
    # Neither of them sees the half of it crossed by what it is told itself.
    patch(one, part="1", completed=30)
    patch(other, part="2", completed=30)
    receiver.wait(1)
    replicas.clock.pass_(61)
    receiver.wait(3)
    for served in (one, other):
        patch(served, status="failed")
    receiver.wait(4)
    until(lambda: channel(one)["waiting"] == 0)
    assert sorted(one["type"] for one in documents(receiver)) == [
        "item.failed", "item.late", "item.reached", "item.stalled",
    ]  # fmt: skip


def test_when_the_one_that_delivers_goes_another_does(replicas: Replicas, receiver: Receiver, tmp_path: Path) -> None:
    path = written(tmp_path, receiver)
    one, other = replicas.start(channels=path), replicas.start(channels=path)
    until(lambda: any(served.server.app.services.leads() for served in (one, other)))
    leader, heir = (one, other) if one.server.app.services.leads() else (other, one)
    receiver.script.append(reply(500))
    put(heir, status="failed")
    receiver.wait(1)
    until(lambda: channel(heir)["error"] is not None)
    leader.stop()
    replicas.clock.pass_(FIRST)
    first, second = receiver.wait(2)
    assert first.headers["webhook-id"] == second.headers["webhook-id"]


# Mail, by apprise.


OTHERS = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of apprise's own


class Mailbox:
    """Keeps what is sent to it."""

    def __init__(self) -> None:
        self.messages: list[email.message.EmailMessage] = []

    async def handle_DATA(self, server: object, session: object, envelope: object) -> str:  # noqa: N802
        self.messages.append(email.message_from_bytes(envelope.content, policy=email.policy.default))
        return "250 OK"


@pytest.fixture
def mailbox() -> Iterator[tuple[Mailbox, int]]:
    box = Mailbox()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    controller = Controller(box, hostname="127.0.0.1", port=port)
    controller.start()
    yield box, port
    controller.stop()


@OTHERS
def test_mail_arrives_as_it_was_written(
    serve: Callable[..., Served], tmp_path: Path, mailbox: tuple[Mailbox, int], caplog: pytest.LogCaptureFixture
) -> None:
    box, port = mailbox
    path = tmp_path / "channels.toml"
    path.write_text(f'[channels.mail]\nurl = "mailto://127.0.0.1:{port}?from=p@example.org&to=me@example.org"\n')
    served = serve(channels=path)
    put(served, notify=["mail"], title="<b>Import</b> ü", error="E: 1 < 2 & \\n *", status="failed")
    until(lambda: box.messages)
    (message,) = box.messages
    assert message["subject"] == "<b>Import</b> ü has failed"
    assert message["to"] == "me@example.org"
    plain = message.get_body(("plain",))
    assert "E: 1 < 2 & \\n *" in plain.get_content()
    until(lambda: channel(served, "mail")["delivered"] == 1)


@OTHERS
def test_a_mail_server_that_is_not_there_is_tried_again(
    serve: Callable[..., Served], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "channels.toml"
    path.write_text('[channels.mail]\nurl = "mailto://me:VerySecret@127.0.0.1:1?from=p@example.org&to=m@example.org"\n')
    served = serve(channels=path)
    put(served, notify=["mail"], status="failed")
    until(lambda: channel(served, "mail")["error"] is not None)
    assert channel(served, "mail")["waiting"] == 1
    assert "mailto did not take it" in str(channel(served, "mail")["error"])
    assert "VerySecret" not in caplog.text


# What admins see of it.


def tried(served: Served, name: str = "hook") -> dict[str, object]:
    return served.client("admin").post(f"/api/v1/channels/{name}/test").json()


def test_a_test_is_sent_at_once_and_says_what_became_of_it(told: Callable[..., Served], receiver: Receiver) -> None:
    served = told('[channels.dead]\nurl = "http://127.0.0.1:1/"\n')
    receiver.script += [reply(200), reply(500)]
    assert tried(served) == {"delivered": True, "detail": None}
    assert tried(served) == {"delivered": False, "detail": "127.0.0.1 answered 500"}
    assert [one["type"] for one in documents(receiver)] == ["channel.test"] * 2
    refused = tried(served, "dead")
    assert refused["delivered"] is False
    assert "127.0.0.1 is 127.0.0.1, which a webhook may not lead to" in str(refused["detail"])
    assert channel(served)["delivered"] == 0


def test_the_page_shows_what_became_of_the_messages(told: Callable[..., Served], receiver: Receiver) -> None:
    served = told(on=["failed"])
    put(served, status="failed")
    until(lambda: channel(served)["delivered"] == 1)
    page = served.browser().get("/channels").text
    assert "<bdi>hook</bdi>" in page
    assert "webhook" in page
    assert "failed; " in page
    assert 'aria-label="Test hook"' in page


def test_without_channels_the_page_says_how_to_come_by_some(served: Served) -> None:
    page = served.browser().get("/channels").text
    assert "[channels.phone]" in page
    assert served.client("admin").get("/api/v1/channels").json() == {"channels": []}


def test_no_secret_is_in_the_database_on_a_page_or_in_the_log(
    told: Callable[..., Served], receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    served = told()
    receiver.script += [reply(500)]
    put(served, status="failed")
    until(lambda: channel(served)["error"] is not None)
    served.clock.pass_(FIRST)
    until(lambda: channel(served)["delivered"] == 1)
    tried(served)
    seen = served.browser().get("/channels").text + served.client("admin").get("/api/v1/channels").text
    seen += served.client("admin").get("/metrics").text + repr(served.server.app.services.notifier.channels.all())
    served.stop()
    with sqlite3.connect(served.database) as database:
        seen += "\n".join(database.iterdump())
    database.close()
    served.start()
    for secret in ("VerySecret", SECRET, SECRET[6:]):
        assert secret not in seen
        assert secret not in caplog.text
    assert 'progressbar_notifications_total{channel="hook",result="delivered"} 1.0' in seen
