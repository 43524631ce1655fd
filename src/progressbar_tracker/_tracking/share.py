"""A bar that several processes fill, each with a part of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypedDict, TypeVar, cast, overload

from progressbar_tracker import _runtime
from progressbar_tracker._models import MAX_PART_LENGTH, format_value
from progressbar_tracker._text import clean_text

from .creation import check_interval, select_display
from .run import Run
from .run_names import get_program_name, make_unique_name
from .run_options import DEFAULT_INTERVAL, RunOptions
from .tracker import Tracker

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Iterable
    from typing import Unpack

    class PartOptions(TypedDict, total=False):
        """The keywords of ``Share.track()``."""

        part: str | None
        interval: float
        display: bool | None


T = TypeVar("T")


class Share(NamedTuple):
    """A handle on a bar of another process: small, picklable, without the key.

    The item shows the sum of its parts. A part's count is absolute: a process that repeats the work of a killed one
    names the same part, and replaces its count.

    Attributes:
        url: The server's URL, or ``None`` for the configured one.
        id: The item's id.
        run_id: The run that the parts belong to.
        active: Whether the bar is sent to a server.
    """

    url: str | None
    id: str
    run_id: str
    active: bool = True

    @overload
    def track(self, iterable: Iterable[T] | AsyncIterable[T], **options: Unpack[PartOptions]) -> Tracker[T]: ...
    @overload
    def track(self, iterable: None = None, **options: Unpack[PartOptions]) -> Tracker[None]: ...
    def track(
        self,
        iterable: Iterable[T] | AsyncIterable[T] | None = None,
        *,
        part: str | None = None,
        interval: float = DEFAULT_INTERVAL,
        display: bool | None = False,
    ) -> Tracker[T] | Tracker[None]:
        """Track a loop or a block as a part of the bar.

        The end of a part is flushed before the program continues, because a pool may end a process the moment its work
        is done. If the server does not answer, the process waits once, for at most 1.5 seconds.

        Args:
            iterable: The source of the loop; ``None`` for ``advance()`` and ``update()``.
            part: Names the piece of work, at most 64 characters; by default a name unique to this process.
            interval: Least seconds between two sends.
            display: Draw a terminal bar for the part; ``None`` draws it if stderr is a terminal.

        Raises:
            TypeError, ValueError: As ``track()``.
        """
        name = f"{get_program_name()[:20]}-{make_unique_name()}" if part is None else part
        if name.__class__ is not str or not name:
            raise TypeError(f"part must be a text that is not empty, not {format_value(part)}")
        sender = _runtime.get_sender_at(self.url) if self.active and not _runtime.is_disabled() else None
        options = RunOptions(interval=check_interval(interval), part=clean_text(name, MAX_PART_LENGTH))
        run = Run(self.id, options.intern(), sender)
        run.title, run.pinned_run_id = name, self.run_id
        run.display = select_display(display)
        return Tracker(cast("Iterable[T] | None", iterable), run)
