"""A tqdm bar that is shown on the server too: how it is read, and how its beginning and its end are seen.

Nothing of a bar's own work is changed: not a display hook, not ``update``. A bar is read from the sender's thread, and
so costs its loop nothing. What is hooked is what happens once a bar: a loop or a block over it begins, and it ends.

How a bar ended is known from who closes it. tqdm's own loop does so in a ``finally``, where the exception that came
through it, if any, is at hand: none is a loop that came to its end, ``GeneratorExit`` one that was left early. A block
knows by itself. What is left early may turn out to be the process's death, as with ``track()``.
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
from .run import classify_error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

original_init = std_tqdm.__init__
_DISABLE_POSITION: Final = (
    list(inspect.signature(original_init).parameters).index("disable") - 1
)  # its place among the arguments

MIRROR_ATTRIBUTE: Final = "_progressbar_mirror"  # the attribute of a bar that is shown; None while it is being made


class _BarReader:
    """Reads a tqdm bar, which it holds weakly. Equal texts stay the same objects, so that nobody compares them."""

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
            n, total = n * scale, total and total * scale  # as the terminal shows it
        if bar.desc is not self._desc or bar.postfix is not self._postfix:
            self._desc, self._postfix = bar.desc, bar.postfix
            desc = str(self._desc or "").strip().removesuffix(":")
            postfix = "" if self._postfix is None else str(self._postfix)
            self._title = desc or None
            self._text = " \N{MIDDLE DOT} ".join(filter(None, (desc, postfix))) if self._has_own_title else postfix
        ended = bool(bar.disable) and not isinstance(bar, _HiddenMarker)
        return Reading(n, total, self._title, self._text, str(bar.unit).strip(), ended)


class _RunReference:
    """The run of one bar. A copy of the bar finds it in its dictionary, too, and is not the bar."""

    __slots__ = ("_bar_id", "run")

    def __init__(self, bar: object, run: Mirror) -> None:
        self._bar_id = id(bar)
        self.run = run

    def get_run(self, bar: object) -> Mirror | None:
        return self.run if id(bar) == self._bar_id else None

    def __reduce__(self) -> tuple[type[None], tuple[()]]:
        return type(None), ()  # to copy and pickle, there is nothing


def find_run(bar: object) -> Mirror | None:
    """Return the run that shows a bar, if one does."""
    owned = getattr(bar, "__dict__", {}).get(MIRROR_ATTRIBUTE)
    return owned.get_run(bar) if isinstance(owned, _RunReference) else None


def attach_mirror(bar: Any, run: Mirror, frame: FrameType) -> None:
    """Begin to show a bar that is made and not disabled."""
    bar.__dict__[MIRROR_ATTRIBUTE] = _RunReference(bar, run)
    run.has_own_title = run.title is not None
    run.outer_error_id = id(sys.exception())
    start_mirror(run, find_user_frame(frame, "tqdm"), _BarReader(bar, has_own_title=run.has_own_title))
    _register_exit_hook()


def _on_enter(bar: object, frame: FrameType, *, in_block: bool = False) -> None:
    """A loop or a block over a bar begins: what is made in it is inside it."""
    run = find_run(bar)
    if run is not None and run.status == "running":
        run.caller_code = find_user_frame(frame, "tqdm").f_code
        run.in_block = run.in_block or in_block
        run.outer_error_id = id(sys.exception())
        run.make_current()


def _on_close(bar: object, frame: FrameType) -> None:
    """Somebody closes a bar: see who, and so how it ended."""
    run = find_run(bar)
    if run is None or run.status != "running":
        return
    error = sys.exception()
    while frame.f_code.co_name == "close" and frame.f_back is not None:  # a subclass's own
        frame = frame.f_back
    by = frame.f_code.co_name if frame.f_globals.get("__name__", "").startswith("tqdm.") else ""
    if by == "__del__":
        run.abandon()
    elif by == "__exit__":
        run.poll()  # _left() knows how
    elif by in ("__iter__", "__anext__"):
        # What is being handled further out, and was so when the loop began, is not the loop's.
        trace = None if error is None else error.__traceback__
        through = error if trace is not None and trace.tb_frame is frame else None
        if isinstance(through, StopIteration | StopAsyncIteration):
            through = None
        if run.in_block:
            run.poll()
            run.left_early = through is not None
        elif through is None:
            run.end("succeeded")
        else:
            run.on_source_error(through)
    elif error is None or id(error) == run.outer_error_id:
        run.end("succeeded")
    else:
        # In a finally, or in an except: the error may be the end of everything, or of a loop that was to end so.
        run.abandon()


def _on_exit(bar: object, error: BaseException | None) -> None:
    """A block was left."""
    run = find_run(bar)
    if run is not None:
        if error is not None:
            run.end(*classify_error(error))
        else:
            early = run.left_early or (run.has_loop and not run.is_exhausted)
            run.end("stopped" if early else "succeeded")


def is_auto_disabled(args: tuple[Any, ...], options: dict[str, Any]) -> bool:
    """Say whether a bar is to be turned off where there is no terminal."""
    return (args[_DISABLE_POSITION] if len(args) > _DISABLE_POSITION else options.get("disable", False)) is None


def attach_hidden_mirror(
    bar: Any, run: Mirror, args: tuple[Any, ...], options: dict[str, Any], frame: FrameType
) -> None:
    """Begin to show a bar that tqdm has turned off for want of a terminal, and so keeps no state of."""
    given = inspect.signature(original_init).bind_partial(None, *args, **options).arguments
    bar.desc, bar.unit, bar.unit_scale, bar.postfix = given.get("desc"), given.get("unit", "it"), False, None
    if postfix := given.get("postfix"):
        try:
            bar.set_postfix(refresh=False, **postfix)
        except TypeError:
            bar.postfix = postfix
    kind: type = type(bar)
    bar.__class__ = _get_hidden_class(kind)
    attach_mirror(bar, run, frame)


# What a bar that is shown does when it begins and ends, round what it does anyway. The drop-in, a mirrored bar's class
# and all of tqdm's bars are made to do it in the same way.


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
            _on_exit(self, error)

    return __exit__


def build_hooks(kind: type) -> dict[str, Callable[..., Any]]:
    """Return the methods that a class of bars gets in the place of its own."""
    makers = {
        "close": _wrap_close,
        "__iter__": _wrap_iter,
        "__aiter__": _wrap_iter,
        "__enter__": _wrap_enter,
        "__exit__": _wrap_exit,
    }
    plain = {name: getattr(kind, name, None) for name in makers}
    return {name: functools.wraps(found)(makers[name](found)) for name, found in plain.items() if found is not None}


def _new_instance(kind: type, *args: Any) -> Any:
    return kind.__new__(kind, *args)


def _make_reduce_ex(kind: Any) -> Callable[..., Any]:
    def __reduce_ex__(self: Any, protocol: int) -> Any:  # noqa: N807
        # A class that is made while the program runs cannot be found by pickle: its base can.
        make, (_, *rest), *more = kind.__reduce_ex__(self, protocol)
        # pickle wants an object made by copyreg.__newobj__ to be of that very class.
        return _new_instance if make.__name__ == "__newobj__" else make, (kind, *rest), *more

    return __reduce_ex__


@functools.cache
def get_mirrored_class(kind: type) -> type:
    # A class of its own, and not methods in the bar's dictionary: those would hold the bar, and it would not be
    # finalized when it is let go of.
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
    """Marks the classes of bars that tqdm has turned off, and that count for the server only."""

    __slots__ = ()


class _LoopListener:
    """Hands on the end of a loop, and holds the bar as long, which nobody else may."""

    __slots__ = ("bar", "on_exhausted", "on_released")

    def __init__(self, bar: object, run: Mirror) -> None:
        self.bar = bar
        self.on_exhausted = run.on_exhausted
        self.on_released = run.on_released


def _update_hidden(self: Any, n: float | None = 1) -> None:
    with contextlib.suppress(TypeError):  # a bar that is turned off takes anything
        self.n += n


def _iterate_hidden(self: Any) -> Iterator[Any]:
    run = find_run(self)
    if run is None or run.status != "running":
        return iter(self.iterable)
    _on_enter(self, sys._getframe(1))  # noqa: SLF001
    return run.wrap_iterator(
        iter(self.iterable), _LoopListener(self, run)
    )  # as track() counts: cheaper than tqdm's own way past such a bar


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
    # After the sender's own hook was registered, and so run before it.
    global _exit_hook_registered
    if not _exit_hook_registered:
        _exit_hook_registered = True
        atexit.register(_close_open_bars)


def _close_open_bars() -> None:
    """Close what is still open, while the interpreter is whole: 3.13.0 crashes where tqdm's finalizer does it later."""
    for bar in list(getattr(std_tqdm, "_instances", ())):
        run = find_run(bar)
        if run is not None:
            run.abandon()
            _close_bar(bar)


def _close_bar(bar: Any) -> None:
    """Close a bar if tqdm's lock can be had: it stays taken when a write has failed in another thread."""
    lock = bar.get_lock()
    parts = getattr(lock, "locks", [lock])  # one for processes and one for threads
    taken = []
    try:
        for part in parts:
            if not part.acquire(timeout=LOCK_TIMEOUT):
                return
            taken.append(part)
        bar.close()
    except Exception as error:  # noqa: BLE001 - its stream is gone: no reason to leave the other bars open
        log(DEBUG, "A bar could not be closed: %r", error)
    finally:
        for part in reversed(taken):
            part.release()
