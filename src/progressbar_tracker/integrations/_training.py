"""The bars of a training: one for the fit, and a nested one for the current phase. Used by the training callbacks.

The fit bar counts epochs (or steps); its description shows the latest loss and metrics. During an epoch it moves in
fractions, so that a fit of one long epoch has a rate too. The phase bar is one item for all epochs and validations: it
is renamed and reset at the start of each.

A fit ends like a ``with`` block: an exception fails it, with the exception's text.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
import sys
import time
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final, ParamSpec

from progressbar_tracker._log import WARNING, log
from progressbar_tracker._runtime import are_loops_stoppable
from progressbar_tracker._text import clean_number
from progressbar_tracker._tracking.mirror import find_user_frame
from progressbar_tracker._tracking.run import find_current_run
from progressbar_tracker._tracking.tracker import track

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from progressbar_tracker._models import Number
    from progressbar_tracker._tracking.tracker import Tracker

    from ._mirrored import Labels

    class FitOptions(Labels, total=False):
        """The keywords of the callbacks; they are those of ``track()``."""

        display: bool | None

    class StoppableFitOptions(FitOptions, total=False):
        """The keywords of the callbacks that can stop their training."""

        stoppable: bool | None


P = ParamSpec("P")

METRICS_INTERVAL: Final = 0.5  # seconds between reads of the metrics; a read may wait for the accelerator

# The fits that started inside the wrapped call of this context.
_started_fits: ContextVar[list[Fit] | None] = ContextVar("progressbar_tracker_fits", default=None)


class Fit:
    """The bars of consecutive fits, never of two at a time.

    Attributes:
        stage_name: The current validation, test or prediction, or ``""``.
        stage_done: Completed batches of the stage.

    Args:
        options: Options of ``track()``. The default of ``display`` is false, because the libraries draw their own bars.
        library: Package of the library, for a fit whose call is not wrapped: its exception shows only if it ends the
            program or the cell, as that of a loop.
        can_stop: The callback stops the training when ``stop_requested`` is true. By default a fit is then stoppable if
            it is an outermost one under ``run --stoppable``.

    Raises:
        TypeError, ValueError: As in ``track()``.
    """

    def __init__(
        self, options: FitOptions | StoppableFitOptions, library: str | None = None, *, can_stop: bool = False
    ) -> None:
        self._library = library
        self._options: StoppableFitOptions = {"display": False, **options}
        self._can_stop = can_stop
        if not can_stop and "stoppable" in options:
            raise TypeError("stoppable is not an option: this training cannot be stopped on request")
        track(**self._options)  # an invalid option raises here, not during the training
        self._fit_bar: Tracker[None] | None = None
        self._phase_bar: Tracker[None] | None = None
        self._context = contextvars.copy_context()
        self._metrics: dict[str, float] = {}
        self._metrics_read_at = 0.0
        self._pending_metrics: Callable[[], Mapping[str, object]] | None = None
        self._is_standalone = False  # a stage outside of a fit
        self._stage_total: object = None
        self.stage_name = ""
        self.stage_done = 0

    def __reduce__(self) -> tuple[object, ...]:
        make = functools.partial(Fit, can_stop=self._can_stop)
        return make, (self._options, self._library)  # a copy has no running bars

    @property
    def options(self) -> StoppableFitOptions:
        """The options of each fit."""
        return self._options

    @property
    def is_running(self) -> bool:
        """Whether a fit has started and not ended."""
        return self._fit_bar is not None

    @property
    def is_complete(self) -> bool:
        """Whether the running fit has reached its total, or has none."""
        bar = self._fit_bar
        return bar is None or bar.total is None or bar.completed >= bar.total

    @property
    def stop_requested(self) -> bool:
        """Whether the stop of the running fit was requested."""
        return self._fit_bar is not None and self._fit_bar.stop_requested

    def start(
        self, title: str, total: object, *, unit: str, position: float = 0, stage: str = "", process_count: int = 1
    ) -> None:
        """Start a fit. A fit that is still running was abandoned and is stopped.

        Args:
            title: Default title.
            total: Total units; a value that is not a number above zero means unknown.
            unit: Unit of the counts.
            position: Completed units at the start; above zero for a resumed fit.
            stage: Suffix of the id for a separate item that is not a fit.
            process_count: The processes that train together. The others would wait for one that stops alone, so that
                only a single one is stoppable.
        """
        self.stop()
        options = self._options.copy()
        name = options.get("id")
        if stage and name is not None:
            options["id"] = f"{name}/{stage}"
        user_title = options.get("title")
        if stage:
            options["title"] = f"{user_title}, {stage}" if user_title else title
        elif user_title is None and name is None:
            options["title"] = title
        if stage or process_count > 1:
            options["stoppable"] = False  # the libraries stop trainings only
        elif self._can_stop and options.get("stoppable") is None:
            options["stoppable"] = are_loops_stoppable() and find_current_run() is None
        self._metrics, self._metrics_read_at, self._pending_metrics = {}, 0.0, None
        self._fit_bar = fit_bar = track(total=parse_length(total), unit=unit, **options)
        fit_bar.update(completed=_round_position(position))
        if self._library is not None:
            fit_bar._run.caller_code = find_user_frame(sys._getframe(1), self._library).f_code
        self._context = contextvars.copy_context()  # a context with the fit bar as the innermost bar
        if (started := _started_fits.get()) is not None:
            started.append(self)

    def set_total(self, total: object) -> None:
        """Set the total units of the fit."""
        if self._fit_bar is not None:
            self._fit_bar.total = parse_length(total)

    def set_position(self, position: float, values: Callable[[], Mapping[str, object]] | None = None) -> None:
        """Set the position of the fit. ``values`` is called at most once every ``METRICS_INTERVAL``."""
        if self._fit_bar is None:
            return
        self._fit_bar.update(completed=_round_position(position))
        if values is not None:
            self.offer_metrics(values)

    def offer_metrics(self, values: Callable[[], Mapping[str, object]]) -> None:
        """Show new values of metrics, read now or later. ``values`` is called as in ``set_position()``."""
        self._pending_metrics = values
        if time.monotonic() - self._metrics_read_at >= METRICS_INTERVAL:
            self.update_metrics({})

    def update_metrics(self, values: Mapping[str, object], note: str = "") -> None:
        """Show new values of metrics; the others keep their last value."""
        if self._fit_bar is None:
            return
        self._metrics_read_at = time.monotonic()
        unread, self._pending_metrics = self._pending_metrics, None
        for name, value in {**(unread() if unread else {}), **values}.items():
            with contextlib.suppress(Exception):  # a table, a text, a tensor with many values
                self._metrics[name] = float(value)  # type: ignore[arg-type]
        parts = [note] if note else []
        parts += [f"{name} {value:.4g}" for name, value in self._metrics.items()]
        self._fit_bar.update(description=", ".join(parts))

    def update_phase(self, title: str, done: int, total: object) -> None:
        """Show the current phase and its progress in the nested bar."""
        if self._fit_bar is None:
            return
        if self._phase_bar is None:
            options: StoppableFitOptions = {
                **self._options, "id": f"{self._fit_bar.id}/now", "title": title, "keep": False, "stoppable": False,
            }  # fmt: skip
            self._phase_bar = track(total=parse_length(total), unit="steps", **options)
            # The phase bar is always nested in the fit bar, whatever other bars are open here.
            self._context.copy().run(self._phase_bar.update, completed=done)
        else:
            self._phase_bar.total = parse_length(total)
            self._phase_bar.update(title=title, completed=done)

    def start_stage(self, name: str, total: object, title: str) -> None:
        """Start a validation, test or prediction, nested in a running fit or as a separate item."""
        if self._fit_bar is None:
            self.start(title, total, unit="batches", stage=name)
            self._is_standalone = True
        self.stage_name, self._stage_total = name, total
        self.update_stage(0)

    def update_stage(self, done: int) -> None:
        """Set the completed batches of the stage."""
        self.stage_done = done
        if self._is_standalone:
            self.set_position(done)
        else:
            self.update_phase(self.stage_name.capitalize(), done, self._stage_total)

    def end_stage(self, values: Mapping[str, object] | None = None, *, close_bar: bool = False) -> None:
        """End the stage. Set ``close_bar`` if the library does not report the steps that follow."""
        if values:
            self.update_metrics(values)
        self.stage_name = ""
        if self._is_standalone:
            self.end()
        elif close_bar and self._phase_bar is not None:
            self._phase_bar.close()
            self._phase_bar = None

    def end(self, *, early: bool = False) -> None:
        """End with success. Early stopping is a success too: the training reached its goal."""
        try:
            self.update_metrics({}, "stopped early" if early else "")
        finally:
            for bar in reversed(self._detach_bars()):
                if bar is not None:
                    bar.close()

    def fail(self, error: BaseException) -> None:
        """End like a block that this exception leaves."""
        fit_bar, phase_bar = self._detach_bars()
        if phase_bar is not None:  # one failure is one failed item: the phase has only stopped
            phase_bar.__exit__(GeneratorExit, GeneratorExit(), None)
        if fit_bar is not None:
            fit_bar.__exit__(type(error), error, None)

    def stop(self) -> None:
        """Stop an abandoned fit, if one is running."""
        self.fail(GeneratorExit())

    def _detach_bars(self) -> tuple[Tracker[None] | None, Tracker[None] | None]:
        bars = self._fit_bar, self._phase_bar
        self._fit_bar = self._phase_bar = None
        self._is_standalone, self.stage_name = False, ""
        return bars


def parse_length(value: object) -> Number | None:
    """Return a number of steps or epochs, or ``None`` unless it is finite and above zero.

    >>> parse_length(3), parse_length(float("inf")), parse_length(-1), parse_length(None)
    (3, None, None, None)
    """
    number = clean_number(value)
    return number if number is not None and number > 0 else None


def compute_epoch_fraction(done: int, total: object) -> float:
    """Return the completed fraction of an epoch, from 0 to 1; 0 if the total is unknown.

    >>> compute_epoch_fraction(1, 4), compute_epoch_fraction(1, None)
    (0.25, 0)
    """
    length = parse_length(total)
    return 0 if length is None else min(done / length, 1)


def _round_position(position: float) -> Number:
    return int(position) if position == int(position) else round(position, 3)


def log_errors(hook: Callable[P, None]) -> Callable[P, None]:
    """Log the exceptions of a hook instead of raising them into the training."""

    @functools.wraps(hook)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            hook(*args, **kwargs)
        except Exception:  # noqa: BLE001 - tracking never hurts the tracked program
            log(
                WARNING,
                "The training continues, but %s failed to report its progress",
                getattr(hook, "__qualname__", hook),
                exc_info=True,
            )

    return run


def wrap_methods(owner: type, *names: str) -> None:
    """Wrap methods once, so that an exception marks the fits that started in the call as failed.

    For libraries that do not pass exceptions to callbacks. Arguments, result and exception of a call are unchanged.
    """
    for name in names:
        method = getattr(owner, name)
        if not hasattr(method, "__progressbar_tracker__"):
            setattr(owner, name, _wrap_method(method))


def _wrap_method(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def call(*args: Any, **kwargs: Any) -> Any:
        started: list[Fit] = []
        token = _started_fits.set(started)
        try:
            return method(*args, **kwargs)
        except BaseException as error:
            for fit in started:
                log_errors(fit.fail)(error)
            raise
        finally:
            _started_fits.reset(token)

    call.__dict__["__progressbar_tracker__"] = True
    return call
