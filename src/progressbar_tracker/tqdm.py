"""tqdm with a second display: the usual terminal bar, and the same bar on the server.

Import ``tqdm`` from ``progressbar_tracker.tqdm`` instead of ``tqdm``; no other change is needed. ``install()`` needs no
change of imports: it shows every tqdm bar of the process. ``mirror(bar)`` shows a bar that exists already.

``disable=True`` disables both displays. ``disable=None`` hides the terminal bar if stderr is not a terminal, as in a
batch job. Such a bar is still shown on the server, as with ``track()``.
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
        """Type annotations for tqdm's class."""

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
    _Bar = {T: auto_tqdm}  # _Bar[T] is the class itself: Generic as a base would change the class


class tqdm(_Bar[T]):  # noqa: N801 - same name as in tqdm
    """Set below: the text contains that of tqdm's class, because tqdm's command line reads its options from it."""

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
            *args: Any,  # tqdm's. The environment may set those that are not passed
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
            # Invalid arguments raise before anything is drawn. tqdm's constructor calls methods of the bar.
            run = create_run(
                Mirror, id=id, title=title, group=group, weight=weight, keep=keep, notify=notify, deadline=deadline,
                client=client,
            )  # fmt: skip
            self.__dict__[MIRROR_ATTRIBUTE] = None
            if auto_tqdm is tqdm_asyncio:
                # Skip its constructor, which creates an iterator of every iterable in case of an async for. Some
                # iterables start processes then, or allow only one iterator.
                super(tqdm_asyncio, self).__init__(*args, **options)
            else:
                super().__init__(*args, **options)
            if not self.disable:
                attach_mirror(self, run, sys._getframe(1))  # noqa: SLF001
            elif is_auto_disabled(args, options):
                attach_hidden_mirror(self, run, args, options, sys._getframe(1))  # noqa: SLF001

    @classmethod
    def get_lock(cls) -> object:
        """Return the drawing lock of tqdm's class. It is stored here too, where it can be deleted."""
        if "_lock" not in tqdm.__dict__:
            tqdm._lock = auto_tqdm.get_lock()
        return super().get_lock()

    @functools.cached_property
    def iterable_awaitable(self) -> bool:
        """Whether the iterable is asynchronous."""
        return hasattr(self.iterable, "__anext__") or hasattr(self.iterable, "__aiter__")

    @functools.cached_property
    def iterable_next(self) -> Callable[[], Any]:
        """The function that returns the next item for ``async for``, which also accepts ordinary iterables."""
        source: Any = self.iterable
        if not self.iterable_awaitable:
            step: Callable[[], Any] = (source if hasattr(source, "__next__") else iter(source)).__next__
        else:
            step = (source if hasattr(source, "__anext__") else aiter(source)).__anext__
        return step


for _name, _hook in build_hooks(auto_tqdm).items():
    setattr(tqdm, _name, _hook)
tqdm.__doc__ = f"""tqdm's bar on the terminal, and the same bar on the server.

    Accepts the arguments of tqdm, and as keywords id, title, group, weight, keep, notify, deadline and client of
    track().
    Without a title the server shows the description as title, with the postfix beside it.

    The documentation of tqdm:
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
    """Show an existing bar of any tqdm class on the server from now on.

    Args:
        bar: A bar of ``tqdm``, ``tqdm.notebook``, ``tqdm.rich`` or a derived class.
        id: The item's id. A restart of the program with the same id continues the item. By default a unique id is
            generated.
        title: By default the bar's description.
        group: Heading on the dashboard.
        weight: Items with a higher weight are shown first.
        keep: Keep the item on the board after it has succeeded or stopped.
        notify: Names of the channels to notify; see ``track()``.
        deadline: Instant after which the item is late; see ``track()``.
        client: A ``ProgressBar`` that replaces the configured server and key.

    Returns:
        The bar.

    Raises:
        TypeError: ``bar`` is not a tqdm bar, or another argument has the wrong type.
        ValueError: ``bar`` is closed, disabled or already shown.

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
_replaced_methods: dict[tuple[type, str], tuple[object, object]] = {}  # (hook, original) by class and method
_is_installed = False


def _wrap_init(original: Callable[..., Any]) -> Callable[..., Any]:
    def __init__(self: Any, *args: Any, **options: Any) -> None:  # noqa: N807 - shown in tracebacks
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
    is_acquired = _lock.acquire(timeout=LOCK_TIMEOUT)  # in the child of a fork the holder does not exist
    try:
        yield
    finally:
        if is_acquired:
            _lock.release()


def install() -> None:
    """Show every new tqdm bar of this process, bars of libraries included, in any order of imports.

    The function replaces methods of tqdm's class, not names in modules. Idempotent.

    Example:
        >>> install()
        >>> uninstall()
    """
    global _is_installed
    with _hold_lock():
        _is_installed = True
        hooks = {(std_tqdm, name): hook for name, hook in build_hooks(std_tqdm).items()}
        hooks[std_tqdm, "__init__"] = functools.wraps(original_init)(_wrap_init(original_init))
        hooks[tqdm_asyncio, "__aiter__"] = build_hooks(tqdm_asyncio)["__aiter__"]
        for (kind, name), hook in hooks.items():
            if (kind, name) not in _replaced_methods:
                _replaced_methods[kind, name] = hook, kind.__dict__[name]  # not getattr: it may be a descriptor
                setattr(kind, name, hook)


def uninstall() -> None:
    """Stop showing new bars. Idempotent.

    Bars that are shown already stay on the server; their result is then derived from their counts.
    """
    global _is_installed
    with _hold_lock():
        _is_installed = False
        for (kind, name), (hook, original) in list(_replaced_methods.items()):
            # A hook that other code has wrapped must stay; it ignores new bars.
            if kind.__dict__[name] is hook:
                setattr(kind, name, original)
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
    """Run ``map()`` in threads and return a list. Options as ``tqdm``, and ``max_workers``, ``chunksize``.

    Example:
        >>> thread_map(abs, [-1, 2], disable=True)
        [1, 2]
    """
    return cast("list[R]", concurrent.thread_map(function, *iterables, **{"tqdm_class": tqdm, **options}))


def process_map(function: Callable[..., R], *iterables: Iterable[Any], **options: Any) -> list[R]:
    """Run ``map()`` in processes and return a list. Options as ``thread_map``."""
    return cast("list[R]", concurrent.process_map(function, *iterables, **{"tqdm_class": tqdm, **options}))
