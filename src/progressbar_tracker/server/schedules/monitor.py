"""Find the expected starts that were missed. Pure: the clock, the items and the listening time are arguments.

One server decides: the leader. For each schedule it waits for the next expected start, and for the end of the grace of
the first one that no run has met. When such an instant has passed, it records in the store that it looked at all
schedules (:class:`~..models.ScheduleMark`). A server that starts, or that becomes the leader, has not listened since
then: the time in between becomes a gap.

The id of a message depends on the channel, the schedule and the expected start only, so a decision that is made twice
sends one message.
"""

from __future__ import annotations

import heapq
import math
from itertools import islice
from typing import TYPE_CHECKING, Final, NamedTuple

from msgspec.structs import replace

from progressbar_tracker.server.models import ScheduleMark
from progressbar_tracker.server.mutations import MarkSchedules, TouchSchedule, Write

from .gaps import add_gap, add_seconds, find_gap_end, subtract_seconds
from .recurrence import find_next_start, find_open_start

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from progressbar_tracker.server.models import Item, ScheduleRecord

    from .table import Schedules

MAX_FUTURE_SECONDS: Final = 60.0
"""Seconds by which a start may lie in the future; a later one was recorded while the clock was ahead."""

MAX_REPEATED_SECONDS: Final = 86_400.0
"""The most seconds that pass a second time after the clock was set back, and in which no start is expected again."""

MAX_PLANS: Final = 200
"""Schedules that are planned, and due instants that are handled, in one turn of the event loop: some 20 ms."""

START_TOLERANCE: Final = 1.0
"""Seconds by which the start of a run may move while its writes report its age."""


class MissedStart(NamedTuple):
    """An expected start that no run has met, and its schedule."""

    schedule: ScheduleRecord
    expected_at: float


