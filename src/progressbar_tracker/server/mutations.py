"""The mutations that a store executes.

Each is immutable: the writer thread encodes it while the board continues.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

import msgspec

if TYPE_CHECKING:
    from .models import (
        EndedRun,
        EndStatus,
        Item,
        KeyRecord,
        Notice,
        Sample,
        SessionRecord,
        ShareRecord,
    )

ANY_STATE: Final = "any"
"""Matches every previous state."""


class SaveItem(msgspec.Struct, frozen=True):
    """Save a state of an item.

    Attributes:
        item: The new state.
        before: The state that it was derived from, or ``None`` if there was no such item. A store with several writers
            rejects the write if the stored state differs.
    """

    item: Item
    before: Item | Literal["any"] | None = ANY_STATE


class DropItem(msgspec.Struct, frozen=True):
    """Delete an item; ``before`` as in :class:`SaveItem`."""

    id: str
    before: Item | Literal["any"] | None = ANY_STATE


class AddHistory(msgspec.Struct, frozen=True):
    """Add a run to the history."""

    ended_run: EndedRun


class TrimHistory(msgspec.Struct, frozen=True):
    """Delete runs and their samples.

    Attributes:
        before: Deletes runs that ended before this instant.
        status: Restricts the deletion to runs with this end status.
        max_runs: Deletes the oldest runs beyond this number instead.
        latest: Moves later ends of runs to this instant: the clock was ahead.
    """

    before: float
    status: EndStatus | None = None
    max_runs: int | None = None
    latest: float = math.inf


class AddSample(msgspec.Struct, frozen=True):
    """Add a sample of a run."""

    id: str
    run_id: str
    sample: Sample


class ThinSamples(msgspec.Struct, frozen=True):
    """Delete every other sample of a run, but not the first."""

    id: str
    run_id: str


class SaveKey(msgspec.Struct, frozen=True):
    """Add or replace a key."""

    key: KeyRecord


class DropKey(msgspec.Struct, frozen=True):
    """Delete a key."""

    key_id: str


class TouchKey(msgspec.Struct, frozen=True):
    """Record when a key was last used."""

    key_id: str
    at: float


class SaveSession(msgspec.Struct, frozen=True):
    """Add a session."""

    session: SessionRecord


class DropSession(msgspec.Struct, frozen=True):
    """Delete a session."""

    hash: str


class TouchSession(msgspec.Struct, frozen=True):
    """Record when a session was last used."""

    hash: str
    at: float


class SaveShare(msgspec.Struct, frozen=True):
    """Add a share."""

    share: ShareRecord


class DropShare(msgspec.Struct, frozen=True):
    """Delete a share."""

    share_id: str


class AddNotice(msgspec.Struct, frozen=True):
    """Add a notice to the outbox.

    It is ignored if the outbox is full, or if it has ever had this notice.
    """

    notice: Notice


class MarkNotice(msgspec.Struct, frozen=True):
    """Record an attempt to deliver a notice.

    Attributes:
        attempts: The number of failed attempts.
        next_at: The instant of the next attempt, or ``None`` for none.
        delivered_at: The instant of the delivery.
        error: The error of the latest failed attempt.
    """

    notice_id: str
    attempts: int
    next_at: float | None = None
    delivered_at: float | None = None
    error: str | None = None


class TrimNotices(msgspec.Struct, frozen=True):
    """Delete a slice of the finished notices.

    Attributes:
        before: Deletes notices from before this instant.
        max_notices: Deletes the oldest notices beyond this number.
    """

    before: float
    max_notices: int


class Probe(msgspec.Struct, frozen=True):
    """Write a meaningless value, to check that the store accepts writes."""

    at: float


Write: TypeAlias = (
    SaveItem
    | DropItem
    | AddHistory
    | TrimHistory
    | AddSample
    | ThinSamples
    | SaveKey
    | DropKey
    | TouchKey
    | SaveSession
    | DropSession
    | TouchSession
    | SaveShare
    | DropShare
    | AddNotice
    | MarkNotice
    | TrimNotices
    | Probe
)

CREDENTIAL_WRITES: Final = (SaveKey, DropKey, SaveSession, DropSession, SaveShare, DropShare)
"""The mutations that change credentials."""
