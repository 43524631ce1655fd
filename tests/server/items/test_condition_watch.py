"""The watch over items that become stuck or slower."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from progressbar_tracker._estimate import Forecast
from progressbar_tracker._former_runs import FormerRun, FormerRuns
from progressbar_tracker.server.items import condition_watch
from progressbar_tracker.server.items.condition_watch import (
    MAX_CHECK_INTERVAL,
    MAX_CHECKS_PER_POLL,
    MIN_CHECK_INTERVAL,
    ConditionWatch,
)
from progressbar_tracker.server.items.conditions import Conditions
from progressbar_tracker.server.items.forecast import Forecaster
from tests.support.boards import OWNER_A, make_board

if TYPE_CHECKING:
    from progressbar_tracker.server.items.board import Board

FORMER_RUNS = FormerRuns.build([FormerRun(100.0, 100.0, list(range(101)))] * 8)


class Watched:
    """A board whose items had former runs of 100 seconds, and a watch over it."""

    def __init__(self) -> None:
        self.looks = 0
        self.conditions = Conditions(forecaster=Forecaster(self._get_former))
        self.board: Board = make_board(max_items=10_000, conditions=self.conditions)
        self.watch = ConditionWatch(self.conditions)

    def _get_former(self, _item: object) -> FormerRuns | None:
        self.looks += 1
        return FORMER_RUNS

    def poll(self, now: float, *, is_leader: bool = True) -> list[tuple[str, str]]:
        touched, board = self.board.drain_touched(), self.board
        found = self.watch.poll(touched, board.get, board.snapshot, now, is_leader=is_leader)
        return [(item.id, condition) for item, condition in found]


@pytest.fixture
def watched() -> Watched:
    return Watched()


def test_each_silence_is_reported_once(watched: Watched) -> None:
    watched.board.put("a", {"heartbeat_timeout": 60.0, "stuck_after": 20.0, "completed": 1}, OWNER_A, 0.0)
    reports = []
    for count, start in ((2, 0.0), (3, 100.0)):
        watched.board.patch("a", {"completed": count}, start + 1)
        for seconds in range(5, 60, 10):
            watched.board.patch("a", {}, start + seconds)
            reports += watched.poll(start + seconds)
    assert [condition for _, condition in reports if condition != "slower"] == ["stuck", "stuck"]


def test_new_leader_reports_items_that_are_stuck(watched: Watched) -> None:
    watched.board.put("a", {"heartbeat_timeout": 60.0, "stuck_after": 20.0}, OWNER_A, 0.0)
    for seconds in range(0, 26, 5):
        watched.board.patch("a", {}, float(seconds))
    assert watched.poll(25.0, is_leader=False) == []
    assert watched.poll(26.0) == [("a", "stuck")]
    assert watched.poll(27.0) == []


def test_new_leader_looks_at_a_slice_of_items_a_poll(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(condition_watch, "MAX_FIRST_CHECKS_PER_POLL", 2)
    for item_id in "abcde":
        watched.board.put(item_id, {"heartbeat_timeout": 60.0, "stuck_after": 20.0}, OWNER_A, 0.0)
    for seconds in range(0, 26, 5):
        for item_id in "abcde":
            watched.board.patch(item_id, {}, float(seconds))
    assert watched.poll(25.0, is_leader=False) == []
    reports = [watched.poll(26.0)]
    watched.poll(26.0, is_leader=False)
    reports += [watched.poll(26.0) for _ in range(2)]
    touched_id = ({*"abcde"} - {item_id for found in reports[1:] for item_id, _ in found}).pop()
    watched.board.patch(touched_id, {}, 26.0)
    reports += [watched.poll(26.0) for _ in range(2)]
    assert [len(found) for found in reports] == [2, 2, 2, 1, 0]
    assert sorted(item_id for found in reports[1:] for item_id, _ in found) == [*"abcde"]
    assert {condition for found in reports for _, condition in found} == {"stuck"}


def run_slowly(watched: Watched, share: float, start: float, end: float) -> list[tuple[str, str]]:
    """Let a run progress at a share of the usual speed; return the reports."""
    reports: list[tuple[str, str]] = []
    for second in range(int(start), int(end)):
        watched.board.patch("a", {"completed": second * share}, float(second))
        reports += watched.poll(float(second))
    return reports


def test_slower_run_is_reported_once(watched: Watched) -> None:
    watched.board.put("a", {"completed": 0, "total": 100, "heartbeat_timeout": 60.0}, OWNER_A, 0.0)
    assert run_slowly(watched, 0.2, 1, 300) == [("a", "slower")]
    watched.board.put("a", {"run_id": "r2", "completed": 0, "total": 100, "heartbeat_timeout": 60.0}, OWNER_A, 300.0)
    assert watched.conditions.is_slower(watched.board.require("a"), 300.0) is False


def test_run_of_the_usual_speed_is_not_slower(watched: Watched) -> None:
    watched.board.put("a", {"completed": 0, "total": 100, "heartbeat_timeout": 60.0}, OWNER_A, 0.0)
    assert run_slowly(watched, 1.0, 1, 100) == []


def test_single_slow_look_is_not_reported(watched: Watched) -> None:
    watched.board.put("a", {"completed": 0, "total": 100, "heartbeat_timeout": 600.0}, OWNER_A, 0.0)
    answers = iter([True, False, True, False, False])
    watched.conditions.is_slower = lambda _item, _now: next(answers)  # type: ignore[method-assign]
    assert [watched.poll(n * MAX_CHECK_INTERVAL) for n in range(5)] == [[]] * 5


def test_slow_run_without_writes_is_reported(watched: Watched) -> None:
    watched.board.put("a", {"completed": 0, "total": 100}, OWNER_A, 0.0)
    watched.board.patch("a", {"completed": 50}, 50.0)
    reports = []
    for now in range(51, 600):
        reports += watched.poll(float(now))
    assert reports == [("a", "slower")]


def test_looks_are_bounded(watched: Watched) -> None:
    for number in range(2 * MAX_CHECKS_PER_POLL):
        watched.board.put(f"item {number}", {"completed": 0, "total": 100}, OWNER_A, 0.0)
    for now in (0.0, 0.5):
        watched.looks = 0
        watched.poll(now)
        assert watched.looks <= 3 * MAX_CHECKS_PER_POLL
    watched.looks = 0
    for tenth in range(10, int(10 * MIN_CHECK_INTERVAL)):
        for number in range(2 * MAX_CHECKS_PER_POLL):
            watched.board.patch(f"item {number}", {"completed": tenth / 10}, tenth / 10)
        watched.poll(tenth / 10)
        if tenth == 12:
            break
    assert watched.looks == 0


def test_watch_forgets_items_that_left(watched: Watched) -> None:
    for number in range(50):
        watched.board.put("a", {"heartbeat_timeout": 60.0, "stuck_after": 1.0}, OWNER_A, 100.0 * number)
        for tenth in range(0, 21, 2):
            watched.board.patch("a", {}, 100.0 * number + tenth / 10)
        assert watched.poll(100.0 * number + 2) == [("a", "stuck")]
        watched.board.delete("a", 100.0 * number + 3)
        watched.poll(100.0 * number + 99)
    watched.poll(10_000.0)
    watch = watched.watch
    assert not any((watch._stuck, watch._slower_runs, watch._suspects, watch._due, watch._scheduled))


def test_slower_run_stays_slower_near_the_limit(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    assert FORMER_RUNS is not None
    slow, board = FORMER_RUNS.slow_duration, watched.board
    board.put("a", {"completed": 0, "total": 100, "heartbeat_timeout": 600.0}, OWNER_A, 0.0)
    answers = []
    for number, (duration, is_slower) in enumerate(((slow + 9, False), (slow + 9, True), (slow + 1, False),
                                                    (slow - 1, False), (slow + 1, False))):  # fmt: skip
        found = Forecast(duration, duration, duration, 1e9, 8, is_slower)
        monkeypatch.setattr("progressbar_tracker.server.items.forecast.forecast", lambda *_, found=found, **__: found)
        board.patch("a", {"completed": number + 1}, number + 1.0)
        answers.append(watched.conditions.is_slower(board.require("a"), number + 1.0))
    assert answers == [False, True, True, False, False]
