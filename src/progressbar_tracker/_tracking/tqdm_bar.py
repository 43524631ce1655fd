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
import math
import sys
import time
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final

from tqdm.std import tqdm as std_tqdm

from progressbar_tracker._log import DEBUG, log

from .counter import LOCK_TIMEOUT
from .mirror import Mirror, find_user_frame, start_mirror
from .nesting import PlacedMirror, has_open_bars
from .patches import call_safely
from .run import start_observers
from .tqdm_loop import LoopMirror
from .tqdm_reader import BarReader, HiddenMarker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from types import FrameType

    from progressbar_tracker._sender.sender import Sender

_INIT_SIGNATURE: Final = inspect.signature(std_tqdm.__init__)
# The index of ``disable`` among the positional arguments.
_DISABLE_POSITION: Final = list(_INIT_SIGNATURE.parameters).index("disable") - 1

# Set while a library makes a bar that only draws the state of another one, which is shown.
is_shown_elsewhere: ContextVar[bool] = ContextVar("progressbar_tracker_is_shown_elsewhere", default=False)

MIRROR_ATTRIBUTE: Final = "_progressbar_mirror"  # of a bar that is shown; None while the bar is being made


class _RunReference:
    """The run of one bar. A copy of the bar has it in its dictionary too, but has no run."""

    __slots__ = ("bar_id", "is_automatic", "run")

    def __init__(self, bar: object, run: Mirror, *, is_automatic: bool) -> None:
        self.bar_id = id(bar)
        self.run = run
        self.is_automatic = is_automatic

    def __reduce__(self) -> tuple[type[None], tuple[()]]:
        return type(None), ()  # copies and pickles contain None in its place


def _find_reference(bar: object) -> _RunReference | None:
    reference = getattr(bar, "__dict__", {}).get(MIRROR_ATTRIBUTE)
    is_own = reference.__class__ is _RunReference and reference.bar_id == id(bar)
    return reference if is_own else None


def find_run(bar: object) -> Mirror | None:
    """Return the run that shows a bar, or ``None``."""
    reference = _find_reference(bar)
    return None if reference is None else reference.run


def _find_running(bar: object) -> Mirror | None:
    """Return the run that shows a bar and has not ended, or ``None``. Raises nothing."""
    reference = _find_reference(bar)
    return reference.run if reference is not None and reference.run.status == "running" else None


def release_automatic_run(bar: object) -> bool:
    """End the run that ``install()`` has given to a bar; return whether the bar is free for another one."""
    reference = _find_reference(bar)
    if reference is not None and reference.is_automatic:
        reference.run.end("stopped")
    return reference is None or reference.is_automatic


def has_own_loop(args: tuple[Any, ...], options: Mapping[str, Any]) -> bool:
    """Return whether a new bar is a loop's, and certainly inside the current run: only other bars search their parent.

    Args:
        args: The positional arguments of the bar.
        options: Its keywords.
    """
    return get_iterable(args, options) is not None and not has_open_bars()


def select_run_class(args: tuple[Any, ...], options: Mapping[str, Any]) -> type[Mirror]:
    """Return the class for the run of a new bar. The arguments are those of ``has_own_loop()``."""
    return Mirror if has_own_loop(args, options) else PlacedMirror


def attach_loop(bar: Any, frame: FrameType, sender: Sender, *, is_automatic: bool = False) -> None:
    """Start to show a bar without options of ours, which has its own loop, is complete and not disabled."""
    run = LoopMirror(bar, find_user_frame(frame, "tqdm"), sender)
    bar.__dict__[MIRROR_ATTRIBUTE] = _RunReference(bar, run, is_automatic=is_automatic)
    for observe in start_observers:
        observe(run)
    sender.add(run)
    _register_exit_hook()


def get_iterable(args: tuple[Any, ...], options: Mapping[str, Any]) -> Any:
    """Return the iterable of a new bar by its arguments, or ``None``."""
    return args[0] if args else options.get("iterable")


def attach_mirror(bar: Any, run: Mirror, frame: FrameType, *, is_automatic: bool = False) -> None:
    """Start to show a bar that is complete and not disabled."""
    bar.__dict__[MIRROR_ATTRIBUTE] = _RunReference(bar, run, is_automatic=is_automatic)
    run.has_own_title = run.title is not None
    run.outer_error_id = id(sys.exception())
    frame = find_user_frame(frame, "tqdm")
    if isinstance(run, PlacedMirror):
        run.place(frame)
    start_mirror(
        run,
        frame,
        BarReader(bar, has_own_title=run.has_own_title),
        age_seconds=time.time() - getattr(bar, "start_t", math.inf),  # a hidden bar has no start
    )
    if run.stop is not None and getattr(bar, "iterable", None) is not None:
        bar.iterable = run.stop.make_stoppable(bar.iterable, run)
    _register_exit_hook()


def _on_enter(run: Mirror, frame: FrameType, *, in_block: bool = False) -> None:
    """Make the run of a bar the parent of the runs that start in its loop or block."""
    run.caller_code = find_user_frame(frame, "tqdm").f_code
    run.in_block = run.in_block or in_block
    run.is_entered = True
    run.outer_error_id = id(sys.exception())
    run.make_current()


def _on_close(run: Mirror, frame: FrameType) -> None:
    """End the run of a bar, in the way that the caller of ``close`` shows."""
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
    arguments = _INIT_SIGNATURE.bind_partial(None, *args, **options).arguments
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
        run = _find_running(self)
        if run is not None:
            call_safely(_on_close, run, sys._getframe(1))  # noqa: SLF001
        original(self)

    return close


def _wrap_iter(original: Callable[..., Any]) -> Callable[..., Any]:
    def loop(self: Any) -> Any:
        run = _find_running(self)
        if run is not None:
            call_safely(_on_enter, run, sys._getframe(1))  # noqa: SLF001
        return original(self)

    return loop


def _wrap_enter(original: Callable[..., Any]) -> Callable[..., Any]:
    def __enter__(self: Any) -> Any:  # noqa: N807
        run = _find_running(self)
        if run is not None:
            call_safely(_on_enter, run, sys._getframe(1), in_block=True)  # noqa: SLF001
        return original(self)

    return __enter__


def _wrap_exit(original: Callable[..., Any]) -> Callable[..., Any]:
    def __exit__(self: Any, kind: Any, error: BaseException | None, traceback: Any) -> Any:  # noqa: N807
        try:
            return original(self, kind, error, traceback)
        finally:
            run = _find_running(self)
            if run is not None:
                call_safely(run.end_block, error)

    return __exit__


HOOK_WRAPPERS: Final[dict[str, Callable[[Callable[..., Any]], Callable[..., Any]]]] = {
    "close": _wrap_close,
    "__iter__": _wrap_iter,
    "__aiter__": _wrap_iter,
    "__enter__": _wrap_enter,
    "__exit__": _wrap_exit,
}
"""By method of a bar: a function that gets the original and returns the method that replaces it."""


def build_hooks(kind: type) -> dict[str, Callable[..., Any]]:
    """Return the methods that replace those of a class of bars."""
    hooks: dict[str, Callable[..., Any]] = {}
    for name, wrap in HOOK_WRAPPERS.items():
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
    run = _find_running(self)
    if run is None:
        return iter(self.iterable)
    call_safely(_on_enter, run, sys._getframe(1))  # noqa: SLF001
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
    return type(kind.__name__, (kind, HiddenMarker), {**build_hooks(kind), **names})


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
