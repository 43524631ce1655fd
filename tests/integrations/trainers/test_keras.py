from __future__ import annotations

import re
import sys

import keras
import numpy as np
import pytest
import torch

from progressbar_tracker.integrations.keras import TrackCallback, install, uninstall
from progressbar_tracker.testing import recording
from tests.support.connections import list_items, open_client
from tests.support.programs import ProgramRunner

from .callback_contract import STEP_COUNT, CallbackContract


def make_model():
    model = keras.Sequential([keras.layers.Dense(1)])
    model.compile("sgd", "mse", run_eagerly=keras.backend.backend() == "torch")
    return model


def make_rows(batches=STEP_COUNT):
    x = np.linspace(0, 1, 8 * batches, dtype="float32").reshape(-1, 2)
    return x, x.sum(1)


class StepCallback(keras.callbacks.Callback):
    """Calls a function within each step."""

    def __init__(self, call):
        super().__init__()
        self.call = call
        self.number = 0

    def on_train_batch_begin(self, batch, logs=None):
        self.number += 1
        self.call(self.number)


class StopAfter(keras.callbacks.Callback):
    def __init__(self, epochs):
        super().__init__()
        self.epochs = epochs

    def on_epoch_end(self, epoch, logs=None):
        if epoch + 1 == self.epochs:
            self.model.stop_training = True


class TestKeras(CallbackContract):
    Callback = TrackCallback

    def train(self, callback, epochs=2, in_step=lambda number: None, stop_after=None, **options):
        callbacks = [callback, StepCallback(in_step), StopAfter(stop_after)]
        make_model().fit(*make_rows(), batch_size=4, epochs=epochs, callbacks=callbacks, verbose=0, **options)

    def test_resumed_fit_starts_at_its_epoch(self):
        states = []
        with recording() as recorded:
            self.train(
                self.Callback(id="fit"),
                epochs=5,
                initial_epoch=3,
                in_step=lambda _: states.append((recorded["fit"].completed, recorded["fit/now"].title)),
            )
        assert states[0] == (3, "Epoch 4")
        assert recorded["fit"].completed == 5

    def test_validation_is_nested_with_metrics_of_epoch(self):
        titles = set()

        class RecordingCallback(keras.callbacks.Callback):
            def on_test_batch_end(self, batch, logs=None):
                titles.add((recorded["fit/now"].title, recorded["fit/now"].total))

        with recording() as recorded:
            make_model().fit(
                *make_rows(),
                batch_size=4,
                epochs=2,
                validation_data=make_rows(3),
                validation_batch_size=4,
                callbacks=[self.Callback(id="fit"), RecordingCallback()],
                verbose=0,
            )
        assert titles == {("Validation", None), ("Validation", 3)}  # the length is known from the first epoch
        assert "val_loss " in recorded["fit"].description
        assert len(recorded) == 2

    def test_evaluate_and_predict_outside_fit_are_separate(self):
        model, callback = make_model(), self.Callback(id="fit")
        with recording() as recorded:
            model.evaluate(*make_rows(), batch_size=4, callbacks=[callback], verbose=0)
            model.predict(make_rows()[0], batch_size=4, callbacks=[callback], verbose=0)
        assert [(run.id, run.status, run.completed, run.total) for run in recorded] == [
            ("fit/test", "succeeded", STEP_COUNT, STEP_COUNT),
            ("fit/prediction", "succeeded", STEP_COUNT, STEP_COUNT),
        ]
        assert "loss" in recorded["fit/test"].description

    def test_unsized_source_has_total_from_second_epoch(self):
        class Stream(torch.utils.data.IterableDataset):
            def __iter__(self):
                return zip(*make_rows(), strict=True)

        totals = []
        with recording() as recorded:
            make_model().fit(
                torch.utils.data.DataLoader(Stream(), batch_size=4),
                epochs=2,
                callbacks=[self.Callback(id="fit"), StepCallback(lambda _: totals.append(recorded["fit/now"].total))],
                verbose=0,
            )
        assert (totals[0], totals[-1], len(set(totals))) == (None, STEP_COUNT, 2)
        assert (recorded["fit"].completed, recorded["fit/now"].completed) == (2, STEP_COUNT)

    def test_stop_within_epoch_keeps_position(self):
        def in_step(number):
            model.stop_training = number == 8

        with recording() as recorded:
            model = make_model()
            callbacks = [self.Callback(id="fit"), StepCallback(in_step)]
            model.fit(*make_rows(), batch_size=4, epochs=4, callbacks=callbacks, verbose=0)
        assert recorded["fit"].completed == pytest.approx(1.6)
        assert recorded["fit"].description.startswith("stopped early")

    def test_exception_of_another_callback_fails_item(self):
        class Broken(keras.callbacks.Callback):
            def on_epoch_end(self, epoch, logs=None):
                raise OSError("disk full")

        with recording() as recorded:
            with pytest.raises(OSError, match="disk full"):
                make_model().fit(*make_rows(), batch_size=4, callbacks=[self.Callback(id="fit"), Broken()], verbose=0)
        assert recorded["fit"].error == "OSError: disk full"

    def test_model_methods_are_wrapped_once_with_their_names(self):
        method = keras.Model.fit
        self.Callback()
        assert keras.Model.fit is method
        assert method.__name__ == "fit"


