"""No outage, restart, suspended machine or set clock makes a healthy run stuck, or changes its duration."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from progressbar_tracker.server.items.validation import parse_write
from tests.support.offline_server import OfflineServer

if TYPE_CHECKING:
    from pathlib import Path

TICK_SECONDS = 0.5
HEARTBEAT_SECONDS = 15.0
CLOCK_JUMPS = (2.5, 30.0, 600.0, 3600.0, 86400.0)
PAUSE_SECONDS = (5.0, 20.0, 40.0, 100.0, 1000.0, 8 * 3600.0)

REACHED_EVENTS = ("restart", "server sleeps", "clock is set")
"""Events that the server notices."""

ALL_EVENTS = (*REACHED_EVENTS, "network fails", "program sleeps", "both sleep")


class SimulatedRun:
    """A run that completes a step at least every five seconds while its machine is awake."""

    def __init__(self, world: World, item_id: str, *, has_heartbeats: bool, **fields: object) -> None:
        self.world = world
        self.item_id = item_id
        self.has_heartbeats = has_heartbeats
        self.started_at = world.counted
        self.completed = self.seq = 0
        self.next_step_in = 1.0
        self.written_at = world.counted
        if has_heartbeats:
            fields = {"heartbeat_timeout": 60, **fields}
        self.fields = {"run_id": "r", "total": 10**6, **fields}
        self.write("put", **self.fields, completed=0)

    def write(self, op: str, **fields: object) -> None:
        self.seq += 1
        self.written_at = self.world.counted
        age = self.world.counted - self.started_at
        self.world.write(op, self.item_id, {"run_id": "r", "seq": self.seq, "age_seconds": age, **fields})

    def work(self, seconds: float, *, is_reachable: bool) -> None:
        """Work for some time; report progress and heartbeats if the server is reachable."""
        self.next_step_in -= seconds
        has_stepped = self.next_step_in <= 0
        if has_stepped:
            self.completed += 1
            self.next_step_in = self.world.choose.uniform(0.5, 5.0)
        is_due = self.has_heartbeats and self.world.counted - self.written_at >= HEARTBEAT_SECONDS
        if is_reachable and (has_stepped or is_due):
            self.write("patch", completed=self.completed)

    def end(self) -> None:
        duration = self.world.counted - self.started_at
        self.write("patch", completed=self.completed, status="succeeded", duration_seconds=duration)


class World:
    """A server, its machine, and the machine of the runs."""

    def __init__(self, path: Path, seed: int) -> None:
        self.path = path
        self.choose = random.Random(seed)
        self.server = OfflineServer(path)
        self.runs: list[SimulatedRun] = []

    @property
    def counted(self) -> float:
        return self.server.clock.counted

    def write(self, op: str, item_id: str, fields: dict[str, object]) -> None:
        services = self.server.services
        now = services.now()
        if op == "put":
            self.server.put(item_id, **parse_write(fields, merge=False))
        else:
            change = services.board.patch(item_id, parse_write(fields, merge=True), now)
            self.server.store.enqueue(change.writes())
        self.check()

    def check(self) -> None:
        """No run is stuck."""
        services = self.server.services
        now = services.now()
        stuck = [item.id for item in services.board.snapshot() if services.conditions.is_stuck(item, now)]
        assert stuck == []

    def pass_time(
        self, seconds: float, *, server_awake: bool = True, programs_awake: bool = True, network: bool = True
    ) -> None:
        if not (server_awake or programs_awake):
            self.server.clock.advance(seconds)
            return
        for _ in range(min(int(seconds / TICK_SECONDS), 400)):
            self.server.clock.advance(TICK_SECONDS)
            if programs_awake:
                for run in self.runs:
                    run.work(TICK_SECONDS, is_reachable=network and server_awake)
            if server_awake:
                self.server.sweep()
                self.check()

    def happen(self, event: str) -> None:
        pause = self.choose.choice(PAUSE_SECONDS)
        if event == "restart":
            self.server.store.close()
            self.pass_time(pause, server_awake=False)
            self.server = OfflineServer(self.path, clock=self.server.clock)
        elif event == "clock is set":
            self.server.clock.wall += self.choose.choice((1, -1)) * self.choose.choice(CLOCK_JUMPS)
        elif event == "server sleeps":
            self.pass_time(pause, server_awake=False)
        elif event == "network fails":
            self.pass_time(pause, network=False)
        elif event == "program sleeps":
            self.pass_time(pause, programs_awake=False)
        else:
            self.pass_time(pause, server_awake=False, programs_awake=False)
        if self.choose.random() < 0.3:
            self.server.sweep()

    def live_through(self, events: tuple[str, ...], count: int) -> None:
        self.pass_time(30)
        for _ in range(count):
            self.happen(self.choose.choice(events))
            self.pass_time(self.choose.choice((6.0, 10.0, 40.0)))

    def check_durations(self) -> None:
        for run in self.runs:
            run.end()
            item = self.server.board.require(run.item_id)
            assert item.ended_at is not None
            assert item.ended_at - item.started_at == pytest.approx(self.counted - run.started_at, abs=1.0)
        self.server.store.close()


@pytest.mark.parametrize("seed", range(25))
def test_events_never_make_a_healthy_run_stuck(tmp_path: Path, seed: int) -> None:
    world = World(tmp_path / "progress.db", seed)
    world.runs = [
        SimulatedRun(world, "automatic", has_heartbeats=True),
        SimulatedRun(world, "limited", has_heartbeats=True, stuck_after=60),
        SimulatedRun(world, "short", has_heartbeats=True, stuck_after=25),
        SimulatedRun(world, "patient", has_heartbeats=True, stuck_after=100, heartbeat_timeout=3600),
        SimulatedRun(world, "rest", has_heartbeats=False),
    ]
    world.live_through(ALL_EVENTS, 12)
    world.check_durations()


@pytest.mark.parametrize("seed", range(15))
def test_events_of_the_server_never_make_a_silent_run_stuck(tmp_path: Path, seed: int) -> None:
    """For the server, a silent run without network looks like one that hangs; but it knows its own pauses."""
    world = World(tmp_path / "progress.db", seed)
    world.runs = [SimulatedRun(world, "silent", has_heartbeats=False, stuck_after=20)]
    world.live_through((*REACHED_EVENTS, "both sleep"), 12)
    world.check_durations()
