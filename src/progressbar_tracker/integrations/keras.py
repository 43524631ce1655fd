"""Keras: a callback that reports the progress of ``fit()``. For Keras 3, with any backend.

    from progressbar_tracker.integrations.keras import TrackCallback

    model.fit(x, y, epochs=10, callbacks=[TrackCallback(id="mnist")])

The item counts epochs. A nested item counts the steps of the current epoch or of its validation. Outside a fit,
``evaluate()`` and ``predict()`` with the callback are separate items: ``mnist/test``, ``mnist/prediction``.

Keras does not pass exceptions to callbacks. So the first callback wraps ``fit``, ``evaluate`` and ``predict`` of
``keras.Model`` once. Their behaviour stays the same, and an exception also fails the item with its text. A fit that
stops early has succeeded.

If a fit runs in several processes, pass the callback to the first process only.

``install()`` adds a callback to each ``fit()`` that has none and is not silent, as ``progressbar-tracker run`` does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._packages import require_package

with require_package("keras"):
    import keras

from progressbar_tracker._tracking.patches import Patches

from ._training import Fit, compute_epoch_fraction, log_errors, wrap_methods

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Unpack

    from ._training import StoppableFitOptions

    Logs = Mapping[str, Any] | None

__all__ = ["TrackCallback", "install", "uninstall"]

_patches = Patches()


class TrackCallback(keras.callbacks.Callback):
    """Reports the progress of a fit.

    Args:
        **options: ``id``, ``title``, ``group``, ``weight``, ``keep``, ``notify``, ``deadline``,
            ``stuck_after``, ``interval``, ``client``, ``display`` and ``stoppable`` of ``track()``. A terminal bar is
            drawn only if ``display`` is true. A stop request sets ``model.stop_training``.

    Raises:
        TypeError, ValueError: As in ``track()``.
    """

    def __init__(self, **options: Unpack[StoppableFitOptions]) -> None:
        super().__init__()
        self._bars = self._make_bars(options)
        self._epoch = 0
        self._epoch_steps = 0
        self._batch_counts: dict[str, int] = {}  # of the previous pass: the only hint of a generator's length

    def _make_bars(self, options: StoppableFitOptions) -> Fit:
        wrap_methods(keras.Model, "fit", "evaluate", "predict")
        return Fit(options, can_stop=True)

    @log_errors
    def on_train_begin(self, logs: Logs = None) -> None:
        self._bars.stop()  # ends an abandoned fit; the new one starts with its first epoch, which may be a resumed one

    @log_errors
    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        if not self._bars.is_running:
            self._bars.start(f"Fit of {self.model.name}", self.params.get("epochs"), unit="epochs", position=epoch)
        self._epoch = epoch
        self._update_epoch(0)

    @log_errors
    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        self._update_epoch(batch + 1, logs)
        if self._bars.stop_requested:
            self.model.stop_training = True

    @log_errors
    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        steps = self.params.get("steps")
        if not self.model.stop_training or steps is None or self._epoch_steps >= steps:
            self._bars.set_position(epoch + 1)
            self._batch_counts["train"] = self._epoch_steps
        self._bars.update_metrics(logs or {})

    @log_errors
    def on_train_end(self, logs: Logs = None) -> None:
        self._bars.end(early=bool(self.model.stop_training) and self._epoch + 1 < self.params["epochs"])

    @log_errors
    def on_test_begin(self, logs: Logs = None) -> None:
        self._start_stage("validation" if self._bars.is_running else "test")

    @log_errors
    def on_test_batch_end(self, batch: int, logs: Logs = None) -> None:
        self._bars.update_stage(batch + 1)

    @log_errors
    def on_test_end(self, logs: Logs = None) -> None:
        stage = self._bars.stage_name
        self._batch_counts[stage] = self._bars.stage_done
        self._bars.end_stage(logs if stage == "test" else None)  # in a fit they arrive with the epoch's metrics

    @log_errors
    def on_predict_begin(self, logs: Logs = None) -> None:
        self._start_stage("prediction")

    @log_errors
    def on_predict_batch_end(self, batch: int, logs: Logs = None) -> None:
        self._bars.update_stage(batch + 1)

    @log_errors
    def on_predict_end(self, logs: Logs = None) -> None:
        self._bars.end_stage()

    def _update_epoch(self, done: int, logs: Logs = None) -> None:
        self._epoch_steps = done
        steps = self.params.get("steps") or self._batch_counts.get("train")
        self._bars.set_position(self._epoch + compute_epoch_fraction(done, steps), lambda: logs or {})
        self._bars.update_phase(f"Epoch {self._epoch + 1}", done, steps)

    def _start_stage(self, stage: str) -> None:
        # During a fit, self.params still has the values of the training.
        steps = self._batch_counts.get(stage) if self._bars.is_running else self.params.get("steps")
        self._bars.start_stage(stage, steps, f"{stage.capitalize()} of {self.model.name}")


class _AutomaticCallback(TrackCallback):
    """A callback that ``install()`` adds. It wraps no method, so that a traceback has the same lines as without it."""

    def _make_bars(self, options: StoppableFitOptions) -> Fit:
        return Fit(options, library="keras", can_stop=True)


def install() -> None:
    """Report each fit of this process, unless it has a callback already or is silent (``verbose=0``). Idempotent.

    A fit that raises is failed if the exception ends the program or the notebook's cell, and stopped otherwise.
    """
    _patches.install({(keras.callbacks.CallbackList, "__init__"): _patches.call_after(_add_callback)})


def uninstall() -> None:
    """Report only fits that have a callback. Idempotent."""
    _patches.uninstall()


def _add_callback(_result: None, callbacks: Any, *_args: object, **_options: object) -> None:
    is_shown_fit = getattr(callbacks, "_history", None) is not None and getattr(callbacks, "_progbar", None) is not None
    if not is_shown_fit or any(isinstance(each, TrackCallback) for each in callbacks.callbacks):
        return
    callback = _AutomaticCallback()
    callback.set_model(callbacks.model)
    callback.set_params(callbacks.params)
    callbacks.callbacks.append(callback)
