"""Client and server share one rule of completion: ints exactly, floats within a billionth of the total."""

from __future__ import annotations

import json
import math
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from progressbar_tracker import track
from progressbar_tracker._amounts import format_item_count, format_item_percent
from progressbar_tracker._http.legacy import MAX_RUNNING_VALUE
from progressbar_tracker._models import (
    COMPLETION_TOLERANCE,
    Number,
    check_value,
    compute_fraction,
    floor_percent,
    is_complete,
    is_indeterminate,
)
from progressbar_tracker._reader_clock import UTC_CLOCK
from progressbar_tracker._tracking.mirror import Mirror, Reading
from progressbar_tracker._tracking.run import clean_number
from progressbar_tracker._tracking.run_options import RunOptions
from progressbar_tracker.cli.table import format_item_row
from progressbar_tracker.server.dashboard.badge import build_item_badge
from progressbar_tracker.server.items.merge import three_way_merge
from progressbar_tracker.server.items.validation import parse_legacy, parse_legacy_fast, parse_write, parse_write_fast
from progressbar_tracker.server.models import Notice
from progressbar_tracker.server.notifications.events import find_change_events
from progressbar_tracker.server.notifications.messages import render_message
from progressbar_tracker.testing import recording
from tests.support.boards import OWNER_A, item_after, make_body, make_started_board, serialize_item
from tests.support.boards import make_board as new_board

INT_VALUES = st.integers(-(2**60), 2**60)
FLOAT_VALUES = st.floats(-1e300, 1e300)
NUMBER_VALUES = INT_VALUES | FLOAT_VALUES
SUM_OF_TENTHS = sum([0.1] * 10)


def add_repeatedly(step: float, times: int) -> float:
    done = 0.0
    for _ in range(times):
        done += step
    return done


# The rule


@given(INT_VALUES, INT_VALUES)
def test_ints_are_compared_exactly(completed: int, total: int) -> None:
    assert is_complete(completed, total) is (completed >= total)


@given(st.integers(1, 3000), st.floats(1e-6, 1e12))
def test_added_float_steps_are_complete(steps: int, total: float) -> None:
    done = add_repeatedly(total / steps, steps)
    assert is_complete(done, total)
    assert not is_complete(done - 2e-9 * total, total)
    assert compute_fraction(done, total) == 1.0


@given(st.floats(1e-300, 1e300), st.floats(-1e-9, 1e-9))
def test_floats_have_a_tolerance(total: float, off: float) -> None:
    assert is_complete(total * (1 + off * 0.99), total)
    assert not is_complete(total * (1 - 1.01e-9), total)


@given(NUMBER_VALUES, NUMBER_VALUES)
def test_fraction_is_1_only_when_complete(completed: Number, total: Number) -> None:
    share = compute_fraction(completed, total)
    assert share is not None
    assert 0.0 <= share <= 1.0
    assert math.copysign(1, share) == 1
    assert (share == 1.0) is (total > 0 and is_complete(completed, total))
    assert (floor_percent(share) == 100) is (share == 1.0)


@pytest.mark.parametrize("total", [10, 2**53, 2**60, 10**300])
def test_last_of_many_units_is_not_rounded_away(total: int) -> None:
    assert compute_fraction(total - 1, total) != 1.0
    assert compute_fraction(total, total) == 1.0


@pytest.mark.parametrize("percent", range(101))
def test_whole_percentage_is_exact(percent: int) -> None:
    assert floor_percent(percent / 100) == percent


# The client


@given(st.integers(1, 2000))
def test_added_fractions_of_client_are_valid(steps: int) -> None:
    done = 0.0
    for _ in range(steps):
        done += 1 / steps
        assert check_value(done) == done or check_value(done) == 1.0
    assert check_value(done) == 1.0


@pytest.mark.parametrize("value", [1.0000000000000007, SUM_OF_TENTHS, 1 + 1e-10, 1 - 1e-10, 1])
def test_fraction_close_to_1_is_1(value: float) -> None:
    assert check_value(value) == 1.0


@pytest.mark.parametrize("value", [-0.0, -1e-17, 0])
def test_fraction_close_to_0_is_0(value: float) -> None:
    assert str(check_value(value)) == "0.0"


@pytest.mark.parametrize(
    ("value", "number"),
    [(Fraction(1, 4), 0.25), (Decimal("0.5"), 0.5), (2**53 - 1, 2**53 - 1), (10**400, None), (math.nan, None)],
)
def test_other_number_types_are_converted(value: object, number: Number | None) -> None:
    assert clean_number(value) == number


def test_numpy_ints_stay_exact() -> None:
    numpy = pytest.importorskip("numpy")
    number = clean_number(numpy.int64(2**53 - 1))
    assert type(number) is int
    assert not is_complete(number, 2**53)


@pytest.mark.parametrize(
    ("completed", "total", "status"),
    [
        (SUM_OF_TENTHS, 1.0, "succeeded"), (SUM_OF_TENTHS, 1, "succeeded"), (0.99, 1, "stopped"), (9, 10, "stopped"),
        (2**53 - 1, 2**53, "stopped"), (0, 0, "succeeded"),
    ],
)  # fmt: skip
def test_abandoned_bar_has_succeeded_if_complete(completed: Number, total: Number, status: str) -> None:
    run = Mirror("job", RunOptions(), None)
    run.status = "running"
    run.read = lambda: Reading(completed, total, None, "", "it")
    run.abandon()
    assert run.status == status


