"""The estimator: properties of every forecast, and the cases of the specification."""

from __future__ import annotations

import math
import random
import statistics

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from progressbar_tracker._estimate import forecast, start_progress, stuck_limit, update_progress
from progressbar_tracker._former_runs import FormerRun, FormerRuns, t_quantile

GAP_LISTS = st.lists(st.floats(0.5, 5000), min_size=1, max_size=30)
POSITION_VALUES = st.floats(-1e300, 1e300) | st.integers(-1000, 1000).map(float)
STEP_SIZES = st.integers(1, 1000)
STEP_LISTS = st.lists(st.integers(0, 100), min_size=8, max_size=8).map(
    lambda steps: [step for step in steps for _ in range(8)]
)
HISTORY_LISTS = st.lists(st.tuples(st.floats(1, 1e6), st.integers(1, 10**6), STEP_LISTS), min_size=1, max_size=12)


def follow(gaps, size=1.0, time_factor=1.0, at=0.0):
    """Return the progress after steps of one size, and the instant of the last one."""
    progress, now = start_progress(0.0, at, at), at
    for number, gap in enumerate(gaps, 1):
        before, now = now, now + gap * time_factor
        progress = update_progress(progress, number * size, now, seen_at=before)
    return progress, now


def make_former(history):
    runs = []
    for duration, total, steps in history:
        positions = [0.0]
        for step in steps:
            positions.append(positions[-1] + step)
        scale = total / positions[-1] if positions[-1] else 0.0
        runs.append(FormerRun(duration, float(total), [position * scale for position in positions]))
    return FormerRuns.build(runs)


def make_steady_former(durations, total=100.0):
    return FormerRuns.build([FormerRun(d, total, [total * i / 100 for i in range(101)]) for d in durations])


@given(GAP_LISTS, STEP_SIZES, st.floats(0, 1e5), st.floats(1, 100), st.none() | HISTORY_LISTS)
@settings(deadline=None, max_examples=40)
def test_forecast_is_finite_ordered_and_not_past(gaps, size, idle, more, history):
    progress, at = follow(gaps, float(size))
    found = forecast(
        progress, len(gaps) * size * more, at + idle, started_at=0.0, former=make_former(history) if history else None
    )
    assert found is not None
    assert all(map(math.isfinite, (found.finish_at, found.low_at, found.high_at)))
    assert at + idle <= found.low_at * (1 + 1e-9)
    assert found.low_at <= found.finish_at * (1 + 1e-9)
    assert found.finish_at <= found.high_at * (1 + 1e-9)
    assert found.valid_until > at + idle


@given(
    st.lists(st.tuples(POSITION_VALUES, st.floats(0, 1e6)), min_size=1, max_size=12),
    st.none() | POSITION_VALUES,
    st.floats(0, 1e8),
    st.none() | HISTORY_LISTS,
)
@example([(-1000.0, 0.0), (-500.0, 1.0)], 5.0, 0.0, [(100.0, 100, [1] * 64)])
@example([(0.0, 0.0), (1.0, 1.0)], -5.0, 0.0, [(100.0, 100, [1] * 64)])
@example([(0.0, 0.0), (1e6, 1.0), *((1e6 + n, 100.0) for n in range(1, 11))], 1e9, 0.0, None)
@settings(deadline=None, max_examples=100)
def test_forecast_of_any_valid_counts_is_finite_and_ordered(steps, total, idle, history):
    progress, now = start_progress(steps[0][0], 0.0, 0.0), 0.0
    for position, gap in steps[1:]:
        before, now = now, now + gap
        progress = update_progress(progress, position, now, seen_at=before, silence=1e5)
    former = make_former(history) if history else None
    found = forecast(progress, total, now + idle, started_at=0.0, former=former)
    if found is not None:
        assert all(map(math.isfinite, found[:4]))
        assert (now + idle) * (1 - 1e-9) <= found.low_at <= found.finish_at * (1 + 1e-9)
        assert found.finish_at <= found.high_at * (1 + 1e-9)


@given(GAP_LISTS, st.floats(1, 100), st.floats(0, 50), st.integers(0, 8), st.floats(1e-3, 1e6))
@settings(deadline=None, max_examples=40)
def test_forecast_does_not_depend_on_units(gaps, more, idle, doublings, unit):
    factor = 2.0**doublings
    progress, at = follow(gaps)
    scaled, scaled_at = follow(gaps, unit, factor)
    total = len(gaps) * more
    found = forecast(progress, total, at + idle, started_at=0.0)
    other = forecast(scaled, total * unit, scaled_at + idle * factor, started_at=0.0)
    assert found is not None
    assert other is not None
    # Rounding decides whether a step is overdue at the very instant at which it is due.
    assume((found.valid_until == at + idle + 1.0) is (other.valid_until == scaled_at + idle * factor + 1.0))
    assert other.finish_at == pytest.approx(found.finish_at * factor, rel=1e-6)
    assert other.high_at == pytest.approx(found.high_at * factor, rel=1e-6)


