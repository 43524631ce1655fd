"""Hugging Face Transformers: a callback that reports the progress of a ``Trainer``.

    from progressbar_tracker.integrations.transformers import TrackCallback

    Trainer(model, args, train_dataset=rows, callbacks=[TrackCallback(id="mnist")]).train()

The item counts optimizer steps of ``state.max_steps``, like the trainer's bar and its checkpoints. That number is known
for every training, even for fractions of an epoch and epochs of unknown length. The description shows the epoch. Each
evaluation is a nested item, or a separate item outside a training. Only the first process reports.

A trainer does not pass exceptions to callbacks. So the first callback wraps ``Trainer.train``, ``evaluate`` and
``predict`` once. Their behaviour stays the same, and an exception also fails the item with its text.

``install()`` adds a callback to each new trainer that has none and shows its progress, as ``progressbar-tracker run``
does. The trainer's own bars of tqdm are then not shown twice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from ._packages import require_package

with require_package("transformers"):
    from transformers import Trainer, TrainerCallback

from progressbar_tracker._tracking.hidden_bars import hide_bars, show_bars
from progressbar_tracker._tracking.patches import Patches

from ._training import Fit, log_errors, wrap_methods

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Unpack

    from ._training import StoppableFitOptions

__all__ = ["TrackCallback", "install", "uninstall"]

PROGRESS_MODULE_NAME: Final = "transformers.trainer_callback"

_patches = Patches()


class TrackCallback(TrainerCallback):
    """Reports the progress of a trainer.

    Args:
        **options: ``id``, ``title``, ``group``, ``weight``, ``keep``, ``notify``, ``deadline``,
            ``stuck_after``, ``interval``, ``client``, ``display`` and ``stoppable`` of ``track()``. A terminal bar is
            drawn only if ``display`` is true. A stop request sets ``control.should_training_stop``.

    Raises:
        TypeError, ValueError: As in ``track()``.
    """

    def __init__(self, **options: Unpack[StoppableFitOptions]) -> None:
        self._bars = self._make_bars(options)

    def _make_bars(self, options: StoppableFitOptions) -> Fit:
        wrap_methods(Trainer, "train", "evaluate", "predict")
        return Fit(options, can_stop=True)

    @log_errors
    def on_train_begin(self, args: Any, state: Any, control: Any, *, model: Any = None, **_: Any) -> None:
        self._bars.stop()
        if state.is_world_process_zero:
            title = f"Training of {type(model).__name__}"
            self._bars.start(
                title, state.max_steps, unit="steps", position=state.global_step, process_count=args.world_size
            )

    @log_errors
    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._bars.set_position(state.global_step, lambda: {"epoch": state.epoch})
        if self._bars.stop_requested:
            control.should_training_stop = True

    @log_errors
    def on_log(self, args: Any, state: Any, control: Any, *, logs: Mapping[str, Any] | None = None, **_: Any) -> None:
        self._bars.update_metrics(_filter_metrics(logs))

    @log_errors
    def on_prediction_step(
        self,
        args: Any,
        state: Any,
        control: Any,
        *,
        model: Any = None,
        eval_dataloader: Any = None,
        **_: Any,
    ) -> None:
        if not self._bars.stage_name and state.is_world_process_zero:
            batches = len(eval_dataloader) if hasattr(eval_dataloader, "__len__") else None
            self._bars.start_stage("evaluation", batches, f"Evaluation of {type(model).__name__}")
        self._bars.update_stage(self._bars.stage_done + 1)

    @log_errors
    def on_evaluate(
        self,
        args: Any,
        state: Any,
        control: Any,
        *,
        metrics: Mapping[str, Any] | None = None,
        **_: Any,
    ) -> None:
        self._bars.end_stage(_filter_metrics(metrics), close_bar=True)

    @log_errors
    def on_predict(self, args: Any, state: Any, control: Any, metrics: Mapping[str, Any], **_: Any) -> None:
        self._bars.end_stage(_filter_metrics(metrics), close_bar=True)

    @log_errors
    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._bars.end(early=state.global_step < state.max_steps)


def _filter_metrics(logs: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the metrics without the trainer's own performance data."""
    performance_suffixes = ("_runtime", "_per_second", "_time", "total_flos")
    return {name: value for name, value in (logs or {}).items() if not name.endswith(performance_suffixes)}


class _AutomaticCallback(TrackCallback):
    """A callback that ``install()`` adds. It wraps no method, so that a traceback has the same lines as without it."""

    def _make_bars(self, options: StoppableFitOptions) -> Fit:
        return Fit(options, library="transformers", can_stop=True)


def install() -> None:
    """Report each new trainer of this process, unless it has a callback or ``disable_tqdm``. Idempotent.

    A training that raises is failed if the exception ends the program or the notebook's cell, and stopped otherwise.
    """
    _patches.install(
        {
            (Trainer, "__init__"): _patches.call_after(_add_callback),
            (Trainer, "add_callback"): _patches.call_after(_prefer_explicit_callback),
        }
    )
    hide_bars(PROGRESS_MODULE_NAME)


def uninstall() -> None:
    """Report only new trainers that have a callback. Idempotent."""
    _patches.uninstall()
    show_bars(PROGRESS_MODULE_NAME)


def _add_callback(_result: None, trainer: Any, *_args: object, **_options: object) -> None:
    callbacks = trainer.callback_handler.callbacks
    if not trainer.args.disable_tqdm and not any(isinstance(each, TrackCallback) for each in callbacks):
        callbacks.append(_AutomaticCallback())


def _prefer_explicit_callback(_result: None, trainer: Any, *_args: object, **_options: object) -> None:
    callbacks = trainer.callback_handler.callbacks
    automatic = [each for each in callbacks if isinstance(each, _AutomaticCallback)]
    if automatic and len(automatic) < sum(isinstance(each, TrackCallback) for each in callbacks):
        callbacks[:] = [each for each in callbacks if each not in automatic]
