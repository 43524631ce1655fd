"""Which expected starts are missed. Pure: the monitor with a clock, items and a store of its writes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from hypothesis import given, settings
from hypothesis import strategies as st

from progressbar_tracker.server.models import ScheduleMark
from progressbar_tracker.server.mutations import MarkSchedules, TouchSchedule
from progressbar_tracker.server.schedules.monitor import ScheduleMonitor
from progressbar_tracker.server.schedules.table import Schedules
from tests.support.clock import START_TIME
from tests.support.items import make_item
from tests.support.schedules import make_schedule

if TYPE_CHECKING:
    from progressbar_tracker.server.models import Item, ScheduleRecord

HOUR_SECONDS = 3600.0
FIRST_START = START_TIME + HOUR_SECONDS
"""The first expected start of an hourly schedule: the tests' clock begins at a full hour."""


class World:
    """A monitor that can be killed: what it has written is all that is left."""

    def __init__(self, *schedules: ScheduleRecord) -> None:
        self.stored = {schedule.id: schedule for schedule in schedules}
        self.mark = ScheduleMark()
        self.items: dict[str, Item] = {}
        self.missed: list[tuple[str, float]] = []
        self.start(START_TIME)

    def start(self, now: float) -> None:
        self.table = Schedules(self.stored.values())
        self.monitor = ScheduleMonitor(self.table, self.items.get, self.mark)
        self.listening_since = now
        self.poll(now)

    def poll(self, now: float, *touched: str) -> None:
        missed, writes = self.monitor.poll(touched, now, self.listening_since)
        self.missed += [(schedule.id, expected_at) for schedule, expected_at in missed]
        touches = {}
        for write in writes:
            match write:
                case TouchSchedule(schedule_id, started_at, missed_at):
                    touches[schedule_id] = (started_at, missed_at)  # two starts may be missed at once: the last is kept
                case MarkSchedules(mark):
                    self.mark = mark
        for schedule_id, touch in touches.items():
            kept = self.table.get(schedule_id)
            assert kept is not None
            assert (kept.started_at, kept.missed_at) == touch
            self.stored[schedule_id] = kept

    def run(self, start: float, end: float, step: float = 10.0) -> None:
        for second in range(int((end - start) / step) + 1):
            self.poll(start + second * step)

    def begin_run(self, at: float, schedule_id: str = "job") -> None:
        self.items[schedule_id] = make_item(schedule_id, created_at=at, started_at=at, updated_at=at)
        self.poll(at, schedule_id)


def test_start_that_does_not_happen_is_missed_once() -> None:
    world = World(make_schedule(grace=300.0))
    world.run(START_TIME, FIRST_START + 299)
    assert world.missed == []
    world.run(FIRST_START + 300, FIRST_START + HOUR_SECONDS)
    assert world.missed == [("job", FIRST_START)]


def test_each_expected_start_is_missed() -> None:
    world = World(make_schedule(cron="* * * * *", grace=300.0))
    world.run(START_TIME, START_TIME + 600)
    assert world.missed == [("job", START_TIME + 60 * number) for number in range(1, 6)]


def test_start_in_time_is_not_missed() -> None:
    world = World(make_schedule(grace=300.0))
    world.run(START_TIME, FIRST_START)
    world.begin_run(FIRST_START + 200)
    world.run(FIRST_START + 200, FIRST_START + HOUR_SECONDS + 299)
    assert world.missed == []
    world.poll(FIRST_START + HOUR_SECONDS + 300)
    assert world.missed == [("job", FIRST_START + HOUR_SECONDS)]


def test_early_start_is_in_time_and_a_much_earlier_one_is_not() -> None:
    world = World(make_schedule("early", grace=300.0), make_schedule("before", grace=300.0))
    world.begin_run(FIRST_START - 100, "before")
    world.begin_run(FIRST_START - 20, "early")
    world.run(FIRST_START, FIRST_START + 400)
    assert world.missed == [("before", FIRST_START)]


def test_late_start_ends_the_missed_state() -> None:
    world = World(make_schedule(grace=300.0))
    world.run(START_TIME, FIRST_START + 300)
    world.begin_run(FIRST_START + 600)
    schedule = world.stored["job"]
    assert (schedule.missed_at, schedule.started_at) == (FIRST_START, FIRST_START + 600)
    world.run(FIRST_START + 600, FIRST_START + HOUR_SECONDS)
    assert len(world.missed) == 1


