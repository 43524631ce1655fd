"""Bars in the output of a notebook's cell: Jupyter, VS Code, Colab (kernels based on ipykernel), and marimo.

The bars of a cell that run at the same time are one output, which the display thread replaces. An output is created
with the parent of the cell in which its first bar began: the kernel may run another cell when the thread publishes it.
An update names its output and needs no parent. A saved notebook has the last update.

Nothing is imported: a kernel has imported all that is needed, and a program without a kernel has terminal bars.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any, Final

from progressbar_tracker._fork import importing

from .marimo_cell import MarimoCell, find_marimo_cell
from .markup import BarState, render_html, render_text
from .pace import Pace

if TYPE_CHECKING:
    from collections.abc import Callable

    from progressbar_tracker._sender.snapshot import Snapshot

    from .display import DisplayedRun

PUBLISH_INTERVAL: Final = 0.2  # seconds
ELAPSED_INTERVAL: Final = 1.0  # seconds after which the times of a bar without progress are published
MAX_BARS: Final = 50  # of one output


def find_cell() -> Cell | MarimoCell | None:
    """Return the cell that runs in the calling thread, or ``None`` outside a notebook. Raises nothing."""
    return _find_kernel_cell() or find_marimo_cell()


def _find_kernel_cell() -> Cell | None:
    get_shell = getattr(sys.modules.get("IPython"), "get_ipython", None)
    if get_shell is None or "ipykernel" not in sys.modules:
        return None
    try:
        shell = get_shell()
        publisher = getattr(shell, "display_pub", None)
        if getattr(shell, "kernel", None) is None or publisher is None:
            return None
        return Cell(publisher, getattr(publisher, "parent_header", None))
    except Exception:  # noqa: BLE001 - a kernel of another kind
        return None


class Cell:
    """The place of an output.

    Args:
        publisher: The shell's publisher of outputs.
        parent: The header of the request that runs the cell.

    Attributes:
        key: Identifies the execution of the cell.
        reports_errors: Whether ``_tracking.cell_errors`` receives the exception that ends the cell.
    """

    reports_errors = True

    def __init__(self, publisher: Any, parent: Any) -> None:
        self._publisher = publisher
        self._parent = parent
        header = parent.get("header", parent) if isinstance(parent, dict) else {}
        self.key = header.get("msg_id") or id(publisher)

    @property
    def accepts_updates(self) -> bool:
        """Whether an output can be replaced: ``%%capture`` stores each update."""
        return hasattr(self._publisher, "session") and hasattr(self._publisher, "pub_socket")

    def publish(self, output_id: str, text: str, html: str, *, is_update: bool) -> None:
        """Create or replace an output. Any exception of the kernel is raised."""
        data = {"text/plain": text, "text/html": html}
        if is_update or not self.accepts_updates:
            self._publisher.publish(data, {}, transient={"display_id": output_id}, update=is_update)
            return
        content = {"data": data, "metadata": {}, "transient": {"display_id": output_id}}
        self._publisher.session.send(
            self._publisher.pub_socket, "display_data", content, parent=self._parent, ident=self._publisher.topic
        )


class CellOutput:
    """The bars of one cell that run at the same time, as one output. Used by the display thread only."""

    def __init__(self, cell: Cell | MarimoCell, clock: Callable[[], float]) -> None:
        self._cell = cell
        self._clock = clock
        self._id = os.urandom(8).hex()
        self._ended: list[BarState] = []
        self._is_created = False
        self._has_changed = False
        self._published_at = -PUBLISH_INTERVAL
        self.key = cell.key
        self.reports_errors = cell.reports_errors
        self.bars: list[CellBar] = []

    @property
    def is_done(self) -> bool:
        """Whether its bars have ended and it is published."""
        return not self.bars and not self._has_changed

    @property
    def has_room(self) -> bool:
        """Whether another bar can be added."""
        return bool(self.bars) and len(self.bars) + len(self._ended) < MAX_BARS

    def note_change(self) -> None:
        """Publish with one of the next frames."""
        self._has_changed = True

    def add_ended(self, state: BarState, *, is_nested: bool) -> None:
        """Keep the last state of a bar, except that of a nested one while others are shown."""
        if not is_nested or not (self.bars or self._ended):
            self._ended.append(state)
        self._has_changed = True

    def publish(self) -> None:
        """Publish a change, at most five times a second, and the last state at once."""
        now = self._clock()
        is_last = not self.bars
        if not self._has_changed or (now < self._published_at + PUBLISH_INTERVAL and not is_last):
            return
        if not is_last and not self._cell.accepts_updates:
            return
        states = [*self._ended, *(bar.state for bar in self.bars if bar.state is not None)]
        if not states:
            return
        self._has_changed, self._published_at = False, now
        is_update, self._is_created = self._is_created, True
        self._cell.publish(self._id, render_text(states), render_html(states), is_update=is_update)


class CellBar:
    """One run in an output of a cell."""

    def __init__(self, output: CellOutput, run: DisplayedRun, clock: Callable[[], float]) -> None:
        with importing:
            from tqdm.std import tqdm
        self._format_interval: Callable[[float], str] = tqdm.format_interval
        self._output = output
        self._run = run
        self._clock = clock
        self._unit = run.get_static_fields().unit
        self._pace = Pace(run.started_at)
        self._last_snapshot: Snapshot | None = None
        self._drawn_at = 0.0
        self.state: BarState | None = None
        output.bars.append(self)

    @property
    def stream(self) -> object:
        """The output, which fails alone."""
        return self._output

    @property
    def is_settled_later(self) -> bool:
        """Whether a tentative end becomes final at the end of the cell."""
        return self._output.reports_errors

    def draw(self, snapshot: Snapshot) -> None:
        """Prepare the current state."""
        now = self._clock()
        self._pace.update(snapshot.completed, now)
        if snapshot != self._last_snapshot or now >= self._drawn_at + ELAPSED_INTERVAL:
            self._last_snapshot, self._drawn_at = snapshot, now
            self.state = self._describe(snapshot, now)
            self._output.note_change()

    def end(self, snapshot: Snapshot) -> None:
        """Prepare the last state."""
        self._output.bars.remove(self)
        self._output.add_ended(self._describe(snapshot, self._clock()), is_nested=self._run.is_nested)

    def _describe(self, snapshot: Snapshot, now: float) -> BarState:
        elapsed = max(now - self._run.started_at, 0.0)
        is_running = snapshot.status == "running"
        rate = self._pace.get_rate(now) if is_running else snapshot.completed / elapsed if elapsed else None
        seconds_left = self._pace.estimate_seconds_left(snapshot.total, now) if is_running else None
        return BarState(
            snapshot,
            self._unit,
            self._format_interval(elapsed),
            "" if seconds_left is None else self._format_interval(seconds_left),
            "" if rate is None else f"{rate:.3g}{self._unit}/s",
            self._run.page_url,
        )
