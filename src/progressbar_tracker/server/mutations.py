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
        PingTokenRecord,
        PushSubscription,
        Sample,
        ScheduleMark,
        ScheduleRecord,
        SessionRecord,
        ShareRecord,
        StoredTail,
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
    """Delete runs, with their samples, curves and tails.

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


class SaveCurve(msgspec.Struct, frozen=True):
    """Add or replace the curve of a run, as :func:`~.items.curves.encode_curve` returns it."""

    id: str
    run_id: str
    curve: bytes


class SaveTail(msgspec.Struct, frozen=True):
    """Add or replace the output tail of a run. Its secrets are masked already.

    Attributes:
        owner_id: The key whose quota it counts for.
    """

    id: str
    run_id: str
    tail: StoredTail
    owner_id: str = ""


class TrimTails(msgspec.Struct, frozen=True):
    """Delete the oldest tails of a key if all of them are larger than its quota.

    Attributes:
        owner_id: The key; ``None`` for the tails of all keys.
        max_bytes: The quota, of stored bytes. After a deletion, a part of it is free.
    """

    owner_id: str | None
    max_bytes: int


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


class SavePingToken(msgspec.Struct, frozen=True):
    """Add a ping token."""

    token: PingTokenRecord


class DropPingToken(msgspec.Struct, frozen=True):
    """Delete a ping token."""

    token_id: str


class SaveSchedule(msgspec.Struct, frozen=True):
    """Add a schedule, or replace its definition: the instants of its latest starts stay."""

    schedule: ScheduleRecord


class DropSchedule(msgspec.Struct, frozen=True):
    """Delete a schedule."""

    id: str


class TouchSchedule(msgspec.Struct, frozen=True):
    """Record the latest start of a schedule's item, and the expected start that was missed last; 0 for none."""

    id: str
    started_at: float
    missed_at: float


class MarkSchedules(msgspec.Struct, frozen=True):
    """Record the progress of the monitor of schedules."""

    mark: ScheduleMark


class SaveSubscription(msgspec.Struct, frozen=True):
    """Add or replace a push subscription."""

    subscription: PushSubscription


class DropSubscription(msgspec.Struct, frozen=True):
    """Delete a push subscription; its pending notices are done.

    Attributes:
        endpoint: Only if the subscription still has this endpoint.
    """

    subscription_id: str
    endpoint: str | None = None


class AddVapidKeys(msgspec.Struct, frozen=True):
    """Add the first private keys that sign Web Push messages, the newest first.

    A database of several servers keeps those that it has. With one server, later ones replace them: the outcome of the
    earlier write was unknown.
    """

    private_keys: tuple[str, ...]


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


class KeptMessage(msgspec.Struct, frozen=True):
    """A message that a channel edits as long as a run lasts; ``is_final`` if it shows the end.

    Attributes:
        place: A hash of the destination, because the id has a meaning only there.
    """

    channel: str
    item_id: str
    run_id: str
    place: str
    message_id: str  # "" if the service cannot edit
    at: float
    is_final: bool = False


class KeepMessage(msgspec.Struct, frozen=True):
    """Add or replace what is known about the message of a channel about a run."""

    message: KeptMessage


class TrimNotices(msgspec.Struct, frozen=True):
    """Delete a slice of the finished notices, and of the kept messages.

    Attributes:
        before: Deletes those from before this instant.
        max_notices: Deletes the oldest of each beyond this number.
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
    | SaveCurve
    | SaveTail
    | TrimTails
    | SaveKey
    | DropKey
    | TouchKey
    | SaveSession
    | DropSession
    | TouchSession
    | SaveShare
    | DropShare
    | SavePingToken
    | DropPingToken
    | SaveSchedule
    | DropSchedule
    | TouchSchedule
    | MarkSchedules
    | SaveSubscription
    | DropSubscription
    | AddVapidKeys
    | AddNotice
    | MarkNotice
    | KeepMessage
    | TrimNotices
    | Probe
)

CREDENTIAL_WRITES: Final = (
    SaveKey, DropKey, SaveSession, DropSession, SaveShare, DropShare, SavePingToken, DropPingToken, SaveSubscription,
    DropSubscription, AddVapidKeys,
)  # fmt: skip
"""The mutations that change credentials, and what ends with them."""
