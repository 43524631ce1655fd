"""One fit, as its bars: the whole, and inside it what is going on now. For the callbacks of the training libraries.

The whole counts epochs (or steps), with the latest loss and metrics as its description. Within an epoch it moves in
fractions, so that a fit of one long epoch has a pace too. The bar inside is one item for the whole fit, however many
epochs there are: it is renamed and set back at each, and shows the validations in between as well.

A fit ends as a ``with`` block does: an exception fails it, with its text.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
import time
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final, ParamSpec

from progressbar_tracker._log import WARNING, log
from progressbar_tracker._text import clean_number
from progressbar_tracker._tracking.tracker import track

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from progressbar_tracker._models import Number
    from progressbar_tracker._tracking.tracker import Tracker

    from ._mirrored import Labels

    class FitOptions(Labels, total=False):
        """The keywords of the callbacks; they are those of ``track()``."""

        display: bool | None


P = ParamSpec("P")

METRICS_INTERVAL: Final = 0.5  # seconds between two looks at the metrics: reading one may wait for the accelerator

# The fits that began inside the watched call that is running here.
_started_fits: ContextVar[list[Fit] | None] = ContextVar("progressbar_tracker_fits", default=None)


class Fit:
    """The bars of one fit after the other, never of two at a time.

    Attributes:
        stage_name: The validation, test or prediction that is going on, or nothing.
        stage_done: Batches of it.

    Args:
        options: Those of ``track()``. No terminal bar is drawn unless ``display`` is set: the libraries draw their own.

    Raises:
        TypeError, ValueError: As ``track()``.
    """

    def __init__(self, options: FitOptions) -> None:
        self._options: FitOptions = {"display": False, **options}
        track(**self._options)  # so that a wrong option is told here, and not in the middle of a training
        self._fit_bar: Tracker[None] | None = None
        self._phase_bar: Tracker[None] | None = None
        self._context = contextvars.copy_context()
        self._metrics: dict[str, float] = {}
        self._metrics_read_at = 0.0
        self._pending_metrics: Callable[[], Mapping[str, object]] | None = None
        self._is_standalone = False  # a stage that is inside no fit
        self._stage_total: object = None
        self.stage_name = ""
        self.stage_done = 0

    def __reduce__(self) -> tuple[type[Fit], tuple[FitOptions]]:
        return Fit, (self._options,)  # what is running here is not running in the copy

    @property
    def is_running(self) -> bool:
        """Whether a fit has begun and not ended."""
        return self._fit_bar is not None

    def start(self, title: str, total: object, *, unit: str, position: float = 0, stage: str = "") -> None:
        """Begin. A fit that is still running was left without a word.

        Args:
            title: What to call it if the user has not said.
            total: Units in all; what is no number above zero stands for unknown.
            unit: What is counted.
            position: Where it begins: above zero when it is resumed.
            stage: Tells an item of its own that is no fit, by the end of its id.
        """
        self.stop()
        options = self._options.copy()
        name = options.get("id")
        if stage and name is not None:
            options["id"] = f"{name}/{stage}"
        own = options.get("title")
        if stage:
            options["title"] = f"{own}, {stage}" if own else title
        elif own is None and name is None:
            options["title"] = title
        self._metrics, self._metrics_read_at, self._pending_metrics = {}, 0.0, None
        self._fit_bar = whole = track(total=parse_length(total), unit=unit, **options)
        whole.update(completed=_round_position(position))
        self._context = contextvars.copy_context()  # in which the whole is the innermost bar
        if (begun := _started_fits.get()) is not None:
            begun.append(self)

    def set_total(self, total: object) -> None:
        """Set the units in all."""
        if self._fit_bar is not None:
            self._fit_bar.total = parse_length(total)

    def set_position(self, position: float, values: Callable[[], Mapping[str, object]] | None = None) -> None:
        """Set how far the whole is. The metrics are asked for now and then."""
        if self._fit_bar is None:
            return
        self._fit_bar.update(completed=_round_position(position))
        if values is not None:
            self._pending_metrics = values
            if time.monotonic() - self._metrics_read_at >= METRICS_INTERVAL:
                self.update_metrics({})

    def update_metrics(self, values: Mapping[str, object], note: str = "") -> None:
        """Say what the metrics are now; those that are not named keep their last value."""
        if self._fit_bar is None:
            return
        self._metrics_read_at = time.monotonic()
        unread, self._pending_metrics = self._pending_metrics, None
        for name, value in {**(unread() if unread else {}), **values}.items():
            with contextlib.suppress(Exception):  # a table, a text, a tensor with many values
                self._metrics[name] = float(value)  # type: ignore[arg-type]
        said = [note] if note else []
        self._fit_bar.update(
            description=", ".join(said + [f"{name} {value:.4g}" for name, value in self._metrics.items()])
        )

    def update_phase(self, title: str, done: int, total: object) -> None:
        """Say what is going on inside, and how far that is."""
        if self._fit_bar is None:
            return
        if self._phase_bar is None:
            options: FitOptions = {**self._options, "id": f"{self._fit_bar.id}/now", "title": title, "keep": False}
            self._phase_bar = track(total=parse_length(total), unit="steps", **options)
            # Whatever other bars are open here, this one belongs inside the whole.
            self._context.copy().run(self._phase_bar.update, completed=done)
        else:
            self._phase_bar.total = parse_length(total)
            self._phase_bar.update(title=title, completed=done)

    def start_stage(self, name: str, total: object, title: str) -> None:
        """Begin a validation, test or prediction: inside the fit that is running, else as an item of its own."""
        if self._fit_bar is None:
            self.start(title, total, unit="batches", stage=name)
            self._is_standalone = True
        self.stage_name, self._stage_total = name, total
        self.update_stage(0)

    def update_stage(self, done: int) -> None:
        """Set how far the stage is."""
        self.stage_done = done
        if self._is_standalone:
            self.set_position(done)
        else:
            self.update_phase(self.stage_name.capitalize(), done, self._stage_total)

    def end_stage(self, values: Mapping[str, object] | None = None, *, close_bar: bool = False) -> None:
        """End the stage; ``close_bar`` where nothing is told of the steps that follow."""
        if values:
            self.update_metrics(values)
        self.stage_name = ""
        if self._is_standalone:
            self.end()
        elif close_bar and self._phase_bar is not None:
            self._phase_bar.close()
            self._phase_bar = None

    def end(self, *, early: bool = False) -> None:
        """End well. A fit that is stopped early has succeeded: whoever stopped it had what they wanted."""
        try:
            self.update_metrics({}, "stopped early" if early else "")
        finally:
            for bar in reversed(self._detach_bars()):
                if bar is not None:
                    bar.close()

    def fail(self, error: BaseException) -> None:
        """End as a block that is left by this exception."""
        whole, inside = self._detach_bars()
        if inside is not None:  # one failure is one failed item: what is inside has only stopped
            inside.__exit__(GeneratorExit, GeneratorExit(), None)
        if whole is not None:
            whole.__exit__(type(error), error, None)

    def stop(self) -> None:
        """End what is still running, for it was left without a word."""
        self.fail(GeneratorExit())

    def _detach_bars(self) -> tuple[Tracker[None] | None, Tracker[None] | None]:
        bars = self._fit_bar, self._phase_bar
        self._fit_bar = self._phase_bar = None
        self._is_standalone, self.stage_name = False, ""
        return bars


def parse_length(value: object) -> Number | None:
    """Return a number of steps or epochs, or ``None`` where it is unknown: none, endless, or not above zero.

    >>> parse_length(3), parse_length(float("inf")), parse_length(-1), parse_length(None)
    (3, None, None, None)
    """
    number = clean_number(value)
    return number if number is not None and number > 0 else None


def compute_epoch_fraction(done: int, total: object) -> float:
    """Return the part of an epoch that is done, from 0 to 1; 0 where that is unknown.

    >>> compute_epoch_fraction(1, 4), compute_epoch_fraction(1, None)
    (0.25, 0)
    """
    known = parse_length(total)
    return 0 if known is None else min(done / known, 1)


def _round_position(position: float) -> Number:
    return int(position) if position == int(position) else round(position, 3)


def log_errors(hook: Callable[P, None]) -> Callable[P, None]:
    """Keep what a hook raises from the training: it is logged."""

    @functools.wraps(hook)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            hook(*args, **kwargs)
        except Exception:  # noqa: BLE001 - tracking never hurts the tracked program
            log(
                WARNING,
                "The training goes on, but its progress was not told by %s",
                getattr(hook, "__qualname__", hook),
                exc_info=True,
            )

    return run


def wrap_methods(owner: type, *names: str) -> None:
    """Wrap methods, once, so that an exception that leaves one fails the fits that began inside it.

    For libraries that tell their callbacks nothing of exceptions. The call itself, its result and the exception are
    the same.
    """
    for name in names:
        method = getattr(owner, name)
        if not hasattr(method, "__progressbar_tracker__"):
            setattr(owner, name, _wrap_method(method))


def _wrap_method(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def call(*args: Any, **kwargs: Any) -> Any:
        begun: list[Fit] = []
        token = _started_fits.set(begun)
        try:
            return method(*args, **kwargs)
        except BaseException as error:
            for fit in begun:
                log_errors(fit.fail)(error)
            raise
        finally:
            _started_fits.reset(token)

    call.__dict__["__progressbar_tracker__"] = True
    return call
