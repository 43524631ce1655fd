"""Missed starts on real servers, with a real receiver: restarts, kill -9 and two servers."""

from __future__ import annotations

import json
import sqlite3
import time
from typing import TYPE_CHECKING

import psycopg
import pytest

from progressbar_tracker.server.models import rfc3339
from progressbar_tracker.server.schedules.monitor import MissedStart
from tests.server.notifications.test_delivery import get_channel, received_documents, write_channels
from tests.support.server import ServerGroup
from tests.support.server_process import ServerProcess, find_leader
from tests.support.waiting import wait_until
from tests.support.webhook_receiver import make_response

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.clock import ManualClock
    from tests.support.server import RunningServer
    from tests.support.webhook_receiver import WebhookReceiver


def set_schedule(served: RunningServer, schedule_id: str = "job", **fields: object) -> dict[str, object]:
    body = {"every": 600, "grace": 60, "notify": ["hook"], **fields}
    reply = served.client("write").put(f"/api/v1/schedules/{schedule_id}", json=body)
    assert reply.is_success, reply.text
    document: dict[str, object] = reply.json()
    return document


def get_schedule(served: RunningServer, schedule_id: str = "job") -> dict[str, object]:
    document: dict[str, object] = served.client("read").get(f"/api/v1/schedules/{schedule_id}").json()
    return document


def wait_until_watched(*servers: RunningServer) -> None:
    """Wait until a leader has planned all schedules: only what it has seen can be missed."""

    def is_watched() -> bool:
        return any(
            not served.background.app.services.schedules.changed_ids
            and served.background.app.services.schedule_monitor._wake_at  # the plan is not shown
            for served in servers
        )

    wait_until(is_watched)


def pass_time(clock: ManualClock, seconds: float, *servers: RunningServer) -> None:
    """Let time pass in which all servers are awake."""
    for _ in range(int(seconds)):
        clock.advance(1.0)
        for served in servers:
            served.background.app.maintenance.check_clock()


def wait_for_delivery(served: RunningServer) -> None:
    """Wait until the first message is recorded as delivered: a server that ends before sends it again."""
    wait_until(lambda: get_channel(served)["delivered"] == 1)


@pytest.fixture
def served(make_server: Callable[..., RunningServer], tmp_path: Path, receiver: WebhookReceiver) -> RunningServer:
    return make_server(channels=write_channels(tmp_path, receiver))


def test_missed_start_is_a_message_with_the_schedule(served: RunningServer, receiver: WebhookReceiver) -> None:
    expected_at = set_schedule(served)["next_at"]
    wait_until_watched(served)
    pass_time(served.clock, 661, served)
    receiver.wait(1)
    (document,) = received_documents(receiver)
    assert document["type"] == "item.missed"
    assert document["data"] == {
        "id": "job", "title": "", "group": None, "owner": "write", "cron": None, "every": 600.0, "timezone": "UTC",
        "grace": 60.0, "expected_at": expected_at, "started_at": None,
    }  # fmt: skip
    wait_until(lambda: get_schedule(served)["missed"] is True)
    assert get_schedule(served)["missed_at"] == expected_at


def test_start_in_time_sends_no_message(served: RunningServer, receiver: WebhookReceiver) -> None:
    set_schedule(served, "job")
    set_schedule(served, "other")
    wait_until_watched(served)
    pass_time(served.clock, 600, served)
    served.client("write").put("/api/v1/items/job", json={"run_id": "r", "status": "succeeded"})
    started_at = rfc3339(served.clock())
    wait_until(lambda: get_schedule(served)["started_at"] == started_at)
    pass_time(served.clock, 61, served)
    receiver.wait(1)
    assert [document["data"]["id"] for document in received_documents(receiver)] == ["other"]
    assert get_schedule(served)["next_at"] == rfc3339(served.clock() + 539)


def test_restart_sends_the_same_miss_once(served: RunningServer, receiver: WebhookReceiver) -> None:
    set_schedule(served)
    wait_until_watched(served)
    pass_time(served.clock, 661, served)
    wait_for_delivery(served)
    served.restart()
    wait_until_watched(served)
    pass_time(served.clock, 599, served)
    wait_until(lambda: served.client("read").get("/api/v1/schedules").json()["schedules"][0]["missed"])
    assert len(receiver.received) == 1
    pass_time(served.clock, 1, served)
    receiver.wait(2)
    first, second = received_documents(receiver)
    assert first["data"]["expected_at"] < second["data"]["expected_at"]


