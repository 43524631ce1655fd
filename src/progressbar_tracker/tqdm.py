"""tqdm with a second display: the terminal bar as ever, and the same bar on the server.

``from progressbar_tracker.tqdm import tqdm`` in place of ``from tqdm import tqdm`` is the whole change. ``install()``
does without it: every tqdm bar of the process is shown, whoever made it. ``mirror(bar)`` shows one that exists already.

Nothing of a bar's own work is changed: not a display hook, not ``update``. A bar is read from the sender's thread, and
so costs its loop nothing. What is overridden is what happens once a bar: its beginning and its end.

How a bar ended is known from who closes it. tqdm's own loop does so in a ``finally``, where the exception that came
through it, if any, is at hand: none is a loop that came to its end, ``GeneratorExit`` one that was left early. A block
knows by itself. What is left early may turn out to be the process's death, as with ``track()``.

``disable=True`` turns both displays off. ``disable=None``, which hides a bar where stderr is no terminal, hides the
terminal's only: it writes to nowhere.
"""

from __future__ import annotations

import atexit
import functools
import inspect
import sys
import threading
import weakref
from typing import IO, TYPE_CHECKING, Any, AnyStr, Final, Generic, Self, TextIO, TypeVar, cast

from tqdm import contrib
from tqdm.asyncio import tqdm_asyncio
from tqdm.auto import tqdm as auto_tqdm
from tqdm.contrib import concurrent
from tqdm.std import tqdm as std_tqdm

from ._mirror import Mirror, Reading
from ._models import shown
from ._run import ending
from ._tracker import labelled_run

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
    from contextlib import AbstractContextManager
    from types import FrameType, TracebackType

    from ._tracker import HasSender

__all__ = [
    "install", "mirror", "process_map", "tenumerate", "thread_map", "tmap", "tqdm", "trange", "tzip", "uninstall",
]  # fmt: skip

B = TypeVar("B")
T = TypeVar("T")
R = TypeVar("R")

_MIRROR: Final = "_progressbar_mirror"  # the attribute of a bar that is shown; None while it is being made


class _Nowhere:
    """Where a bar writes that is hidden on the terminal only."""

    encoding = "utf-8"

    def write(self, text: str) -> int:
        return len(text)

    def flush(self) -> None:
        pass

    def isatty(self) -> bool:
        return False


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
        return Reading(n, total, self._title, self._text, str(bar.unit).strip(), ended=bool(bar.disable))


def _of(bar: object) -> Mirror | None:
    return cast("Mirror | None", bar.__dict__.get(_MIRROR))


def _users(frame: FrameType | None) -> FrameType:
    """Return the innermost frame that is neither tqdm's nor of this package."""
    here = frame
    while here is not None and here.f_back is not None:
        if here.f_globals.get("__name__", "").partition(".")[0] not in ("tqdm", "progressbar_tracker"):
            break
        here = here.f_back
    assert here is not None
    return here


def _show(bar: Any, run: Mirror, frame: FrameType) -> None:
    """Begin to show a bar that is made and not disabled."""
    bar.__dict__[_MIRROR] = run
    run.named = run.title is not None
    run.read = _Reader(bar, named=run.named)
    run.outer_error = id(sys.exception())
    run.look()
    run.begin(_users(frame), in_block=False)
    if run.sender is not None:
        run.sender.add(run)
    _see_to_exit()


def _entered(bar: object, frame: FrameType, *, in_block: bool = False) -> None:
    """A loop or a block over a bar begins: what is made in it is inside it."""
    run = _of(bar)
    if run is not None and run.status == "running":
        run.code = _users(frame).f_code
        run.in_block = run.in_block or in_block
        run.outer_error = id(sys.exception())
        run.enter()


def _closing(bar: object, frame: FrameType) -> None:
    """Somebody closes a bar: see who, and so how it ended."""
    run = _of(bar)
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
    run = _of(bar)
    if run is not None:
        if error is not None:
            run.end(*ending(error))
        else:
            run.end("stopped" if run.left_early else "succeeded")


