"""Show a tqdm bar on the server too: read its state, and hook its start and its end.

The bar's own work is unchanged, including ``update`` and the display hooks. The sender's thread reads the bar, so its
loop has no extra cost. Hooks exist only for events that happen once per bar: a loop or a block starts, and it ends.

The caller of ``close`` shows how a bar ended. tqdm's own loop closes it in a ``finally``, where the exception that came
through the loop is available. Without one the loop reached its end; ``GeneratorExit`` means that it was left early. A
block receives its exception. A loop that was left early may be part of a dying process, as with ``track()``.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import inspect
import sys
import weakref
from typing import TYPE_CHECKING, Any, Final

from tqdm.std import tqdm as std_tqdm

from progressbar_tracker._log import DEBUG, log

from .counter import LOCK_TIMEOUT
from .mirror import Mirror, Reading, find_user_frame, start_mirror

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

original_init = std_tqdm.__init__
# The index of ``disable`` among the positional arguments.
_DISABLE_POSITION: Final = list(inspect.signature(original_init).parameters).index("disable") - 1

MIRROR_ATTRIBUTE: Final = "_progressbar_mirror"  # of a bar that is shown; None while the bar is being made


class _BarReader:
    """Reads a tqdm bar, held weakly. Unchanged texts stay the same objects, so that comparing them is cheap."""

    __slots__ = ("_bar", "_desc", "_has_own_title", "_postfix", "_text", "_title")

    def __init__(self, bar: object, *, has_own_title: bool) -> None:
        self._bar = weakref.ref(bar)
        self._has_own_title = has_own_title
        self._desc: object = None
        self._postfix: object = None
        self._title: str | None = None
        self._text = ""

    def __call__(self) -> Reading | None:
        bar: Any = self._bar()
        if bar is None:
            return None
        n, total = bar.n, bar.total
        scale = bar.unit_scale
        if scale is not False and scale is not True and isinstance(scale, int | float):
            n, total = n * scale, total and total * scale  # as in the terminal
        if bar.desc is not self._desc or bar.postfix is not self._postfix:
            self._desc, self._postfix = bar.desc, bar.postfix
            desc = str(self._desc or "").strip().removesuffix(":")
            postfix = "" if self._postfix is None else str(self._postfix)
            self._title = desc or None
            self._text = " \N{MIDDLE DOT} ".join(filter(None, (desc, postfix))) if self._has_own_title else postfix
        has_ended = bool(bar.disable) and not isinstance(bar, _HiddenMarker)
        return Reading(n, total, self._title, self._text, str(bar.unit).strip(), has_ended)


class _RunReference:
    """The run of one bar. A copy of the bar has it in its dictionary too, but has no run."""

    __slots__ = ("_bar_id", "run")

    def __init__(self, bar: object, run: Mirror) -> None:
        self._bar_id = id(bar)
        self.run = run

    def get_run(self, bar: object) -> Mirror | None:
        return self.run if id(bar) == self._bar_id else None

    def __reduce__(self) -> tuple[type[None], tuple[()]]:
        return type(None), ()  # copies and pickles contain None in its place


def find_run(bar: object) -> Mirror | None:
    """Return the run that shows a bar, or ``None``."""
    reference = getattr(bar, "__dict__", {}).get(MIRROR_ATTRIBUTE)
    return reference.get_run(bar) if isinstance(reference, _RunReference) else None


def attach_mirror(bar: Any, run: Mirror, frame: FrameType) -> None:
    """Start to show a bar that is complete and not disabled."""
    bar.__dict__[MIRROR_ATTRIBUTE] = _RunReference(bar, run)
    run.has_own_title = run.title is not None
    run.outer_error_id = id(sys.exception())
    start_mirror(run, find_user_frame(frame, "tqdm"), _BarReader(bar, has_own_title=run.has_own_title))
    _register_exit_hook()


def _on_enter(bar: object, frame: FrameType, *, in_block: bool = False) -> None:
    """Make the run of a bar the parent of the runs that start in its loop or block."""
    run = find_run(bar)
    if run is not None and run.status == "running":
        run.caller_code = find_user_frame(frame, "tqdm").f_code
        run.in_block = run.in_block or in_block
        run.outer_error_id = id(sys.exception())
        run.make_current()


def _on_close(bar: object, frame: FrameType) -> None:
    """End the run of a bar, in the way that the caller of ``close`` shows."""
    run = find_run(bar)
    if run is None or run.status != "running":
        return
    error = sys.exception()
    while frame.f_code.co_name == "close" and frame.f_back is not None:  # the method of a subclass
        frame = frame.f_back
    caller = frame.f_code.co_name if frame.f_globals.get("__name__", "").startswith("tqdm.") else ""
    if caller == "__del__":
        run.abandon()
    elif caller == "__exit__":
        run.poll()  # the hook of __exit__ ends the run
    elif caller in ("__iter__", "__anext__"):
        # An exception that was being handled before the loop is not the loop's.
        trace = None if error is None else error.__traceback__
        loop_error = error if trace is not None and trace.tb_frame is frame else None
        if isinstance(loop_error, StopIteration | StopAsyncIteration):
            loop_error = None
        if run.in_block:
            run.poll()
            run.left_early = loop_error is not None
        elif loop_error is None:
            run.end("succeeded")
        else:
            run.on_source_error(loop_error)
    elif error is None or id(error) == run.outer_error_id:
        run.end("succeeded")
    else:
        # In a finally or an except: the error may end the process, or be the normal end of the loop.
        run.abandon()


def is_auto_disabled(args: tuple[Any, ...], options: dict[str, Any]) -> bool:
    """Return whether the arguments disable a bar where there is no terminal (``disable=None``)."""
    return (args[_DISABLE_POSITION] if len(args) > _DISABLE_POSITION else options.get("disable", False)) is None


def attach_hidden_mirror(
    bar: Any, run: Mirror, args: tuple[Any, ...], options: dict[str, Any], frame: FrameType
) -> None:
    """Start to show a bar that tqdm has disabled without a terminal. tqdm keeps no state of such a bar."""
    arguments = inspect.signature(original_init).bind_partial(None, *args, **options).arguments
    bar.desc, bar.unit, bar.unit_scale, bar.postfix = arguments.get("desc"), arguments.get("unit", "it"), False, None
    if postfix := arguments.get("postfix"):
        try:
            bar.set_postfix(refresh=False, **postfix)
        except TypeError:
            bar.postfix = postfix
    kind: type = type(bar)
    bar.__class__ = _get_hidden_class(kind)
    attach_mirror(bar, run, frame)


# Hooks around the original methods. The drop-in, the class of a mirrored bar and tqdm's own bars use the same ones.


def _wrap_close(original: Callable[..., Any]) -> Callable[..., Any]:
    def close(self: Any) -> None:
        _on_close(self, sys._getframe(1))  # noqa: SLF001
        original(self)

    return close


def _wrap_iter(original: Callable[..., Any]) -> Callable[..., Any]:
    def loop(self: Any) -> Any:
        _on_enter(self, sys._getframe(1))  # noqa: SLF001
        return original(self)

    return loop


def _wrap_enter(original: Callable[..., Any]) -> Callable[..., Any]:
    def __enter__(self: Any) -> Any:  # noqa: N807
        _on_enter(self, sys._getframe(1), in_block=True)  # noqa: SLF001
        return original(self)

    return __enter__


def _wrap_exit(original: Callable[..., Any]) -> Callable[..., Any]:
    def __exit__(self: Any, kind: Any, error: BaseException | None, traceback: Any) -> Any:  # noqa: N807
        try:
            return original(self, kind, error, traceback)
        finally:
            run = find_run(self)
            if run is not None:
                run.end_block(error)

    return __exit__


def build_hooks(kind: type) -> dict[str, Callable[..., Any]]:
    """Return the methods that replace those of a class of bars."""
    wrappers = {
        "close": _wrap_close,
        "__iter__": _wrap_iter,
        "__aiter__": _wrap_iter,
        "__enter__": _wrap_enter,
        "__exit__": _wrap_exit,
    }
    hooks: dict[str, Callable[..., Any]] = {}
    for name, wrap in wrappers.items():
        original = getattr(kind, name, None)
        if original is not None:
            hooks[name] = functools.wraps(original)(wrap(original))
    return hooks


def _new_instance(kind: type, *args: Any) -> Any:
    return kind.__new__(kind, *args)


def _make_reduce_ex(kind: Any) -> Callable[..., Any]:
    def __reduce_ex__(self: Any, protocol: int) -> Any:  # noqa: N807
        # pickle cannot import a class that is made while the program runs, but its base.
        make, (_, *rest), *more = kind.__reduce_ex__(self, protocol)
        # pickle requires that an object made by copyreg.__newobj__ has exactly that class.
        return _new_instance if make.__name__ == "__newobj__" else make, (kind, *rest), *more

    return __reduce_ex__


@functools.cache
def get_mirrored_class(kind: type) -> type:
    # Not methods in the bar's dictionary: these would hold the bar, and delay its finalizer.
    return type(
        kind.__name__,
        (kind,),
        {
            "__module__": kind.__module__,
            "__doc__": kind.__doc__,
            "__reduce_ex__": _make_reduce_ex(kind),
            **build_hooks(kind),
        },
    )


class _HiddenMarker:
    """Marks the classes of bars that tqdm has disabled, and that count for the server only."""

    __slots__ = ()


class _LoopListener:
    """Passes the end of a loop to the run, and holds the bar until then. The run must not hold it."""

    __slots__ = ("bar", "on_exhausted", "on_released")

    def __init__(self, bar: object, run: Mirror) -> None:
        self.bar = bar
        self.on_exhausted = run.on_exhausted
        self.on_released = run.on_released


def _update_hidden(self: Any, n: float | None = 1) -> None:
    with contextlib.suppress(TypeError):  # a disabled bar accepts any argument
        self.n += n


def _iterate_hidden(self: Any) -> Iterator[Any]:
    run = find_run(self)
    if run is None or run.status != "running":
        return iter(self.iterable)
    _on_enter(self, sys._getframe(1))  # noqa: SLF001
    # Counted as by track(), which is cheaper than tqdm's own loop over a disabled bar.
    return run.wrap_iterator(iter(self.iterable), _LoopListener(self, run))


@functools.cache
def _get_hidden_class(kind: type) -> type:
    names = {
        "__module__": kind.__module__,
        "__doc__": kind.__doc__,
        "update": _update_hidden,
        "__iter__": _iterate_hidden,
    }
    names["__reduce_ex__"] = _make_reduce_ex(kind)
    return type(kind.__name__, (kind, _HiddenMarker), {**build_hooks(kind), **names})


# --- the end of the process -------------------------------------------------------------------------------------------

_exit_hook_registered = False


def _register_exit_hook() -> None:
    # Registered after the sender's hook, so that it runs before it.
    global _exit_hook_registered
    if not _exit_hook_registered:
        _exit_hook_registered = True
        atexit.register(_close_open_bars)


def _close_open_bars() -> None:
    """Close the open bars while the interpreter is complete: in 3.13.0, tqdm's finalizer crashes later."""
    for bar in list(getattr(std_tqdm, "_instances", ())):
        run = find_run(bar)
        if run is not None:
            run.abandon()
            _close_bar(bar)


def _close_bar(bar: Any) -> None:
    """Close a bar if tqdm's lock is free in time: it stays locked after a failed write in another thread."""
    tqdm_lock = bar.get_lock()
    acquired = []
    try:
        for lock in getattr(tqdm_lock, "locks", [tqdm_lock]):  # one for processes and one for threads
            if not lock.acquire(timeout=LOCK_TIMEOUT):
                return
            acquired.append(lock)
        bar.close()
    except Exception as error:  # noqa: BLE001 - its stream is gone: the other bars are closed all the same
        log(DEBUG, "A bar could not be closed: %r", error)
    finally:
        for lock in reversed(acquired):
            lock.release()
