"""Stalls, expiry and the timers behind them."""

from __future__ import annotations

import pytest

from progressbar_tracker.server.items.conditions import Conditions
from progressbar_tracker.server.items.expiry import STALE_ENTRIES
from progressbar_tracker.server.items.validation import parse_legacy
from tests.support.boards import OWNER_A, is_stalled, make_board, make_body, make_started_board


def test_silent_item_is_stalled_until_next_write() -> None:
    board = make_started_board(heartbeat_timeout=10)
    assert not is_stalled(board.require("a"), 9.9)
    assert is_stalled(board.require("a"), 10.0)
    board.patch("a", {}, 11.0)
    assert not is_stalled(board.require("a"), 11.0)
    board.patch("a", {"status": "succeeded"}, 12.0)
    assert not is_stalled(board.require("a"), 99.0)


def test_each_stall_is_a_new_revision() -> None:
    board = make_started_board(heartbeat_timeout=10)
    board.patch("a", {}, 5.0)
    rev = board.rev
    board.sweep(10.0)
    assert board.rev == rev
    board.sweep(15.0)
    assert board.rev == rev + 1
    board.patch("a", {}, 16.0)
    rev = board.rev
    board.sweep(26.0)
    assert board.rev == rev + 1


def test_shorter_heartbeat_timeout_applies_at_once() -> None:
    board = make_started_board(heartbeat_timeout=1000)
    board.patch("a", {"heartbeat_timeout": 1}, 1.0)
    rev = board.rev
    board.sweep(2.0)
    assert board.rev == rev + 1


def test_ended_item_expires_with_its_end() -> None:
    board = make_started_board(ttl=30, status="failed")
    assert board.sweep(29.0) == []
    (change,) = board.sweep(30.0)
    assert change.ended_run is not None
    assert (change.ended_run.status, board.get("a"), change.durable) == ("failed", None, False)


def test_expiry_counts_from_end_not_creation() -> None:
    board = make_started_board(ttl=30)
    board.patch("a", {"status": "succeeded"}, 100.0)
    assert board.sweep(129.0) == []
    assert len(board.sweep(130.0)) == 1


def test_revived_item_does_not_expire() -> None:
    board = make_started_board(ttl=30)
    board.update(parse_legacy(make_body(1)), 0.0)
    board.update(parse_legacy(make_body(0.5)), 1.0)
    assert board.sweep(100.0) == []


def test_loaded_items_expire_and_stall() -> None:
    board = make_started_board(ttl=30, status="failed")
    later = make_board(items=[board.require("a")])
    assert len(later.sweep(30.0)) == 1
    assert later.rev > board.rev


@pytest.mark.parametrize("heap", ["_expiries", "_heartbeats", "_deadlines", "_abandonments", "_progress_limits"])
def test_postponed_timers_do_not_grow_heap(heap: str) -> None:
    board = make_board(give_up=1e9)
    for number in range(3 * STALE_ENTRIES):
        new = f"new {number}"
        board.put(new, {"heartbeat_timeout": 1e9, "deadline_at": 1e9 + number}, OWNER_A, 0.0)
        board.patch(new, {"status": "stopped", "ttl": 1e9}, 0.0)
        board.delete(new, 0.0)
        board.put("c", {"stuck_after": 1e9 - number}, OWNER_A, 0.0)
        board.put("a", {"heartbeat_timeout": 1e9 - number, "deadline_at": 1e9 + number}, OWNER_A, 0.0)
        board.create(parse_legacy(make_body(1.0, "b")), OWNER_A, 0.0) if number == 0 else board.update(
            parse_legacy(make_body(number % 2, "b")), float(number)
        )
    assert len(getattr(board._timers, heap)) <= 2 * len(board) + STALE_ENTRIES
    assert len(board._timers.watched_ids) <= 2 * len(board) + STALE_ENTRIES


