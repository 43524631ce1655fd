from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from progressbar_tracker.server.schedules.gaps import (
    GAP_RETENTION,
    MAX_GAPS,
    add_gap,
    add_seconds,
    find_gap_end,
    subtract_seconds,
)

INSTANT_STRATEGY = st.integers(0, 200).map(float)


def build_gaps(pairs: list[tuple[float, float]]) -> tuple[tuple[float, float], ...]:
    gaps: tuple[tuple[float, float], ...] = ()
    for pair in pairs:
        start, end = sorted(pair)
        gaps = add_gap(gaps, (start, end), 200.0)
    return gaps


def test_overlapping_gaps_become_one() -> None:
    assert build_gaps([(10, 20), (40, 50), (15, 45)]) == ((10, 50),)


def test_old_gaps_are_dropped_and_their_number_is_bounded() -> None:
    gaps: tuple[tuple[float, float], ...] = ()
    for number in range(100):
        gaps = add_gap(gaps, (number * 10.0, number * 10.0 + 1), 1000.0)
    assert len(gaps) == MAX_GAPS
    assert gaps[-1] == (990.0, 991.0)
    later = 1000.0 + GAP_RETENTION
    assert add_gap(gaps, (later, later + 1), later) == ((later, later + 1),)


def test_ends_of_a_gap_are_not_in_it() -> None:
    assert [find_gap_end([(10.0, 20.0)], at) for at in (10.0, 15.0, 20.0)] == [None, 20.0, None]


@given(st.lists(st.tuples(INSTANT_STRATEGY, INSTANT_STRATEGY), max_size=6), INSTANT_STRATEGY, INSTANT_STRATEGY)
def test_seconds_are_counted_outside_of_gaps_only(pairs, at, seconds) -> None:
    gaps = build_gaps(pairs)
    end = add_seconds(gaps, at, seconds)
    inside = sum(max(min(stop, end) - max(start, at), 0.0) for start, stop in gaps)
    assert end - at - inside == seconds


@given(
    st.lists(st.tuples(INSTANT_STRATEGY, INSTANT_STRATEGY), max_size=6),
    INSTANT_STRATEGY,
    INSTANT_STRATEGY,
    INSTANT_STRATEGY,
)
def test_deadline_has_passed_exactly_for_earlier_starts(pairs, checked_at, seconds, start) -> None:
    gaps = build_gaps(pairs)
    if find_gap_end(gaps, start) is None and find_gap_end(gaps, checked_at) is None and start <= checked_at:
        has_passed = add_seconds(gaps, start, seconds) < checked_at
        assert has_passed == (start < subtract_seconds(gaps, checked_at, seconds)) or any(
            checked_at in gap or start in gap for gap in gaps
        )
