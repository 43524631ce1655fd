"""tqdm with a second display: the terminal bar as ever, and the same bar on the server.

``from progressbar_tracker.tqdm import tqdm`` in place of ``from tqdm import tqdm`` is the whole change. ``install()``
does without it: every tqdm bar of the process is shown, whoever made it. ``mirror(bar)`` shows one that exists already.

``disable=True`` turns both displays off. ``disable=None``, which turns a bar off where stderr is no terminal, as in a
batch job, hides the terminal's only: such a bar counts for the server, as ``track()`` does.
"""

from __future__ import annotations

import contextlib
import functools
import sys
import threading
from typing import IO, TYPE_CHECKING, Any, AnyStr, Final, Generic, Self, TextIO, TypeVar, cast

from tqdm import contrib
from tqdm.asyncio import tqdm_asyncio
from tqdm.auto import tqdm as auto_tqdm
from tqdm.contrib import concurrent
from tqdm.std import tqdm as std_tqdm

from ._models import format_value
from ._tracking.mirror import Mirror
from ._tracking.tqdm_bar import (
    MIRROR_ATTRIBUTE,
    attach_hidden_mirror,
    attach_mirror,
    build_hooks,
    find_run,
    get_mirrored_class,
    is_auto_disabled,
    original_init,
)
from ._tracking.tracker import create_run

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager
    from types import TracebackType

    from ._tracking.deadline import DeadlineLike
    from ._tracking.tracker import HasSender

__all__ = [
    "install", "mirror", "process_map", "tenumerate", "thread_map", "tmap", "tqdm", "trange", "tzip", "uninstall",
]  # fmt: skip

B = TypeVar("B")
T = TypeVar("T")
R = TypeVar("R")

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

    if TYPE_CHECKING:

        def __init__(
            self,
            iterable: Iterable[T] | AsyncIterable[T] | None = None,
            *args: object,
            id: str | None = None,
            title: str | None = None,
            group: str | None = None,
            weight: int = 0,
            keep: bool = False,
            notify: str | Sequence[str] | None = None,
            deadline: DeadlineLike | None = None,
            client: HasSender | None = None,
            **options: object,
        ) -> None: ...

    else:

        def __init__(
            self,
            *args: Any,  # tqdm's own. Which of them are given matters: the environment may hold the others
            id: str | None = None,
            title: str | None = None,
            group: str | None = None,
            weight: int = 0,
            keep: bool = False,
            notify: str | Sequence[str] | None = None,
            deadline: DeadlineLike | None = None,
            client: HasSender | None = None,
            **options: Any,
        ) -> None:
            # Before anything is drawn, for what is wrong here. tqdm's constructor calls methods of the bar.
            run = create_run(
                Mirror, id=id, title=title, group=group, weight=weight, keep=keep, notify=notify, deadline=deadline,
                client=client,
            )  # fmt: skip
            self.__dict__[MIRROR_ATTRIBUTE] = None
            if auto_tqdm is tqdm_asyncio:
                # Past its constructor, which would take an iterator of everything, should it be needed in an async for:
                # some start processes, or can give but one.
                super(tqdm_asyncio, self).__init__(*args, **options)
            else:
                super().__init__(*args, **options)
            if not self.disable:
                attach_mirror(self, run, sys._getframe(1))  # noqa: SLF001
            elif is_auto_disabled(args, options):
                attach_hidden_mirror(self, run, args, options, sys._getframe(1))  # noqa: SLF001

    @classmethod
    def get_lock(cls) -> object:
        """Return the lock for drawing: that of tqdm's own class, but kept here too, where it can be deleted."""
        if "_lock" not in tqdm.__dict__:
            tqdm._lock = auto_tqdm.get_lock()
        return super().get_lock()

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


for _name, _hook in build_hooks(auto_tqdm).items():
    setattr(tqdm, _name, _hook)
