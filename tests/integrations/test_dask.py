"""Computations of dask as items."""

from __future__ import annotations

import dask
import dask.array
import dask.callbacks
import pytest
from tqdm.dask import TqdmCallback

from progressbar_tracker.integrations.dask import TrackCallback
from progressbar_tracker.tqdm import tqdm


def final_state(run):
    return run.status, run.completed, run.total, run.error


@dask.delayed
def add(*numbers):
    return sum(numbers)


def test_computation_is_counted_in_tasks_and_succeeds(recorder):
    with TrackCallback(id="sum", title="The sum", group="night"):
        assert dask.array.ones((40, 40), chunks=(10, 10)).sum().compute(scheduler="threads") == 1600
    run = recorder["sum"]
    assert run.status == "succeeded"
    assert run.completed == run.total > 16
    assert (run.title, run.group, run.unit) == ("The sum", "night", "tasks")


def test_computation_moves_while_tasks_run(recorder):
    counts = []

    @dask.delayed
    def record_count(_):
        counts.append(final_state(recorder["x"])[:2])

    with TrackCallback(id="x"):
        record_count(record_count(record_count(None))).compute(scheduler="sync")
    assert counts == [("running", 0), ("running", 1), ("running", 2)]


def test_task_that_raises_fails_run_with_text(recorder):
    @dask.delayed
    def failing(_):
        raise ValueError("bad block")

    with TrackCallback(id="x"):
        with pytest.raises(ValueError, match="bad block"):
            failing(add(1)).compute(scheduler="threads")
    assert final_state(recorder["x"]) == ("failed", 1, 2, "ValueError: bad block")


def test_each_computation_in_block_is_a_run(recorder):
    callback = TrackCallback()
    callback.register()
    try:
        add(1).compute(scheduler="sync")
        add(2).compute(scheduler="sync")
    finally:
        callback.unregister()
    add(3).compute(scheduler="sync")
    assert [run.status for run in recorder] == ["succeeded", "succeeded"]
    assert callback._runs == {}


def test_invalid_computation_raises_users_error(recorder):
    class Broken(dask.callbacks.Callback):
        def _start(self, dsk):
            raise RuntimeError("not today")

    with pytest.raises(RuntimeError, match="not today"), Broken(), TrackCallback(id="x"):
        add(1).compute(scheduler="sync")
    assert all(run.status == "failed" for run in recorder)


@pytest.mark.parametrize(
    ("options", "error"), [({"id": 5}, TypeError), ({"interval": 0}, ValueError), ({"total": 5}, TypeError)]
)
def test_invalid_options_are_refused_at_once(options, error):
    with pytest.raises(error):
        TrackCallback(**options)


def test_tqdms_dask_callback_is_mirrored(recorder):
    with TqdmCallback(tqdm_class=tqdm, id="x", disable=None):
        add(add(1), add(2)).compute(scheduler="sync")
    assert final_state(recorder["x"]) == ("succeeded", 3, 3, None)
