"""Keep one message for each run in chat services on real sockets."""

from __future__ import annotations

import contextlib
import json
import signal
import sqlite3
from typing import TYPE_CHECKING

import httpx
import psycopg
import pytest

from progressbar_tracker.server import maintenance
from progressbar_tracker.server.notifications import dispatcher, kept_messages, run_follower
from tests.server.schedules.test_missed import get_schedule, pass_time, set_schedule, wait_until_watched
from tests.support.chat_services import CHAT_SERVICES, Discord, Ntfy, Slack
from tests.support.server import ServerGroup
from tests.support.server_process import ADMIN_KEY, ServerProcess, find_leader
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.chat_services import ChatService
    from tests.support.clock import ManualClock
    from tests.support.postgres import Cluster
    from tests.support.server import RunningServer


@pytest.fixture(autouse=True)
def fast_timers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the intervals that most tests wait for."""
    monkeypatch.setattr(dispatcher, "POLL_INTERVAL", 0.05)
    monkeypatch.setattr(maintenance, "MAINTENANCE_INTERVAL", 0.05)
    monkeypatch.setattr(run_follower, "SWEEPS_PER_SCAN", 1)


@pytest.fixture(params=CHAT_SERVICES)
def service(request: pytest.FixtureRequest) -> Iterator[ChatService]:
    """Each of the services."""
    with CHAT_SERVICES[request.param]() as service:
        yield service


@pytest.fixture
def slack() -> Iterator[Slack]:
    with Slack() as service:
        yield service


def write_channels(folder: Path, service: ChatService, more: str = "", *, edits_per_minute: int = 600) -> Path:
    path = folder / "channels.toml"
    path.write_text(
        f'[channels.chat]\nkind = "{service.kind}"\n{service.fields}\nall = true\nallow_private = true\n'
        f"edit_seconds = 10\nedits_per_minute = {edits_per_minute}\n{more}"
    )
    return path


@pytest.fixture
def make_chat_server(make_server: Callable[..., RunningServer], tmp_path: Path) -> Callable[..., RunningServer]:
    """Start servers with the channel ``chat``."""

    def start(
        service: ChatService, more: str = "", *, edits_per_minute: int = 600, **settings: object
    ) -> RunningServer:
        path = write_channels(tmp_path, service, more, edits_per_minute=edits_per_minute)
        return make_server(channels=path, **settings)

    return start


def put_item(served: RunningServer, item_id: str = "a", **fields: object) -> None:
    body = {"run_id": "r", "completed": 0, "total": 100, **fields}
    assert served.client("write").put(f"/api/v1/items/{item_id}", json=body).is_success


def patch_item(served: RunningServer, item_id: str = "a", **fields: object) -> None:
    assert served.client("write").patch(f"/api/v1/items/{item_id}", json={"run_id": "r", **fields}).is_success


def get_channel(served: RunningServer) -> dict[str, object]:
    (channel,) = served.client("admin").get("/api/v1/channels").json()["channels"]
    return channel


def wait_until_delivered(served: RunningServer, count: int = 1) -> None:
    wait_until(lambda: get_channel(served)["delivered"] == count)


def wait_for_state(clock: ManualClock, service: ChatService, text: str) -> list[list[str]]:
    """Wait for a state of a running item. One that was offered before the change may be sent first."""
    count = len(service.received)
    clock.advance(11)
    service.wait(count + 1)
    clock.advance(11)
    return service.wait_for_text(text)


# The message of a run.


def test_run_has_one_message_that_is_edited(
    make_chat_server: Callable[..., RunningServer], service: ChatService
) -> None:
    served = make_chat_server(service, public_url="https://progress.example.org")
    put_item(served, title="Import", description="part one")
    service.wait_for_text("Import is running")
    patch_item(served, completed=40)
    served.clock.advance(11)
    service.wait_for_text("▓▓▓▓▓▓▓▓░░░░░░░░░░░░")
    patch_item(served, status="succeeded", completed=100)
    (states,) = service.wait_for_text("Import has succeeded")
    assert "40 %, 40 of 100" in states[1].replace("\\", "")
    assert "part one" in states[1]
    assert "░" not in states[-1]
    assert "https://progress.example.org/items/a?run=r" in states[-1]


def test_edit_waits_for_its_interval(make_chat_server: Callable[..., RunningServer], slack: Slack) -> None:
    served = make_chat_server(slack)
    put_item(served)
    slack.wait_for_text("0 of 100")
    patch_item(served, completed=10)
    served.clock.advance(9)
    put_item(served, "b")
    slack.wait_for(lambda found: len(found) == 2)  # several sweeps later
    assert len(slack.messages["1000"]) == 1
    served.clock.advance(2)
    slack.wait_for_text("10 of 100")


def test_end_does_not_wait_for_the_interval(
    make_chat_server: Callable[..., RunningServer], service: ChatService
) -> None:
    served = make_chat_server(service)
    put_item(served)
    service.wait_for_text("is running")
    patch_item(served, status="failed", error="ValueError: no")
    (states,) = service.wait_for_text("has failed")
    assert len(states) == 2
    assert "ValueError: no" in states[-1]


def test_event_of_a_running_item_waits_for_the_interval(
    make_chat_server: Callable[..., RunningServer], slack: Slack
) -> None:
    served = make_chat_server(slack, 'on = ["50%"]\n')
    put_item(served)
    slack.wait_for_text("is running")
    patch_item(served, completed=60)
    wait_until(lambda: get_channel(served)["waiting"] == 1)
    served.clock.advance(11)
    wait_until_delivered(served)
    assert len(slack.messages) == 1


def test_end_is_shown_even_if_it_is_not_subscribed(
    make_chat_server: Callable[..., RunningServer], slack: Slack
) -> None:
    served = make_chat_server(slack, "on = []\n")
    put_item(served)
    slack.wait_for_text("is running")
    patch_item(served, status="stopped")
    assert len(slack.wait_for_text("was stopped")) == 1


def test_unsubscribed_end_of_an_unknown_run_is_not_sent(
    make_chat_server: Callable[..., RunningServer], slack: Slack
) -> None:
    served = make_chat_server(slack, 'on = ["failed"]\n')
    put_item(served, "a", status="succeeded")
    put_item(served, "b", status="failed")
    assert len(slack.wait_for_text("has failed")) == 1
    wait_until_delivered(served, 2)
    assert len(slack.received) == 1


def test_next_run_has_its_own_message(make_chat_server: Callable[..., RunningServer], service: ChatService) -> None:
    served = make_chat_server(service)
    put_item(served, status="succeeded")
    service.wait_for_text("has succeeded")
    put_item(served, run_id="s")
    first, second = service.wait_for_text("is running")
    assert "has succeeded" in first[-1]
    assert len(second) == 1


def test_deleted_run_is_not_shown_as_running(
    make_chat_server: Callable[..., RunningServer], service: ChatService
) -> None:
    served = make_chat_server(service)
    put_item(served)
    service.wait_for_text("is running")
    assert served.client("write").delete("/api/v1/items/a").is_success
    served.clock.advance(11)
    assert len(service.wait_for_text("is not followed any more")) == 1


def test_run_that_leaves_the_groups_is_not_shown_to_them(
    make_server: Callable[..., RunningServer], tmp_path: Path, slack: Slack
) -> None:
    path = write_channels(tmp_path, slack)
    path.write_text(path.read_text().replace("all = true", 'groups = ["g"]'))
    served = make_server(channels=path)
    put_item(served, group="g")
    slack.wait_for_text("is running")
    patch_item(served, group="h", title="of the other group", status="succeeded")
    served.clock.advance(11)
    (states,) = slack.wait_for_text("a is not followed any more")
    assert "of the other group" not in "".join(states)


def test_clock_that_is_set_back_stops_no_edit(
    make_chat_server: Callable[..., RunningServer], service: ChatService
) -> None:
    served = make_chat_server(service)
    put_item(served)
    service.wait_for_text("0 of 100")
    served.clock.set_back(3600)
    patch_item(served, completed=10)
    served.clock.advance(11)
    service.wait_for_text("10 of 100")


def test_deleted_message_is_replaced_by_a_new_one(
    make_chat_server: Callable[..., RunningServer], service: ChatService
) -> None:
    if service.kind == "ntfy":
        pytest.skip("a reader deletes its own copy, which the service does not know")
    served = make_chat_server(service)
    put_item(served)
    service.wait_for_text("is running")
    service.deleted.add("1000")
    patch_item(served, completed=50)
    served.clock.advance(11)
    service.wait_for_text("50 of 100")
    patch_item(served, status="succeeded")
    first, second = service.wait_for_text("has succeeded")
    assert (len(first), len(second)) == (1, 2)


def test_text_of_an_item_is_neither_mention_nor_markup(
    make_chat_server: Callable[..., RunningServer], service: ChatService
) -> None:
    served = make_chat_server(service)
    put_item(served, title="<!channel> @everyone [a](http://b) *c*", status="failed")
    ((text,),) = service.wait_for_text("has failed")
    document = json.loads(service.received[0].body)
    if service.kind == "slack":
        assert "<!channel>" not in text
        (text_element,) = document["blocks"][0]["elements"][0]["elements"]
        assert text_element["type"] == "text"
        assert text_element["text"].startswith("<!channel> @everyone [a](http://b) *c* has failed\n")
        assert (document["parse"], document["link_names"]) == ("none", False)
    elif service.kind == "discord":
        assert "\\<!channel\\> \\@everyone \\[a\\](http://b) \\*c\\*" in text
    elif service.kind == "telegram":
        assert "@everyone" not in text
        assert "parse_mode" not in document


def test_longest_texts_are_accepted(make_chat_server: Callable[..., RunningServer], service: ChatService) -> None:
    served = make_chat_server(service)
    put_item(served, title="*" * 200, description="_" * 2000, error="😀" * 1000, status="failed")
    ((text,),) = service.wait_for(len)
    assert len(text.encode("utf-16-le")) // 2 <= 2000
    wait_until_delivered(served)


@pytest.mark.parametrize(("more", "is_expected"), [("", False), ("tail = true\n", True)])
def test_tail_is_in_messages_only_if_the_channel_has_it(
    make_chat_server: Callable[..., RunningServer], slack: Slack, more: str, is_expected: bool
) -> None:
    served = make_chat_server(slack, more)
    put_item(served, tail="the last line", status="failed")
    ((text,),) = slack.wait_for_text("has failed")
    assert ("the last line" in text) is is_expected


def test_test_is_a_message_of_its_own(make_chat_server: Callable[..., RunningServer], slack: Slack) -> None:
    served = make_chat_server(slack)
    assert served.client("admin").post("/api/v1/channels/chat/test").json() == {"delivered": True, "detail": None}
    assert slack.wait_for(len) == [["A test of chat\nMessages of the progress server arrive here."]]


def test_missed_start_is_a_message_beside_that_of_the_run(
    make_chat_server: Callable[..., RunningServer], service: ChatService
) -> None:
    served = make_chat_server(service)
    set_schedule(served, title="Nightly", notify=["chat"])
    wait_until_watched(served)
    put_item(served, "job", title="Nightly", status="succeeded")
    service.wait_for_text("Nightly has succeeded")
    wait_until(lambda: get_schedule(served)["started_at"] is not None)
    pass_time(served.clock, 661, served)
    ended, missed = service.wait_for_text("Nightly has not started")
    assert "has succeeded" in ended[-1]
    assert "every 10 min" in missed[0]
    assert not set("▓░") & set(missed[0])


def test_each_missed_start_is_a_message_of_its_own(
    make_chat_server: Callable[..., RunningServer], service: ChatService
) -> None:
    served = make_chat_server(service)
    set_schedule(served, notify=["chat"])
    for count in (1, 2):
        wait_until_watched(served)
        pass_time(served.clock, 661, served)
        messages = service.wait_for_text("job has not started", count)
    assert [len(states) for states in messages] == [1, 1]


def test_missed_start_that_is_refused_is_sent_again(
    make_chat_server: Callable[..., RunningServer], service: ChatService, caplog: pytest.LogCaptureFixture
) -> None:
    served = make_chat_server(service)
    service.script.append(service.too_many)
    set_schedule(served, notify=["chat"])
    wait_until_watched(served)
    pass_time(served.clock, 661, served)
    wait_until(lambda: "wants fewer requests (429)" in caplog.text)
    served.clock.advance(61)
    assert len(service.wait_for_text("job has not started")) == 1


# Limits.


def test_channel_keeps_messages_of_so_many_runs(make_chat_server: Callable[..., RunningServer], slack: Slack) -> None:
    served = make_chat_server(slack, "max_runs = 2\n")
    for item_id in "abc":
        put_item(served, item_id, title=item_id)
        served.clock.advance(1)
    slack.wait_for_text("is running", 2)
    patch_item(served, "c", status="failed")
    slack.wait_for_text("c has failed")
    patch_item(served, "a", status="succeeded")
    put_item(served, "d", title="d")
    slack.wait_for_text("d is running")
    assert [states[0].partition("\n")[0] for states in slack.messages.values()] == [
        "a is running", "b is running", "c has failed", "d is running",
    ]  # fmt: skip


def test_budget_of_a_channel_leaves_room_for_ends(make_chat_server: Callable[..., RunningServer], slack: Slack) -> None:
    served = make_chat_server(slack, edits_per_minute=4)
    for item_id in "abcde":
        put_item(served, item_id)
    slack.wait_for_text("is running", 3)
    patch_item(served, "a", status="failed")
    slack.wait_for_text("has failed")
    assert len(slack.received) == 4
    patch_item(served, "b", status="failed")
    served.clock.advance(61)
    slack.wait_for_text("has failed", 2)
    slack.wait_for_text("is running", 3)


def test_refused_rate_delays_and_drops_nothing(
    make_chat_server: Callable[..., RunningServer], service: ChatService, caplog: pytest.LogCaptureFixture
) -> None:
    served = make_chat_server(service)
    put_item(served)
    service.wait_for_text("is running")
    service.script.append(service.too_many)
    patch_item(served, status="succeeded")
    wait_until(lambda: get_channel(served)["error"] is not None)
    served.clock.advance(29)
    wait_until(lambda: served.background.store.read_due_notices(served.clock() + 60, 9))
    assert len(service.received) == 2
    served.clock.advance(60)
    (states,) = service.wait_for_text("has succeeded")
    assert len(states) == 2
    assert "wants fewer requests (429)" in caplog.text
    assert "VerySecret" not in caplog.text + str(get_channel(served))


# Errors.


def test_state_that_failed_is_followed_by_a_newer_one(
    make_chat_server: Callable[..., RunningServer], service: ChatService, caplog: pytest.LogCaptureFixture
) -> None:
    served = make_chat_server(service)
    service.default_response = b"HTTP/1.1 500 no\r\ncontent-length: 0\r\n\r\n"
    service.script.append(service.default_response)
    put_item(served)
    counts = served.background.app.services.notifier.dispatcher.counts
    wait_until(lambda: "chat" in counts and counts["chat"].failed == 1)
    patch_item(served, completed=30)
    assert len(wait_for_state(served.clock, service, "30 of 100")) == 1
    assert "VerySecret" not in caplog.text


def test_private_address_is_refused(make_server: Callable[..., RunningServer], tmp_path: Path, slack: Slack) -> None:
    path = write_channels(tmp_path, slack)
    path.write_text(path.read_text().replace("allow_private = true", "allow_private = false"))
    served = make_server(channels=path)
    put_item(served, status="failed")
    wait_until(lambda: "which a webhook may not lead to" in (get_channel(served)["error"] or ""))
    assert not slack.received


def test_ended_service_turns_the_channel_off(make_chat_server: Callable[..., RunningServer]) -> None:
    with Discord() as service:
        served = make_chat_server(service)
        service.script.append(
            b"HTTP/1.1 404 no\r\ncontent-length: 45\r\n\r\n"
            + b'{"message": "Unknown Webhook", "code": 10015}'.ljust(45)
        )
        put_item(served)
        wait_until(lambda: get_channel(served)["off"])


def test_old_ntfy_gets_events_only(
    make_chat_server: Callable[..., RunningServer], caplog: pytest.LogCaptureFixture
) -> None:
    with Ntfy() as service:
        service.knows_sequences = False
        served = make_chat_server(service)
        put_item(served)
        service.wait_for_text("is running")
        patch_item(served, completed=50)
        served.clock.advance(11)
        patch_item(served, status="succeeded")
        service.wait_for_text("has succeeded")
        assert len(service.received) == 2
        assert [line for line in caplog.messages if "ntfy needs version 2.16" in line] == [
            "the channel chat cannot edit its messages, and gets events only: ntfy needs version 2.16"
        ]


def test_id_that_cannot_be_stored_is_stored_later(
    make_chat_server: Callable[..., RunningServer], slack: Slack, disk: object
) -> None:
    served = make_chat_server(slack)

    def fill(_: object) -> None:
        disk.full = True

    slack.on_request = fill
    put_item(served)
    slack.wait_for_text("is running")
    kept = served.background.app.services.notifier.dispatcher.kept
    wait_until(lambda: kept._unsaved)
    slack.on_request = lambda _: None
    disk.full = False
    wait_until(lambda: served.background.store.read_kept_message("chat", "a", "r") is not None)
    patch_item(served, status="succeeded")
    assert len(slack.wait_for_text("has succeeded")) == 1


def test_ids_that_cannot_be_stored_are_bounded(
    make_chat_server: Callable[..., RunningServer], slack: Slack, disk: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept_messages, "MAX_REMEMBERED_MESSAGES", 2)
    served = make_chat_server(slack)

    def fill(_: object) -> None:
        disk.full = True

    slack.on_request = fill
    ops = [{"op": "put", "id": item_id, "run_id": "r", "total": 9} for item_id in "abc"]
    assert served.client("write").post("/api/v1/items:batch", json={"ops": ops}).is_success
    slack.wait_for_text("is running", 3)
    slack.on_request = lambda _: None
    kept = served.background.app.services.notifier.dispatcher.kept
    wait_until(lambda: {item_id for _, item_id, _ in kept._unsaved} == {"b", "c"})
    disk.full = False
    wait_until(lambda: not kept._unsaved)
    assert served.background.store.read_kept_message("chat", "c", "r") is not None


# Restarts and several servers.


def test_restart_continues_with_the_message(
    make_chat_server: Callable[..., RunningServer], service: ChatService
) -> None:
    served = make_chat_server(service)
    put_item(served)
    service.wait_for_text("is running")
    wait_until(lambda: served.background.store.read_kept_message("chat", "a", "r") is not None)
    served.restart()
    patch_item(served, completed=50)
    wait_for_state(served.clock, service, "50 of 100")
    patch_item(served, status="succeeded")
    (states,) = service.wait_for_text("has succeeded")
    assert "has succeeded" not in states[0]


def start_process(tmp_path: Path, service: ChatService) -> ServerProcess:
    return ServerProcess(tmp_path, PROGRESSBAR_CHANNELS=str(write_channels(tmp_path, service)))


def send(process: ServerProcess, **fields: object) -> None:
    headers = {"X-API-KEY": ADMIN_KEY}
    answer = httpx.put(f"{process.url}/api/v1/items/a", json={"run_id": "r", **fields}, headers=headers, timeout=60)
    assert answer.is_success


def is_stored(tmp_path: Path) -> bool:
    with contextlib.closing(sqlite3.connect(tmp_path / "progress.db")) as database:
        return database.execute("SELECT count(*) FROM kept_messages").fetchone() == (1,)


def test_killed_server_continues_with_the_message(tmp_path: Path, service: ChatService) -> None:
    process = start_process(tmp_path, service)
    try:
        send(process, completed=1, total=4)
        service.wait_for_text("is running")
        wait_until(lambda: is_stored(tmp_path))
        process.stop(signal.SIGKILL)
        process.start()
        send(process, completed=4, total=4, status="succeeded")
        assert len(service.wait_for_text("has succeeded")) == 1
    finally:
        process.close()


def test_server_killed_before_the_id_is_stored_loses_no_end(tmp_path: Path, service: ChatService) -> None:
    """The documented case: without an idempotency key of the API, there is a second message."""
    process = start_process(tmp_path, service)
    try:
        service.is_hanging = True
        send(process, completed=1, total=4)
        service.wait_for_text("is running")
        process.stop(signal.SIGKILL)
        service.is_hanging = False
        process.start()
        send(process, completed=4, total=4, status="succeeded")
        messages = service.wait_for_text("has succeeded")
        assert len(messages) == (1 if service.kind == "ntfy" else 2)
    finally:
        process.close()


@pytest.fixture
def replicas(postgres_cluster: Cluster, postgres_url: str, tmp_path: Path) -> Iterator[ServerGroup]:
    """Servers on one PostgreSQL database."""
    group = ServerGroup(tmp_path, postgres_url)
    yield group
    group.stop()


def test_one_of_several_servers_keeps_the_message(replicas: ServerGroup, service: ChatService, tmp_path: Path) -> None:
    path = write_channels(tmp_path, service)
    servers = replicas.start(channels=path), replicas.start(channels=path)
    wait_until(lambda: any(served.background.app.services.is_leader() for served in servers))
    follower, leader = sorted(servers, key=lambda served: served.background.app.services.is_leader())
    put_item(follower)
    service.wait_for_text("is running")
    wait_until(lambda: follower.background.store.read_kept_message("chat", "a", "r") is not None)
    leader.stop()
    patch_item(follower, completed=50)
    wait_for_state(replicas.clock, service, "50 of 100")
    patch_item(follower, status="succeeded")
    assert len(service.wait_for_text("has succeeded")) == 1
    follower.stop()


@pytest.fixture
def replica_processes(postgres_url: str, tmp_path: Path, slack: Slack) -> Iterator[list[ServerProcess]]:
    """The processes of two servers on one PostgreSQL database, which can be killed."""
    channels = str(write_channels(tmp_path, slack))
    processes = [
        ServerProcess(tmp_path, PROGRESSBAR_DATABASE=postgres_url, PROGRESSBAR_CHANNELS=channels) for _ in range(2)
    ]
    yield processes
    for process in processes:
        process.close()


def read_kept_ids(postgres_url: str) -> list[str]:
    with psycopg.connect(postgres_url, options="-c search_path=progressbar_tracker") as database:
        return [message_id for (message_id,) in database.execute("SELECT message_id FROM kept_messages")]


def test_next_leader_continues_with_the_message_after_kill_9(
    replica_processes: list[ServerProcess], postgres_url: str, slack: Slack
) -> None:
    leader = find_leader(*replica_processes)
    (follower,) = set(replica_processes) - {leader}
    send(follower, completed=1, total=4)
    slack.wait_for_text("is running")
    wait_until(lambda: read_kept_ids(postgres_url))
    leader.stop(signal.SIGKILL)
    send(follower, completed=4, total=4, status="succeeded")
    assert len(slack.wait_for_text("has succeeded")) == 1
    leader.start()
    follower.stop(signal.SIGKILL)  # perhaps before the delivery is recorded
    wait_until(lambda: get_waiting(leader) == 0)
    assert len(slack.wait_for_text("has succeeded")) == 1


def test_leader_killed_before_the_id_is_stored_loses_no_end(
    replica_processes: list[ServerProcess], slack: Slack
) -> None:
    """The documented case: the next leader does not know of the message, and sends a second one."""
    leader = find_leader(*replica_processes)
    (follower,) = set(replica_processes) - {leader}
    slack.is_hanging = True
    send(follower, completed=1, total=4)
    slack.wait_for_text("is running")
    leader.stop(signal.SIGKILL)
    slack.is_hanging = False
    send(follower, completed=4, total=4, status="succeeded")
    first, second = slack.wait_for_text("has succeeded")
    assert "is running" in first[-1]
    assert "has succeeded" in second[-1]


def get_waiting(process: ServerProcess) -> object:
    with process.http() as http:
        (channel,) = http.get("/api/v1/channels").json()["channels"]
        return channel["waiting"]


# Cost.


def test_other_channels_cause_no_search(
    make_server: Callable[..., RunningServer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "channels.toml"
    path.write_text('[channels.hook]\nurl = "https://hooks.example.org/"\nall = true\n')
    served = make_server(channels=path)
    notifier = served.background.app.services.notifier
    assert notifier.run_follower.sweep(None, 1.0, is_leader=True) == []
