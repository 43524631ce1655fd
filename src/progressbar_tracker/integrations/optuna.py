"""Optuna: a callback that reports the trials of ``study.optimize()``.

    from progressbar_tracker.integrations.optuna import TrackCallback

    study.optimize(objective, n_trials=100, callbacks=[TrackCallback(id="search")])

The item counts finished trials, and shows the best value with the numbers of pruned and failed trials. Without
``n_trials`` it has no total. A study that ends by its timeout or by ``study.stop()`` has succeeded.

Optuna does not report the end of a study. So the first callback wraps ``Study.optimize`` once. Its behaviour stays the
same, and an exception also fails the item with its text.

``install()`` reports each study that has an own progress bar and no callback, as ``progressbar-tracker run`` does.
"""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING, Any, Final

from ._packages import require_package

with require_package("optuna"):
    import optuna

from progressbar_tracker._tracking.hidden_bars import hide_bars, show_bars
from progressbar_tracker._tracking.patches import Patches

from ._training import Fit, log_errors
from ._training_calls import ObservedCallback, observe_calls

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import FrameType
    from typing import Unpack

    from ._training import FitOptions

__all__ = ["TrackCallback", "install", "uninstall"]

PROGRESS_MODULE_NAME: Final = "optuna.progress_bar"

_patches = Patches()


class TrackCallback(ObservedCallback):
    """Reports the trials of each ``optimize()`` in which it is a callback.

    Args:
        **options: ``id``, ``title``, ``group``, ``weight``, ``keep``, ``notify``, ``deadline``,
            ``stuck_after``, ``interval``, ``client`` and ``display`` of ``track()``. A terminal bar is drawn only if
            ``display`` is true.

    Raises:
        TypeError, ValueError: As in ``track()``.

    Example:
        >>> optuna.logging.set_verbosity(optuna.logging.ERROR)
        >>> study = optuna.create_study()
        >>> study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=3, callbacks=[TrackCallback()])
        >>> len(study.trials)
        3
    """

    def __init__(self, **options: Unpack[FitOptions]) -> None:
        super().__init__(options)
        self._lock = threading.Lock()  # trials of n_jobs=2 end in threads
        self._counts = {"finished": 0, "pruned": 0, "failed": 0}
        observe_calls([optuna.study.Study], "optimize")

    def start_call(self, arguments: Mapping[str, Any]) -> None:
        """Start the item of a study."""
        self._counts = dict.fromkeys(self._counts, 0)
        title = _make_title(arguments["self"], arguments["func"])
        self._bars.start(title, arguments.get("n_trials"), unit="trials")

    def __call__(self, study: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
        """Count a finished trial; Optuna calls this."""
        self._count_trial(study, trial)

    @log_errors
    def _count_trial(self, study: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
        with self._lock:
            counts = self._counts
            counts["finished"] += 1
            if trial.state is optuna.trial.TrialState.PRUNED:
                counts["pruned"] += 1
            elif trial.state is optuna.trial.TrialState.FAIL:
                counts["failed"] += 1
            self._bars.set_position(counts["finished"])
        self._bars.offer_metrics(lambda: _read_values(study, counts))


class _BarReporter:
    """Reports the study of a progress bar of Optuna, which Optuna closes in any case."""

    def __init__(self, study: Any, function: object, total: int | None) -> None:
        self._bars = Fit({}, library="optuna")
        self._bars.start(_make_title(study, function), total, unit="trials")
        self._outer_error = sys.exception()
        self._lock = threading.Lock()
        self._count = 0

    def count_trial(self, study: Any) -> None:
        with self._lock:
            self._count += 1
            self._bars.set_position(self._count)
        self._bars.offer_metrics(lambda: _read_values(study, {}))

    def end(self, error: BaseException | None) -> None:
        if error is None or error is self._outer_error:
            self._bars.end(early=not self._bars.is_complete)
        else:
            self._bars.fail(error)


REPORTER_ATTRIBUTE: Final = "_progressbar_tracker"


def install() -> None:
    """Report each study with ``show_progress_bar=True``, unless it has a callback. Idempotent.

    The item counts trials, also where Optuna's bar counts the seconds of the timeout.

    Example:
        >>> install()
        >>> uninstall()
    """
    progress_bar = sys.modules[PROGRESS_MODULE_NAME]._ProgressBar  # it has no public hook
    _patches.install(
        {
            (progress_bar, "__init__"): _patches.call_after(_start_report),
            (progress_bar, "update"): _patches.call_after(_update_report),
            (progress_bar, "close"): _patches.call_before(_end_report),
        }
    )
    hide_bars(PROGRESS_MODULE_NAME)


def uninstall() -> None:
    """Report only studies that have a callback. Idempotent.

    Example:
        >>> uninstall()
    """
    _patches.uninstall()
    show_bars(PROGRESS_MODULE_NAME)


def _start_report(_result: None, bar: Any, *_args: object, **_options: object) -> None:
    call = _find_call(sys._getframe(1))
    if not bar._is_valid or call is None:
        return
    callbacks = call.get("callbacks")
    if isinstance(callbacks, list | tuple) and any(isinstance(each, TrackCallback) for each in callbacks):
        return
    bar.__dict__[REPORTER_ATTRIBUTE] = _BarReporter(call["study"], call["func"], call["n_trials"])


def _update_report(_result: None, bar: Any, _elapsed_seconds: float, study: Any) -> None:
    if (reporter := bar.__dict__.get(REPORTER_ATTRIBUTE)) is not None:
        reporter.count_trial(study)


def _end_report(bar: Any) -> None:
    if (reporter := bar.__dict__.pop(REPORTER_ATTRIBUTE, None)) is not None:
        reporter.end(sys.exception())


def _find_call(frame: FrameType | None) -> Mapping[str, Any] | None:
    """Return the variables of Optuna's function that makes the bar, with the arguments of ``optimize()``."""
    while frame is not None:
        if frame.f_code.co_name == "_optimize":
            return frame.f_locals
        frame = frame.f_back
    return None


def _make_title(study: Any, function: object) -> str:
    name = study.study_name
    if name.startswith("no-name-"):  # a generated name
        name = getattr(function, "__name__", "a study")
    return f"Trials of {name}"


def _read_values(study: optuna.Study, counts: Mapping[str, int]) -> dict[str, object]:
    values = {name: counts[name] for name in ("pruned", "failed") if counts.get(name)}
    try:
        return {"best": study.best_value, **values}
    except (ValueError, RuntimeError):  # no trial is complete, or the study has several objectives
        return {**values}
