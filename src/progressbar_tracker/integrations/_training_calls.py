"""Calls of training functions, for libraries whose callbacks learn of neither the start nor the end of a training.

``observe_calls()`` wraps the functions. Each wrapper starts the fits of the callbacks in its arguments, and ends them:
with the call's exception, or else as succeeded. Arguments, result and exception of a call are unchanged.
"""

from __future__ import annotations

import functools
import inspect
import sys
from typing import TYPE_CHECKING, Any

from ._training import Fit, log_errors

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ._training import FitOptions


class ObservedCallback:
    """The base of the callbacks.

    Args:
        options: Options of ``track()``.

    Raises:
        TypeError, ValueError: As in ``track()``.
    """

    def __init__(self, options: FitOptions) -> None:
        self._bars = Fit(options)

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild_callback, (type(self), self._bars.options)  # a copy reports its own fits

    def start_call(self, arguments: Mapping[str, Any]) -> None:
        """Start the fit of an observed call.

        Args:
            arguments: The call's arguments by name, without those that are left to their defaults.
        """
        raise NotImplementedError

    @log_errors
    def _start_call(self, arguments: Mapping[str, Any]) -> None:
        self.start_call(arguments)

    @log_errors
    def _end_call(self) -> None:
        if self._bars.is_running:
            self._bars.end(early=not self._bars.is_complete)

    def find_cause(self, error: BaseException, outer_error: BaseException | None) -> BaseException:  # noqa: ARG002
        """Return the exception that describes the failure of a call.

        Args:
            error: The exception of the call.
            outer_error: The exception that the program handles around the call.
        """
        return error

    @log_errors
    def _fail_call(self, error: BaseException, outer_error: BaseException | None) -> None:
        self._bars.fail(self.find_cause(error, outer_error))


def _rebuild_callback(kind: Callable[..., ObservedCallback], options: FitOptions) -> ObservedCallback:
    return kind(**options)


def observe_calls(owners: Sequence[object], name: str) -> None:
    """Wrap a function once, in each module or class of ``owners`` that has it as ``name``.

    The function has a parameter ``callbacks``. Only lists and tuples are searched: an iterator can be read only once.
    """
    function = getattr(owners[0], name)
    wrapper = function if hasattr(function, "__progressbar_tracker__") else _wrap_function(function)
    for owner in owners:
        if getattr(owner, name, None) is function:
            setattr(owner, name, wrapper)


def _wrap_function(function: Callable[..., Any]) -> Callable[..., Any]:
    signature = _read_signature(function)

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            arguments = signature.bind(*args, **kwargs).arguments
        except TypeError:
            return function(*args, **kwargs)  # raises the same error
        given = arguments.get("callbacks")
        given = given if isinstance(given, list | tuple) else ()
        callbacks = [each for each in given if isinstance(each, ObservedCallback)]
        for callback in callbacks:
            callback._start_call(arguments)
        outer_error = sys.exception() if callbacks else None
        try:
            result = function(*args, **kwargs)
        except BaseException as error:
            for callback in callbacks:
                callback._fail_call(error, outer_error)
            raise
        for callback in callbacks:
            callback._end_call()
        return result

    call.__dict__["__progressbar_tracker__"] = True
    return call


def _read_signature(function: Callable[..., Any]) -> inspect.Signature:
    """Return the parameters of a function whose annotations may name what exists for type checkers only."""
    if sys.version_info >= (3, 14):
        from annotationlib import Format

        return inspect.signature(function, annotation_format=Format.STRING)
    return inspect.signature(function)
