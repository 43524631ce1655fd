"""The start, the end and the latest progress of runs, by the ages that their writes report."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from progressbar_tracker.server.items.validation import parse_legacy, parse_write
from progressbar_tracker.server.settings import RetentionPolicy
from tests.support.boards import OWNER_A, item_after, make_board, make_body

if TYPE_CHECKING:
    from progressbar_tracker.server.items.board import Board
    from progressbar_tracker.server.models import Item

START_AT = 10_000.0


def make_aged_board(age: float | None = 0.0, **fields: object) -> Board:
    board = make_board()
    put(board, START_AT, age_seconds=age, **fields)
    return board


def put(board: Board, now: float, **fields: object) -> Item:
    return item_after(board.put("a", parse_write({"run_id": "r", **fields}, merge=False), OWNER_A, now))


def patch(board: Board, now: float, **fields: object) -> Item:
    return item_after(board.patch("a", parse_write({"run_id": "r", **fields}, merge=True), now))


def test_age_of_the_first_write_is_the_start() -> None:
    assert make_aged_board(600.0).require("a").started_at == START_AT - 600
    assert make_aged_board(None).require("a").started_at == START_AT
    assert make_aged_board(600.0).require("a").created_at == START_AT


@given(st.lists(st.tuples(st.floats(0, 1000), st.none() | st.floats(0, 2000), st.booleans()), max_size=20))
def test_start_moves_only_to_earlier_instants(writes: list[tuple[float, float | None, bool]]) -> None:
    board, now, expected = make_aged_board(5.0), START_AT, START_AT - 5
    for seconds, age, is_overwrite in writes:
        now += seconds
        item = (put if is_overwrite else patch)(board, now, age_seconds=age)
        expected = expected if age is None else min(expected, now - age)
        assert item.started_at == expected


def test_start_of_a_progress_write_moves_too() -> None:
    board = make_aged_board(5.0, completed=1, total=10)
    assert patch(board, START_AT + 10, completed=2, age_seconds=100.0).started_at == START_AT - 90
    assert patch(board, START_AT + 20, completed=3, age_seconds=0.0).started_at == START_AT - 90


def test_end_that_arrives_late_has_its_own_instant() -> None:
    board = make_aged_board(0.0, completed=1, total=1)
    ended = patch(board, START_AT + 500, status="succeeded", age_seconds=500.0, duration_seconds=120.0)
    assert (ended.started_at, ended.ended_at, ended.updated_at) == (START_AT, START_AT + 120, START_AT + 500)


def test_progress_that_arrived_late_is_not_after_the_end() -> None:
    board = make_aged_board(0.0, completed=1, total=3)
    patch(board, START_AT + 30, completed=2, age_seconds=5.0)
    ended = patch(board, START_AT + 31, status="stopped", age_seconds=31.0, duration_seconds=6.0)
    assert (ended.progressed_at, ended.ended_at) == (START_AT + 6, START_AT + 6)


def test_end_without_a_duration_is_now() -> None:
    ended = patch(make_aged_board(0.0), START_AT + 500, status="failed", age_seconds=500.0)
    assert ended.ended_at == START_AT + 500


def test_run_that_never_reached_the_server_has_its_duration() -> None:
    ended = put(make_board(), START_AT, status="succeeded", age_seconds=20.0, duration_seconds=12.0)
    assert (ended.started_at, ended.ended_at) == (START_AT - 20, START_AT - 8)


@given(age=st.none() | st.floats(0, 1e6), duration=st.floats(0, 1e6))
def test_duration_beyond_the_age_moves_the_start(age: float | None, duration: float) -> None:
    ended = put(make_board(), 1e7, status="succeeded", age_seconds=age, duration_seconds=duration)
    assert ended.ended_at is not None
    assert ended.ended_at <= 1e7
    assert ended.ended_at - ended.started_at == pytest.approx(duration, abs=1e-6)


def test_duration_of_a_running_item_is_ignored() -> None:
    item = patch(make_aged_board(0.0), START_AT + 1, duration_seconds=500.0)
    assert (item.started_at, item.ended_at) == (START_AT, None)


def test_late_end_stays_listed_for_its_full_period() -> None:
    board = make_board(keep=RetentionPolicy(100.0))
    for item_id, fields in (("a", {}), ("b", {"ttl": 30.0})):
        board.put(item_id, {"age_seconds": 7200.0, **fields}, OWNER_A, START_AT)
        board.patch(item_id, {"status": "succeeded", "duration_seconds": 60.0}, START_AT)
        assert board.require(item_id).ended_at == START_AT - 7140
    assert board.sweep(START_AT + 29.9) == []
    assert [change.id for change in board.sweep(START_AT + 30)] == ["b"]
    assert [change.id for change in board.sweep(START_AT + 99.9)] == []
    (change,) = board.sweep(START_AT + 100)
    assert change.ended_run is not None
    assert change.ended_run.ended_at == START_AT - 7140


def test_another_run_has_its_own_start() -> None:
    board = make_aged_board(600.0, completed=5, total=10)
    other = put(board, START_AT + 50, run_id="r2", age_seconds=3.0)
    assert (other.started_at, other.progressed_at) == (START_AT + 47, START_AT + 50)
    assert other.progress.steps == 0


def test_overwrite_keeps_the_start_and_the_progress() -> None:
    board = make_aged_board(600.0, completed=5, total=10)
    item = put(board, START_AT + 50, completed=5, total=10, age_seconds=650.0)
    assert (item.started_at, item.progressed_at) == (START_AT - 600, START_AT)


def test_heartbeat_is_no_progress() -> None:
    board = make_aged_board(0.0, completed=1, total=10)
    for fields in ({}, {"completed": 1}, {"total": 20}, {"title": "other"}, {"description": "still there"}):
        assert patch(board, START_AT + 10, **fields).progressed_at == START_AT
    assert patch(board, START_AT + 20, completed=2).progressed_at == START_AT + 20


def test_description_without_a_count_is_progress() -> None:
    board = make_aged_board(0.0, description="first")
    assert patch(board, START_AT + 10, description="first").progressed_at == START_AT
    assert patch(board, START_AT + 20, description="second").progressed_at == START_AT + 20
    assert patch(board, START_AT + 30, value=0.5).progressed_at == START_AT + 30


def test_progress_of_a_late_end_is_not_after_it() -> None:
    board = make_aged_board(0.0, completed=1, total=2)
    ended = patch(board, START_AT + 500, completed=2, status="succeeded", age_seconds=500.0, duration_seconds=120.0)
    assert ended.progressed_at == START_AT + 120


def test_write_of_a_part_is_progress_if_its_count_changes() -> None:
    board = make_aged_board(0.0, part="one", seq=1, completed=3)
    assert patch(board, START_AT + 10, part="one", seq=2, completed=3).progressed_at == START_AT
    assert patch(board, START_AT + 20, part="two", seq=1, completed=0).progressed_at == START_AT
    assert patch(board, START_AT + 30, part="two", seq=2, completed=2).progressed_at == START_AT + 30
    # The sum stays, but a part has moved.
    board.patch("a", {"part": "one", "seq": 3, "completed": 4}, START_AT + 40)
    moved = patch(board, START_AT + 50, part="two", seq=3, completed=1)
    assert (moved.completed, moved.progressed_at, moved.progress.idle_since) == (5, START_AT + 50, START_AT + 50)


def test_legacy_write_leaves_the_start() -> None:
    board = make_aged_board(600.0)
    item = item_after(board.update(parse_legacy(make_body(0.3)), START_AT + 10))
    assert (item.started_at, item.progressed_at, item.progress.position) == (START_AT - 600, START_AT + 10, 0.3)
    same = item_after(board.update(parse_legacy(make_body(0.3)), START_AT + 20))
    assert (same.started_at, same.progressed_at, same.updated_at) == (START_AT - 600, START_AT + 10, START_AT + 20)


def test_revived_item_has_no_gap() -> None:
    board = make_board()
    board.create(parse_legacy(make_body(0.5)), OWNER_A, START_AT)
    board.patch("a", {"status": "failed"}, START_AT + 10)
    revived = item_after(board.update(parse_legacy(make_body(0.6)), START_AT + 5000))
    assert (revived.status, revived.ended_at, revived.started_at) == ("running", None, START_AT)
    assert (revived.progress.longest_gap, revived.progress.idle_since) == (0.0, START_AT + 5000)