def test_period_begins_with_the_latest_start() -> None:
    world = World(make_schedule(every=600.0, grace=60.0))
    world.begin_run(START_TIME + 500)
    world.run(START_TIME + 500, START_TIME + 1159)
    assert world.missed == []
    world.run(START_TIME + 1160, START_TIME + 1800)
    assert world.missed == [("job", START_TIME + 1100), ("job", START_TIME + 1700)]


def test_item_that_runs_when_the_schedule_is_set_does_not_count() -> None:
    world = World()
    world.begin_run(START_TIME - 10)
    world.table.put(make_schedule(grace=300.0))
    world.run(START_TIME, FIRST_START + 300)
    assert world.missed == [("job", FIRST_START)]


def test_schedule_set_while_the_server_runs_is_watched() -> None:
    world = World()
    world.run(START_TIME, START_TIME + 60)
    world.table.put(make_schedule(grace=300.0))
    world.run(START_TIME + 60, FIRST_START + 300)
    assert world.missed == [("job", FIRST_START)]


def test_deleted_schedule_is_not_missed() -> None:
    world = World(make_schedule(grace=300.0))
    world.poll(FIRST_START)
    world.table.drop("job")
    world.run(FIRST_START, FIRST_START + 400)
    assert world.missed == []


def test_start_expected_while_no_server_ran_is_not_missed() -> None:
    world = World(make_schedule(grace=300.0))
    world.start(FIRST_START + 100)
    world.run(FIRST_START + 100, FIRST_START + HOUR_SECONDS)
    assert world.missed == []
    world.poll(FIRST_START + HOUR_SECONDS + 300)
    assert world.missed == [("job", FIRST_START + HOUR_SECONDS)]


def test_restart_within_the_grace_only_delays_the_decision() -> None:
    world = World(make_schedule(grace=300.0))
    world.poll(FIRST_START + 1)
    world.start(FIRST_START + 101)
    world.run(FIRST_START + 101, FIRST_START + 399)
    assert world.missed == []
    world.poll(FIRST_START + 400)
    assert world.missed == [("job", FIRST_START)]


def test_many_restarts_within_the_grace_lose_no_miss() -> None:
    world = World(make_schedule(grace=300.0))
    world.poll(FIRST_START + 1)
    for number in range(20):
        world.start(FIRST_START + 100 + number * 50)
    world.run(FIRST_START + 1100, FIRST_START + HOUR_SECONDS)
    assert world.missed == [("job", FIRST_START)]


def test_start_in_the_pause_before_two_restarts_is_not_missed() -> None:
    world = World(make_schedule(grace=300.0))
    world.start(FIRST_START + 10)
    world.start(FIRST_START + 20)
    world.run(FIRST_START + 20, FIRST_START + 1000)
    assert world.missed == []


def test_miss_decided_before_a_restart_is_not_decided_again() -> None:
    world = World(make_schedule(grace=300.0))
    world.run(START_TIME, FIRST_START + 300)
    world.start(FIRST_START + 301)
    world.run(FIRST_START + 301, FIRST_START + HOUR_SECONDS)
    assert world.missed == [("job", FIRST_START)]


def test_run_that_started_while_no_server_ran_is_in_time() -> None:
    """Its client reports the start after the restart, with the age of the run."""
    world = World(make_schedule(grace=300.0))
    world.poll(FIRST_START + 1)
    world.start(FIRST_START + 60)
    world.poll(FIRST_START + 90)
    world.items["job"] = make_item(
        "job", created_at=FIRST_START + 100, started_at=FIRST_START + 30, updated_at=FIRST_START + 100
    )
    world.poll(FIRST_START + 100, "job")
    world.run(FIRST_START + 100, FIRST_START + HOUR_SECONDS)
    assert world.missed == []


def test_starts_skipped_by_a_clock_set_forward_are_not_missed() -> None:
    world = World(make_schedule(grace=300.0))
    world.poll(START_TIME + 600)
    now = FIRST_START + 5 * HOUR_SECONDS + 60
    world.monitor.set_clock(now, 5 * HOUR_SECONDS)
    world.listening_since = now
    world.run(now, now + 1000)
    assert world.missed == []


