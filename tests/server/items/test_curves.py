"""The curves of runs: the recorder, its limits, and their encoding."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from progressbar_tracker.server.items import curves
from progressbar_tracker.server.items.board import Board
from progressbar_tracker.server.items.change import Owner
from progressbar_tracker.server.items.curves import (
    MAX_POINTS,
    Curve,
    CurveRecorder,
    StoredCurve,
    decode_curve,
    encode_curve,
)
from tests.support.items import make_item

if TYPE_CHECKING:
    from collections.abc import Iterable

    from progressbar_tracker.server.models import Item
    from progressbar_tracker.server.mutations import SaveCurve

RUN_START = 1_000_000.0
MIN_POINTS = 60


class Recording:
    """A recorder and its board.

    Attributes:
        items: The items of the board.
        saved: The curves that were saved, by run.
    """

    def __init__(self, stored: Iterable[StoredCurve] = (), *items: Item) -> None:
        self.items = {item.id: item for item in items}
        self.recorder = CurveRecorder(stored, self.items.get)
        self.saved: dict[tuple[str, str], list[Curve]] = {}

    def put(self, elapsed: float, item_id: str = "a", **fields: object) -> None:
        """Change an item at an instant after the start, and poll."""
        at = RUN_START + elapsed
        defaults = {"created_at": RUN_START, "started_at": RUN_START, "progressed_at": at, "updated_at": at}
        self.items[item_id] = make_item(item_id, **defaults | fields)
        self.poll(elapsed, item_id)

    def end(self, elapsed: float, item_id: str = "a", **fields: object) -> Curve:
        """End a run, and return its curve."""
        self.put(elapsed, item_id, **{"status": "succeeded", "ended_at": RUN_START + elapsed} | fields)
        return self.saved[item_id, self.items[item_id].run_id][-1]

    def poll(self, elapsed: float, *changed: str) -> list[SaveCurve]:
        """Poll at an instant."""
        writes = self.recorder.poll(changed, RUN_START + elapsed)
        for write in writes:
            self.saved.setdefault((write.id, write.run_id), []).append(decode_curve(write.curve))
        return writes


def position_at(curve: Curve, elapsed: float) -> float:
    """Return the position of a curve at its point before an instant."""
    return curve.positions[int(elapsed / curve.step)]


@pytest.mark.parametrize("duration", [0.1, 0.5, 1.0, 59.0, 3600.0, 86400.0 * 30])
def test_curve_of_any_duration_has_enough_points(duration: float) -> None:
    recording = Recording()
    for n in range(21):
        recording.put(duration * n / 20, completed=n * 5, total=100)
    curve = recording.end(duration, completed=100, total=100)
    assert MIN_POINTS <= len(curve.positions) <= MAX_POINTS
    assert (len(curve.positions) - 1) * curve.step <= duration < len(curve.positions) * curve.step
    for n, position in enumerate(curve.positions):
        assert position == pytest.approx(100 * n * curve.step / duration, abs=1e-3)


def test_uneven_progress_is_recorded_at_its_time() -> None:
    recording = Recording()
    for second in range(61):
        recording.put(second, completed=second if second < 30 else 30 + (second - 30) * 10)
    curve = recording.end(60.0, completed=330)
    assert [position_at(curve, at) for at in (0, 15, 30, 45)] == pytest.approx([0, 15, 30, 180], abs=1e-3)


def test_curve_of_a_run_between_two_polls_is_saved() -> None:
    recording = Recording()
    curve = recording.end(0.2, completed=7, total=7)
    assert len(curve.positions) >= MIN_POINTS
    assert curve.positions[-1] == pytest.approx(7, rel=0.02)


def test_item_that_ended_earlier_is_not_saved_again() -> None:
    recording = Recording()
    recording.put(0.0, completed=0)
    recording.put(30.0, completed=5)
    recording.end(60.0, completed=9)
    recording.put(
        61.0, completed=9, status="succeeded", ended_at=RUN_START + 60, title="new", progressed_at=RUN_START + 60
    )
    assert recording.poll(3600.0, "a") == []
    assert len(recording.saved["a", "r"]) == 2  # at 30 s and at the end


@pytest.mark.parametrize("status", ["failed", "stopped", "succeeded"])
def test_curve_is_saved_at_each_kind_of_end(status: str) -> None:
    recording = Recording()
    recording.put(1.0, completed=5)
    assert recording.end(2.0, completed=6, status=status).positions[0] == 0


def test_curve_of_an_item_that_left_is_saved() -> None:
    recording = Recording()
    recording.put(5.0, completed=5)
    del recording.items["a"]
    assert [write.run_id for write in recording.poll(6.0, "a")] == ["r"]
    assert len(recording.recorder) == 0


def test_run_that_takes_over_begins_a_new_curve() -> None:
    recording = Recording()
    recording.put(5.0, completed=50)
    late = {"run_id": "s", "started_at": RUN_START + 6, "created_at": RUN_START + 6}
    recording.put(7.0, completed=1, **late)
    assert list(recording.saved) == [("a", "r")]
    curve = recording.end(10.0, completed=4, **late)
    assert curve.positions[-1] == pytest.approx(4, abs=0.1)
    assert len(curve.positions) * curve.step <= 4 + curve.step


def test_count_that_falls_is_recorded() -> None:
    recording = Recording()
    for at, count in ((0, 0), (10, 100), (10.5, 0), (20, 100)):
        recording.put(at, completed=count, total=100)
    curve = recording.end(20.0, completed=100, total=100)
    assert position_at(curve, 10.0) > 90
    assert position_at(curve, 10.5) < 30
    assert curve.positions[-1] == pytest.approx(100, abs=2)


def test_total_that_changes_moves_no_point() -> None:
    recording = Recording()
    recording.put(10.0, completed=50, total=100)
    curve = recording.end(20.0, completed=100, total=200)
    assert position_at(curve, 10.0) == pytest.approx(50, abs=1)


def test_run_without_count_is_recorded_by_value() -> None:
    recording = Recording()
    recording.put(10.0, value=0.5)
    assert position_at(recording.end(20.0, value=1.0), 10.0) == pytest.approx(0.5, abs=0.01)


def test_first_count_converts_the_points_before() -> None:
    recording = Recording()
    recording.put(10.0, value=0.5)
    curve = recording.end(20.0, completed=200, total=200, value=1.0)
    assert position_at(curve, 10.0) == pytest.approx(100, abs=2)


def test_continued_run_begins_at_its_first_count() -> None:
    recording = Recording()
    recording.put(0.0, completed=500, total=1000)
    curve = recording.end(10.0, completed=1000, total=1000)
    assert curve.positions[0] == 500


def test_heartbeat_without_progress_adds_no_point() -> None:
    recording = Recording()
    recording.put(10.0, completed=5)
    recording.put(600.0, completed=5, progressed_at=RUN_START + 10)
    curve = recording.end(20.0, completed=10)
    assert len(curve.positions) * curve.step < 21


def test_earlier_start_moves_all_points() -> None:
    """The first report of a run waited for the server."""
    recording = Recording()
    recording.put(10.0, completed=10, started_at=RUN_START + 8, created_at=RUN_START + 8)
    recording.put(20.0, completed=20, started_at=RUN_START)
    curve = recording.end(30.0, completed=30)
    assert position_at(curve, 8.0) == pytest.approx(0, abs=0.5)
    assert position_at(curve, 10.0) == pytest.approx(10, abs=1)
    assert position_at(curve, 20.0) == pytest.approx(20, abs=1)


def test_end_that_waited_for_the_server_is_recorded_in_time() -> None:
    recording = Recording()
    recording.put(50.0, completed=50)
    curve = recording.end(600.0, completed=60, ended_at=RUN_START + 60)
    assert len(curve.positions) * curve.step < 62


@pytest.mark.parametrize("seconds", [3600.0, -3600.0])
def test_clock_that_was_set_changes_no_curve(seconds: float) -> None:
    recording = Recording()
    recording.put(10.0, completed=10)
    recording.recorder.set_clock()
    moved = {"started_at": RUN_START + seconds}
    recording.put(20.0 + seconds, completed=20, **moved)
    curve = recording.end(30.0 + seconds, completed=30, **moved)
    assert len(curve.positions) * curve.step < 31
    assert [position_at(curve, at) for at in (10.0, 20.0)] == pytest.approx([10, 20], abs=0.5)


@pytest.mark.parametrize("seconds", [86400.0, -86400.0])
def test_board_and_recorder_survive_a_set_clock(seconds: float) -> None:
    board = Board(max_items=9, new_run_id=str)
    recorder, owner = CurveRecorder([], board.get), Owner("k", "ci")
    board.put("a", {"run_id": "r", "completed": 0}, owner, RUN_START)
    board.patch("a", {"completed": 10}, RUN_START + 10)
    recorder.poll(board.drain_touched(), RUN_START + 10)
    board.set_clock(RUN_START + 15 + seconds, seconds, RUN_START + 13 + seconds)
    recorder.set_clock()
    recorder.poll(board.drain_touched(), RUN_START + 15 + seconds)
    board.patch("a", {"completed": 20, "status": "succeeded"}, RUN_START + 20 + seconds)
    (write,) = recorder.poll(board.drain_touched(), RUN_START + 20 + seconds)
    curve = decode_curve(write.curve)
    assert len(curve.positions) * curve.step < 21
    assert [position_at(curve, at) for at in (5, 10, 19)] == pytest.approx([5, 10, 19], abs=0.5)


def test_running_curve_is_saved_a_few_dozen_times_an_hour() -> None:
    recording = Recording()
    for second in range(0, 3600, 2):
        recording.put(float(second), completed=second)
    assert 10 <= len(recording.saved["a", "r"]) <= 40
    newest = recording.saved["a", "r"][-1]
    assert len(newest.positions) * newest.step > 3600 * 0.75


def test_restart_continues_the_stored_curve() -> None:
    recording = Recording()
    for second in range(0, 101, 2):
        recording.put(float(second), completed=second)
    stored = StoredCurve("a", "r", recording.saved["a", "r"][-1])
    restarted = Recording([stored], recording.items["a"])
    restarted.put(200.0, completed=500)
    curve = restarted.end(250.0, completed=550)
    assert [position_at(curve, at) for at in (40, 60, 248)] == pytest.approx([40, 60, 548], abs=4)


def test_stored_curve_of_another_run_is_ignored() -> None:
    stored = [StoredCurve(name, "old", Curve(1.0, [0.0, 1.0])) for name in "ab"]
    assert len(Recording(stored, make_item("a")).recorder) == 0


def test_many_due_curves_are_saved_in_several_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(curves, "MAX_SAVES_PER_POLL", 3)
    recording = Recording()
    for n in range(5):
        recording.items[str(n)] = make_item(str(n), started_at=RUN_START, progressed_at=RUN_START + 40, completed=7)
    assert len(recording.poll(20.0, *"01234")) == 3
    assert len(recording.poll(20.5, *"01234")) == 2


def test_item_without_progress_allocates_no_points() -> None:
    recording = Recording()
    for at in (0.0, 5.0, 50.0):
        recording.put(at, progressed_at=RUN_START)
    assert recording.recorder._runs["a"].positions is None


positions = st.one_of(
    st.floats(-1e300, 1e300), st.integers(-(2**53), 2**53), st.floats(0, 1), st.sampled_from([0, 5e-324, 1e300])
)


@given(st.lists(st.tuples(st.floats(0, 1e9), positions), min_size=1, max_size=30), st.floats(0, 1e9))
def test_any_writes_give_a_bounded_finite_curve(steps: list[tuple[float, float]], end: float) -> None:
    recording = Recording()
    for at, position in steps:
        recording.put(at, completed=position)
    recording.put(end, completed=1, status="succeeded", ended_at=RUN_START + end)
    for curve in recording.saved.get(("a", "r"), []):
        assert 1 <= len(curve.positions) <= MAX_POINTS
        assert len(encode_curve(curve)) <= 1024


@given(
    st.floats(1e-3, 1e9), st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=128)
)
def test_encoded_curve_is_decoded_exactly(step: float, points: list[float]) -> None:
    curve = decode_curve(encode_curve(Curve(step, points)))
    limited = [min(max(point, -curves.MAX_FLOAT32), curves.MAX_FLOAT32) for point in points]
    assert (curve.step, list(curve.positions)) == (step, pytest.approx(limited, rel=1e-6))
