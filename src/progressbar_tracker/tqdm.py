"""tqdm with a second display: the usual terminal bar, and the same bar on the server.

Import ``tqdm`` from ``progressbar_tracker.tqdm`` instead of ``tqdm``; no other change is needed. ``install()`` needs no
change of imports: it shows every tqdm bar of the process. ``mirror(bar)`` shows a bar that exists already.

``disable=True`` disables both displays. ``disable=None`` hides the terminal bar if stderr is not a terminal, as in a
batch job. Such a bar is still shown on the server, as with ``track()``.
"""

from __future__ import annotations

import functools
import sys
from typing import IO, TYPE_CHECKING, Any, AnyStr, Generic, Self, TextIO, TypeVar, cast

from tqdm import contrib
from tqdm.asyncio import tqdm_asyncio
from tqdm.auto import tqdm as auto_tqdm
from tqdm.contrib import concurrent
from tqdm.std import tqdm as std_tqdm

from ._models import format_value
from ._runtime import are_loops_stoppable
from ._tracking.creation import create_run, find_default_sender, select_stoppable
from ._tracking.hidden_bars import is_hidden
from ._tracking.mirror import Mirror
from ._tracking.nesting import PlacedMirror
from ._tracking.patches import Patches, call_safely, hide_frames
from ._tracking.tqdm_bar import (
    HOOK_WRAPPERS,
    MIRROR_ATTRIBUTE,
    attach_hidden_mirror,
    attach_loop,
    attach_mirror,
    build_hooks,
    find_run,
    get_iterable,
    get_mirrored_class,
    has_own_loop,
    is_auto_disabled,
    is_shown_elsewhere,
    release_automatic_run,
    select_run_class,
)
from ._tracking.tqdm_printer import make_status_printer

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager
    from types import FrameType, TracebackType

    from ._models import StuckAfter
    from ._sender.sender import Sender
    from ._tracking.creation import HasSender
    from ._tracking.deadline import DeadlineLike
    from ._tracking.stop import OnStop

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
            stuck_after: StuckAfter = "auto",
            client: HasSender | None = None,
            stoppable: bool | None = None,
            on_stop: OnStop = "end",
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
            stuck_after: StuckAfter = "auto",
            client: HasSender | None = None,
            stoppable: bool | None = None,
            on_stop: OnStop = "end",
            **options: Any,
        ) -> None:
            has_options = not (
                id is title is group is notify is deadline is client is stoppable is None
                and weight.__class__ is int
                and weight == 0
                and not keep
                and stuck_after.__class__ is str
                and stuck_after == "auto"
                and on_stop == "end"
            )
            sender = None if has_options else _find_loop_sender(args, options)
            if sender is None:
                # Invalid arguments raise before anything is drawn. tqdm's constructor calls methods of the bar.
                run = create_run(
                    select_run_class(args, options), id=id, title=title, group=group, weight=weight, keep=keep,
                    notify=notify, deadline=deadline, stuck_after=stuck_after, client=client,
                    stoppable=select_stoppable(stoppable, has_loop=get_iterable(args, options) is not None),
                    on_stop=on_stop,
                )  # fmt: skip
            self.__dict__[MIRROR_ATTRIBUTE] = None
            if auto_tqdm is tqdm_asyncio:
                # Skip its constructor, which creates an iterator of every iterable in case of an async for. Some
                # iterables start processes then, or allow only one iterator.
                super(tqdm_asyncio, self).__init__(*args, **options)
            else:
                super().__init__(*args, **options)
            frame = sys._getframe(1)  # noqa: SLF001 - of the caller
            if not self.disable:
                if sender is None:
                    call_safely(attach_mirror, self, run, frame)
                else:
                    call_safely(attach_loop, self, frame, sender)
            elif is_auto_disabled(args, options):
                if sender is not None:
                    run = create_run(Mirror, stoppable=False)
                call_safely(attach_hidden_mirror, self, run, args, options, frame)

    @classmethod
    def get_lock(cls) -> object:
        """Return the drawing lock of tqdm's class. It is stored here too, where it can be deleted."""
        if "_lock" not in tqdm.__dict__:
            tqdm._lock = auto_tqdm.get_lock()
        return super().get_lock()

    @property
    def stop_requested(self) -> bool:
        """Whether the stop of the bar was requested; only of a stoppable one."""
        run = find_run(self)
        return run is not None and run.stop_requested

    def log(self, text: object) -> None:
        """Send lines to the server, which shows the last ones on the page of the run. Nothing is printed.

        Args:
            text: One or more lines: a string, or an object for ``str()``.
        """
        run = find_run(self)
        if run is not None:
            run.log(text)

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
if auto_tqdm.status_printer is std_tqdm.status_printer:  # not in a notebook
    setattr(tqdm, "status_printer", staticmethod(make_status_printer))  # noqa: B010 - the class has no types of tqdm's