def test_time_without_a_server_is_not_missed(served: RunningServer, receiver: WebhookReceiver) -> None:
    set_schedule(served, "while down")
    wait_until_watched(served)
    served.stop()
    served.clock.advance(700)
    served.start()
    set_schedule(served, "after", every=60, grace=10)
    wait_until_watched(served)
    pass_time(served.clock, 71, served)
    receiver.wait(1)
    assert [document["data"]["id"] for document in received_documents(receiver)] == ["after"]
    assert get_schedule(served, "while down")["missed"] is False


@pytest.fixture
def replicas(postgres_url: str, tmp_path: Path) -> Iterator[ServerGroup]:
    group = ServerGroup(tmp_path, postgres_url)
    yield group
    group.stop()


def test_one_of_two_servers_decides_and_the_next_leader_goes_on(
    replicas: ServerGroup, receiver: WebhookReceiver, tmp_path: Path
) -> None:
    path = write_channels(tmp_path, receiver)
    servers = replicas.start(channels=path), replicas.start(channels=path)
    wait_until(lambda: any(served.background.app.services.is_leader() for served in servers))
    follower, leader = sorted(servers, key=lambda served: served.background.app.services.is_leader())
    set_schedule(follower)
    wait_until_watched(leader)
    pass_time(replicas.clock, 661, *servers)
    wait_for_delivery(leader)
    wait_until(lambda: get_schedule(follower)["missed"] is True)
    pass_time(replicas.clock, 590, *servers)
    leader.stop()
    wait_until(follower.background.app.services.is_leader)
    wait_until_watched(follower)
    pass_time(replicas.clock, 10, follower)
    receiver.wait(2)
    ids = [request.headers["webhook-id"] for request in receiver.received]
    assert len(set(ids)) == 2
    starts = [document["data"]["expected_at"] for document in received_documents(receiver)]
    assert starts == sorted(set(starts))


def test_schedule_of_one_server_is_deleted_on_the_other(replicas: ServerGroup) -> None:
    first, second = replicas.start(), replicas.start()
    document = set_schedule(first, notify=[])
    assert get_schedule(second) == document  # at once, from the database
    wait_until(lambda: second.client("read").get("/api/v1/schedules").json() == {"schedules": [document]})
    assert second.client("other").put("/api/v1/schedules/job", json={"every": 60}).status_code == 403
    assert second.client("write").delete("/api/v1/schedules/job").is_success
    wait_until(lambda: first.client("read").get("/api/v1/schedules").json() == {"schedules": []})


EVERY_SECONDS = 3600


def create_schedule(process: ServerProcess) -> None:
    with process.http() as http:
        body = {"every": EVERY_SECONDS, "grace": 10, "notify": ["hook"]}
        http.put("/api/v1/schedules/job", json=body).raise_for_status()


def move_schedule(state: str, expected_at: int) -> tuple[str, str]:
    """Return the states of the schedule and of the monitor with a start that has been expected at an instant.

    The rows stand for a wait of a minute.
    """
    moved = json.loads(state) | {"since": expected_at - EVERY_SECONDS}
    return json.dumps(moved), json.dumps({"checked_at": expected_at + 1, "gaps": []})


def move_sqlite_schedule(folder: Path, expected_at: int) -> None:
    with sqlite3.connect(folder / "progress.db") as database:
        (state,) = database.execute("SELECT state FROM schedules").fetchone()
        moved, mark = move_schedule(state, expected_at)
        database.execute("UPDATE schedules SET state = ?", (moved,))
        database.execute("INSERT OR REPLACE INTO schedule_monitor (one, state) VALUES (1, ?)", (mark,))
    database.close()


def wait_until_delivered(process: ServerProcess) -> None:
    with process.http() as http:
        wait_until(lambda: http.get("/api/v1/channels").json()["channels"][0]["waiting"] == 0)


def get_missed_at(process: ServerProcess) -> str | None:
    with process.http() as http:
        missed_at: str | None = http.get("/api/v1/schedules/job").json()["missed_at"]
        return missed_at


