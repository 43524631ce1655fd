"""What the sender knows of a tracked run: its state at an instant, how to ask for it, and how two of them differ."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

if TYPE_CHECKING:
    from progressbar_tracker._endings import FatalErrors
    from progressbar_tracker._models import Number, Op, Status

    class Source(Protocol):
        """What the sender knows of a tracked run. Read from the sender's thread."""

        record: object  # the reconciler's own: its record of the run

        @property
        def id(self) -> str:
            """The item's id."""

        @property
        def run_id(self) -> str:
            """Which run of the program this is."""

        @property
        def part(self) -> str | None:
            """The name of this process's share of the item, or ``None`` for the item itself."""

        @property
        def interval(self) -> float:
            """Least seconds between two sends."""

        @property
        def keep(self) -> bool:
            """Whether the item stays listed after its end."""

        @property
        def is_tentative(self) -> bool:
            """Whether the end may still turn out to be another one."""

        @property
        def first_send_delay(self) -> float:
            """Seconds that the run must have lived before it is first sent."""

        @property
        def is_skippable(self) -> bool:
            """Whether it has ended in a way that nobody needs to hear of if nobody heard of its beginning."""

        def sample(self, before: Snapshot | None = None) -> Snapshot:
            """Return the state now: ``before`` itself where nothing has changed since."""

        def get_static_fields(self) -> StaticFields:
            """Return what is told once."""

        def finalize(self, fatal_errors: FatalErrors) -> None:
            """Settle the end for good, for the process ends now; ``fatal_errors`` is of the exception it dies of.

            If any.
            """


class Snapshot(NamedTuple):
    """The state of a run at one instant, absolute and immutable. The fields are those of the protocol."""

    title: str
    description: str
    completed: Number
    total: Number | None
    weight: int
    status: Status
    error: str | None


class StaticFields(NamedTuple):
    """What is told of a run once, when its item is made."""

    unit: str
    group: str | None
    parent: str | None
    notify: tuple[str, ...] = ()
    deadline: str | None = None


# What a server takes an item for that it is told nothing of.
EMPTY_SNAPSHOT: Final = Snapshot("", "", 0, None, 0, "running", None)


def add_changes(op: Op, new: Snapshot, old: Snapshot) -> None:
    """Put into ``op`` what ``new`` has otherwise than ``old``."""
    # Field by field, for this is done for every item at every send.
    if new.completed != old.completed:
        op["completed"] = new.completed
    if new[:2] == old[:2] and new[3:] == old[3:]:
        return  # as nearly always
    if new.description != old.description:
        op["description"] = new.description
    if new.total != old.total:
        op["total"] = new.total
    if new.title != old.title:
        op["title"] = new.title
    if new.weight != old.weight:
        op["weight"] = new.weight
    if new.status != old.status:
        op["status"] = new.status
    if new.error != old.error:
        op["error"] = new.error