@pytest.fixture
def installed():
    """Record the runs of this process, with ``install()``."""
    install()
    with recording() as recorded:
        yield recorded
    uninstall()


def fit_model(**options):
    return make_model().fit(*make_rows(), batch_size=4, **options)


def test_installed_hook_reports_fit_once(installed, capsys):
    fit_model(epochs=2)
    run, inside = installed
    assert (run.status, run.completed, run.total, run.unit) == ("succeeded", 2, 2, "epochs")
    assert run.title.startswith("Fit of sequential")
    assert (inside.parent, inside.completed) == (run.id, STEP_COUNT)


def test_installed_hook_leaves_explicit_callback_alone(installed, capsys):
    fit_model(callbacks=[TrackCallback(id="fit")])
    assert [run.id for run in installed if not run.parent] == ["fit"]


def test_installed_hook_keeps_other_callbacks(installed, capsys):
    steps = []
    fit_model(callbacks=StepCallback(steps.append))
    assert (len(steps), len(installed)) == (STEP_COUNT, 2)


def test_silent_fit_is_not_reported(installed):
    fit_model(verbose=0)
    assert len(installed) == 0


def test_evaluation_alone_is_not_reported(installed, capsys):
    make_model().evaluate(*make_rows())
    assert len(installed) == 0


def test_uninstalled_hook_reports_nothing(capsys):
    original = keras.callbacks.CallbackList.__init__
    install()
    uninstall()
    with recording() as recorded:
        fit_model()
    assert (len(recorded), keras.callbacks.CallbackList.__init__) == (0, original)


PLAIN_PROGRAM = """
import keras, numpy
model = keras.Sequential([keras.layers.Dense(1)])
model.compile("sgd", "mse", run_eagerly=True)

class Broken(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        if epoch == 1:
            raise OSError("disk full")

model.fit(numpy.zeros((8, 2)), numpy.zeros(8), batch_size=4, epochs=3, callbacks=[Broken()])
"""


def test_run_reports_failed_fit_and_keeps_output(server, tmp_path):
    path = tmp_path / "plain.py"
    path.write_text(PLAIN_PROGRAM)
    runner = ProgramRunner(server, tmp_path)

    def run(*command):
        done = runner.run(sys.executable, *command, path)
        return done.returncode, re.sub(r"\d+(ms|s|us)\b|- loss: [\d.e-]+|\x08| +", "", done.stdout), done.stderr

    assert run("-m", "progressbar_tracker", "run") == run()
    with open_client(server.url, runner.key) as http:
        (fit,) = [item for item in list_items(http).values() if item["status"] == "failed" and item["unit"] == "epochs"]
    assert (fit["status"], fit["total"], fit["error"]) == ("failed", 3, "OSError: disk full")