def follow_to_forecasts(gaps, more, history):
    """Return a function that forecasts a run after some steps at an instant, and the instant of the last step."""
    former = make_former(history) if history else None
    progress, at = follow(gaps)

    def predict(now):
        found = forecast(progress, len(gaps) * more, now, started_at=0.0, former=former)
        assert found is not None
        return found

    return predict, at


@given(GAP_LISTS, st.floats(1.01, 100), st.floats(0, 1e5), st.none() | HISTORY_LISTS)
@settings(deadline=None, max_examples=40)
def test_forecast_without_steps_never_moves_earlier(gaps, more, idle, history):
    predict, at = follow_to_forecasts(gaps, more, history)
    first, later = predict(at), predict(at + idle)
    assert later.finish_at >= first.finish_at * (1 - 1e-9)


@given(GAP_LISTS, st.floats(1.01, 100), st.floats(0, 1), st.none() | HISTORY_LISTS)
@settings(deadline=None, max_examples=40)
def test_forecast_stays_while_it_is_valid(gaps, more, part, history):
    predict, at = follow_to_forecasts(gaps, more, history)
    first = predict(at)
    assume(first.valid_until != at + 1.0)  # an overdue run: each second that it still runs is evidence
    now = at + part * (first.valid_until - at) * 0.999
    later = predict(now)
    assert later.finish_at == pytest.approx(max(first.finish_at, now))


@pytest.mark.parametrize("total", [0.0, 20.0])
def test_exceeded_total_is_no_basis(total):
    progress, at = follow([1.0] * 50)
    assert forecast(progress, total, at, started_at=0.0) is None


def test_exceeded_total_leaves_the_former_durations():
    progress, at = follow([1.0] * 50)
    found = forecast(progress, 20.0, at, started_at=0.0, former=make_steady_former([100.0] * 3))
    assert found is not None
    assert (found.finish_at, found.value) == (pytest.approx(100.0), None)


def test_forecast_without_step_has_no_basis():
    assert forecast(start_progress(0.0, 0.0), 100.0, 5.0, started_at=0.0) is None


def test_forecast_without_total_has_no_basis():
    progress, at = follow([1.0] * 5)
    assert forecast(progress, None, at, started_at=0.0) is None


def test_forecast_of_steady_run_is_exact():
    progress, at = follow([1.0] * 500)
    found = forecast(progress, 1000.0, at, started_at=0.0)
    assert found is not None
    assert found.finish_at == pytest.approx(1000, rel=0.01)


def test_forecast_of_faster_run_is_earlier_than_its_mean():
    progress, at = follow([10.0] * 20 + [1.0] * 180)
    found = forecast(progress, 400.0, at, started_at=0.0)
    assert found is not None
    assert found.finish_at < 2 * at


def test_forecast_separates_the_start_of_the_program():
    progress, at = follow([100.0] + [1.0] * 40)
    found = forecast(progress, 101.0, at, started_at=0.0)
    assert found is not None
    assert found.finish_at == pytest.approx(200, rel=0.01)


def test_forecast_of_resumed_run_counts_its_own_work():
    progress = start_progress(900.0, 0.0, 0.0)
    for number in range(1, 51):
        progress = update_progress(progress, 900.0 + number, float(number), seen_at=number - 1.0)
    found = forecast(progress, 1000.0, 50.0, started_at=0.0)
    assert found is not None
    assert found.finish_at == pytest.approx(100, rel=0.05)


def test_forecast_of_resumed_run_uses_the_rest_of_former_runs():
    progress, former = start_progress(50.0, 0.0, 0.0), make_steady_former([200.0] * 4)
    for number in range(1, 26):
        progress = update_progress(progress, 50.0 + number, 2.0 * number, seen_at=2.0 * number - 2)
    found = forecast(progress, 100.0, 50.0, started_at=0.0, former=former)
    assert found is not None
    assert found.finish_at == pytest.approx(100, rel=0.02)


def test_forecast_before_first_step_is_the_usual_duration():
    found = forecast(
        start_progress(0.0, 0.0, 0.0), 100.0, 5.0, started_at=0.0, former=make_steady_former([90, 100, 110])
    )
    assert found is not None
    assert found.finish_at == pytest.approx(100, rel=0.01)
    assert found.former_count == 3


def test_forecast_with_more_work_expects_more_time():
    former = make_steady_former([100.0] * 3)
    found = forecast(start_progress(0.0, 0.0, 0.0), 200.0, 5.0, started_at=0.0, former=former)
    assert found is not None
    assert found.finish_at == pytest.approx(200, rel=0.01)


