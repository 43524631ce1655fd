"""Lightning: a callback that tells how far a trainer is. For ``lightning`` and for ``pytorch_lightning``.

    from progressbar_tracker.integrations.lightning import TrackCallback

    Trainer(max_epochs=10, callbacks=[TrackCallback(id="mnist")]).fit(model)

The item counts epochs, or steps where only those are limited; inside it is one for the steps of the current epoch, or
of its validation. ``validate()``, ``test()`` and ``predict()`` are items of their own: ``mnist/validation``, and so on.
Only the first process tells anything.

Both packages may be installed, ``lightning`` even brings the other one. The callback is of the one that is imported
already, and works with both.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

from progressbar_tracker._models import is_complete

from ._training import Fit, length, quiet, share

if TYPE_CHECKING:
    from typing import Unpack

    from lightning.pytorch import Callback

    from ._training import FitOptions


def _callback() -> Any:
    packages = ["lightning.pytorch", "pytorch_lightning"]
    packages.sort(key=lambda name: name not in sys.modules)
    for name in packages:
        try:
            return importlib.import_module(name).Callback
        except ModuleNotFoundError as error:
            if error.name not in (name, name.partition(".")[0]):
                raise
    raise ImportError("lightning is not installed: pip install lightning", name="lightning")


if not TYPE_CHECKING:
    Callback = _callback()


class TrackCallback(Callback):
    """Tells how far a trainer is.

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

    @quiet
    def on_sanity_check_start(self, trainer: Any, pl_module: Any) -> None:
        self._begin(trainer, pl_module)  # many a fit fails in its check

    @quiet
    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        self._begin(trainer, pl_module)
        self._bars.resize(_total(trainer))  # only now is it known how long an epoch is
        self._at(trainer, _resumed(trainer))

    @quiet
    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        self._at(trainer, 0)

    @quiet
    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self._at(trainer, batch_idx + 1, outputs)

    @quiet
    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        # An epoch whose steps are counted is at its end by them, or was left in its middle.
        if not _by_steps(trainer) and length(trainer.num_training_batches) is None:
            self._bars.at(trainer.current_epoch + 1)
        self._bars.describe(trainer.callback_metrics)

    @quiet
    def on_fit_end(self, trainer: Any, pl_module: Any) -> None:
        self._bars.describe(trainer.callback_metrics)
        total = _total(trainer)
        self._bars.end(early=trainer.should_stop and (total is None or not is_complete(_position(trainer), total)))

    @quiet
    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        self._bars.fail(exception)

    @quiet
    def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
        check = trainer.sanity_checking
        batches = trainer.num_sanity_val_batches if check else trainer.num_val_batches
        self._stage(trainer, pl_module, "validation", batches)

    @quiet
    def on_test_start(self, trainer: Any, pl_module: Any) -> None:
        self._stage(trainer, pl_module, "test", trainer.num_test_batches)

    @quiet
    def on_predict_start(self, trainer: Any, pl_module: Any) -> None:
        self._stage(trainer, pl_module, "prediction", trainer.num_predict_batches)

    @quiet
    def on_validation_batch_end(self, *args: Any, **kwargs: Any) -> None:
        self._bars.stage_at(self._bars.stage_done + 1)  # the index that is given begins anew with each data loader

    @quiet
    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        self._bars.stage_ended(trainer.callback_metrics)

    on_test_batch_end = on_predict_batch_end = on_validation_batch_end
    on_test_end = on_predict_end = on_validation_end

    def _begin(self, trainer: Any, pl_module: Any) -> None:
        if trainer.is_global_zero and not self._bars.running:
            unit, at = "steps" if _by_steps(trainer) else "epochs", _position(trainer, _resumed(trainer))
            self._bars.begin(f"Fit of {type(pl_module).__name__}", _total(trainer), unit=unit, at=at)

    def _stage(self, trainer: Any, pl_module: Any, name: str, batches: Any) -> None:
        if trainer.is_global_zero:
            total = sum(batches) if isinstance(batches, list) else batches
            self._bars.stage(name, total, f"{name.capitalize()} of {type(pl_module).__name__}")

    def _at(self, trainer: Any, done: int, outputs: Any = None) -> None:
        loss = outputs.get("loss") if isinstance(outputs, dict) else outputs
        self._bars.at(_position(trainer, done), lambda: {"loss": loss, **trainer.callback_metrics})
        self._bars.phase(f"Epoch {trainer.current_epoch + 1}", done, trainer.num_training_batches)


def _by_steps(trainer: Any) -> bool:
    return bool(trainer.max_epochs == -1 and trainer.max_steps > 0)


def _total(trainer: Any) -> float | None:
    """Return the epochs, or steps, that the fit has at most."""
    if _by_steps(trainer):
        return length(trainer.max_steps)
    batches, steps = length(trainer.num_training_batches), length(trainer.max_steps)
    by_steps = steps * trainer.accumulate_grad_batches / batches if batches and steps else float("inf")
    return length(min(length(trainer.max_epochs) or float("inf"), round(by_steps, 3)))


def _position(trainer: Any, done: int = 0) -> float:
    """Return where the fit is, after so many batches of the epoch."""
    if _by_steps(trainer):
        return int(trainer.global_step)
    return float(trainer.current_epoch + share(done, trainer.num_training_batches))


def _resumed(trainer: Any) -> int:
    """Return how many batches of its first epoch a fit has behind it that goes on from a checkpoint."""
    loop = trainer.fit_loop
    return loop.batch_idx + 1 if loop.restarting else 0
