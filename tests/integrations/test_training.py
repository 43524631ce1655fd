"""The base of the training callbacks. ``.ci/training-integrations`` tests the callbacks."""

from __future__ import annotations

import contextlib
import pickle

import pytest

from progressbar_tracker import track
from progressbar_tracker._runtime import are_loops_stoppable
from progressbar_tracker.integrations._training import Fit, log_errors, wrap_methods
from progressbar_tracker.testing import recording


class FakeLibrary:
    """A training library that does not pass exceptions to its callback."""

    def __init__(self, fit, error=None):
        self.fit, self.error = fit, error

    def train(self, steps):
        """Train."""
        self.fit.start("A fit", 2, unit="epochs")
        self.fit.set_position(0.5, lambda: {"loss": 0.25, "table": [1, 2]})
        self.fit.update_phase("Epoch 1", steps, 10)
        if self.error is not None:
            raise self.error
        return steps


def test_non_numeric_metric_is_left_out():
    with recording() as recorded:
        FakeLibrary(Fit({"id": "fit"})).train(5)
    assert (recorded["fit"].completed, recorded["fit"].description) == (0.5, "loss 0.25")


def test_pending_metrics_are_read_at_end():
    fit = Fit({"id": "fit"})
    with recording() as recorded:
        fit.start("", 2, unit="epochs")
        for step in range(1, 5):
            fit.set_position(step / 2, lambda step=step: {"loss": step})
        assert recorded["fit"].description == "loss 1"
        fit.end()
    assert recorded["fit"].description == "loss 4"


def test_exception_in_wrapped_method_fails_fit():
    class Watched(FakeLibrary):
        pass

    wrap_methods(Watched, "train")
    wrap_methods(Watched, "train")
    method = Watched.train
    assert (method.__name__, method.__doc__) == ("train", "Train.")
    assert not hasattr(method.__wrapped__, "__wrapped__")
    with recording() as recorded:
        good = Watched(Fit({"id": "good"}))  # a reference: an unreferenced fit stops
        assert good.train(5) == 5
        with pytest.raises(OSError, match="disk full"):
            Watched(Fit({"id": "fit"}), OSError("disk full")).train(5)
    assert (recorded["fit"].status, recorded["fit"].error) == ("failed", "OSError: disk full")
    assert (recorded["fit/now"].status, recorded["fit/now"].parent) == ("stopped", "fit")
    assert recorded["good"].status == "running"


def test_unreadable_metrics_do_not_prevent_end():
    def unreadable():
        raise RuntimeError("device lost")

    fit = Fit({"id": "fit"})
    with recording() as recorded:
        fit.start("", 2, unit="epochs")
        fit.set_position(1, dict)
        fit.set_position(2, unreadable)
        log_errors(fit.end)()
    assert recorded["fit"].status == "succeeded"


def test_new_fit_stops_running_fit():
    fit = Fit({"id": "fit"})
    with recording() as recorded:
        fit.start("", None, unit="epochs")
        fit.start("", float("inf"), unit="epochs", position=3)
        fit.end(early=True)
        fit.end()
        fit.set_position(1)
        fit.set_total(4)
        fit.update_metrics({"loss": 1})
        fit.update_phase("Epoch 1", 1, 2)
    assert [(run.status, run.completed, run.total) for run in recorded] == [
        ("stopped", 0, None),
        ("succeeded", 3, None),
    ]
    assert recorded["fit"].description == "stopped early"


@pytest.mark.parametrize("inside", [True, False])
def test_stage_is_nested_in_fit_or_separate(inside):
    fit = Fit({"id": "fit", "title": "Night"})
    with recording() as recorded:
        if inside:
            fit.start("", 2, unit="epochs")
            fit.set_total(3)
        fit.start_stage("test", 4, "Test of a model")
        fit.update_stage(fit.stage_done + 1)
        fit.end_stage({"accuracy": 1}, close_bar=True)
    run = recorded["fit/now" if inside else "fit/test"]
    assert (run.status, run.completed, run.total) == ("succeeded", 1, 4)
    assert run.title == ("Test" if inside else "Night, test")
    assert recorded["fit" if inside else "fit/test"].description == "accuracy 1"
    assert fit.is_running is inside


def test_invalid_option_raises_at_once():
    with pytest.raises(TypeError, match="group must be a string"):
        Fit({"group": 5})


# Stop requests


class StoppableLibrary:
    """A training library whose callback sets a flag that ends the training."""

    def __init__(self, **options):
        self.fit, self.process_count = Fit({"id": "fit", **options}, can_stop=True), 1

    def train(self, epochs=3, in_epoch=lambda number: None):
        self.fit.start("A fit", epochs, unit="epochs", process_count=self.process_count)
        for number in range(1, epochs + 1):
            self.fit.update_phase(f"Epoch {number}", 1, 1)
            in_epoch(number)
            self.fit.set_position(number)
            if self.fit.stop_requested:
                break
        self.fit.end()


@pytest.mark.parametrize(("epoch", "status", "completed"), [(2, "stopped", 2), (3, "succeeded", 3)])
def test_requested_stop_ends_the_fit(epoch, status, completed):
    with recording() as recorded:
        library = StoppableLibrary(stoppable=True)
        library.train(in_epoch=lambda number: number == epoch and recorded.request_stop("fit"))
        assert not library.fit.stop_requested
    assert (recorded["fit"].status, recorded["fit"].completed, recorded["fit"].stoppable) == (status, completed, True)
    assert not recorded["fit/now"].stoppable


@pytest.mark.parametrize("process_count", [1, 2])
def test_fit_of_several_processes_is_not_stoppable(process_count):
    with recording() as recorded:
        library = StoppableLibrary(stoppable=True)
        library.process_count = process_count
        library.train()
    assert recorded["fit"].stoppable is (process_count == 1)


def test_separate_stage_is_not_stoppable():
    with recording() as recorded:
        fit = Fit({"id": "fit", "stoppable": True}, can_stop=True)
        fit.start_stage("test", 3, "Test")
    assert not recorded["fit/test"].stoppable


@pytest.mark.parametrize("is_nested", [True, False])
def test_outermost_fit_is_stoppable_by_default(monkeypatch, is_nested):
    monkeypatch.setenv("PROGRESSBAR_STOPPABLE", "1")
    are_loops_stoppable.cache_clear()
    try:
        with recording() as recorded, track(id="outer", display=False) if is_nested else contextlib.nullcontext():
            StoppableLibrary().train()
            fixed = Fit({"id": "fixed"})
            fixed.start("", 1, unit="epochs")
    finally:
        are_loops_stoppable.cache_clear()
    assert (recorded["fit"].stoppable, recorded["fixed"].stoppable) == (not is_nested, False)


def test_callback_that_cannot_stop_refuses_the_option():
    with pytest.raises(TypeError, match="stoppable"):
        Fit({"id": "fit", "stoppable": True})
    assert pickle.loads(pickle.dumps(StoppableLibrary(stoppable=True).fit)).options["stoppable"]