def test_miss_interrupted_by_kill_9_is_sent_with_one_id(tmp_path: Path, receiver: WebhookReceiver) -> None:
    process = ServerProcess(tmp_path, PROGRESSBAR_CHANNELS=str(write_channels(tmp_path, receiver)))
    try:
        create_schedule(process)
        process.stop(9)
        expected_at = int(time.time()) - 5
        move_sqlite_schedule(tmp_path, expected_at)
        process.start()
        process.stop(9)  # within the grace
        process.start()
        receiver.wait(1)
        process.stop(9)  # perhaps before the delivery is recorded
        process.start()
        wait_until_delivered(process)
        assert get_missed_at(process) == rfc3339(expected_at)
        assert len({request.headers["webhook-id"] for request in receiver.received}) == 1
    finally:
        process.close()


def test_miss_that_could_not_be_delivered_survives_kill_9(tmp_path: Path, receiver: WebhookReceiver) -> None:
    receiver.default_response = make_response(503)
    process = ServerProcess(tmp_path, PROGRESSBAR_CHANNELS=str(write_channels(tmp_path, receiver)))
    try:
        create_schedule(process)
        process.stop(9)
        expected_at = int(time.time()) - 5
        move_sqlite_schedule(tmp_path, expected_at)
        process.start()
        receiver.wait(1)
        wait_until(lambda: get_missed_at(process) == rfc3339(expected_at))
        process.stop(9)
        receiver.default_response = make_response(200)
        process.start()
        wait_until_delivered(process)
        assert len({request.headers["webhook-id"] for request in receiver.received}) == 1
    finally:
        process.close()


def test_miss_survives_kill_9_of_the_leader_of_two_servers(
    postgres_url: str, tmp_path: Path, receiver: WebhookReceiver
) -> None:
    channels = str(write_channels(tmp_path, receiver))
    processes = [
        ServerProcess(tmp_path, PROGRESSBAR_DATABASE=postgres_url, PROGRESSBAR_CHANNELS=channels) for _ in range(2)
    ]
    try:
        create_schedule(processes[0])
        for process in processes:
            process.stop(9)
        expected_at = int(time.time()) - 5
        with psycopg.connect(postgres_url, options="-c search_path=progressbar_tracker") as database:
            (state,) = database.execute("SELECT state FROM schedules").fetchone() or ("",)
            moved, mark = move_schedule(state, expected_at)
            database.execute("UPDATE schedules SET state = %s", (moved,))
            database.execute("UPDATE schedule_monitor SET state = %s", (mark,))
        for process in processes:
            process.start()
        leader = find_leader(*processes)
        (follower,) = set(processes) - {leader}
        leader.stop(9)  # within the grace
        receiver.wait(1)
        wait_until(lambda: get_missed_at(follower) == rfc3339(expected_at))
        leader.start()
        follower.stop(9)  # perhaps before the delivery is recorded
        wait_until_delivered(leader)
        assert get_missed_at(leader) == rfc3339(expected_at)
        assert len({request.headers["webhook-id"] for request in receiver.received}) == 1
    finally:
        for process in processes:
            process.close()


def test_two_servers_that_both_decide_send_one_message(
    replicas: ServerGroup, receiver: WebhookReceiver, tmp_path: Path
) -> None:
    """A leader that does not know yet that it lost the database decides the same start as its successor."""
    path = write_channels(tmp_path, receiver)
    servers = replicas.start(channels=path), replicas.start(channels=path)
    wait_until(lambda: any(served.background.app.services.is_leader() for served in servers))
    follower, leader = sorted(servers, key=lambda served: served.background.app.services.is_leader())
    set_schedule(follower, notify=["hook"])
    wait_until_watched(leader)
    pass_time(replicas.clock, 661, *servers)
    receiver.wait(1)
    services, now = leader.background.app.services, replicas.clock()
    stored = services.schedules.get("job")
    assert stored is not None
    again = MissedStart(stored, stored.missed_at)
    follower.background.store.commit(
        follower.background.app.services.notifier.build_missed([again], lambda _: None, now)
    ).result(60)
    set_schedule(leader, "other", notify=["hook"])
    wait_until_watched(leader)
    pass_time(replicas.clock, 661, *servers)
    wait_until(lambda: "other" in [document["data"]["id"] for document in received_documents(receiver)])
    wait_until(lambda: leader.client("admin").get("/api/v1/channels").json()["channels"][0]["waiting"] == 0)
    sent = [(document["data"]["id"], document["data"]["expected_at"]) for document in received_documents(receiver)]
    assert len(sent) == len(set(sent))