tqdm.__doc__ = f"""tqdm's bar on the terminal, and the same bar on the server.

    Takes what tqdm takes, and of its own, as keywords: id, title, group, weight, keep, notify, deadline and client, as
    track() has them.
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
    notify: str | Sequence[str] | None = None,
    deadline: DeadlineLike | None = None,
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
        notify: Whom to tell of it; see ``track()``.
        deadline: When it is late; see ``track()``.
        client: A ``ProgressBar`` whose server and key to use in place of the configured ones.

    Returns:
        The bar.

    Raises:
        TypeError: ``bar`` is no tqdm bar, or another argument has the wrong type.
        ValueError: ``bar`` is closed or disabled, or is shown already.

    Example:
        >>> import io, tqdm
        >>> bar = tqdm.tqdm(total=3, file=io.StringIO())
        >>> mirror(bar, id="mirrored") is bar
        True
        >>> bar.update(3)
        >>> bar.close()
    """
    if not isinstance(bar, std_tqdm):
        raise TypeError(f"bar must be a bar of tqdm, not {format_value(bar)}")
    if getattr(bar, "disable", True):
        raise ValueError("bar is closed or disabled: mirror it while it runs")
    if find_run(bar) is not None:
        raise ValueError("bar is shown already")
    run = create_run(
        Mirror, id=id, title=title, group=group, weight=weight, keep=keep, notify=notify, deadline=deadline,
        client=client,
    )  # fmt: skip
    kind: type = type(bar)
    cast("Any", bar).__class__ = get_mirrored_class(kind)
    attach_mirror(bar, run, sys._getframe(1))  # noqa: SLF001
    return bar


# --- every bar of the process -----------------------------------------------------------------------------------------

_lock = threading.Lock()
LOCK_TIMEOUT: Final = 1.0  # seconds
_replaced_methods: dict[tuple[type, str], tuple[object, object]] = {}  # by what, and what was there
_is_installed = False


def _wrap_init(original: Callable[..., Any]) -> Callable[..., Any]:
    def __init__(self: Any, *args: Any, **options: Any) -> None:  # noqa: N807 - tracebacks name it
        if not _is_installed or MIRROR_ATTRIBUTE in self.__dict__:
            original(self, *args, **options)
            return
        self.__dict__[MIRROR_ATTRIBUTE] = None
        original(self, *args, **options)
        if self.disable and not is_auto_disabled(args, options):
            return
        run = create_run(Mirror)
        if self.disable:
            attach_hidden_mirror(self, run, args, options, sys._getframe(1))  # noqa: SLF001
        else:
            attach_mirror(self, run, sys._getframe(1))  # noqa: SLF001

    return __init__


@contextlib.contextmanager
def _hold_lock() -> Iterator[None]:
    taken = _lock.acquire(timeout=LOCK_TIMEOUT)  # else its holder is gone, as in the child of a fork
    try:
        yield
    finally:
        if taken:
            _lock.release()


def install() -> None:
    """Show every tqdm bar that this process makes from now on, whatever was imported first and under which name.

    Bars inside libraries included. Methods of tqdm's class are replaced, not names. Idempotent.

    Example:
        >>> install()
        >>> uninstall()
    """
    global _is_installed
    with _hold_lock():
        _is_installed = True
        new = {(std_tqdm, name): hook for name, hook in build_hooks(std_tqdm).items()}
        new[std_tqdm, "__init__"] = functools.wraps(original_init)(_wrap_init(original_init))
        new[tqdm_asyncio, "__aiter__"] = build_hooks(tqdm_asyncio)["__aiter__"]
        for (kind, name), hook in new.items():
            if (kind, name) not in _replaced_methods:
                _replaced_methods[kind, name] = hook, kind.__dict__[name]  # which may be a descriptor
                setattr(kind, name, hook)


def uninstall() -> None:
    """Leave the bars that are made from now on alone. Idempotent.

    Those that are shown stay shown; how they end is then known from their counts only.
    """
    global _is_installed
    with _hold_lock():
        _is_installed = False
        for (kind, name), (ours, plain) in list(_replaced_methods.items()):
            # Where somebody else has wrapped ours it has to stay, and does nothing of its own for new bars.
            if kind.__dict__[name] is ours:
                setattr(kind, name, plain)
                del _replaced_methods[kind, name]


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
