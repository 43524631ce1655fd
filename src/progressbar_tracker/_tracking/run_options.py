"""The options of a tracker that do not change, shared by all runs that have the same ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from progressbar_tracker._models import StuckAfter

    from .deadline import Deadline
    from .stop import OnStop

DEFAULT_INTERVAL: Final = 0.5  # seconds between two sends of an item


class RunOptions(NamedTuple):
    """The options of a tracker that do not change."""

    unit: str = "it"
    group: str | None = None
    keep: bool = False
    interval: float = DEFAULT_INTERVAL
    part: str | None = None  # the name of this process's part of the item; None is the item itself
    notify: tuple[str, ...] = ()  # names of channels
    deadline: Deadline | None = None
    stuck_after: StuckAfter = "auto"
    stoppable: bool | None = False  # None: if it is an outermost one
    on_stop: OnStop = "end"

    def intern(self) -> RunOptions:
        """Return the shared instance with these values. Most bars of a program have the same options."""
        if len(_interned_options) > 1000:  # a program that makes a new unit for each bar
            _interned_options.clear()
        return _interned_options.setdefault(self, self)


_interned_options: dict[RunOptions, RunOptions] = {}
