"""The rows of a terminal that tqdm's own bars and ours share.

tqdm knows its bars by a set. A bar of tqdm's takes a row that no member of it has, and ``tqdm.write()`` has all of them
clear their rows and draw them again. A ``Row`` stands in that set for a row of ours. The set is replaced and never
changed, for the program's threads may be iterating over it, and tqdm's lock is not ours to take.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class Row:
    """What tqdm asks of a bar that is not its own.

    Args:
        stream: Where it is drawn.
        position: Which row it is, from 0.
        hide: Clears all rows of ours, and returns when they are cleared, or soon.
        show: Has them drawn again.
    """

    # What tqdm's monitor looks at: a bar that is never late.
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

    def clear(self, nolock: bool = False) -> None:  # noqa: ARG002 - as tqdm has it
        """Clear the row."""
        self._hide()

    def refresh(self, nolock: bool = False, lock_args: object = None) -> None:  # noqa: ARG002
        """Draw the row again."""
        self._show()

    def close(self) -> None:
        """Do nothing: the run ends the bar."""


def _get_tqdm_class() -> Any:
    return getattr(sys.modules.get("tqdm.std"), "tqdm", None)


def count_taken_rows() -> int:
    """Return how many rows tqdm's own bars have, counted from the first."""
    bars = getattr(_get_tqdm_class(), "_instances", ())
    positions = [getattr(bar, "pos", None) for bar in bars if not isinstance(bar, Row)]
    return max((abs(position) + 1 for position in positions if isinstance(position, int)), default=0)


def register_rows(rows: Sequence[Row]) -> None:
    """Let tqdm know these rows of ours, and no others."""
    tqdm = _get_tqdm_class()
    bars = getattr(tqdm, "_instances", None)
    if type(bars) is WeakSet:
        tqdm._instances = WeakSet([*(bar for bar in bars if not isinstance(bar, Row)), *rows])  # noqa: SLF001
