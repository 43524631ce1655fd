"""Rate and ETA."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from progressbar_tracker.server.items.validation import parse_legacy
from tests.support.boards import OWNER_A, make_board, make_body, make_started_board, serialize_item


def test_rate_is_smoothed_and_gives_eta() -> None:
    board = make_started_board(completed=0, total=100)
    board.patch("a", {"completed": 10}, 1.0)
    item = serialize_item(board.require("a"), 1.0)
    assert (item["rate"], item["eta"]) == (10.0, 9.0)
    board.patch("a", {"completed": 11}, 2.0)
    rate = serialize_item(board.require("a"), 2.0)["rate"]
    assert rate is not None
    assert 5.0 < rate < 5.5  # both seconds count, the later one a little more


def test_item_without_count_has_eta_but_no_rate() -> None:
    board = make_board()
    board.create(parse_legacy(make_body(0.0)), OWNER_A, 0.0)
    board.update(parse_legacy(make_body(0.25)), 10.0)
    item = serialize_item(board.require("a"), 10.0)
    assert (item["rate"], item["eta"]) == (None, 30.0)


def test_rate_starts_with_the_first_count() -> None:
    board = make_started_board(completed=None, age_seconds=0)
    board.patch("a", {"completed": 0, "total": 100}, 60.0)
    board.patch("a", {"completed": 50}, 65.0)
    item = serialize_item(board.require("a"), 65.0)
    assert (item["rate"], item["eta"]) == (10.0, 5.0)
    assert board.require("a").started_at == 0.0


def test_rate_ignores_signs_of_life_between_steps() -> None:
    board = make_started_board(completed=0, total=4)
    for minute in range(1, 30):
        board.patch("a", {"completed": minute // 10}, 60.0 * minute)
    item = serialize_item(board.require("a"), 1740.0)
    assert (item["rate"], item["eta"]) == (pytest.approx(1 / 600), pytest.approx(660.0))


def test_eta_grows_without_progress() -> None:
    board = make_started_board(completed=0, total=4)
    board.patch("a", {"completed": 1}, 600.0)
    left = [serialize_item(board.require("a"), 600.0 + waited)["eta"] for waited in (0, 600, 1200, 6000)]
    assert left == pytest.approx([1800.0, 1200.0, 2400.0, 12000.0], rel=0.01)
    board.patch("a", {"description": "still there"}, 6600.0)
    assert serialize_item(board.require("a"), 6600.0)["eta"] == pytest.approx(12000.0, rel=0.01)


def test_finish_stays_while_a_step_takes_its_usual_time() -> None:
    board = make_started_board(completed=0, total=100)
    for second in range(0, 50, 10):
        board.patch("a", {"completed": second}, float(second))
    left = [serialize_item(board.require("a"), at)["eta"] for at in (40.0, 45.0, 50.0)]
    assert left == pytest.approx([60.0, 55.0, 50.0])


def test_stalled_item_has_no_rate_or_eta() -> None:
    board = make_started_board(completed=0, total=100, heartbeat_timeout=5)
    board.patch("a", {"completed": 10}, 1.0)
    item = serialize_item(board.require("a"), 6.0)
    assert (item["stalled"], item["rate"], item["eta"]) == (True, None, None)


def test_ended_item_has_no_rate_or_eta() -> None:
    board = make_started_board(completed=0, total=100)
    board.patch("a", {"completed": 10}, 1.0)
    board.patch("a", {"status": "stopped"}, 2.0)
    assert serialize_item(board.require("a"), 2.0)["rate"] is None
    assert serialize_item(board.require("a"), 2.0)["eta"] is None


@given(st.lists(st.tuples(st.floats(-1e300, 1e300) | st.integers(-(2**53), 2**53), st.floats(-10, 1e9))))
def test_rate_and_eta_are_finite_and_not_negative(steps: list[tuple[float, float]]) -> None:
    board = make_started_board(total=1000)
    now = 0.0
    for completed, elapsed in steps:
        now += elapsed
        board.patch("a", {"completed": completed}, now)
        item = serialize_item(board.require("a"), now)
        for number in (item["rate"], item["eta"]):
            assert number is None or (number >= 0 and math.isfinite(number))
        assert 0 <= item["value"] <= 1