tqdm.__doc__ = f"""tqdm's bar on the terminal, and the same bar on the server.

    Accepts the arguments of tqdm, and as keywords id, title, group, weight, keep, notify, deadline, stuck_after,
    client, stoppable and on_stop of track().
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
    stuck_after: StuckAfter = "auto",
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
        stuck_after: Seconds without progress after which the item is stuck; see ``track()``.
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
    run = create_run(
        PlacedMirror, id=id, title=title, group=group, weight=weight, keep=keep, notify=notify, deadline=deadline,
        stuck_after=stuck_after, client=client,
    )  # fmt: skip
    if not release_automatic_run(bar):
        raise ValueError("bar is shown already")
    kind: type = type(bar)
    cast("Any", bar).__class__ = get_mirrored_class(kind)
    attach_mirror(bar, run, sys._getframe(1))  # noqa: SLF001
    return bar


# --- every bar of the process -----------------------------------------------------------------------------------------

_patches = Patches()


def _wrap_init(original: Callable[..., Any]) -> Callable[..., Any]:
    def __init__(self: Any, *args: Any, **options: Any) -> None:  # noqa: N807 - shown in tracebacks
        is_shown = _patches.is_installed and MIRROR_ATTRIBUTE not in self.__dict__
        if is_shown:
            self.__dict__[MIRROR_ATTRIBUTE] = None
        try:
            original(self, *args, **options)
        except BaseException as error:
            hide_frames(error)
            raise
        if is_shown:
            call_safely(_show_bar, self, args, options, sys._getframe(1))  # noqa: SLF001

    return __init__


def _show_bar(bar: Any, args: tuple[Any, ...], options: dict[str, Any], frame: FrameType) -> None:
    if is_shown_elsewhere.get():
        return
    if is_hidden(frame, "tqdm"):
        return
    if not bar.disable:
        sender = _find_loop_sender(args, options)
        if sender is None:
            attach_mirror(bar, _create_automatic_run(args, options), frame, is_automatic=True)
        else:
            attach_loop(bar, frame, sender, is_automatic=True)
    elif is_auto_disabled(args, options):
        attach_hidden_mirror(bar, _create_automatic_run(args, options), args, options, frame)


def _find_loop_sender(args: tuple[Any, ...], options: dict[str, Any]) -> Sender | None:
    """Return the sender for ``attach_loop()``, or ``None`` if the bar needs more than that."""
    return find_default_sender() if has_own_loop(args, options) and not are_loops_stoppable() else None


def _create_automatic_run(args: tuple[Any, ...], options: dict[str, Any]) -> Mirror:
    # tqdm's own class has asked an asynchronous iterable for its iterator already.
    iterable = get_iterable(args, options)
    has_loop = iterable is not None and not hasattr(type(iterable), "__aiter__")
    return create_run(select_run_class(args, options), stoppable=select_stoppable(None, has_loop=has_loop))


def install() -> None:
    """Show every new tqdm bar of this process, bars of libraries included, in any order of imports.

    The function replaces methods of tqdm's class, not names in modules. Idempotent.

    Example:
        >>> install()
        >>> uninstall()
    """
    _patches.install(
        {
            **{(std_tqdm, name): wrap for name, wrap in HOOK_WRAPPERS.items() if hasattr(std_tqdm, name)},
            (std_tqdm, "__init__"): _wrap_init,
            (tqdm_asyncio, "__aiter__"): HOOK_WRAPPERS["__aiter__"],
        }
    )


def uninstall() -> None:
    """Stop showing new bars. Idempotent.

    Bars that are shown already stay on the server; their result is then derived from their counts.
    """
    _patches.uninstall()


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