def test_compaction_keeps_due_timers() -> None:
    board = make_board()
    board.put("ended", {"status": "failed", "ttl": 50.0}, OWNER_A, 0.0)
    board.put("silent", {"heartbeat_timeout": 60.0}, OWNER_A, 0.0)
    for number in range(3 * STALE_ENTRIES):
        new = f"new {number}"
        board.put(new, {"status": "failed", "ttl": 1e9}, OWNER_A, 0.0)
        board.delete(new, 0.0)
        board.put(new, {"heartbeat_timeout": 1e9}, OWNER_A, 0.0)
        board.delete(new, 0.0)
    assert [change.id for change in board.sweep(50.0)] == ["ended"]
    board.patch("silent", {}, 55.0)
    rev = board.rev
    board.sweep(114.0)
    assert board.rev == rev
    board.sweep(115.0)
    assert board.rev > rev


def test_item_without_heartbeats_stalls_by_the_option() -> None:
    conditions = Conditions(stall_after=60.0)
    board = make_board(conditions=conditions)
    for item_id, fields in (("plain", {}), ("beating", {"heartbeat_timeout": 100.0}), ("old", {"status": "failed"})):
        board.put(item_id, fields, OWNER_A, 0.0)
    board.create(parse_legacy(make_body(item_id="legacy")), OWNER_A, 0.0)
    board.patch("plain", {"completed": 1}, 5.0)
    board.sweep(60.0)
    assert board.drain_overdue() == [("legacy", "stalled")]
    board.sweep(65.0)
    assert board.drain_overdue() == [("plain", "stalled")]
    assert conditions.is_stalled(board.require("plain"), 65.0)
    board.patch("plain", {}, 70.0)
    assert not conditions.is_stalled(board.require("plain"), 70.0)
    board.sweep(130.0)
    assert board.drain_overdue() == [("beating", "stalled"), ("plain", "stalled")]


def test_cleared_heartbeat_timeout_leaves_the_option() -> None:
    board = make_board(conditions=Conditions(stall_after=60.0))
    board.put("a", {"heartbeat_timeout": 1000.0}, OWNER_A, 0.0)
    board.patch("a", {"heartbeat_timeout": None}, 10.0)
    board.sweep(70.0)
    assert board.drain_overdue() == [("a", "stalled")]


def test_item_with_a_limit_is_stuck_without_write() -> None:
    board = make_board()
    board.put("a", {"stuck_after": 30.0}, OWNER_A, 0.0)
    board.patch("a", {"completed": 1}, 10.0)
    rev = board.rev
    board.sweep(39.9)
    assert (board.drain_overdue(), board.rev) == ([], rev)
    board.sweep(40.0)
    assert (board.drain_overdue(), board.rev) == ([("a", "stuck")], rev + 1)
    board.sweep(99.0)
    assert board.drain_overdue() == []
    board.patch("a", {"completed": 2}, 100.0)
    assert not board.conditions.is_stuck(board.require("a"), 129.9)
    board.sweep(130.0)
    assert board.drain_overdue() == [("a", "stuck")]


def test_shorter_stuck_after_applies_at_once() -> None:
    board = make_board()
    board.put("a", {"stuck_after": 3000.0}, OWNER_A, 0.0)
    board.patch("a", {"stuck_after": 5.0}, 1.0)
    board.sweep(5.0)
    assert board.drain_overdue() == [("a", "stuck")]
    board.patch("a", {"stuck_after": None}, 6.0)
    assert not board.conditions.is_stuck(board.require("a"), 999.0)


def test_item_with_heartbeats_is_not_stuck_without_one() -> None:
    board = make_board()
    board.put("a", {"stuck_after": 10.0, "heartbeat_timeout": 40.0}, OWNER_A, 0.0)
    board.sweep(39.0)
    assert board.drain_overdue() == []
    assert not board.conditions.is_stuck(board.require("a"), 39.0)
    for seconds in (42.0, 45.0, 48.0, 51.0):
        board.patch("a", {}, seconds)
    assert not board.conditions.is_stuck(board.require("a"), 51.0)
    board.patch("a", {}, 52.0)
    assert board.conditions.is_stuck(board.require("a"), 52.0)
