"""Stuck, stalled and slower items of real servers: hangs, outages, restarts, suspended machines, set clocks."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from progressbar_tracker.server.api import items as items_api
from tests.server.notifications.test_delivery import get_channel
from tests.support.offline_server import ServerClocks
from tests.support.server import ServerGroup
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import httpx

    from tests.support.server import RunningServer
    from tests.support.webhook_receiver import WebhookReceiver

HEARTBEAT_SECONDS = 15.0


class Program:
    """A run that reports its steps and heartbeats to a real server, by the clock of the test."""

    def __init__(self, served: RunningServer, item_id: str = "job", **fields: object) -> None:
        self.served = served
        self.item_id = item_id
        self.completed = 0
        self.write({"run_id": "r", "total": 100, "completed": 0, "heartbeat_timeout": 60, **fields}, method="PUT")

    def write(self, fields: dict[str, object], method: str = "PATCH") -> None:
        http = self.served.client("write")
        http.request(method, f"/api/v1/items/{self.item_id}", json={"run_id": "r", **fields}).raise_for_status()
        http.close()

    def pass_time(self, seconds: float) -> None:
        self.served.pass_time(seconds)

    def take_steps(self, count: int, seconds: float = 2.0) -> None:
        for _ in range(count):
            self.pass_time(seconds)
            self.completed += 1
            self.write({"completed": self.completed})

    def hang(self, seconds: float) -> None:
        """Send heartbeats without progress."""
        for _ in range(int(seconds / HEARTBEAT_SECONDS)):
            self.pass_time(HEARTBEAT_SECONDS)
            self.write({})

    def read(self) -> dict[str, object]:
        return self.served.items()[self.item_id]


@pytest.fixture
def clocks() -> ServerClocks:
    return ServerClocks()


@pytest.fixture
def set_server(make_server: Callable[..., RunningServer], clocks: ServerClocks) -> RunningServer:
    """A server whose wall clock can be set."""
    served = make_server()
    served.stop()
    served.clock = clocks  # type: ignore[assignment]
    served.start()
    return served


def test_loop_whose_51st_item_never_returns_is_stuck(server: RunningServer) -> None:
    program = Program(server)
    program.take_steps(50)
    eta = program.read()["eta"]
    assert isinstance(eta, float)
    assert 80 < eta < 120
    program.hang(45)
    assert program.read()["stuck"] is False
    program.hang(200)
    item = program.read()
    assert (item["stuck"], item["stalled"], item["status"]) == (True, False, "running")
    names = ("eta", "eta_low", "eta_high", "finish_at", "basis", "rate")
    assert {name: item[name] for name in names} == dict.fromkeys(names)
    assert item["usual_gap_seconds"] == pytest.approx(2.0)
    program.take_steps(1)
    item = program.read()
    assert (item["stuck"], item["eta"] is None) == (False, False)


def test_run_beyond_its_last_step_is_not_stuck(server: RunningServer) -> None:
    """All items are done, and the run saves its result."""
    program = Program(server, total=20)
    program.take_steps(20)
    program.hang(600)
    assert program.read()["stuck"] is False


def test_rest_item_without_updates_is_not_stuck(server: RunningServer) -> None:
    http = server.client("write")
    http.put("/api/v1/items/rest", json={"completed": 1, "total": 10}).raise_for_status()
    before = server.items()["rest"]
    server.pass_time(18 * 60)
    item = server.items()["rest"]
    assert (item["stuck"], item["stalled"], item["updated_at"]) == (False, False, before["updated_at"])


def test_rest_item_is_stalled_by_the_option(make_server: Callable[..., RunningServer]) -> None:
    served = make_server(stall_after=300.0)
    http = served.client("write")
    http.put("/api/v1/items/rest", json={"completed": 1, "total": 10}).raise_for_status()
    http.post("/progress", json={"id": "old", "title": "", "description": "", "value": 0.5, "weight": 0})
    served.pass_time(299)
    assert {item["stalled"] for item in served.items().values()} == {False}
    served.pass_time(1)
    assert {item["stalled"] for item in served.items().values()} == {True}
    listed = http.get("/api/v1/items?status=stalled").json()["items"]
    assert [item["id"] for item in listed] == ["rest", "old"]


def test_outage_is_not_stuck(server: RunningServer) -> None:
    program = Program(server)
    program.take_steps(20)
    server.pass_time(3600)
    program.write({})
    assert program.read()["stuck"] is False
    program.hang(45)
    assert program.read()["stuck"] is False


def restart_after(server: RunningServer, seconds: float) -> None:
    """Stop a server for some seconds."""
    server.stop()
    assert server.clock is not None
    server.clock.advance(seconds)
    server.start()


def test_restart_of_the_server_is_not_stuck(server: RunningServer) -> None:
    program = Program(server)
    program.take_steps(20)
    restart_after(server, 3600)
    program.write({})
    assert program.read()["stuck"] is False
    program.take_steps(1)
    assert program.read()["stuck"] is False


def test_hang_stays_stuck_after_a_restart(server: RunningServer) -> None:
    program = Program(server)
    program.take_steps(20)
    program.hang(120)
    assert program.read()["stuck"] is True
    restart_after(server, 3600)
    program.write({})
    assert program.read()["stuck"] is True


@pytest.mark.parametrize("fields", [{}, {"heartbeat_timeout": None, "stuck_after": 8}], ids=["heartbeats", "silent"])
def test_suspended_machine_is_not_stuck(server: RunningServer, fields: dict[str, object]) -> None:
    """The program and the server sleep on one laptop."""
    program = Program(server, **fields)
    program.take_steps(20)
    assert server.clock is not None
    server.clock.advance(8 * 3600)
    assert program.read()["stuck"] is False
    program.write({})
    assert program.read()["stuck"] is False
    program.take_steps(1)
    assert program.read()["stuck"] is False


@pytest.mark.parametrize("seconds", [3600.0, -3600.0, 3.0, -3.0])
def test_clock_jump_is_not_stuck_and_keeps_durations(
    set_server: RunningServer, clocks: ServerClocks, seconds: float
) -> None:
    program = Program(set_server, age_seconds=100.0, stuck_after=90)
    silent = Program(set_server, "silent", heartbeat_timeout=None, stuck_after=90)
    program.take_steps(10)
    silent.take_steps(1)
    clocks.wall += seconds
    program.write({"age_seconds": 122.0})
    silent.write({})
    assert (program.read()["stuck"], silent.read()["stuck"]) == (False, False)
    program.take_steps(5)
    program.write({"status": "succeeded", "age_seconds": 132.0, "duration_seconds": 132.0})
    (run,) = [item for item in set_server.items().values() if item["id"] == "job"]
    assert read_duration(run) == pytest.approx(132.0, abs=1.0)


def read_duration(item: dict[str, object]) -> float:
    from progressbar_tracker._phrases import read_instant

    started_at, ended_at = read_instant(item, "started_at"), read_instant(item, "ended_at")
    assert started_at is not None
    assert ended_at is not None
    return ended_at - started_at


def test_item_with_a_limit_becomes_stuck_without_write(server: RunningServer) -> None:
    http = server.client("write")
    http.put("/api/v1/items/silent", json={"stuck_after": 30}).raise_for_status()
    etag = http.get("/api/v1/items").headers["ETag"]
    server.pass_time(29)
    assert server.items()["silent"]["stuck"] is False
    server.pass_time(1)
    reply = http.get("/api/v1/items", headers={"If-None-Match": etag})
    assert reply.json()["items"][0]["stuck"] is True
    http.patch("/api/v1/items/silent", json={"description": "next file"})
    assert server.items()["silent"]["stuck"] is False


def test_null_and_option_turn_stuck_off(server: RunningServer, make_server: Callable[..., RunningServer]) -> None:
    program = Program(server, stuck_after=None)
    program.take_steps(20)
    program.hang(600)
    assert (program.read()["stuck"], program.read()["stuck_after"]) == (False, None)
    other = Program(make_server(stuck=False), stuck_after=30)
    other.take_steps(20)
    other.hang(600)
    assert (other.read()["stuck"], other.read()["stuck_after"]) == (False, 30)


def test_item_without_a_count_needs_a_limit(server: RunningServer) -> None:
    for item_id, fields in (("automatic", {}), ("limited", {"stuck_after": 120})):
        program = Program(server, item_id, completed=None, total=None, **fields)
        for number in range(20):
            program.pass_time(10)
            program.write({"description": f"file {number}"})
        assert program.read()["stuck"] is False
        program.hang(300)
        assert program.read()["stuck"] is (item_id == "limited")


def test_stuck_after_belongs_to_the_owner(server: RunningServer) -> None:
    server.create_as_other("theirs")
    server.client("write").put("/api/v1/items/own", json={"stuck_after": 60}).raise_for_status()
    body = {"stuck_after": 5}
    statuses = {
        (key, item_id): server.client(key).patch(f"/api/v1/items/{item_id}", json=body).status_code
        for key in ("read", "write", "admin", None)
        for item_id in ("own", "theirs")
    }
    assert statuses == {
        ("read", "own"): 403, ("read", "theirs"): 403, ("write", "own"): 200, ("write", "theirs"): 403,
        ("admin", "own"): 200, ("admin", "theirs"): 200, (None, "own"): 401, (None, "theirs"): 401,
    }  # fmt: skip


BAD_SECONDS = ["-1", "-0.001", "NaN", "Infinity", "1e400", "1e30", '"5"', "true", "[]"]


@pytest.mark.parametrize("field", ["age_seconds", "duration_seconds", "stuck_after"])
@pytest.mark.parametrize("text", [*BAD_SECONDS, "0"])
def test_bad_seconds_are_refused(module_server: RunningServer, field: str, text: str) -> None:
    if text == "0" and field != "stuck_after":
        return
    http = module_server.client("write")
    headers = {"Content-Type": "application/json"}
    reply = http.put("/api/v1/items/bad", content=f'{{"{field}": {text}}}', headers=headers)
    # NaN and infinity are no JSON.
    is_json = text not in ("NaN", "Infinity")
    assert reply.status_code == (422 if is_json and text != "1e400" else reply.status_code)
    assert reply.status_code in (400, 422)
    if reply.status_code == 422:
        assert reply.json()["field"] == field
        ops = f'{{"ops": [{{"op": "put", "id": "good-{field}"}}, {{"op": "put", "id": "bad", "{field}": {text}}}]}}'
        results = http.post("/api/v1/items:batch", content=ops, headers=headers).json()["results"]
        assert [result["status"] for result in results][1] == 422
        assert results[0]["status"] in (200, 201)
        assert results[1]["problem"]["field"] == field
    assert "bad" not in module_server.items()


def list_ids(http: httpx.Client, query: str) -> list[str]:
    return [item["id"] for item in http.get(f"/api/v1/items?{query}").json()["items"]]


@pytest.mark.parametrize("slice_size", [1000, 7, 2, 1])
def test_filter_lists_items_of_a_condition(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch, slice_size: int
) -> None:
    monkeypatch.setattr(items_api, "ITEMS_PER_SLICE", slice_size)
    http = server.client("write")
    for number in range(7):
        http.put(f"/api/v1/items/stuck-{number}", json={"stuck_after": 30, "group": "g" if number % 2 else "h"})
    http.put("/api/v1/items/late", json={"deadline": "2020-01-01T00:00:00Z"})
    http.put("/api/v1/items/stalled", json={"heartbeat_timeout": 20})
    http.put("/api/v1/items/ended", json={"status": "failed", "stuck_after": 30})
    server.pass_time(31)
    assert list_ids(http, "status=stuck") == [f"stuck-{number}" for number in range(7)]
    assert list_ids(http, "status=stuck&group=g") == ["stuck-1", "stuck-3", "stuck-5"]
    assert (list_ids(http, "status=late"), list_ids(http, "status=stalled")) == (["late"], ["stalled"])
    assert list_ids(http, "status=slower") == []
    found, path = [], "items?status=stuck&limit=3"
    while path:
        reply = http.get(f"/api/v1/{path}")
        found += [item["id"] for item in reply.json()["items"]]
        path = reply.links["next"]["url"] if "next" in reply.links else ""
    assert found == [f"stuck-{number}" for number in range(7)]


def test_etag_of_a_filter_changes_with_the_condition(server: RunningServer) -> None:
    http = server.client("write")
    http.put("/api/v1/items/a", json={"stuck_after": 30})
    for description, expected in (("x", ["a"]), ("y", ["a"])):
        empty = http.get("/api/v1/items?status=stuck")
        assert empty.json()["items"] == []
        server.pass_time(31)
        filled = http.get("/api/v1/items?status=stuck", headers={"If-None-Match": empty.headers["ETag"]})
        assert [item["id"] for item in filled.json()["items"]] == expected
        http.patch("/api/v1/items/a", json={"description": description})
        cleared = http.get("/api/v1/items?status=stuck", headers={"If-None-Match": filled.headers["ETag"]})
        assert cleared.json()["items"] == []


def test_unknown_filter_is_refused_with_the_values(server: RunningServer) -> None:
    problem = server.client("read").get("/api/v1/items?status=lost").json()
    assert (problem["status"], problem["field"]) == (422, "status")
    assert problem["detail"] == (
        "status must be one of running, succeeded, failed, stopped, stalled, late, stuck, slower"
    )


def test_metrics_count_conditions(make_server: Callable[..., RunningServer]) -> None:
    served = make_server(metrics_items=5)
    http = served.client("write")
    http.put("/api/v1/items/a", json={"stuck_after": 30, "completed": 1, "total": 2})
    http.put("/api/v1/items/b", json={"deadline": "2020-01-01T00:00:00Z"})
    served.pass_time(31)
    lines = served.client("read").get("/metrics").text.splitlines()
    for line in ("progressbar_items_stuck 1.0", "progressbar_items_late 1.0", "progressbar_items_slower 0.0"):
        assert line in lines
    assert 'progressbar_item_progress{group="",item="a",status="stuck"} 0.5' in lines


# Messages.


@pytest.fixture
def hook_path(tmp_path: Path, receiver: WebhookReceiver) -> Path:
    path = tmp_path / "channels.toml"
    path.write_text(
        f'[channels.hook]\nurl = "{receiver.url}"\nallow_private = true\nall = true\non = ["stuck", "slower"]\n'
    )
    return path


def list_messages(receiver: WebhookReceiver) -> list[str]:
    return [json.loads(request.body)["type"] for request in receiver.received]


def test_each_silence_sends_one_message(
    make_server: Callable[..., RunningServer], receiver: WebhookReceiver, hook_path: Path
) -> None:
    served = make_server(channels=hook_path)
    program = Program(served, stuck_after=60)
    for count in (1, 2):
        program.take_steps(10)
        program.hang(90)
        receiver.wait(count)
        program.hang(60)
    served.restart()
    program.hang(60)
    program.take_steps(1)
    wait_until(lambda: program.read()["stuck"] is False)
    assert list_messages(receiver) == ["item.stuck"] * 2
    item = json.loads(receiver.received[0].body)["data"]
    assert (item["stuck"], item["eta"]) == (True, None)


def work_inside(outer: Program, inner: Program, seconds: float) -> None:
    """Take inner steps for some seconds, while the outer loop waits for their end."""
    for _ in range(int(seconds / HEARTBEAT_SECONDS)):
        inner.take_steps(1, HEARTBEAT_SECONDS)
        outer.write({})


def test_outer_loop_sends_a_message_if_its_inner_bar_hangs(
    make_server: Callable[..., RunningServer], receiver: WebhookReceiver, hook_path: Path
) -> None:
    served = make_server(channels=hook_path)
    outer = Program(served, "outer")
    outer.take_steps(10)
    inner = Program(served, "inner", parent="outer", stuck_after=None)
    work_inside(outer, inner, 150)
    assert outer.read()["stuck"] is False
    restart_after(served, 3600)
    outer.write({})
    assert outer.read()["stuck"] is False
    work_inside(outer, inner, 45)
    assert outer.read()["progressed_at"] == inner.read()["progressed_at"]
    outer.hang(90)
    receiver.wait(1)
    (message,) = (json.loads(request.body) for request in receiver.received)
    shown = message["data"]
    assert (message["type"], shown["id"]) == ("item.stuck", "outer")
    assert shown["progressed_at"] == inner.read()["progressed_at"]


def test_silent_item_sends_one_message(
    make_server: Callable[..., RunningServer], receiver: WebhookReceiver, hook_path: Path
) -> None:
    served = make_server(channels=hook_path)
    Program(served, "silent", heartbeat_timeout=None, stuck_after=20)
    served.pass_time(21)
    wait_until(lambda: get_channel(served)["delivered"] == 1)  # or else the next server sends it again
    served.restart()
    served.pass_time(30)
    Program(served, "other", heartbeat_timeout=None, stuck_after=20)
    served.pass_time(30)
    receiver.wait(2)
    assert [json.loads(request.body)["data"]["id"] for request in receiver.received] == ["silent", "other"]


def run_job(served: RunningServer, seconds: float, run_id: str) -> Program:
    """Run a job of ten steps to its end, and move it to the history."""
    http = served.client("write")
    body = {"run_id": run_id, "total": 10, "completed": 0, "heartbeat_timeout": 60}
    http.put("/api/v1/items/job", json=body).raise_for_status()
    for step in range(1, 11):
        served.pass_time(seconds / 10)
        http.patch("/api/v1/items/job", json={"run_id": run_id, "completed": step})
    http.patch("/api/v1/items/job", json={"run_id": run_id, "status": "succeeded"}).raise_for_status()


def test_slower_run_sends_one_message(
    make_server: Callable[..., RunningServer], receiver: WebhookReceiver, hook_path: Path
) -> None:
    served = make_server(channels=hook_path)
    for number in range(6):
        run_job(served, 100.0, f"former-{number}")
    http = served.client("write")
    http.put("/api/v1/items/job", json={"run_id": "slow", "total": 10, "completed": 0, "heartbeat_timeout": 60})
    wait_until(lambda: served.items()["job"]["usual_duration_seconds"] is not None)
    assert list_ids(http, "status=slower") == []

    started_at = served.clock()

    def go_on() -> bool:
        served.pass_time(5.0)
        completed = (served.clock() - started_at) / 100
        http.patch("/api/v1/items/job", json={"run_id": "slow", "completed": completed}).raise_for_status()
        return bool(receiver.received)

    wait_until(go_on)
    assert list_ids(http, "status=slower") == ["job"]
    for _ in range(10):
        go_on()
    assert list_messages(receiver) == ["item.slower"]
    assert json.loads(receiver.received[0].body)["data"]["slower"] is True


# Two servers.


@pytest.fixture
def group(postgres_url: str, tmp_path: Path) -> Iterator[ServerGroup]:
    group = ServerGroup(tmp_path, postgres_url)
    yield group
    group.stop()


def test_two_servers_show_the_same_conditions(group: ServerGroup, receiver: WebhookReceiver, hook_path: Path) -> None:
    first, second = (group.start(channels=hook_path, stall_after=200.0) for _ in range(2))

    def pass_time(seconds: float) -> None:
        for _ in range(int(seconds / 5)):
            group.clock.advance(5)
            for served in (first, second):
                served.background.app.maintenance.check_clock()

    first.client("write").put("/api/v1/items/silent", json={"stuck_after": 100}).raise_for_status()
    second.client("write").put("/api/v1/items/quiet", json={"completed": 1}).raise_for_status()
    program = Program(first)
    program.pass_time = pass_time  # type: ignore[method-assign]
    program.take_steps(10, seconds=5)
    program.hang(90)
    for name, expected in (("stuck", {"job": True, "silent": True, "quiet": False}),
                           ("stalled", {"job": False, "silent": False, "quiet": False})):  # fmt: skip
        group.wait_for_all(lambda served, name=name: {n: i[name] for n, i in served.items().items()}, expected)
        group.wait_for_all(
            lambda served, name=name: set(list_ids(served.client("read"), f"status={name}")),
            {item_id for item_id, has in expected.items() if has},
        )
    receiver.wait(2)
    program.hang(60)
    group.wait_for_all(lambda served: served.items()["quiet"]["stalled"], True)
    assert sorted(list_messages(receiver)) == ["item.stuck"] * 2


def test_server_that_slept_gives_up_nothing(make_server: Callable[..., RunningServer]) -> None:
    served = make_server(give_up=3600.0)
    program = Program(served)
    served.pass_time(700)
    assert served.clock is not None
    served.clock.advance(8 * 3600)
    served.pass_time(60)
    program.take_steps(1)
    assert program.read()["status"] == "running"
