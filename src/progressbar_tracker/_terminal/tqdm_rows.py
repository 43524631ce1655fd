"""Shares the rows of a terminal with tqdm's own bars.

tqdm keeps its bars in a set. A new bar of tqdm uses a row that no member of the set has. ``tqdm.write()`` clears and
redraws the rows of all members. A ``Row`` in that set reserves a row for this library. The set is replaced and never
changed: the program's threads may iterate over it, and the library must not acquire tqdm's lock.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class Row:
    """A reserved row, with the attributes that tqdm expects of a bar.

    Args:
        stream: The output stream.
        position: Row number, from 0.
        hide: Clears all rows of this library. Returns when they are cleared, or after a short timeout.
        show: Requests a redraw of the rows.
    """

    # Read by tqdm's monitor thread: this bar never needs a refresh.
    miniters = 0
    maxinterval = 0.0
    last_print_t = start_t = 0.0
    disable = gui = False
    nrows = None

    def __init__(self, stream: object, position: int, hide: Callable[[], None], show: Callable[[], None]) -> None:
        self.fp = stream
        self.pos = position
        self._hide = hide
        self._show = show

    def clear(self, nolock: bool = False) -> None:  # noqa: ARG002 - tqdm's signature
        """Clear all rows of this library."""
        self._hide()

    def refresh(self, nolock: bool = False, lock_args: object = None) -> None:  # noqa: ARG002
        """Redraw all rows of this library."""
        self._show()

    def close(self) -> None:
        """Do nothing: the run ends the bar."""


def _get_tqdm_class() -> Any:
    return getattr(sys.modules.get("tqdm.std"), "tqdm", None)


def find_first_free_row() -> int:
    """Return the number of the first row below tqdm's own bars."""
    bars = getattr(_get_tqdm_class(), "_instances", ())
    positions = [getattr(bar, "pos", None) for bar in bars if not isinstance(bar, Row)]
    return max((abs(position) + 1 for position in positions if isinstance(position, int)), default=0)


def register_rows(rows: Sequence[Row]) -> None:
    """Replace this library's rows in tqdm's set by these."""
    tqdm = _get_tqdm_class()
    bars = getattr(tqdm, "_instances", None)
    if type(bars) is WeakSet:
        tqdm._instances = WeakSet([*(bar for bar in bars if not isinstance(bar, Row)), *rows])  # noqa: SLF001
