"""Keras: a callback that tells how far ``fit()`` is. For Keras 3, with any backend.

    from progressbar_tracker.integrations.keras import TrackCallback

    model.fit(x, y, epochs=10, callbacks=[TrackCallback(id="mnist")])

The item counts epochs; inside it is one for the steps of the current epoch, or of its validation. ``evaluate()`` and
``predict()`` with the callback, outside a fit, are items of their own: ``mnist/test``, ``mnist/prediction``.

Keras tells a callback nothing of an exception. So the first callback that is made wraps ``fit``, ``evaluate`` and
``predict`` of ``keras.Model`` once: they do what they did, and one that raises fails the item with the exception's
text. A fit that is stopped early has succeeded.

Where a fit runs in several processes, give the callback to the first process only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

try:
    import keras
except ModuleNotFoundError as error:
    if error.name != "keras":
        raise  # its backend is missing, say
    raise ImportError("keras is not installed: pip install keras", name="keras") from error

from ._training import Fit, quiet, share, watch

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Unpack

    from ._training import FitOptions

    Logs = Mapping[str, Any] | None


class TrackCallback(keras.callbacks.Callback):
    """Tells how far a fit is.

    Args:
        **options: ``id``, ``title``, ``group``, ``weight``, ``keep``,
            ``notify``, ``deadline``, ``interval``, ``client`` and ``display``, as
            ``track()`` has them; a terminal bar is drawn only if ``display`` is true.

    Raises:
        TypeError, ValueError: As ``track()``.
    """

    def __init__(self, **options: Unpack[FitOptions]) -> None:
        super().__init__()
        self._bars = Fit(options)
        self._epoch = 0
        self._done = 0  # steps of the epoch
        self._counted: dict[str, int] = {}  # batches of the pass before: all that is known of a generator's length
        watch(keras.Model, "fit", "evaluate", "predict")

    @quiet
    def on_train_begin(self, logs: Logs = None) -> None:
        self._bars.stop()  # an earlier fit that nobody ended; this one begins with the epoch that it is resumed at

    @quiet
    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        if not self._bars.running:
            self._bars.begin(f"Fit of {self.model.name}", self.params.get("epochs"), unit="epochs", at=epoch)
        self._epoch = epoch
        self._at(0)

    @quiet
    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        self._at(batch + 1, logs)

    @quiet
    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        steps = self.params.get("steps")
        if not self.model.stop_training or steps is None or self._done >= steps:
            self._bars.at(epoch + 1)
            self._counted["train"] = self._done
        self._bars.describe(logs or {})

    @quiet
    def on_train_end(self, logs: Logs = None) -> None:
        self._bars.end(early=bool(self.model.stop_training) and self._epoch + 1 < self.params["epochs"])

    @quiet
    def on_test_begin(self, logs: Logs = None) -> None:
        self._begin("validation" if self._bars.running else "test")

    @quiet
    def on_test_batch_end(self, batch: int, logs: Logs = None) -> None:
        self._bars.stage_at(batch + 1)

    @quiet
    def on_test_end(self, logs: Logs = None) -> None:
        stage = self._bars.stage_name
        self._counted[stage] = self._bars.stage_done
        self._bars.stage_ended(logs if stage == "test" else None)  # those of a fit come with the epoch's

    @quiet
    def on_predict_begin(self, logs: Logs = None) -> None:
        self._begin("prediction")

    @quiet
    def on_predict_batch_end(self, batch: int, logs: Logs = None) -> None:
        self._bars.stage_at(batch + 1)

    @quiet
    def on_predict_end(self, logs: Logs = None) -> None:
        self._bars.stage_ended()

    def _at(self, done: int, logs: Logs = None) -> None:
        self._done = done
        steps = self.params.get("steps") or self._counted.get("train")
        self._bars.at(self._epoch + share(done, steps), lambda: logs or {})
        self._bars.phase(f"Epoch {self._epoch + 1}", done, steps)

    def _begin(self, stage: str) -> None:
        # Within a fit the parameters are still those of the training.
        steps = self._counted.get(stage) if self._bars.running else self.params.get("steps")
        self._bars.stage(stage, steps, f"{stage.capitalize()} of {self.model.name}")