# The server


@pytest.mark.parametrize("value", [1.0000000000000007, SUM_OF_TENTHS, 1.0, 1])
def test_legacy_value_close_to_1_ends_run(value: float) -> None:
    item = item_after(new_board().create(parse_legacy(make_body(value)), OWNER_A, 10.0))
    assert (item.value, item.status) == (1.0, "succeeded")


def test_tracker_on_legacy_server_never_writes_early_end() -> None:
    assert check_value(MAX_RUNNING_VALUE) < 1


@pytest.mark.parametrize("value", ["0.9999999999999999", "1.0000000000000002", "1e-10", "-0.0"])
def test_fast_readers_reject_values_close_to_0_or_1(value: str) -> None:
    assert parse_write_fast(f'{{"value": {value}}}'.encode()) is None
    text = f'{{"id": "a", "title": "", "description": "", "weight": 0, "value": {value}}}'
    assert parse_legacy_fast(text.encode()) is None


TOTAL_CASES = {
    "tenths": (SUM_OF_TENTHS, 1, 1.0, "100 %", "1.00 / 1"),
    "49 times 1/49": (add_repeatedly(1 / 49, 49), 1, 1.0, "100 %", "1.00 / 1"),
    "one of very many is missing": (2**53 - 1, 2**53, 1 - 2**-53, "99 %", "9007T / 9007T"),
    "29 of 100": (29, 100, 0.29, "29 %", "29 / 100"),
    "more than all": (12, 10, 1.0, "100 %", "12 / 10"),
    "less than nothing": (-0.0, 10, 0.0, "0 %", "0 / 10"),
    "nothing of nothing": (0, 0, 0.0, "", "0"),
    "something of nothing": (3, 0.0, 0.0, "", "3"),
    "of less than nothing": (3, -1, 0.0, "", "3"),
}


@pytest.mark.parametrize("case", TOTAL_CASES)
def test_every_view_shows_the_same_fraction(case: str) -> None:
    completed, total, value, percent, counts = TOTAL_CASES[case]
    board = make_started_board(completed=completed, total=total)
    item = board.require("a")
    wire = serialize_item(item, 0.0)
    fields: dict[str, object] = dict(wire)
    assert (item.value, format_item_percent(fields), format_item_count(fields)) == (value, percent, counts)
    assert format_item_row(wire, 0.0, UTC_CLOCK)[1:3] == (percent, counts)
    assert build_item_badge("a", fields).state == (percent or counts)
    assert wire["eta"] is None
    text = render_message(Notice("n", "c", "a", "r", "late", 0.0, json.dumps(wire), 0.0), "").text
    assert (percent or f"{completed:g}") in text


@pytest.mark.parametrize(("status", "percent"), [("succeeded", "100 %"), ("stopped", "0 %"), ("failed", "0 %")])
def test_zero_total_has_percentage_after_end(status: str, percent: str) -> None:
    board = make_started_board(completed=0, total=0)
    item = item_after(board.patch("a", parse_write({"run_id": "r", "status": status}, merge=True), 1.0))
    wire = serialize_item(item, 1.0)
    assert not is_indeterminate(0, 0, status)
    assert format_item_row(wire, 1.0, UTC_CLOCK)[1] == percent


def test_late_total_gives_fraction() -> None:
    board = make_started_board(completed=3, total=0)
    item = item_after(board.patch("a", parse_write({"run_id": "r", "total": 6}, merge=True), 1.0))
    assert item.value == 0.5


def test_merged_fraction_equals_single_servers() -> None:
    base = make_started_board(completed=0.0, total=1.0, seq=1).require("a")
    ours = replace(base, own=SUM_OF_TENTHS, completed=SUM_OF_TENTHS, value=1.0, seq=2)
    assert three_way_merge(base, ours, replace(base, title="another")).value == 1.0


@pytest.mark.parametrize(
    ("before", "now", "total", "events"),
    [
        (0.7, add_repeatedly(0.1, 8), 1.0, ["80%"]),
        (add_repeatedly(0.1, 8), 0.85, 1.0, []),
        (2**52 - 2, 2**52 - 1, 2**53, []),
        (2**52 - 1, 2**52, 2**53, ["50%"]),
        (28, 29, 100, ["29%"]),
        (0, 5, 0, []),
    ],
)
def test_threshold_events_use_the_same_rule(before: Number, now: Number, total: Number, events: list[str]) -> None:
    board = make_started_board(completed=before, total=total, seq=1)
    earlier = board.require("a")
    later = item_after(board.patch("a", parse_write({"run_id": "r", "completed": now, "seq": 2}, merge=True), 1.0))
    assert find_change_events(earlier, later, [29, 50, 80]) == events


def test_block_over_fractions_succeeds() -> None:
    with recording() as recorded:
        with track(total=1.0, id="job", display=False) as bar:
            for _ in range(10):
                bar.advance(0.1)
    assert (recorded["job"].status, is_complete(recorded["job"].completed, 1.0)) == ("succeeded", True)


def test_tolerance_is_documented() -> None:
    assert COMPLETION_TOLERANCE == 1e-9