class ScheduleMonitor:
    """Watches the schedules of a table while this server is the leader.

    Args:
        schedules: The table. The monitor records starts in it.
        get_item: Returns the item of an id.
        mark: The stored mark; ``None`` if this server is not the leader yet.
    """

    def __init__(self, schedules: Schedules, get_item: Callable[[str], Item | None], mark: ScheduleMark | None) -> None:
        self._schedules = schedules
        self._get_item = get_item
        self._mark = mark
        self._decided_at = 0.0  # what was due at this instant is decided
        self._listening_since: float | None = None
        self._is_due = False  # something was due since the latest mark
        self._heap: list[tuple[float, str]] = []
        self._wake_at: dict[str, float] = {}  # the only valid entry of an id in the heap
        self._deadlines: dict[str, tuple[float, float]] = {}  # the open expected start of an id, and its deadline

    def restart(self, mark: ScheduleMark) -> None:
        """Go on from a stored mark, because this server becomes the leader."""
        self._mark = mark
        self._listening_since = None

    def set_clock(self, now: float, seconds: float) -> None:
        """Adjust to a wall clock that was set back: what was expected once is not expected again.

        Args:
            now: The instant after the change.
            seconds: The seconds by which it was set.
        """
        if self._mark is not None and seconds < 0:
            repeated = now, now + min(-seconds, MAX_REPEATED_SECONDS)
            self._mark = ScheduleMark(min(self._mark.checked_at, now), add_gap(self._mark.gaps, repeated, now))
        self._listening_since = None

    def poll(
        self, touched_ids: Iterable[str], now: float, listening_since: float
    ) -> tuple[list[MissedStart], list[Write]]:
        """Decide what is due.

        Args:
            touched_ids: Items that have changed.
            now: The current instant.
            listening_since: The instant since which runs could reach this server.

        Returns:
            The missed starts, and the writes to persist together with their messages.
        """
        schedules, mark = self._schedules, self._mark
        if mark is None or (not schedules and not schedules.changed_ids):
            return [], []
        missed, writes = list[MissedStart](), list[Write]()
        if self._listening_since != listening_since:
            mark = self._begin(mark, now, listening_since)
        changed_ids = set(islice(schedules.changed_ids, MAX_PLANS))
        schedules.changed_ids -= changed_ids
        for schedule_id in changed_ids | {id for id in touched_ids if schedules.get(id) is not None}:
            started = self._record_start(schedule_id, now)
            if started is not None:
                writes.append(started)
            if started is not None or schedule_id in changed_ids:
                self._plan(schedule_id, mark, now)
        for _ in range(MAX_PLANS):
            if not self._heap or self._heap[0][0] > now:
                break
            wake_at, schedule_id = heapq.heappop(self._heap)
            if self._wake_at.get(schedule_id) != wake_at:
                continue
            self._is_due = True
            missed_start = self._decide(schedule_id, now)
            if missed_start is not None:
                missed.append(missed_start)
                writes.append(_touch(missed_start.schedule))
            self._plan(schedule_id, mark, now)
        if self._is_due and not schedules.changed_ids and not (self._heap and self._heap[0][0] <= now):
            self._is_due = False
            mark = ScheduleMark(now, mark.gaps)
            writes.append(MarkSchedules(mark))
        self._mark = mark
        return missed, writes

    def _begin(self, mark: ScheduleMark, now: float, listening_since: float) -> ScheduleMark:
        """Plan everything again, after a time in which no run could reach a server."""
        self._listening_since = listening_since
        if mark.checked_at > now:  # the clock was ahead
            mark = ScheduleMark(now, mark.gaps)
        if mark.checked_at and mark.checked_at < listening_since:
            mark = ScheduleMark(mark.checked_at, add_gap(mark.gaps, (mark.checked_at, listening_since), now))
        self._decided_at = mark.checked_at
        self._is_due = True
        self._heap.clear()
        self._wake_at.clear()
        self._deadlines.clear()
        self._schedules.changed_ids.update(self._schedules.ids())
        return mark

    def _record_start(self, schedule_id: str, now: float) -> TouchSchedule | None:
        """Record the start of the current run, if it is later than the known one."""
        schedule, item = self._schedules.get(schedule_id), self._get_item(schedule_id)
        if schedule is None:
            return None
        started_at = schedule.started_at if schedule.started_at <= now + MAX_FUTURE_SECONDS else 0.0
        if item is not None:
            run_started_at = min(item.started_at or item.created_at, now)
            if run_started_at > started_at + START_TOLERANCE:
                started_at = run_started_at
        if started_at == schedule.started_at:
            return None
        schedule = replace(schedule, started_at=started_at)
        self._schedules.put(schedule, is_planned=True)
        return _touch(schedule)

    def _decide(self, schedule_id: str, now: float) -> MissedStart | None:
        schedule, planned = self._schedules.get(schedule_id), self._deadlines.get(schedule_id)
        if schedule is None or planned is None or planned[1] > now:
            return None
        schedule = replace(schedule, missed_at=planned[0])
        self._schedules.put(schedule, is_planned=True)
        return MissedStart(schedule, planned[0])

    def _plan(self, schedule_id: str, mark: ScheduleMark, now: float) -> None:
        """Find the open expected start of a schedule and its deadline, and when to look at it next."""
        self._deadlines.pop(schedule_id, None)
        self._wake_at.pop(schedule_id, None)
        schedule = self._schedules.get(schedule_id)
        if schedule is None:
            return
        gaps = mark.gaps
        expected_at = find_open_start(schedule, subtract_seconds(gaps, self._decided_at, schedule.grace))
        while expected_at is not None and (gap_end := find_gap_end(gaps, expected_at)) is not None:
            expected_at = find_open_start(schedule, math.nextafter(gap_end, 0.0))
        if expected_at is None:
            return
        wake_at = deadline = add_seconds(gaps, expected_at, schedule.grace)
        self._deadlines[schedule_id] = expected_at, deadline
        # A start that is expected now is recorded by a mark.
        next_at = expected_at if expected_at > now else find_next_start(schedule, now)
        if next_at is not None:
            wake_at = min(next_at, deadline)
        self._wake_at[schedule_id] = wake_at
        heapq.heappush(self._heap, (wake_at, schedule_id))


def _touch(schedule: ScheduleRecord) -> TouchSchedule:
    return TouchSchedule(schedule.id, schedule.started_at, schedule.missed_at)
