"""Replaced methods and functions of another library, which show its bars.

A hook observes a call and never changes it: the original gets the same arguments, and its result or exception reaches
the caller. The traceback of that exception has no line of the hook. An exception of an observer is logged and goes no
further.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import threading
from typing import TYPE_CHECKING, Any, Final

from progressbar_tracker._log import DEBUG, log

from .counter import LOCK_TIMEOUT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    Function = Callable[..., Any]
    Wrapper = Callable[[Function], Function]

_NO_ATTRIBUTE: Final = object()


class Patches:
    """The hooks of one library.

    Attributes:
        is_installed: Whether hooks observe calls. A hook that other code has wrapped stays, and is then without effect.

    Example:
        >>> patches, seen = Patches(), []
        >>> class Bar:
        ...     def close(self): return "closed"
        >>> patches.install({(Bar, "close"): patches.call_before(seen.append)})
        >>> bar = Bar()
        >>> bar.close(), seen == [bar]
        ('closed', True)
        >>> patches.uninstall()
        >>> bar.close(), len(seen)
        ('closed', 1)
    """

    def __init__(self) -> None:
        self.is_installed = False
        self._lock = threading.Lock()
        self._replaced: dict[tuple[Any, str], tuple[object, object]] = {}  # (hook, original) by owner and name

    @contextlib.contextmanager
    def _hold_lock(self) -> Iterator[None]:
        is_acquired = self._lock.acquire(timeout=LOCK_TIMEOUT)  # in the child of a fork the holder does not exist
        try:
            yield
        finally:
            if is_acquired:
                self._lock.release()

    def install(self, wrappers: Mapping[tuple[Any, str], Wrapper]) -> None:
        """Replace attributes: all of them, or none in a version of the library that lacks one. Idempotent.

        Args:
            wrappers: By class or module and name of the attribute: a function that gets the original function and
                returns the hook. The hook of a class method gets the class, as the original does.
        """
        with self._hold_lock():
            self.is_installed = True
            try:
                for (owner, name), wrap in wrappers.items():
                    if (owner, name) not in self._replaced:
                        self._replace(owner, name, wrap)
            except Exception as error:  # noqa: BLE001 - tracking never hurts the tracked program
                log(DEBUG, "The bars of this version of a library are not shown: %r", error)
                self._restore()

    def _replace(self, owner: Any, name: str, wrap: Wrapper) -> None:
        original = inspect.getattr_static(owner, name)  # not getattr: it may be a descriptor
        hook: Any
        if isinstance(original, staticmethod | classmethod):
            hook = type(original)(functools.wraps(original.__func__)(wrap(original.__func__)))
        else:
            function = getattr(owner, name)  # of a functools.partialmethod: the function that takes the object
            hook = functools.wraps(function)(wrap(function))
        is_own = name in vars(owner)
        setattr(owner, name, hook)
        self._replaced[owner, name] = hook, original if is_own else _NO_ATTRIBUTE

    def uninstall(self) -> None:
        """Restore the attributes, except those that other code has wrapped. Idempotent."""
        with self._hold_lock():
            self._restore()

    def _restore(self) -> None:
        self.is_installed = False
        for (owner, name), (hook, original) in list(self._replaced.items()):
            if vars(owner).get(name) is not hook:
                continue
            if original is _NO_ATTRIBUTE:
                delattr(owner, name)
            else:
                setattr(owner, name, original)
            del self._replaced[owner, name]

    def call_before(self, observe: Function) -> Wrapper:
        """Return a wrapper whose hook calls ``observe(*args, **options)``, and then the original."""

        def wrap(original: Function) -> Function:
            def hook(*args: Any, **options: Any) -> Any:
                if self.is_installed:
                    call_safely(observe, *args, **options)
                try:
                    return original(*args, **options)
                except BaseException as error:
                    hide_frames(error)
                    raise

            return hook

        return wrap

    def call_after(self, observe: Function) -> Wrapper:
        """Return a wrapper whose hook calls the original, and then ``observe(result, *args, **options)``.

        After an exception of the original, ``observe`` is not called.
        """

        def wrap(original: Function) -> Function:
            def hook(*args: Any, **options: Any) -> Any:
                try:
                    result = original(*args, **options)
                except BaseException as error:
                    hide_frames(error)
                    raise
                if self.is_installed:
                    call_safely(observe, result, *args, **options)
                return result

            return hook

        return wrap


def hide_frames(error: BaseException, count: int = 1) -> None:
    """Remove the frame of a hook from the traceback of an exception of the original. Then raise it without a name.

    Args:
        error: The exception that is being handled. ``raise`` does not add the frame again.
        count: The frames above the original.
    """
    trace = error.__traceback__
    for _ in range(count):
        if trace is not None and trace.tb_next is not None:  # else the exception is not of the original
            trace = trace.tb_next
    if trace is not None and trace.tb_next is not None and trace.tb_frame.f_code.co_filename == functools.__file__:
        trace = trace.tb_next  # a partialmethod of an object calls its function without this frame
    error.__traceback__ = trace


def call_safely(function: Function, /, *args: Any, **options: Any) -> Any:
    """Return the result of a function; ``None`` after an exception, which is logged.

    >>> call_safely(int, "7"), call_safely(int, "seven")
    (7, None)
    """
    try:
        return function(*args, **options)
    except Exception as error:  # noqa: BLE001 - tracking never hurts the tracked program
        log(DEBUG, "A progress bar cannot be shown: %r", error, exc_info=True)
        return None
