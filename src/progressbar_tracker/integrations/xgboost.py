"""XGBoost: a callback that reports the boosting rounds of a training.

    from progressbar_tracker.integrations.xgboost import TrackCallback

    xgboost.train(params, data, num_boost_round=500, callbacks=[TrackCallback(id="trees")])
    xgboost.XGBClassifier(n_estimators=500, callbacks=[TrackCallback(id="trees")]).fit(x, y)

The item counts rounds, and shows the latest metrics of the evaluation sets. A training that stops early has succeeded.

XGBoost does not pass exceptions and the number of rounds to callbacks. So the first callback wraps ``xgboost.train``
and ``xgboost.cv`` once, also for the estimators. Their behaviour stays the same, and an exception also fails the item
with its text. A ``train`` that was imported by its name before the first callback is not wrapped, and its item has no
total.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._packages import require_package

with require_package("xgboost"):
    import xgboost

import xgboost.sklearn
import xgboost.training

from ._training import log_errors
from ._training_calls import ObservedCallback, observe_calls

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Unpack

    from ._training import FitOptions

__all__ = ["TrackCallback"]

DEFAULT_ROUND_COUNT = 10  # of xgboost.train() and cv()


class TrackCallback(xgboost.callback.TrainingCallback, ObservedCallback):
    """Reports the rounds of each training in which it is a callback.

    Args:
        **options: ``id``, ``title``, ``group``, ``weight``, ``keep``, ``notify``, ``deadline``,
            ``stuck_after``, ``interval``, ``client`` and ``display`` of ``track()``. A terminal bar is drawn only if
            ``display`` is true.

    Raises:
        TypeError, ValueError: As in ``track()``.

    Example:
        >>> data = xgboost.DMatrix([[0], [1]], label=[0, 1])
        >>> model = xgboost.train({}, data, num_boost_round=3, callbacks=[TrackCallback()])
        >>> model.num_boosted_rounds()
        3
    """

    def __init__(self, **options: Unpack[FitOptions]) -> None:
        ObservedCallback.__init__(self, options)
        self._round = 0
        observe_calls([xgboost.training, xgboost, xgboost.sklearn], "train")
        observe_calls([xgboost.training, xgboost], "cv")

    def start_call(self, arguments: Mapping[str, Any]) -> None:
        """Start the item of a training."""
        self._round = 0
        self._bars.start("Training of XGBoost", arguments.get("num_boost_round", DEFAULT_ROUND_COUNT), unit="rounds")

    def before_training(self, model: Any) -> Any:
        """Start the item, unless the call is observed; XGBoost calls this and the following methods."""
        self._start_unobserved()
        return model

    def before_iteration(self, model: Any, epoch: int, evals_log: Mapping[str, Any]) -> bool:
        """Note the round that starts."""
        self._round = epoch
        return False

    def after_iteration(self, model: Any, epoch: int, evals_log: Mapping[str, Any]) -> bool:
        """Count the round that has ended."""
        self._update_round(epoch + 1, evals_log)
        return False

    def after_training(self, model: Any) -> Any:
        """End the item. A callback that stops the training may hide its last round from this one."""
        self._update_round(self._round + 1, {})
        self._end_call()
        return model

    @log_errors
    def _start_unobserved(self) -> None:
        if not self._bars.is_running:
            self._bars.start("Training of XGBoost", None, unit="rounds")

    @log_errors
    def _update_round(self, done: int, evals_log: Mapping[str, Any]) -> None:
        self._bars.set_position(done, lambda: _read_metrics(evals_log))


def _read_metrics(evals_log: Mapping[str, Any]) -> dict[str, object]:
    """Return the last values by names such as ``"test rmse"``; those of ``cv()`` are means with deviations."""
    return {
        f"{data} {metric}": values[-1][0] if isinstance(values[-1], tuple) else values[-1]
        for data, metrics in evals_log.items()
        for metric, values in metrics.items()
        if values
    }
