"""CatBoost: a callback that reports the iterations of a training.

    from progressbar_tracker.integrations.catboost import TrackCallback

    catboost.CatBoostClassifier(iterations=500).fit(x, y, callbacks=[TrackCallback(id="trees")])

The item counts iterations, and shows the latest metrics of the training and the evaluation sets. A training that stops
early has succeeded.

CatBoost does not report the start and the end of a training. So the first callback wraps the method that all models
share for ``fit()`` once. Its behaviour stays the same, and an exception also fails the item with its text.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from ._packages import require_package

with require_package("catboost"):
    import catboost

from ._training import log_errors
from ._training_calls import ObservedCallback, observe_calls

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Unpack

    from ._training import FitOptions

__all__ = ["TrackCallback"]

DEFAULT_ITERATION_COUNT: Final = 1000
ITERATION_PARAMETERS: Final = ("iterations", "num_boost_round", "n_estimators", "num_trees")
"""The names of the same parameter."""


class TrackCallback(ObservedCallback):
    """Reports the iterations of each training in which it is a callback.

    Args:
        **options: ``id``, ``title``, ``group``, ``weight``, ``keep``, ``notify``, ``deadline``,
            ``stuck_after``, ``interval``, ``client`` and ``display`` of ``track()``. A terminal bar is drawn only if
            ``display`` is true.

    Raises:
        TypeError, ValueError: As in ``track()``.

    Example:
        >>> model = catboost.CatBoostRegressor(iterations=3, verbose=0, allow_writing_files=False)
        >>> model.fit([[0], [1]], [0, 1], callbacks=[TrackCallback()]).tree_count_
        3
    """

    def __init__(self, **options: Unpack[FitOptions]) -> None:
        super().__init__(options)
        observe_calls([catboost.CatBoost], "_fit")  # each model's fit() calls it

    def start_call(self, arguments: Mapping[str, Any]) -> None:
        """Start the item of a training."""
        model = arguments["self"]
        given = (model.get_params().get(name) for name in ITERATION_PARAMETERS)
        total = next((count for count in given if count is not None), DEFAULT_ITERATION_COUNT)
        self._bars.start(f"Fit of {type(model).__name__}", total, unit="iterations")

    def find_cause(self, error: BaseException, outer_error: BaseException | None) -> BaseException:
        """Return the exception of the program, which CatBoost replaces by its own with a traceback as text."""
        cause = error.__context__
        is_wrapped = isinstance(error, catboost.CatBoostError) and cause is not None and cause is not outer_error
        return cause if is_wrapped and cause is not None else error

    def after_iteration(self, info: Any) -> bool:
        """Count an iteration, and continue; CatBoost calls this."""
        self._update_iteration(info)
        return True

    @log_errors
    def _update_iteration(self, info: Any) -> None:
        self._bars.set_position(info.iteration, lambda: _read_metrics(info.metrics))


def _read_metrics(metrics: Mapping[str, Mapping[str, list[float]]]) -> dict[str, object]:
    """Return the last values by names such as ``"learn RMSE"``."""
    return {f"{rows} {name}": values[-1] for rows, each in metrics.items() for name, values in each.items() if values}
