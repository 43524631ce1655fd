"""The parent of a bar that the program updates itself, without a loop or block of a library.

Such bars are open for one of two reasons: one runs *inside* another one, as batches in an epoch, or *beside* it, as two
downloads. The first send of a bar comes half a second after its start, and its parent is decided then: it is inside an
earlier bar of the same thread that waits while the new bar moves. Bars that move at the same time are siblings, and so
are bars that the same line creates.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Final, NamedTuple

from .mirror import Mirror
from .run import find_current_run

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import CodeType, FrameType

    from progressbar_tracker._models import Number
    from progressbar_tracker._sender.sender import Sender
    from progressbar_tracker._sender.snapshot import StaticFields

    from .run import Run
    from .run_options import RunOptions

    CallSite = tuple[tuple[CodeType, int], ...]

MAX_OPEN_BARS: Final = 8  # bars of a thread that are considered as the parent of a new one
CALL_SITE_DEPTH: Final = 3  # frames: a program may create all bars in one function


class _OpenBar(NamedTuple):
    """A bar that may enclose those that the same thread or asyncio task creates later."""

    run: PlacedMirror
    indent: int
    call_site: CallSite


class _Candidate(NamedTuple):
    """A possible parent of a bar, with its position when that was created."""

    run: PlacedMirror
    position: Number
    is_certain: bool


# Bars that are created concurrently have other contexts, so that they are not taken for nested ones.
_open_bars: ContextVar[tuple[_OpenBar, ...]] = ContextVar("progressbar_tracker_open_bars", default=())


class PlacedMirror(Mirror):
    """The run of a bar whose parent is decided at its first send or at its end."""

    __slots__ = ("_candidates", "_is_placed", "_outer_run")

    def __init__(self, id: str | None, options: RunOptions, sender: Sender | None) -> None:
        super().__init__(id, options, sender)
        self._candidates: tuple[_Candidate, ...] = ()
        self._outer_run: Run | None = None  # around the bar and its possible parents
        self._is_placed = False

    def place(self, frame: FrameType, *, indent: int = 0, enclosing_run: Run | None = None) -> None:
        """Find the possible parents, before the start. The run becomes a possible parent itself.

        Args:
            frame: The frame that creates the bar.
            indent: Spaces before the title, by which the program shows that a bar is inside another one.
            enclosing_run: A parent that is certain for another reason.
        """
        outer_run = _find_certain_outer_run()
        bar = _OpenBar(self, indent, _get_call_site(frame))
        bars = [other for other in _open_bars.get() if not other.run.is_entered and other.run.is_running()]
        _open_bars.set((bar, *bars[: MAX_OPEN_BARS - 1]))
        if outer_run is not None:  # a bar that started before the loop around the new one does not come in between
            bars = [other for other in bars if other.run.started_at >= outer_run.started_at]
        if enclosing_run is not None and not any(other.run is enclosing_run for other in bars):
            outer_run = max(filter(None, (outer_run, enclosing_run)), key=lambda run: run.started_at)
        self._candidates = tuple(_iter_candidates(bar, bars, enclosing_run))
        self._outer_run, self._is_placed = outer_run, True

    @property
    def certain_outer_run(self) -> Run | None:
        """The run itself if bars that start now are certainly inside it, else the run around it."""
        return self._outer_run if self._is_placed and not self.is_entered else self

    def start(self, frame: FrameType, *, in_block: bool, age_seconds: float = 0.0) -> None:
        """Start, with the innermost possible parent for now."""
        super().start(frame, in_block=in_block, age_seconds=age_seconds)
        if self._is_placed:
            self.parent = self._candidates[0].run if self._candidates else self._outer_run
            if self.parent is not None and not self.options.stoppable:
                self.stop = None

    def _decide_parent(self) -> None:
        candidates, self._candidates = self._candidates, ()
        if candidates:
            self.parent = next((c.run for c in candidates if self._is_inside(c)), self._outer_run)

    def _is_inside(self, candidate: _Candidate) -> bool:
        if candidate.is_certain:
            return True
        has_moved = self.position != 0 or self.status != "running"
        return has_moved and candidate.run.is_running() and candidate.run.position == candidate.position

    def get_static_fields(self) -> StaticFields:
        """Return the fields that are sent once."""
        self._decide_parent()
        return super().get_static_fields()

    def _poll_finally(self) -> None:
        super()._poll_finally()
        self._decide_parent()


def has_open_bars() -> bool:
    """Return whether this thread or asyncio task has created a bar that may enclose a new one."""
    bars = _open_bars.get()
    running_bars = tuple(bar for bar in bars if bar.run.is_running()) if bars else bars
    if len(running_bars) != len(bars):
        _open_bars.set(running_bars)
    return bool(running_bars)


def _find_certain_outer_run() -> Run | None:
    """Return the innermost run of this thread whose loop or block is certainly around a new bar."""
    run = find_current_run()
    while isinstance(run, PlacedMirror) and run.certain_outer_run is not run:
        run = run.certain_outer_run
    while run is not None and not run.is_running():
        run = run.parent
    return run


def _get_call_site(frame: FrameType | None) -> CallSite:
    steps: list[tuple[CodeType, int]] = []
    while frame is not None and len(steps) < CALL_SITE_DEPTH:
        steps.append((frame.f_code, frame.f_lineno))
        frame = frame.f_back
    return tuple(steps)


def _iter_candidates(new: _OpenBar, bars: list[_OpenBar], enclosing_run: Run | None) -> Iterator[_Candidate]:
    for bar in bars:
        if bar.run is enclosing_run:
            is_certain = True
        elif bar.indent < new.indent:
            if sum(other.indent == bar.indent for other in bars) > 1:
                continue  # with several of that level at once it is unknown which one encloses the new bar
            is_certain = True
        elif bar.indent == new.indent == 0 and bar.call_site != new.call_site:
            is_certain = False
        else:
            continue
        yield _Candidate(bar.run, bar.run.position, is_certain)