def test_open_start_keeps_its_grace_when_the_clock_jumps() -> None:
    world = World(make_schedule(grace=300.0))
    world.poll(FIRST_START + 10)
    now = FIRST_START + 10 + 2 * HOUR_SECONDS
    world.monitor.set_clock(now, 2 * HOUR_SECONDS)
    world.listening_since = now
    world.run(now, now + 280)
    assert world.missed == []
    world.poll(now + 290)
    assert world.missed == [("job", FIRST_START)]


def test_starts_repeated_by_the_clock_are_not_expected() -> None:
    world = World(make_schedule(grace=300.0))
    world.run(START_TIME, FIRST_START + 300)
    world.begin_run(FIRST_START + HOUR_SECONDS + 10)
    now = START_TIME + 60
    world.monitor.set_clock(now, now - (FIRST_START + HOUR_SECONDS + 20))
    world.listening_since = now
    world.items.clear()
    world.run(now, FIRST_START + HOUR_SECONDS + 299)
    assert world.missed == [("job", FIRST_START)]


def test_start_recorded_in_the_future_is_forgotten() -> None:
    world = World(make_schedule(grace=300.0, started_at=START_TIME + 1000 * HOUR_SECONDS))
    world.run(START_TIME, FIRST_START + 300)
    assert world.missed == [("job", FIRST_START)]


def test_server_that_becomes_the_leader_goes_on_from_the_mark() -> None:
    world = World(make_schedule(grace=300.0))
    world.poll(FIRST_START + 1)
    table = Schedules(world.stored.values())
    follower = ScheduleMonitor(table, world.items.get, None)
    assert follower.poll((), FIRST_START + 2, START_TIME) == ([], [])
    follower.restart(world.mark)
    assert follower.poll((), FIRST_START + 299, START_TIME)[0] == []
    assert [at for _, at in follower.poll((), FIRST_START + 300, START_TIME)[0]] == [FIRST_START]


def test_heap_stays_small() -> None:
    world = World(*(make_schedule(str(number), cron="* * * * *", grace=600.0) for number in range(20)))
    world.run(START_TIME, START_TIME + HOUR_SECONDS)
    assert len(world.monitor._heap) <= 2 * 20  # its size is no part of the interface


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(["wait", "kill", "crash", "start"]), st.integers(1, 900)), max_size=25),
    st.sampled_from([30.0, 300.0, 1200.0]),
)
def test_each_observed_start_without_a_run_is_missed_once(events, grace) -> None:
    """A crash loses the writes of a decision together with its messages."""
    world, now = World(make_schedule(cron="*/5 * * * *", grace=grace)), START_TIME
    observed, starts, down = [now], list[float](), list[tuple[float, float]]()
    for event, seconds in [*events, ("wait", grace + 400)]:
        match event:
            case "wait":
                for _ in range(int(seconds // 5)):
                    now += 5
                    world.poll(now)
                    observed.append(now)
            case "start":
                now += 1
                world.begin_run(now)
                observed.append(now)
                starts.append(now)
            case _:
                if event == "crash":
                    now += 5
                    world.monitor.poll((), now, world.listening_since)  # nothing of it is stored
                down.append((now, now + seconds))
                now += seconds
                world.start(now)
                observed.append(now)
    assert len(world.missed) == len(set(world.missed))
    missed = {expected_at for _, expected_at in world.missed}
    for expected_at in missed:
        assert not any(start < expected_at < end for start, end in down)
        assert not any(expected_at <= start < expected_at + grace for start in starts)
    latest_start = max(starts, default=0.0)
    for number in range(1, int((now - grace - 10 - START_TIME) // 300) + 1):
        expected_at = START_TIME + 300 * number
        was_down = any(start <= expected_at <= end for start, end in down)  # both are valid at the very end
        next_end = min((start for start, _ in down if start >= expected_at), default=math.inf)
        was_observed = not was_down and any(expected_at <= at < next_end for at in observed)
        if was_observed and latest_start + 30 < expected_at:
            assert expected_at in missed
