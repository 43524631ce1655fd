"""LightGBM: a callback that reports the iterations of a training.

    from progressbar_tracker.integrations.lightgbm import TrackCallback

    lightgbm.train(params, data, num_boost_round=500, callbacks=[TrackCallback(id="trees")])
    lightgbm.LGBMClassifier(n_estimators=500).fit(x, y, callbacks=[TrackCallback(id="trees")])

The item counts iterations, and shows the latest metrics of the validation sets. A training that stops early has
succeeded.

LightGBM does not report the end of a training. So the first callback wraps ``lightgbm.train`` and ``lightgbm.cv`` once,
also for the estimators. Their behaviour stays the same, and an exception also fails the item with its text. A ``train``
that was imported by its name before the first callback is not wrapped: its item ends only after the last iteration.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._packages import require_package

with require_package("lightgbm"):
    import lightgbm

import lightgbm.engine
import lightgbm.sklearn

from ._training import log_errors
from ._training_calls import ObservedCallback, observe_calls

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Unpack

    from ._training import FitOptions

__all__ = ["TrackCallback"]


class TrackCallback(ObservedCallback):
    """Reports the iterations of each training in which it is a callback.

    Args:
        **options: ``id``, ``title``, ``group``, ``weight``, ``keep``, ``notify``, ``deadline``,
            ``stuck_after``, ``interval``, ``client`` and ``display`` of ``track()``. A terminal bar is drawn only if
            ``display`` is true.

    Raises:
        TypeError, ValueError: As in ``track()``.

    Example:
        >>> import numpy
        >>> data = lightgbm.Dataset(numpy.arange(200.0).reshape(100, 2), label=numpy.arange(100.0))
        >>> model = lightgbm.train({"verbose": -1}, data, num_boost_round=3, callbacks=[TrackCallback()])
        >>> model.current_iteration()
        3
    """

    def __init__(self, **options: Unpack[FitOptions]) -> None:
        super().__init__(options)
        # Read by LightGBM in the instance: after each iteration, and before the callback of early stopping (30).
        self.order = 5
        self.before_iteration = False
        self._is_observed = False
        observe_calls([lightgbm.engine, lightgbm, lightgbm.sklearn], "train")
        observe_calls([lightgbm.engine, lightgbm], "cv")

    def start_call(self, arguments: Mapping[str, Any]) -> None:
        """Start the item of a training. The first iteration has its total, which may be a parameter."""
        del arguments
        self._bars.start("Training of LightGBM", None, unit="iterations")
        self._is_observed = True

    def __call__(self, env: lightgbm.callback.CallbackEnv) -> None:
        """Count an iteration; LightGBM calls this."""
        self._update_iteration(env)

    @log_errors
    def _update_iteration(self, env: lightgbm.callback.CallbackEnv) -> None:
        total, done = env.end_iteration - env.begin_iteration, env.iteration + 1 - env.begin_iteration
        if not self._bars.is_running:
            self._is_observed = False
            self._bars.start("Training of LightGBM", total, unit="iterations")
        self._bars.set_total(total)
        self._bars.set_position(done, lambda: _read_metrics(env.evaluation_result_list))
        if done == total and not self._is_observed:
            self._end_call()


def _read_metrics(results: Any) -> dict[str, object]:
    """Return the values by names such as ``"valid_0 l2"``. Each result is (data, metric, value, ...)."""
    return {f"{result[0]} {result[1]}": result[2] for result in results or ()}
