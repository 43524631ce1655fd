"""Decides which failures of a sender are logged and announced: one line for each cause, however often it occurs.

A cause stays open until the server has accepted a request again. It is logged once an outage, and at most once a minute
if the server comes and goes. It is announced once: an announcement is a line on a terminal. At the end of the program
one more line follows if states are lost and no announcement of this outage has said why.
"""

from __future__ import annotations

import contextlib
import math
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from progressbar_tracker._log import INFO, WARNING, log

if TYPE_CHECKING:
    from collections.abc import Callable

    Scope: TypeAlias = Literal["server", "item"]

LOG_INTERVAL: Final = 60.0  # seconds between two lines of one cause
DOCTOR_HINT: Final = "run 'progressbar-tracker doctor'"
MAX_CAUSES: Final = 1000  # of a process; further ones are not announced


def add_hint(text: str) -> str:
    """Return a failure with the next step for its reader, unless it names a command already.

    >>> add_hint("there is no answer")
    "there is no answer (run 'progressbar-tracker doctor')"
    """
    return text if "progressbar-tracker " in text else f"{text} ({DOCTOR_HINT})"


class FailureLog:
    """The failures of one sender.

    Args:
        announce: Receives each announcement: its cause, its text, and whether it is about the server as a whole or
            about an item.
        clock: Monotonic seconds.
    """

    def __init__(self, announce: Callable[[str, str, Scope], None], clock: Callable[[], float]) -> None:
        self._announce = announce
        self._clock = clock
        self._logged_at: dict[str, float] = {}
        self._open: dict[str, Scope] = {}
        self._announced: set[str] = set()
        self._is_explained = False  # an announcement of this outage has named its cause
        self._is_closed = False

    def reset(self) -> None:
        """Forget all failures in the child of a fork."""
        self._logged_at, self._open, self._is_closed = {}, {}, False

    def report(self, cause: str, text: str, scope: Scope = "server") -> None:
        """Log and announce a failure, unless its cause is known."""
        if self._is_closed or cause in self._open:
            return
        now = self._clock()
        if now < self._logged_at.get(cause, -math.inf) + LOG_INTERVAL or len(self._logged_at) >= MAX_CAUSES:
            return
        self._logged_at[cause] = now
        self._open[cause] = scope
        log(WARNING, "%s", text)
        self._announce_once(cause, text, scope)

    def record_success(self) -> None:
        """Close the causes that are about the server, because it has accepted a request."""
        if "server" in self._open.values():
            self._open = {cause: scope for cause, scope in self._open.items() if scope != "server"}
            self._is_explained = bool(self._open)
            log(INFO, "Progress is reported again")

    def close_cause(self, cause: str) -> None:
        """Close the cause of items, because the server has accepted them."""
        if self._open.pop(cause, None) is not None:
            self._is_explained = bool(self._open)
            log(INFO, "Progress is reported again")

    def close(self, lost_count: int) -> None:
        """Report nothing more, but first a number of items whose last state is lost, if no line has said why."""
        if self._is_closed:
            return
        if lost_count:
            items = f"{lost_count} item{'s' if lost_count > 1 else ''}"
            text = add_hint(f"The last state of {items} did not reach the server in time")
            if not self._open:
                log(WARNING, "%s", text)
            if not self._is_explained:
                self._announce_once("lost", text, "server")
        self._is_closed = True

    def _announce_once(self, cause: str, text: str, scope: Scope) -> None:
        if cause not in self._announced:
            self._announced.add(cause)
            self._is_explained = True
            with contextlib.suppress(Exception):
                self._announce(cause, text, scope)
