"""``joblib.Parallel`` with a bar."""

from __future__ import annotations

import threading

import joblib
import pytest

from progressbar_tracker import track
from progressbar_tracker.integrations.joblib import Parallel
from tests.support.waiting import wait_until


def final_state(recorded):
    run = recorded.runs[-1]
    return run.status, run.completed, run.total, run.error


def square(number):
    return number * number


def raise_error(number):
    if number == 3:
        raise ValueError(f"bad row {number}")
    return number


@pytest.mark.parametrize("options", [{"n_jobs": 1}, {"n_jobs": 2, "backend": "threading"}])
def test_parallel_returns_joblibs_results_and_exact_count(recorder, options):
    rows = Parallel(**options, id="x", title="Squares")([joblib.delayed(square)(n) for n in range(20)])
    assert rows == [n * n for n in range(20)]
    assert final_state(recorder) == ("succeeded", 20, 20, None)
    assert (recorder["x"].title, recorder["x"].unit) == ("Squares", "tasks")


def test_processes_and_batches_count_each_task(recorder):
    with Parallel(n_jobs=2, id="x", total=50, batch_size=7) as parallel:
        assert parallel(joblib.delayed(square)(n) for n in range(50)) == [n * n for n in range(50)]
        assert final_state(recorder) == ("succeeded", 50, 50, None)
        parallel([joblib.delayed(square)(1)])
    assert [run.status for run in recorder] == ["succeeded", "succeeded"]


def test_dispatched_tasks_do_not_count(recorder):
    gates = [threading.Event() for _ in range(4)]

    def work(n):
        assert gates[n].wait(60)
        return n

    parallel = Parallel(n_jobs=4, backend="threading", id="x", pre_dispatch="all", batch_size=1)
    thread = threading.Thread(target=parallel, args=([joblib.delayed(work)(n) for n in range(4)],))
    thread.start()
    try:
        wait_until(lambda: parallel.n_dispatched_tasks == 4)
        assert final_state(recorder) == ("running", 0, 4, None)
        gates[2].set()
        wait_until(lambda: recorder["x"].completed == 1)
    finally:
        for gate in gates:
            gate.set()
        thread.join()
    assert final_state(recorder) == ("succeeded", 4, 4, None)


@pytest.mark.parametrize("jobs", [1, 2])
def test_task_that_raises_fails_run_with_text(recorder, jobs):
    with pytest.raises(ValueError, match="bad row 3"):
        Parallel(n_jobs=jobs, backend="threading", id="x")([joblib.delayed(raise_error)(n) for n in range(9)])
    status, _, total, error = final_state(recorder)
    assert (status, total, error) == ("failed", 9, "ValueError: bad row 3")


@pytest.mark.parametrize("source", [range(40), list(range(40)), dict.fromkeys(range(40)), range(2**70)[:40]])
def test_generator_expression_has_total_of_its_source(recorder, source):
    totals = []

    def work(n):
        totals.append(recorder["x"].total)

    Parallel(n_jobs=1, id="x")(joblib.delayed(work)(n) for n in source)
    assert totals == [40] * 40
    assert final_state(recorder) == ("succeeded", 40, 40, None)


def test_unsized_tasks_have_no_total_until_all_are_dispatched(recorder):
    def generate():
        for n in range(3):
            yield joblib.delayed(square)(n)

    totals = []

    def note(n):
        totals.append(recorder["x"].total)

    unsized = [
        generate(),
        (joblib.delayed(note)(n) for n in range(6) if n % 2),
        (joblib.delayed(note)(n) for m in range(3) for n in range(1)),
        (joblib.delayed(note)(n) for n in iter([7, 8, 9].pop, 7)),
    ]
    for tasks, count in zip(unsized, (3, 3, 3, 2), strict=True):
        Parallel(n_jobs=1, id="x", pre_dispatch=1)(tasks)
        assert final_state(recorder) == ("succeeded", count, count, None)
    assert totals[0] is None


def test_total_counts_rest_of_started_iterator(recorder):
    source = iter([1, 2, 3])
    next(source)
    assert Parallel(n_jobs=1, id="x")(joblib.delayed(square)(n) for n in source) == [4, 9]
    assert final_state(recorder) == ("succeeded", 2, 2, None)


def test_empty_parallel_succeeds(recorder):
    assert Parallel(n_jobs=1, id="x")([]) == []
    assert final_state(recorder) == ("succeeded", 0, 0, None)


def test_parallel_with_generator_works_with_track(recorder):
    results = joblib.Parallel(n_jobs=2, backend="threading", return_as="generator_unordered")(
        joblib.delayed(square)(n) for n in range(5)
    )
    assert sorted(track(results, total=5, id="x")) == [0, 1, 4, 9, 16]
    assert final_state(recorder) == ("succeeded", 5, 5, None)


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"return_as": "generator"}, ValueError, "return_as must be 'list', not 'generator'"),
        ({"total": "many"}, TypeError, "total"),
        ({"id": 5}, TypeError, "id"),
        ({"interval": 0}, ValueError, "interval"),
    ],
)
def test_invalid_options_are_refused_at_once(options, error, text):
    with pytest.raises(error, match=text):
        Parallel(n_jobs=1, **options)