def _arguments(args: tuple[Any, ...], options: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the arguments of a bar, changed where it would be turned off for want of a terminal."""
    if options.get("disable", False) is not None and len(args) <= _DISABLE:
        return args, options  # nearly always
    given = inspect.signature(_plain_init).bind_partial(None, *args, **options).arguments
    file = given.get("file") or sys.stderr
    if given.get("disable", False) is not None or not hasattr(file, "isatty") or file.isatty():
        return args, options
    del given["self"]
    others = given.pop("kwargs", {})
    return (), {**given, **others, "disable": False, "file": _Nowhere()}


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
    def __exit__(self: Any, kind: Any, error: BaseException | None, traceback: Any) -> None:  # noqa: N807
        try:
            plain(self, kind, error, traceback)
        finally:
            _left(self, error)

    return __exit__


def _hooks(kind: type) -> dict[str, Callable[..., Any]]:
    """Return the methods that a class of bars gets in the place of its own."""
    makers = {"close": _closer, "__iter__": _looper, "__aiter__": _looper, "__enter__": _enterer, "__exit__": _leaver}
    plain = {name: getattr(kind, name, None) for name in makers}
    return {name: functools.wraps(found)(makers[name](found)) for name, found in plain.items() if found is not None}


if TYPE_CHECKING:

    class _Bar(Generic[T]):
        """The parts of tqdm's own class that are typed."""

        iterable: Iterable[T] | None
        n: float
        total: float | None
        desc: str
        postfix: object
        unit: str
        disable: bool
        leave: bool | None
        _lock: object

        def __init__(self, iterable: Iterable[T] | None = None, *args: object, **options: object) -> None: ...
        def __iter__(self) -> Iterator[T]: ...
        def __aiter__(self) -> AsyncIterator[T]: ...
        def __enter__(self) -> Self: ...
        def __exit__(
            self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
        ) -> None: ...
        def __len__(self) -> int: ...
        def update(self, n: float | None = 1) -> bool | None: ...
        def close(self) -> None: ...
        def clear(self, nolock: bool = False) -> None: ...
        def refresh(self, nolock: bool = False, lock_args: tuple[object, ...] | None = None) -> bool | None: ...
        def display(self, msg: str | None = None, pos: int | None = None) -> bool | None: ...
        def unpause(self) -> None: ...
        def reset(self, total: float | None = None) -> None: ...
        def set_description(self, desc: str | None = None, refresh: bool = True) -> None: ...
        def set_description_str(self, desc: str | None = None, refresh: bool = True) -> None: ...
        def set_postfix(
            self, ordered_dict: Mapping[str, object] | None = None, refresh: bool = True, **values: object
        ) -> None: ...
        def set_postfix_str(self, s: str = "", refresh: bool = True) -> None: ...
        @classmethod
        def write(cls, s: str, file: TextIO | None = None, end: str = "\n", nolock: bool = False) -> None: ...
        @classmethod
        def set_lock(cls, lock: object) -> None: ...
        @classmethod
        def get_lock(cls) -> object: ...
        @classmethod
        def pandas(cls, **options: object) -> None: ...
        @classmethod
        def as_completed(cls, fs: Iterable[Awaitable[R]], **options: object) -> Iterator[Awaitable[R]]: ...
        @classmethod
        async def gather(cls, *fs: Awaitable[R], **options: object) -> list[R]: ...
        @classmethod
        def wrapattr(
            cls, stream: IO[AnyStr], method: str, total: float | None = None, bytes: bool = True, **options: object
        ) -> AbstractContextManager[IO[AnyStr]]: ...

else:
    _Bar = {T: auto_tqdm}  # so that _Bar[T] is the class itself: a Generic among the bases would change what it is


class tqdm(_Bar[T]):  # noqa: N801 - its name is the point
    """See below: the text of tqdm's own class belongs to it, for tqdm's command line reads its options from there."""

    def __init__(
        self,
        *args: Any,  # tqdm's own. Which of them are given matters: the environment may hold the others
        id: str | None = None,
        title: str | None = None,
        group: str | None = None,
        weight: int = 0,
        keep: bool = False,
        client: HasSender | None = None,
        **options: Any,
    ) -> None:
        # Before anything is drawn, for what is wrong here. tqdm calls methods of the bar from inside its constructor.
        run = labelled_run(Mirror, id=id, title=title, group=group, weight=weight, keep=keep, client=client)
        self.__dict__[_MIRROR] = None
        args, options = _arguments(args, options)
        if auto_tqdm is tqdm_asyncio:
            # Past its constructor, which would take an iterator of everything, should it be needed in an async for:
            # some start processes, or can give but one.
            super(tqdm_asyncio, self).__init__(*args, **options)
        else:
            super().__init__(*args, **options)
        if not self.disable:
            _show(self, run, sys._getframe(1))  # noqa: SLF001

    @classmethod
    def get_lock(cls) -> object:
        """Return the lock for drawing: that of tqdm's own class, but kept here too, where it can be deleted."""
        if "_lock" not in tqdm.__dict__:
            tqdm._lock = auto_tqdm.get_lock()
        return super().get_lock()

    if TYPE_CHECKING:

        def __new__(  # noqa: D102 - for type checkers only
            cls, iterable: Iterable[T] | AsyncIterable[T] | None = None, *args: object, **options: object
        ) -> tqdm[T]: ...

    @functools.cached_property
    def iterable_awaitable(self) -> bool:
        """Whether the iterable is an asynchronous one."""
        return hasattr(self.iterable, "__anext__") or hasattr(self.iterable, "__aiter__")

    @functools.cached_property
    def iterable_next(self) -> Callable[[], Any]:
        """What gives the next item to an ``async for``, which may also be over an ordinary iterable."""
        source: Any = self.iterable
        if not self.iterable_awaitable:
            step: Callable[[], Any] = (source if hasattr(source, "__next__") else iter(source)).__next__
        else:
            step = (source if hasattr(source, "__anext__") else aiter(source)).__anext__
        return step


for _name, _hook in _hooks(auto_tqdm).items():
    setattr(tqdm, _name, _hook)
tqdm.__doc__ = f"""tqdm's bar on the terminal, and the same bar on the server.

    Takes what tqdm takes, and of its own, as keywords: id, title, group, weight, keep and client, as track() has them.
    Without a title the server shows the description as one; the postfix is shown beside it.

    What tqdm says of its own:
{std_tqdm.__doc__}"""


def mirror(
    bar: B,
    *,
    id: str | None = None,
    title: str | None = None,
    group: str | None = None,
    weight: int = 0,
    keep: bool = False,
    client: HasSender | None = None,
) -> B:
    """Show a tqdm bar that exists already, of any of tqdm's classes, on the server from now on.

    Args:
        bar: The bar: of ``tqdm``, ``tqdm.notebook``, ``tqdm.rich`` or a class derived from one.
        id: The item's id. The same program started again with the same id takes the item over. Without one a unique
            id is made.
        title: What to call it; by default the bar's description.
        group: A heading to sort under.
        weight: Higher is shown first.
        keep: Leave the item listed after it has succeeded or stopped.
        client: A ``ProgressBar`` whose server and key to use in place of the configured ones.

    Returns:
        The bar.

    Raises:
        TypeError: ``bar`` is no tqdm bar, or another argument has the wrong type.
        ValueError: ``bar`` is closed or disabled, or is shown already.

    Example:
        >>> import os, tqdm
        >>> bar = tqdm.tqdm(total=3, file=open(os.devnull, "w"))
        >>> mirror(bar, id="mirrored") is bar
        True
        >>> bar.update(3); bar.close()
    """
    if not isinstance(bar, std_tqdm):
        raise TypeError(f"bar must be a bar of tqdm, not {shown(bar)}")
    if getattr(bar, "disable", True):
        raise ValueError("bar is closed or disabled: mirror it while it runs")
    if bar.__dict__.get(_MIRROR) is not None:
        raise ValueError("bar is shown already")
    run = labelled_run(Mirror, id=id, title=title, group=group, weight=weight, keep=keep, client=client)
    kind: type = type(bar)
    cast("Any", bar).__class__ = _shown_class(kind)
    _show(bar, run, sys._getframe(1))  # noqa: SLF001
    return bar


@functools.cache
def _shown_class(kind: type) -> type:
    # A class of its own, and not methods in the bar's dictionary: those would hold the bar, and it would not be
    # finalized when it is let go of.
    return type(kind.__name__, (kind,), {"__module__": kind.__module__, "__doc__": kind.__doc__, **_hooks(kind)})


# --- every bar of the process -----------------------------------------------------------------------------------------

_plain_init = std_tqdm.__init__
_DISABLE: Final = list(inspect.signature(_plain_init).parameters).index("disable") - 1  # its place among the arguments

_lock = threading.Lock()
_replaced: dict[tuple[type, str], tuple[object, object]] = {}  # by what, and what was there
_installed = False


def _making(plain: Callable[..., Any]) -> Callable[..., Any]:
    def __init__(self: Any, *args: Any, **options: Any) -> None:  # noqa: N807 - tracebacks name it
        if not _installed or _MIRROR in self.__dict__:
            plain(self, *args, **options)
            return
        self.__dict__[_MIRROR] = None
        args, options = _arguments(args, options)
        plain(self, *args, **options)
        if not self.disable:
            run = labelled_run(Mirror, id=None, title=None, group=None, weight=0, keep=False, client=None)
            _show(self, run, sys._getframe(1))  # noqa: SLF001

    return __init__


def install() -> None:
    """Show every tqdm bar that this process makes from now on, whatever was imported first and under which name.

    Bars inside libraries included. Methods of tqdm's class are replaced, not names. Idempotent.

    Example:
        >>> install()
        >>> uninstall()
    """
    global _installed
    with _lock:
        _installed = True
        hooks = {(std_tqdm, name): hook for name, hook in _hooks(std_tqdm).items()}
        hooks[std_tqdm, "__init__"] = functools.wraps(_plain_init)(_making(_plain_init))
        hooks[tqdm_asyncio, "__aiter__"] = _hooks(tqdm_asyncio)["__aiter__"]
        for (kind, name), hook in hooks.items():
            if (kind, name) not in _replaced:
                _replaced[kind, name] = hook, kind.__dict__[name]  # which may be a descriptor
                setattr(kind, name, hook)


def uninstall() -> None:
    """Leave the bars that are made from now on alone. Idempotent.

    Those that are shown stay shown; how they end is then known from their counts only.
    """
    global _installed
    with _lock:
        _installed = False
        for (kind, name), (ours, plain) in list(_replaced.items()):
            # Where somebody else has wrapped ours it has to stay, and does nothing of its own for new bars.
            if kind.__dict__[name] is ours:
                setattr(kind, name, plain)
                del _replaced[kind, name]


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
        run = _of(bar)
        if run is not None:
            run.abandoned()
            bar.close()


# --- tqdm's other names -----------------------------------------------------------------------------------------------


def trange(*args: int, **options: Any) -> tqdm[int]:
    """Return ``tqdm(range(*args), **options)``.

    Example:
        >>> sum(trange(4, disable=True))
        6
    """
    return tqdm(range(*args), **options)


def tenumerate(
    iterable: Iterable[T], start: int = 0, total: float | None = None, **options: Any
) -> Iterator[tuple[int, T]]:
    """Return ``enumerate()`` with a bar; of a numpy array, ``numpy.ndenumerate()``. Options as ``tqdm``.

    Example:
        >>> list(tenumerate("ab", disable=True))
        [(0, 'a'), (1, 'b')]
    """
    return iter(contrib.tenumerate(iterable, start, total, **{"tqdm_class": tqdm, **options}))


def tzip(iterable: Iterable[Any], *iterables: Iterable[Any], **options: Any) -> Iterator[tuple[Any, ...]]:
    """Return ``zip()`` with a bar over the first. Options as ``tqdm``.

    Example:
        >>> list(tzip("ab", [1, 2], disable=True))
        [('a', 1), ('b', 2)]
    """
    return iter(contrib.tzip(iterable, *iterables, **{"tqdm_class": tqdm, **options}))


def tmap(function: Callable[..., R], *iterables: Iterable[Any], **options: Any) -> Iterator[R]:
    """Return ``map()`` with a bar. Options as ``tqdm``.

    Example:
        >>> list(tmap(abs, [-1, 2], disable=True))
        [1, 2]
    """
    return iter(contrib.tmap(function, *iterables, **{"tqdm_class": tqdm, **options}))


def thread_map(function: Callable[..., R], *iterables: Iterable[Any], **options: Any) -> list[R]:
    """Return the list of ``map()``, worked out by threads. Options as ``tqdm``, and ``max_workers``, ``chunksize``.

    Example:
        >>> thread_map(abs, [-1, 2], disable=True)
        [1, 2]
    """
    return cast("list[R]", concurrent.thread_map(function, *iterables, **{"tqdm_class": tqdm, **options}))


def process_map(function: Callable[..., R], *iterables: Iterable[Any], **options: Any) -> list[R]:
    """Return the list of ``map()``, worked out by processes. Options as ``thread_map``."""
    return cast("list[R]", concurrent.process_map(function, *iterables, **{"tqdm_class": tqdm, **options}))