def test_forecast_of_run_past_its_usual_end_is_later():
    found = forecast(start_progress(0.0, 0.0, 0.0), None, 150.0, started_at=0.0, former=make_steady_former([100.0] * 3))
    assert found is not None
    assert 150 < found.finish_at < 300


def test_forecast_follows_the_run_if_it_contradicts_history():
    progress, at = follow([3.0] * 50)
    found = forecast(progress, 100.0, at, started_at=0.0, former=make_steady_former([100.0] * 6))
    assert found is not None
    assert found.finish_at > 250
    assert found.is_slower


def test_forecast_knows_when_former_runs_slowed_down():
    # Half of the work takes the first tenth of the time.
    curve = [500.0 * i for i in range(11)] + [5000 + 5000 * i / 90 for i in range(1, 91)]
    former = FormerRuns.build([FormerRun(100.0, 10_000.0, curve)] * 3)
    progress, at = follow([1.0] * 10, 500.0)
    found = forecast(progress, 10_000.0, at, started_at=0.0, former=former)
    assert found is not None
    assert found.finish_at == pytest.approx(100, rel=0.05)


def test_interval_shrinks_with_the_number_of_former_runs():
    widths = []
    for count in (1, 3, 9):
        found = forecast(
            start_progress(0.0, 0.0, 0.0), 100.0, 1.0, started_at=0.0, former=make_steady_former([100.0] * count)
        )
        assert found is not None
        widths.append(found.high_at - found.low_at)
    assert widths == sorted(widths, reverse=True)


def test_interval_of_many_former_runs_contains_four_of_five():
    chance = random.Random(1)
    hits = []
    for _ in range(400):
        durations = [100 * math.exp(chance.choice((0.05, 0.4)) * chance.gauss(0, 1)) for _ in range(13)]
        found = forecast(
            start_progress(0.0, 0.0, 0.0), 100.0, 1.0, started_at=0.0, former=make_steady_former(durations[1:])
        )
        assert found is not None
        hits.append(found.low_at <= durations[0] <= found.high_at)
    assert 0.7 < statistics.fmean(hits) < 0.97


@pytest.mark.parametrize(("freedom", "quantile"), [(3, 1.638), (5, 1.476), (10, 1.372), (30, 1.310), (1e9, 1.2816)])
def test_quantile_agrees_with_the_table_of_student(freedom, quantile):
    assert t_quantile(freedom) == pytest.approx(quantile, rel=0.01)


@pytest.mark.parametrize("late", [1.0, 2.0, 10.0, 100.0])
def test_overdue_run_with_history_does_not_end_now(late):
    """Four of five equal steps are done, and the last one takes as long as several former runs."""
    former = make_steady_former([100.0, 100.0, 101.0])
    progress, at = follow([20.0] * 4)
    now = at + 100.0 * late
    found = forecast(progress, 5.0, now, started_at=0.0, former=former)
    assert found is not None
    assert now * 1.001 < found.finish_at < found.high_at


def test_stuck_limit_needs_five_steps():
    assert stuck_limit(follow([10.0] * 4)[0], 0.1) is None
    assert stuck_limit(follow([10.0] * 5)[0], 0.1) == 100


def test_stuck_limit_is_at_least_a_minute():
    assert stuck_limit(follow([1.0] * 9)[0], 0.1) == 60


def make_pausing_former(count=3):
    """Return runs of 1000 s, and the first one pauses for 400 s in the middle."""
    curve = [float(i) for i in range(31)] + [30.0] * 40 + [30.0 + i for i in range(1, 31)]
    return FormerRuns.build([FormerRun(1000.0, 60.0, curve, 410.0), *[FormerRun(1000.0, 60.0, [], 10.0)] * (count - 1)])


def test_stuck_limit_knows_the_usual_longest_gap():
    former = FormerRuns.build([FormerRun(1000.0, 60.0, (), gap) for gap in (1.0, 100.0, 400.0)])
    assert stuck_limit(start_progress(0.0, 0.0), 0.1, former) == pytest.approx(300)


def test_stuck_limit_knows_a_pause_at_the_same_share():
    limit = stuck_limit(follow([1.0] * 30)[0], 0.5, make_pausing_former())
    assert limit is not None
    assert limit > 800


def test_stuck_limit_without_curves_knows_the_longest_gap():
    former = FormerRuns.build([FormerRun(1000.0, 60.0, (), 100.0), *([FormerRun(10.0, 60.0, [0.0, 60.0], 5.0)] * 2)])
    assert stuck_limit(start_progress(0.0, 0.0), 0.1, former) == 60
