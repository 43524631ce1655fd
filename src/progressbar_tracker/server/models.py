"""The entities of the server: board, keys and sessions create them, and stores persist them.

All are immutable: the writer thread encodes one while the board continues with its successor. Instants are seconds
since the epoch.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final, Literal, TypeAlias

import msgspec
from msgspec.structs import replace

from progressbar_tracker._estimate import Progress
from progressbar_tracker._models import KeyType, Number, Status  # noqa: TC001  # msgspec decodes into these

NO_PROGRESS: Final = Progress()

EndStatus: TypeAlias = Literal["succeeded", "failed", "stopped", "deleted"]


class Part(msgspec.Struct, frozen=True, gc=False):
    """One process's contribution to a run: its own count, and the sequence number of its writes."""

    completed: Number
    seq: int


class StopRequest(msgspec.Struct, frozen=True, gc=False):
    """The first request to stop a run: its instant, and the name of the key or operator."""

    at: float
    by: str


class Item(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The state of an item. A write replaces it.

    Items are excluded from garbage collection: they cannot be part of a cycle, and there may be a hundred thousand.

    Attributes:
        own: ``completed`` as written without a part.
        parts: The named parts of the run.
        past: The latest runs that this item was taken over from; they cannot take it back.
        born: The revision of the creation; sorts items of the same instant.
        rev: The revision of the latest change.
        deadline_at: The instant at which a running item becomes late.
        notify: The names of the channels that receive its notifications.
        started_at: The instant of the start by the age that its writes report; it only becomes earlier.
        progressed_at: The instant of the latest progress of its own; at first that of the start.
        short_runs: Inner runs that were too short to be sent, as the client counts them.
        stuck_after: Seconds without progress until it is stuck; ``None`` for never, unset for automatic.
        progress: The position, speed and gaps, in the unit of ``completed``, otherwise of ``value``.
        stoppable: The program stops the run when it is requested.
        stop_request: The request to stop the run, if there is one.
    """

    id: str
    owner_id: str
    owner: str
    run_id: str
    created_at: float
    updated_at: float
    ended_at: float | None = None
    title: str = ""
    description: str = ""
    value: float = 0.0
    completed: Number | None = None
    total: Number | None = None
    unit: str = ""
    weight: int = 0
    status: Status = "running"
    error: str | None = None
    group: str | None = None
    parent: str | None = None
    meta: dict[str, str] = {}
    seq: int = 0
    heartbeat_timeout: float | None = None
    deadline_at: float | None = None
    notify: tuple[str, ...] = ()
    ttl: float | None = None
    own: Number | None = None
    parts: dict[str, Part] = {}
    past: tuple[str, ...] = ()
    born: int = 0
    rev: int = 0
    started_at: float = 0.0
    progressed_at: float = 0.0
    short_runs: int = 0
    stuck_after: float | msgspec.UnsetType | None = msgspec.UNSET
    progress: Progress = NO_PROGRESS
    stoppable: bool = False
    stop_request: StopRequest | None = None


_NO_PARTS: Final[dict[str, Part]] = {}


MAX_INTERNED_TEXTS: Final = 10_000
"""The most interned texts."""

_interned_texts: Final[dict[str, str]] = {}


def _intern_text(text: str) -> str:
    """Return an equal text that other items share. Not ``sys.intern``, which may keep it until the process ends."""
    if len(_interned_texts) >= MAX_INTERNED_TEXTS:
        _interned_texts.clear()
    return _interned_texts.setdefault(text, text)


def intern_texts(item: Item) -> Item:
    """Return an equal item with shared texts, which saves a third of its memory."""
    return replace(
        item,
        owner_id=_intern_text(item.owner_id),
        owner=_intern_text(item.owner),
        unit=_intern_text(item.unit),
        status=_intern_text(item.status),
        group=None if item.group is None else _intern_text(item.group),
        meta={_intern_text(name): _intern_text(text) for name, text in item.meta.items()},
        notify=tuple(map(_intern_text, item.notify)),
        parts=item.parts or _NO_PARTS,
    )


class EndedRun(msgspec.Struct, frozen=True):
    """A run that left the board for the history."""

    item: Item
    status: EndStatus
    ended_at: float


class RunRow(msgspec.Struct, frozen=True, gc=False):
    """A run of the history without the rest of its item: small, so that thousands can be read at once.

    Attributes:
        error: The beginning of the error, see :data:`MAX_ERROR_LINE_LENGTH`.
        stop_requested_by: The name of the requester of a stop.
    """

    n: int
    id: str
    run_id: str
    group: str | None
    status: EndStatus
    started_at: float
    ended_at: float
    title: str
    error: str | None
    stop_requested_by: str | None = None

    @property
    def duration(self) -> float:
        """The seconds from the start to the end, at least 0 if the clock was set back."""
        return max(self.ended_at - self.started_at, 0.0)


MAX_ERROR_LINE_LENGTH: Final = 200
"""Characters of the first line of an error in a :class:`RunRow`."""


def extract_error_line(error: str | None) -> str | None:
    """Return the first line of an error, cut to :data:`MAX_ERROR_LINE_LENGTH`."""
    return None if error is None else error.partition("\n")[0][:MAX_ERROR_LINE_LENGTH]


class Sample(msgspec.Struct, frozen=True):
    """The progress of a run at an instant."""

    at: float
    value: float
    completed: Number | None


class SampledRun(msgspec.Struct, frozen=True):
    """The number of samples of a run, and the instants of the first and the last one."""

    id: str
    run_id: str
    count: int
    first_at: float
    last_at: float


class StoredTail(msgspec.Struct, frozen=True):
    """The last lines of the output of a run, masked, and the instant of their latest change."""

    at: float
    text: str


class KeyRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A key with the hash of its secret.

    Attributes:
        key_id: The public id; it owns items.
        hash: The SHA-256 of the whole key, as hex.
        previous_hash: The hash before the latest rotation, valid until ``previous_until``.
        group: The group given to an item whose write names no group.
        imported: The key comes from the environment and may have any format.
        reads_tails: The key reads the output of runs; an admin key always does.
    """

    key_id: str
    name: str
    type: KeyType
    hash: str
    created_at: float
    expires_at: float | None = None
    revoked_at: float | None = None
    previous_hash: str | None = None
    previous_until: float | None = None
    last_used_at: float | None = None
    group: str | None = None
    imported: bool = False
    reads_tails: bool = False

    def __repr__(self) -> str:
        return f"KeyRecord(key_id={self.key_id!r}, name={self.name!r}, type={self.type!r})"


class SessionRecord(msgspec.Struct, frozen=True):
    """A session of a browser, with the hash of its cookie.

    Attributes:
        key_id: The key that signed in; ``None`` for the administrator's password and for one-time links.
        agent: The user agent of the browser.
        credential: A digest of the credential that signed in; the session ends when that ends. See
            :func:`credential_digest`, and :attr:`~.sessions.Password.fingerprint` for the operator.
    """

    hash: str
    created_at: float
    expires_at: float
    seen_at: float | None = None
    key_id: str | None = None
    agent: str = ""
    credential: str | None = None

    @property
    def session_id(self) -> str:
        """The public id; neither the cookie nor its hash can be derived from it."""
        return self.hash[:16]

    def __repr__(self) -> str:
        return f"SessionRecord(expires_at={self.expires_at!r})"


class ShareRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A read-only link to a group or to an item, with the hash of its token."""

    share_id: str
    hash: str
    created_at: float
    group: str | None = None
    item: str | None = None
    expires_at: float | None = None

    @property
    def id(self) -> str:
        """The public id, as for every token."""
        return self.share_id

    def __repr__(self) -> str:
        return f"ShareRecord(share_id={self.share_id!r}, group={self.group!r}, item={self.item!r})"


class PingTokenRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A token for pings of the items of one group, with its hash."""

    token_id: str
    hash: str
    name: str
    group: str
    created_at: float
    expires_at: float | None = None

    @property
    def id(self) -> str:
        """The public id, as for every token."""
        return self.token_id

    def __repr__(self) -> str:
        return f"PingTokenRecord(token_id={self.token_id!r}, group={self.group!r})"


class ScheduleRecord(msgspec.Struct, frozen=True, kw_only=True):
    """When the item of an id is expected to start: by either ``cron`` or ``every``.

    Attributes:
        cron: A cron expression with five fields, in ``timezone``.
        every: Seconds from one start to the next.
        timezone: The name of a time zone of the IANA database.
        grace: Seconds after an expected start until it is missed.
        group: The group of an item that pings create; channels of the group are notified.
        notify: The channels that are notified, in addition to those of the item.
        since: The instant of the creation, or of the latest change of ``cron``, ``every`` or ``timezone``: earlier
            starts are not expected.
        started_at: The instant of the latest start; 0 for none.
        missed_at: The expected start that was missed last; 0 for none.
    """

    id: str
    owner_id: str
    owner: str
    created_at: float
    updated_at: float
    since: float
    cron: str | None = None
    every: float | None = None
    timezone: str = "UTC"
    grace: float
    group: str | None = None
    notify: tuple[str, ...] = ()
    started_at: float = 0.0
    missed_at: float = 0.0


class ScheduleMark(msgspec.Struct, frozen=True):
    """The progress of the monitor of schedules.

    Attributes:
        checked_at: At this instant, a server looked at all schedules: it ran, and what was due was decided.
        gaps: The times in which no run could report its start, see :mod:`~.schedules.gaps`.
    """

    checked_at: float = 0.0
    gaps: tuple[tuple[float, float], ...] = ()


PushEvent: TypeAlias = Literal["end", "failure", "stuck"]
"""An event that a push subscription follows: any end, a failure, or an item without progress or sign of life."""


class PushSubscription(msgspec.Struct, frozen=True, kw_only=True):
    """A browser that follows an item, a run or a group by Web Push.

    Attributes:
        endpoint: The URL at the push service; a secret, because it accepts messages.
        p256dh: The public key of the browser, as unpadded base64url.
        auth: The secret that the browser shares with the server, as unpadded base64url.
        server_key: The public key of the server with which the browser has subscribed, as unpadded base64url. Its push
            service accepts messages that are signed with it only. Empty for the first key.
        events: The followed events.
        owner_id: The id of the principal; its subscriptions take turns.
        session: The hash of the session that holds the subscription; ``None`` if a key does.
        key_id: The key that holds the subscription; ``None`` if a session does.
        credential: The digest of that key's credential; see :func:`credential_digest`.
        item: The followed item.
        run_id: Restricts ``item`` to one of its runs.
        group: The followed group, instead of an item.
    """

    subscription_id: str
    endpoint: str
    p256dh: str
    auth: str
    server_key: str = ""
    events: tuple[PushEvent, ...]
    created_at: float
    owner_id: str
    session: str | None = None
    key_id: str | None = None
    credential: str | None = None
    item: str | None = None
    run_id: str | None = None
    group: str | None = None

    def __repr__(self) -> str:
        return f"PushSubscription(subscription_id={self.subscription_id!r}, item={self.item!r}, group={self.group!r})"

    @property
    def holder(self) -> str:
        """The session or key that holds the subscription."""
        return f"key {self.key_id}" if self.session is None else f"session {self.session}"

    @property
    def subject(self) -> tuple[str | None, ...]:
        """The endpoint, and what it follows: no two subscriptions of a holder have the same."""
        return self.endpoint, self.item, self.run_id, self.group

    @property
    def channel(self) -> str:
        """The name of its channel in the outbox."""
        return f"{PUSH_CHANNEL_PREFIX}{self.subscription_id}"


PUSH_CHANNEL_PREFIX: Final = "push:"
"""The beginning of :attr:`PushSubscription.channel`; no channel of the operator has a colon in its name."""


class Notice(msgspec.Struct, frozen=True):
    """A message to a channel about an event of a run.

    Attributes:
        notice_id: A deduplication key: the same channel, run and event always have the same id.
        at: The instant of the event.
        body: The item at that instant, as JSON.
        attempts: The number of failed attempts.
        next_at: The instant of the next attempt.
    """

    notice_id: str
    channel: str
    item_id: str
    run_id: str
    event: str
    at: float
    body: str
    next_at: float
    attempts: int = 0


NOTICE_COLUMNS: Final = ", ".join(Notice.__struct_fields__)
"""Comma-separated column names of :class:`Notice`, in field order."""


class DeliveryStats(msgspec.Struct, frozen=True):
    """The delivery statistics of a channel.

    Attributes:
        waiting: The number of pending messages.
        given_up: The number of abandoned messages in the outbox.
        delivered_at: The instant of the latest delivery.
        error: The latest error of an undelivered message.
    """

    channel: str
    waiting: int = 0
    delivered: int = 0
    given_up: int = 0
    delivered_at: float | None = None
    error: str | None = None


MAX_RETRY_SECONDS: Final = 3600.0
"""The longest delay between two attempts. A later one was scheduled while the clock was ahead."""

MAX_WAITING_NOTICES: Final = 10_000
"""The most pending notices. An event is dropped while the outbox is full."""

MAX_WAITING_PUSHES: Final = 5000
"""The most pending notices with which a message to a push subscription is added: readers cannot fill the outbox."""


def max_waiting_of(notice: Notice) -> int:
    """Return the number of pending notices from which this one is dropped."""
    return MAX_WAITING_PUSHES if notice.channel.startswith(PUSH_CHANNEL_PREFIX) else MAX_WAITING_NOTICES


_MILLISECOND_TEXTS: Final = tuple(f".{millisecond:03d}Z" for millisecond in range(1000))


def rfc3339(instant: float) -> str:
    """Return an instant as RFC 3339 in UTC.

    >>> rfc3339(0.5)
    '1970-01-01T00:00:00.500Z'
    """
    second, rest = divmod(round(instant * 1_000_000), 1_000_000)
    return _format_second(second) + _MILLISECOND_TEXTS[rest // 1000]


@lru_cache(maxsize=4096)
def _format_second(second: int) -> str:
    # Each response has three instants or more, and most of them are in the same few seconds.
    return datetime.fromtimestamp(second, UTC).isoformat()[:-6]


def digest(secret: str) -> str:
    """Return the SHA-256 of a secret as hex; secrets themselves are never stored."""
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()


def credential_digest(type: KeyType, secret_hash: str) -> str:
    """Return the digest of a key that a session stores: it differs after a rotation or a change of the type."""
    return digest(f"{type} {secret_hash}")


def optional_rfc3339(instant: float | None) -> str | None:
    """Return an optional instant as RFC 3339 in UTC."""
    return None if instant is None else rfc3339(instant)
