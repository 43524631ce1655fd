"""Hugging Face Transformers: a callback that tells how far a ``Trainer`` is.

    from progressbar_tracker.integrations.transformers import TrackCallback

    Trainer(model, args, train_dataset=rows, callbacks=[TrackCallback(id="mnist")]).train()

The item counts optimizer steps of ``state.max_steps``, as the trainer's own bar and its checkpoints do: that number
is known for every training, also where epochs are fractions of one or have no length. The epoch is in the description.
Each evaluation has an item inside it; outside a training it is an item of its own. Only the first process tells
anything.

A trainer tells its callbacks nothing of an exception. So the first callback that is made wraps ``Trainer.train``,
``evaluate`` and ``predict`` once: they do what they did, and one that raises fails the item with the exception's text.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

try:
    from transformers import Trainer, TrainerCallback
except ModuleNotFoundError as error:
    if error.name != "transformers":
        raise
    raise ImportError("transformers is not installed: pip install transformers", name="transformers") from error

from ._training import Fit, log_errors, wrap_methods

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Unpack

    from ._training import FitOptions


class TrackCallback(TrainerCallback):
    """Tells how far a trainer is.

    Args:
        **options: ``id``, ``title``, ``group``, ``weight``, ``keep``,
            ``notify``, ``deadline``, ``interval``, ``client`` and ``display``, as
            ``track()`` has them; a terminal bar is drawn only if ``display`` is true.

    Raises:
        TypeError, ValueError: As ``track()``.
    """

    def __init__(self, **options: Unpack[FitOptions]) -> None:
        self._bars = Fit(options)
        wrap_methods(Trainer, "train", "evaluate", "predict")

    @log_errors
    def on_train_begin(self, args: Any, state: Any, control: Any, *, model: Any = None, **_: Any) -> None:
        self._bars.stop()
        if state.is_world_process_zero:
            title = f"Training of {type(model).__name__}"
            self._bars.start(title, state.max_steps, unit="steps", position=state.global_step)

    @log_errors
    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._bars.set_position(state.global_step, lambda: {"epoch": state.epoch})

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
    """Return the metrics without the trainer's measurements of itself."""
    noise = ("_runtime", "_per_second", "_time", "total_flos")
    return {name: value for name, value in (logs or {}).items() if not name.endswith(noise)}
