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
from .mirror import Mirror, Reading, begin, users
from .run import ending

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

plain_init = std_tqdm.__init__
_DISABLE: Final = list(inspect.signature(plain_init).parameters).index("disable") - 1  # its place among the arguments

MIRROR: Final = "_progressbar_mirror"  # the attribute of a bar that is shown; None while it is being made


class _Reader:
    """Reads a tqdm bar, which it holds weakly. Equal texts stay the same objects, so that nobody compares them."""

    __slots__ = ("_bar", "_desc", "_named", "_postfix", "_text", "_title")

    def __init__(self, bar: object, *, named: bool) -> None:
        self._bar = weakref.ref(bar)
        self._named = named
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
            self._text = " \N{MIDDLE DOT} ".join(filter(None, (desc, postfix))) if self._named else postfix
        ended = bool(bar.disable) and not isinstance(bar, _Hidden)
        return Reading(n, total, self._title, self._text, str(bar.unit).strip(), ended)


class _Owned:
    """The run of one bar. A copy of the bar finds it in its dictionary, too, and is not the bar."""

    __slots__ = ("_bar_id", "run")

    def __init__(self, bar: object, run: Mirror) -> None:
        self._bar_id = id(bar)
        self.run = run

    def of(self, bar: object) -> Mirror | None:
        return self.run if id(bar) == self._bar_id else None

    def __reduce__(self) -> tuple[type[None], tuple[()]]:
        return type(None), ()  # to copy and pickle, there is nothing


def run_of(bar: object) -> Mirror | None:
    """Return the run that shows a bar, if one does."""
    owned = getattr(bar, "__dict__", {}).get(MIRROR)
    return owned.of(bar) if isinstance(owned, _Owned) else None


def show(bar: Any, run: Mirror, frame: FrameType) -> None:
    """Begin to show a bar that is made and not disabled."""
    bar.__dict__[MIRROR] = _Owned(bar, run)
    run.named = run.title is not None
    run.outer_error = id(sys.exception())
    begin(run, users(frame, "tqdm"), _Reader(bar, named=run.named))
    _see_to_exit()


def _entered(bar: object, frame: FrameType, *, in_block: bool = False) -> None:
    """A loop or a block over a bar begins: what is made in it is inside it."""
    run = run_of(bar)
    if run is not None and run.status == "running":
        run.code = users(frame, "tqdm").f_code
        run.in_block = run.in_block or in_block
        run.outer_error = id(sys.exception())
        run.enter()


def _closing(bar: object, frame: FrameType) -> None:
    """Somebody closes a bar: see who, and so how it ended."""
    run = run_of(bar)
    if run is None or run.status != "running":
        return
    error = sys.exception()
    while frame.f_code.co_name == "close" and frame.f_back is not None:  # a subclass's own
        frame = frame.f_back
    by = frame.f_code.co_name if frame.f_globals.get("__name__", "").startswith("tqdm.") else ""
    if by == "__del__":
        run.abandoned()
    elif by == "__exit__":
        run.look()  # _left() knows how
    elif by in ("__iter__", "__anext__"):
        # What is being handled further out, and was so when the loop began, is not the loop's.
        trace = None if error is None else error.__traceback__
        through = error if trace is not None and trace.tb_frame is frame else None
        if isinstance(through, StopIteration | StopAsyncIteration):
            through = None
        if run.in_block:
            run.look()
            run.left_early = through is not None
        elif through is None:
            run.end("succeeded")
        else:
            run.raised(through)
    elif error is None or id(error) == run.outer_error:
        run.end("succeeded")
    else:
        # In a finally, or in an except: the error may be the end of everything, or of a loop that was to end so.
        run.abandoned()


def _left(bar: object, error: BaseException | None) -> None:
    """A block was left."""
    run = run_of(bar)
    if run is not None:
        if error is not None:
            run.end(*ending(error))
        else:
            early = run.left_early or (run.looping and not run.complete)
            run.end("stopped" if early else "succeeded")


def may_hide(args: tuple[Any, ...], options: dict[str, Any]) -> bool:
    """Say whether a bar is to be turned off where there is no terminal."""
    return (args[_DISABLE] if len(args) > _DISABLE else options.get("disable", False)) is None


def hide(bar: Any, run: Mirror, args: tuple[Any, ...], options: dict[str, Any], frame: FrameType) -> None:
    """Begin to show a bar that tqdm has turned off for want of a terminal, and so keeps no state of."""
    given = inspect.signature(plain_init).bind_partial(None, *args, **options).arguments
    bar.desc, bar.unit, bar.unit_scale, bar.postfix = given.get("desc"), given.get("unit", "it"), False, None
    if postfix := given.get("postfix"):
        try:
            bar.set_postfix(refresh=False, **postfix)
        except TypeError:
            bar.postfix = postfix
    kind: type = type(bar)
    bar.__class__ = _hidden_class(kind)
    show(bar, run, frame)


