"""The base of the training callbacks. The callbacks themselves are tested by ``.ci/training-integrations``."""

from __future__ import annotations

import subprocess
import sys

import pytest

from progressbar_tracker.integrations._training import Fit, quiet, watch
from progressbar_tracker.testing import recording

PROGRAM = """
import importlib, sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in (*NAMES, "pytorch_lightning"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

NAMES = ("keras", "lightning", "transformers")
sys.meta_path.insert(0, Missing())
for name in NAMES:
    try:
        importlib.import_module(f"progressbar_tracker.integrations.{name}")
    except ImportError as error:
        print(error)
"""


def test_a_missing_library_is_named_with_the_command_that_installs_it():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=100)
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        f"{name} is not installed: pip install {name}" for name in ("keras", "lightning", "transformers")
    ]


class Library:
    """Trains, and tells its callback nothing of exceptions."""

    def __init__(self, fit, error=None):
        self.fit, self.error = fit, error

    def train(self, steps):
        """Train."""
        self.fit.begin("A fit", 2, unit="epochs")
        self.fit.at(0.5, lambda: {"loss": 0.25, "table": [1, 2]})
        self.fit.phase("Epoch 1", steps, 10)
        if self.error is not None:
            raise self.error
        return steps


def test_what_is_no_number_is_left_out_of_the_description():
    with recording() as recorded:
        Library(Fit({"id": "fit"})).train(5)
    assert (recorded["fit"].completed, recorded["fit"].description) == (0.5, "loss 0.25")


def test_metrics_that_came_too_soon_to_be_read_are_read_at_the_end():
    fit = Fit({"id": "fit"})
    with recording() as recorded:
        fit.begin("", 2, unit="epochs")
        for step in range(1, 5):
            fit.at(step / 2, lambda step=step: {"loss": step})
        assert recorded["fit"].description == "loss 1"
        fit.end()
    assert recorded["fit"].description == "loss 4"


def test_a_fit_that_raises_in_a_watched_method_has_failed():
    class Watched(Library):
        pass

    watch(Watched, "train")
    watch(Watched, "train")
    method = Watched.train
    assert (method.__name__, method.__doc__) == ("train", "Train.")
    assert not hasattr(method.__wrapped__, "__wrapped__")
    with recording() as recorded:
        good = Watched(Fit({"id": "good"}))  # held, for a fit that nobody holds has stopped
        assert good.train(5) == 5
        with pytest.raises(OSError, match="disk full"):
            Watched(Fit({"id": "fit"}), OSError("disk full")).train(5)
    assert (recorded["fit"].status, recorded["fit"].error) == ("failed", "OSError: disk full")
    assert (recorded["fit/now"].status, recorded["fit/now"].parent) == ("stopped", "fit")
    assert recorded["good"].status == "running"


def test_metrics_that_cannot_be_read_do_not_keep_a_fit_from_ending():
    def unreadable():
        raise RuntimeError("device lost")

    fit = Fit({"id": "fit"})
    with recording() as recorded:
        fit.begin("", 2, unit="epochs")
        fit.at(1, dict)
        fit.at(2, unreadable)
        quiet(fit.end)()
    assert recorded["fit"].status == "succeeded"


def test_a_fit_that_begins_while_another_runs_ends_that_one_as_stopped():
    fit = Fit({"id": "fit"})
    with recording() as recorded:
        fit.begin("", None, unit="epochs")
        fit.begin("", float("inf"), unit="epochs", at=3)
        fit.end(early=True)
        fit.end()
        fit.at(1)
        fit.resize(4)
        fit.describe({"loss": 1})
        fit.phase("Epoch 1", 1, 2)
    assert [(run.status, run.completed, run.total) for run in recorded] == [
        ("stopped", 0, None),
        ("succeeded", 3, None),
    ]
    assert recorded["fit"].description == "stopped early"


@pytest.mark.parametrize("inside", [True, False])
def test_a_stage_is_inside_a_fit_or_an_item_of_its_own(inside):
    fit = Fit({"id": "fit", "title": "Night"})
    with recording() as recorded:
        if inside:
            fit.begin("", 2, unit="epochs")
            fit.resize(3)
        fit.stage("test", 4, "Test of a model")
        fit.stage_at(fit.stage_done + 1)
        fit.stage_ended({"accuracy": 1}, leave=True)
    run = recorded["fit/now" if inside else "fit/test"]
    assert (run.status, run.completed, run.total) == ("succeeded", 1, 4)
    assert run.title == ("Test" if inside else "Night, test")
    assert recorded["fit" if inside else "fit/test"].description == "accuracy 1"
    assert fit.running is inside


def test_a_wrong_option_is_told_at_once():
    with pytest.raises(TypeError, match="group must be a string"):
        Fit({"group": 5})
