"""The statistics of runs: rates, quantiles of durations, and the usual start."""

from __future__ import annotations

from statistics import quantiles

import pytest
from hypothesis import given
from hypothesis import strategies as st

from progressbar_tracker.server.items.run_statistics import (
    DAY_SECONDS,
    MAX_START_DEVIATION_SECONDS,
    compute_quantile,
    compute_statistics,
    find_usual_start,
)
from progressbar_tracker.server.models import EndStatus, RunRow


def make_row(seconds: float, status: EndStatus = "succeeded", start: float = 0.0) -> RunRow:
    return RunRow(1, "a", "r", None, status, start, start + seconds, "", None)


def test_deleted_runs_do_not_count() -> None:
    rows = [make_row(10.0), make_row(20.0, "failed"), make_row(30.0, "stopped"), make_row(40.0, "deleted")]
    found = compute_statistics(rows)
    assert (found.run_count, found.success_rate) == (3, pytest.approx(1 / 3))
    assert (found.low_duration_seconds, found.median_duration_seconds, found.high_duration_seconds) == (10, 10, 10)


def test_failed_runs_alone_have_no_durations() -> None:
    found = compute_statistics([make_row(10.0, "failed")])
    assert (found.run_count, found.success_rate, found.median_duration_seconds) == (1, 0.0, None)


@given(st.lists(st.floats(0, 1e6), min_size=2, max_size=40))
def test_quantiles_equal_those_of_the_standard_library(numbers: list[float]) -> None:
    numbers.sort()
    cuts = quantiles(numbers, n=10, method="inclusive")
    assert compute_quantile(numbers, 0.1) == pytest.approx(cuts[0], abs=1e-6)
    assert compute_quantile(numbers, 0.9) == pytest.approx(cuts[-1], abs=1e-6)


@pytest.mark.parametrize(
    ("hours", "usual"),
    [
        ([2.0, 2.1, 1.9], 2.0),
        ([23.9, 0.1, 0.0], 0.0),
        ([2.0, 2.0, 2.0, 14.0], 2.0),
        ([2.0, 14.0, 2.0, 14.0], None),
        ([0.0, 8.0, 16.0], None),
        ([2.0, 2.0], None),
    ],
)
def test_usual_start_is_the_median_around_midnight(hours: list[float], usual: float | None) -> None:
    starts = [day * DAY_SECONDS + hour * 3600 for day, hour in enumerate(hours)]
    found = find_usual_start(starts)
    assert found == (None if usual is None else pytest.approx(usual * 3600))


@given(st.floats(0, DAY_SECONDS - 1), st.lists(st.floats(-900.0, 900.0), min_size=3, max_size=30))
def test_usual_start_is_near_starts_that_are_near(middle: float, offsets: list[float]) -> None:
    """The time of day is found wherever midnight is."""
    starts = [10 * DAY_SECONDS + middle + offset for offset in offsets]
    found = find_usual_start(starts)
    assert found is not None
    assert 0 <= found < DAY_SECONDS
    distance = abs(found - middle)
    assert min(distance, DAY_SECONDS - distance) <= MAX_START_DEVIATION_SECONDS / 2 + 1e-3