# What a bar that is shown does when it begins and ends, round what it does anyway. The drop-in, a mirrored bar's class
# and all of tqdm's bars are made to do it in the same way.


def _closer(plain: Callable[..., Any]) -> Callable[..., Any]:
    def close(self: Any) -> None:
        _closing(self, sys._getframe(1))  # noqa: SLF001
        plain(self)

    return close


def _looper(plain: Callable[..., Any]) -> Callable[..., Any]:
    def loop(self: Any) -> Any:
        _entered(self, sys._getframe(1))  # noqa: SLF001
        return plain(self)

    return loop


def _enterer(plain: Callable[..., Any]) -> Callable[..., Any]:
    def __enter__(self: Any) -> Any:  # noqa: N807
        _entered(self, sys._getframe(1), in_block=True)  # noqa: SLF001
        return plain(self)

    return __enter__


def _leaver(plain: Callable[..., Any]) -> Callable[..., Any]:
    def __exit__(self: Any, kind: Any, error: BaseException | None, traceback: Any) -> Any:  # noqa: N807
        try:
            return plain(self, kind, error, traceback)
        finally:
            _left(self, error)

    return __exit__


def hooks(kind: type) -> dict[str, Callable[..., Any]]:
    """Return the methods that a class of bars gets in the place of its own."""
    makers = {"close": _closer, "__iter__": _looper, "__aiter__": _looper, "__enter__": _enterer, "__exit__": _leaver}
    plain = {name: getattr(kind, name, None) for name in makers}
    return {name: functools.wraps(found)(makers[name](found)) for name, found in plain.items() if found is not None}


def _new(kind: type, *args: Any) -> Any:
    return kind.__new__(kind, *args)


def _reducer(kind: Any) -> Callable[..., Any]:
    def __reduce_ex__(self: Any, protocol: int) -> Any:  # noqa: N807
        # A class that is made while the program runs cannot be found by pickle: its base can.
        make, (_, *rest), *more = kind.__reduce_ex__(self, protocol)
        # pickle wants an object made by copyreg.__newobj__ to be of that very class.
        return _new if make.__name__ == "__newobj__" else make, (kind, *rest), *more

    return __reduce_ex__


@functools.cache
def shown_class(kind: type) -> type:
    # A class of its own, and not methods in the bar's dictionary: those would hold the bar, and it would not be
    # finalized when it is let go of.
    return type(
        kind.__name__,
        (kind,),
        {"__module__": kind.__module__, "__doc__": kind.__doc__, "__reduce_ex__": _reducer(kind), **hooks(kind)},
    )


class _Hidden:
    """Marks the classes of bars that tqdm has turned off, and that count for the server only."""

    __slots__ = ()


class _Watch:
    """Hands on the end of a loop, and holds the bar as long, which nobody else may."""

    __slots__ = ("bar", "exhausted", "released")

    def __init__(self, bar: object, run: Mirror) -> None:
        self.bar = bar
        self.exhausted = run.exhausted
        self.released = run.released


def _count(self: Any, n: float | None = 1) -> None:
    with contextlib.suppress(TypeError):  # a bar that is turned off takes anything
        self.n += n


def _counted(self: Any) -> Iterator[Any]:
    run = run_of(self)
    if run is None or run.status != "running":
        return iter(self.iterable)
    _entered(self, sys._getframe(1))  # noqa: SLF001
    return run.loop(
        iter(self.iterable), _Watch(self, run)
    )  # as track() counts: cheaper than tqdm's own way past such a bar


@functools.cache
def _hidden_class(kind: type) -> type:
    names = {"__module__": kind.__module__, "__doc__": kind.__doc__, "update": _count, "__iter__": _counted}
    names["__reduce_ex__"] = _reducer(kind)
    return type(kind.__name__, (kind, _Hidden), {**hooks(kind), **names})


# --- the end of the process -------------------------------------------------------------------------------------------

_exit_seen = False


def _see_to_exit() -> None:
    # After the sender's own hook was registered, and so run before it.
    global _exit_seen
    if not _exit_seen:
        _exit_seen = True
        atexit.register(_close_open)


def _close_open() -> None:
    """Close what is still open, while the interpreter is whole: 3.13.0 crashes where tqdm's finalizer does it later."""
    for bar in list(getattr(std_tqdm, "_instances", ())):
        run = run_of(bar)
        if run is not None:
            run.abandoned()
            _close(bar)


def _close(bar: Any) -> None:
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
