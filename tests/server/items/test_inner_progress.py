"""The progress of inner items counts for their ancestors."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from progressbar_tracker.server.items.condition_watch import ConditionWatch
from progressbar_tracker.server.items.conditions import Conditions
from progressbar_tracker.server.items.inner_progress import MAX_ANCESTORS, find_ancestors
from progressbar_tracker.server.items.serializer import ItemSerializer
from progressbar_tracker.server.items.validation import parse_write
from tests.support.boards import OWNER_A, OWNER_B, make_board

if TYPE_CHECKING:
    from progressbar_tracker.server.items.board import Board
    from progressbar_tracker.server.items.change import Owner

HEARTBEAT_SECONDS = 15


def put(board: Board, item_id: str, now: float, owner: Owner = OWNER_A, **fields: object) -> None:
    board.put(item_id, parse_write({"run_id": "r", **fields}, merge=False), owner, now)


def make_nested_board(owner: Owner = OWNER_A, **fields: object) -> Board:
    """Return a board with an outer item that took six steps by second 12, and an inner item that began then."""
    board = make_board()
    put(board, "outer", 0.0, heartbeat_timeout=60, completed=0, total=8, **fields)
    for step in range(1, 7):
        board.patch("outer", {"completed": step}, step * 2.0)
    put(board, "inner", 12.0, owner, heartbeat_timeout=60, completed=0, total=2000, parent="outer")
    return board


def pass_time(board: Board, start: int, end: int, *, has_progress: bool = True) -> None:
    """Send heartbeats of both items, and a step of the inner one each second if it has progress."""
    for second in range(start, end):
        if has_progress:
            board.patch("inner", {"completed": second * 10}, float(second))
        if second % HEARTBEAT_SECONDS == 0:
            board.patch("outer", {}, float(second))
            board.patch("inner", {}, float(second))


def is_stuck(board: Board, now: float, item_id: str = "outer") -> bool:
    return board.conditions.is_stuck(board.require(item_id), now)


WITH_EACH_LIMIT = pytest.mark.parametrize("fields", [{}, {"stuck_after": 30}], ids=["automatic", "explicit"])


@WITH_EACH_LIMIT
def test_outer_item_is_not_stuck_while_inner_moves(fields: dict[str, object]) -> None:
    board = make_nested_board(**fields)
    pass_time(board, 13, 301)
    assert not is_stuck(board, 300.0)


@WITH_EACH_LIMIT
def test_outer_item_is_stuck_if_inner_hangs(fields: dict[str, object]) -> None:
    board = make_nested_board(**fields)
    pass_time(board, 13, 301)
    pass_time(board, 301, 421, has_progress=False)
    assert is_stuck(board, 420.0)
    pass_time(board, 421, 423)
    assert not is_stuck(board, 422.0)


@WITH_EACH_LIMIT
def test_restart_does_not_make_outer_item_stuck(fields: dict[str, object]) -> None:
    before = make_nested_board(**fields)
    pass_time(before, 13, 301)
    board = make_board(items=before.snapshot())
    board.conditions.listening_since = 3900.0
    assert not is_stuck(board, 3900.0)
    board.patch("outer", {}, 3901.0)  # before the inner item reports
    assert not is_stuck(board, 3901.0)
    pass_time(board, 3902, 3990)
    assert not is_stuck(board, 3990.0)


@WITH_EACH_LIMIT
def test_suspension_does_not_make_outer_item_stuck(fields: dict[str, object]) -> None:
    board = make_nested_board(**fields)
    pass_time(board, 13, 301)
    board.patch("outer", {}, 3901.0)
    assert not is_stuck(board, 3901.0)


@WITH_EACH_LIMIT
@pytest.mark.parametrize("seconds", [-3600.0, 3600.0])
def test_set_clock_does_not_make_outer_item_stuck(fields: dict[str, object], seconds: float) -> None:
    board = make_nested_board(**fields)
    pass_time(board, 13, 301)
    now = 300 + seconds
    board.set_clock(now, seconds, now - 1)
    board.patch("outer", {}, now + 5)
    assert not is_stuck(board, now + 5)
    for second in range(20, 200, HEARTBEAT_SECONDS):
        board.patch("outer", {}, now + second)
    assert is_stuck(board, now + 200)


def test_item_of_another_key_does_not_count() -> None:
    board = make_nested_board(OWNER_B)
    pass_time(board, 13, 301)
    assert is_stuck(board, 300.0)


def test_item_of_another_group_counts() -> None:
    board = make_nested_board(group="training")
    pass_time(board, 13, 301)
    assert not is_stuck(board, 300.0)


def test_progress_counts_for_every_ancestor() -> None:
    board = make_board()
    put(board, "top", 0.0, heartbeat_timeout=60, stuck_after=30)
    put(board, "middle", 0.0, heartbeat_timeout=60, parent="top")
    put(board, "inner", 0.0, completed=0, parent="middle")
    for second in range(0, 100, 10):
        board.patch("inner", {"completed": second}, float(second))
        board.patch("top", {}, float(second))
    assert not is_stuck(board, 90.0, "top")


def test_cycle_of_parents_is_bounded() -> None:
    board = make_board()
    for item_id, parent in (("a", "b"), ("b", "c"), ("c", "b"), ("self", "self")):
        put(board, item_id, 0.0, parent=parent)
    for item_id in ("a", "b", "c", "self"):
        board.patch(item_id, {"completed": 1}, 1.0)
        assert len(list(find_ancestors(board.require(item_id), board.get))) <= MAX_ANCESTORS


def test_deleted_parent_is_forgotten() -> None:
    board = make_nested_board()
    board.delete("outer", 20.0)
    board.patch("inner", {"completed": 5}, 21.0)
    assert board.conditions.inner_progress.get("outer") is None


def test_ended_parent_is_forgotten() -> None:
    board = make_nested_board()
    board.patch("outer", {"status": "succeeded"}, 20.0)
    board.patch("inner", {"completed": 5}, 21.0)
    assert board.conditions.inner_progress.get("outer") is None


def test_silent_outer_item_moves_again_with_inner() -> None:
    """Without heartbeats, the write of the inner item alone changes what readers see of the outer one."""
    board = make_board()
    put(board, "outer", 0.0, stuck_after=30)
    put(board, "inner", 0.0, completed=0, parent="outer")
    board.sweep(29.0)
    board.patch("inner", {"completed": 1}, 29.5)
    board.sweep(59.0)
    assert board.drain_overdue() == []
    board.sweep(60.0)
    assert board.drain_overdue() == [("outer", "stuck")]
    board.drain_changes()
    board.patch("inner", {"completed": 2}, 70.0)
    assert set(board.drain_changes().groups) == {"outer", "inner"}
    board.sweep(100.0)
    assert board.drain_overdue() == [("outer", "stuck")]


def test_each_silence_of_both_items_is_reported() -> None:
    board = make_nested_board(stuck_after=30)
    watch, reports = ConditionWatch(board.conditions), []
    for start in (13, 113):
        pass_time(board, start, start + 1)
        for second in range(start + 1, start + 100):
            pass_time(board, second, second + 1, has_progress=False)
            found = watch.poll(board.drain_touched(), board.get, board.snapshot, float(second), is_leader=True)
            reports += [(item.id, condition) for item, condition in found if item.id == "outer"]
    assert reports == [("outer", "stuck")] * 2


def test_progressed_at_includes_inner_items() -> None:
    board = make_nested_board()
    pass_time(board, 13, 301)
    serializer = ItemSerializer(board.conditions)
    outer = board.require("outer")
    assert serializer.serialize_item(outer, 300.0)["progressed_at"] == "1970-01-01T00:05:00.000Z"
    # A former run of the item ended before.
    assert serializer.serialize_run(outer, "stopped", 12.0)["progressed_at"] == "1970-01-01T00:00:12.000Z"


def test_state_of_another_server_counts() -> None:
    board, other = make_nested_board(), make_nested_board()
    for second in range(13, 301):
        board.replace("inner", other.patch("inner", {"completed": second * 10}, float(second)).after)
        if second % HEARTBEAT_SECONDS == 0:
            board.replace("outer", other.patch("outer", {}, float(second)).after)
    assert not is_stuck(board, 300.0)


def test_conditions_may_serve_two_boards() -> None:
    """As in a cluster: the second board must not move the idle time again."""
    conditions = Conditions()
    boards = [make_board(conditions=conditions) for _ in range(2)]
    for board in boards:
        put(board, "outer", 0.0, heartbeat_timeout=60, completed=0)
        put(board, "inner", 1.0, heartbeat_timeout=60, completed=0, parent="outer")
        board.patch("outer", {}, 46.0)
    first = conditions.inner_progress.get("outer")
    for board in boards:
        board.patch("outer", {}, 46.0)
    assert conditions.inner_progress.get("outer") == first
