"""Lightning: a callback that reports the progress of a trainer. For ``lightning`` and ``pytorch_lightning``.

    from progressbar_tracker.integrations.lightning import TrackCallback

    Trainer(max_epochs=10, callbacks=[TrackCallback(id="mnist")]).fit(model)

The item counts epochs, or steps if only steps are limited. A nested item counts the steps of the current epoch or of
its validation. ``validate()``, ``test()`` and ``predict()`` are separate items, such as ``mnist/validation``. Only the
first process reports.

Both packages may be installed; ``lightning`` even requires the other one. The callback inherits from the class of the
package that is imported already, and works with both.

``install()`` adds a callback to each new trainer that has none and shows its progress, as ``progressbar-tracker run``
does. The trainer's own bars of rich or tqdm are then not shown twice.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any, Final

from progressbar_tracker._models import is_complete
from progressbar_tracker._tracking.hidden_bars import hide_bars, show_bars
from progressbar_tracker._tracking.patches import Patches

from ._training import Fit, compute_epoch_fraction, log_errors, parse_length

if TYPE_CHECKING:
    from typing import Unpack

    from lightning.pytorch import Callback

    from ._training import StoppableFitOptions

__all__ = ["TrackCallback", "install", "uninstall"]

PACKAGE_NAMES: Final = ("lightning.pytorch", "pytorch_lightning")
PROGRESS_MODULE_NAMES: Final = tuple(
    f"{package}.callbacks.progress.{name}" for package in PACKAGE_NAMES for name in ("rich_progress", "tqdm_progress")
)

_patches = Patches()


def _load_callback_class() -> Any:
    for name in sorted(PACKAGE_NAMES, key=lambda name: name not in sys.modules):
        try:
            return importlib.import_module(name).Callback
        except ModuleNotFoundError as error:
            if error.name not in (name, name.partition(".")[0]):
                raise
    raise ImportError("lightning is not installed: pip install lightning", name="lightning")


if not TYPE_CHECKING:
    Callback = _load_callback_class()


class TrackCallback(Callback):
    """Reports the progress of a trainer.

    Args:
        **options: ``id``, ``title``, ``group``, ``weight``, ``keep``, ``notify``, ``deadline``,
            ``stuck_after``, ``interval``, ``client``, ``display`` and ``stoppable`` of ``track()``. A terminal bar is
            drawn only if ``display`` is true. A stop request sets ``trainer.should_stop``.

    Raises:
        TypeError, ValueError: As in ``track()``.
    """

    def __init__(self, **options: Unpack[StoppableFitOptions]) -> None:
        super().__init__()
        self._bars = Fit(options, can_stop=True)

    @log_errors
    def on_sanity_check_start(self, trainer: Any, pl_module: Any) -> None:
        self._start_fit(trainer, pl_module)  # a fit can fail in this check

    @log_errors
    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        self._start_fit(trainer, pl_module)
        self._bars.set_total(_compute_total(trainer))  # the length of an epoch is unknown before
        self._update_epoch(trainer, _count_resumed_batches(trainer))

    @log_errors
    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        self._update_epoch(trainer, 0)

    @log_errors
    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self._update_epoch(trainer, batch_idx + 1, outputs)
        if self._bars.stop_requested:
            trainer.should_stop = True

    @log_errors
    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        # If the steps are counted, they give the position, also for an epoch that ended early.
        if not _is_step_based(trainer) and parse_length(trainer.num_training_batches) is None:
            self._bars.set_position(trainer.current_epoch + 1)
        self._bars.update_metrics(trainer.callback_metrics)

    @log_errors
    def on_fit_end(self, trainer: Any, pl_module: Any) -> None:
        self._bars.update_metrics(trainer.callback_metrics)
        total = _compute_total(trainer)
        self._bars.end(
            early=trainer.should_stop and (total is None or not is_complete(_compute_position(trainer), total))
        )

    @log_errors
    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        self._bars.fail(exception)

    @log_errors
    def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
        check = trainer.sanity_checking
        batches = trainer.num_sanity_val_batches if check else trainer.num_val_batches
        self._start_stage(trainer, pl_module, "validation", batches)

    @log_errors
    def on_test_start(self, trainer: Any, pl_module: Any) -> None:
        self._start_stage(trainer, pl_module, "test", trainer.num_test_batches)

    @log_errors
    def on_predict_start(self, trainer: Any, pl_module: Any) -> None:
        self._start_stage(trainer, pl_module, "prediction", trainer.num_predict_batches)

    @log_errors
    def on_validation_batch_end(self, *args: Any, **kwargs: Any) -> None:
        self._bars.update_stage(self._bars.stage_done + 1)  # batch_idx restarts with each data loader

    @log_errors
    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        self._bars.end_stage(trainer.callback_metrics)

    on_test_batch_end = on_predict_batch_end = on_validation_batch_end
    on_test_end = on_predict_end = on_validation_end

    def _start_fit(self, trainer: Any, pl_module: Any) -> None:
        if trainer.is_global_zero and not self._bars.is_running:
            unit = "steps" if _is_step_based(trainer) else "epochs"
            position = _compute_position(trainer, _count_resumed_batches(trainer))
            title = f"Fit of {type(pl_module).__name__}"
            self._bars.start(
                title, _compute_total(trainer), unit=unit, position=position, process_count=trainer.world_size
            )

    def _start_stage(self, trainer: Any, pl_module: Any, name: str, batches: Any) -> None:
        if trainer.is_global_zero:
            total = sum(batches) if isinstance(batches, list) else batches
            self._bars.start_stage(name, total, f"{name.capitalize()} of {type(pl_module).__name__}")

    def _update_epoch(self, trainer: Any, done: int, outputs: Any = None) -> None:
        loss = outputs.get("loss") if isinstance(outputs, dict) else outputs
        self._bars.set_position(_compute_position(trainer, done), lambda: {"loss": loss, **trainer.callback_metrics})
        self._bars.update_phase(f"Epoch {trainer.current_epoch + 1}", done, trainer.num_training_batches)


def _is_step_based(trainer: Any) -> bool:
    return bool(trainer.max_epochs == -1 and trainer.max_steps > 0)


def _compute_total(trainer: Any) -> float | None:
    """Return the maximum epochs, or steps, of the fit."""
    if _is_step_based(trainer):
        return parse_length(trainer.max_steps)
    batches, steps = parse_length(trainer.num_training_batches), parse_length(trainer.max_steps)
    by_steps = steps * trainer.accumulate_grad_batches / batches if batches and steps else float("inf")
    return parse_length(min(parse_length(trainer.max_epochs) or float("inf"), round(by_steps, 3)))


def _compute_position(trainer: Any, done: int = 0) -> float:
    """Return the position of the fit after ``done`` batches of the current epoch."""
    if _is_step_based(trainer):
        return int(trainer.global_step)
    return float(trainer.current_epoch + compute_epoch_fraction(done, trainer.num_training_batches))


def _count_resumed_batches(trainer: Any) -> int:
    """Return the completed batches of the first epoch of a fit that resumes from a checkpoint."""
    loop = trainer.fit_loop
    return loop.batch_idx + 1 if loop.restarting else 0


def install() -> None:
    """Report each new trainer of this process, unless it has a callback or shows no progress. Idempotent."""
    modules = [sys.modules[name] for name in PACKAGE_NAMES if name in sys.modules]
    _patches.install({(module.Trainer, "__init__"): _patches.call_after(_add_callback) for module in modules})
    hide_bars(*PROGRESS_MODULE_NAMES)


def uninstall() -> None:
    """Report only new trainers that have a callback. Idempotent."""
    _patches.uninstall()
    show_bars(*PROGRESS_MODULE_NAMES)


def _add_callback(_result: None, trainer: Any, *_args: object, **_options: object) -> None:
    is_shown = trainer.progress_bar_callback is not None
    if is_shown and not any(isinstance(each, TrackCallback) for each in trainer.callbacks):
        trainer.callbacks.insert(0, TrackCallback())
