"""What each route takes and gives: the shapes of bodies and answers, and what a row of the table says of itself.

The shapes are for documents and tests. What checks a body is ``writes``, by the same limits, for it has to name the
field at fault and to let pass what newer clients send.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal, NotRequired, TypedDict

from msgspec import Meta

from progressbar_tracker._models import (
    BATCH_OPS,
    DESCRIPTION_LENGTH,
    ERROR_LENGTH,
    GROUP_LENGTH,
    ID_LENGTH,
    META_ENTRIES,
    META_LENGTH,
    NOTIFY_ENTRIES,
    NOTIFY_LENGTH,
    NUMBER_LIMIT,
    PART_LENGTH,
    TITLE_LENGTH,
    UNIT_LENGTH,
    WEIGHT_LIMIT,
    KeyType,
    Permission,
    Status,
)
from progressbar_tracker.server.models import EndStatus  # noqa: TC001

_EXAMPLE_ID: Final = "video-001"
LINE_PATTERN: Final = r"^[^\u0000-\u001F\u007F-\u009F]*$"
"""No control characters."""
LINES_PATTERN: Final = r"^[^\u0000-\u0008\u000B\u000C\u000E-\u001F\u007F-\u009F]*$"
"""None but tabs and ends of lines."""

Id = Annotated[
    str,
    Meta(
        min_length=1, max_length=ID_LENGTH, pattern=LINE_PATTERN,
        description="Of the user's choice; no control characters.",
        examples=[_EXAMPLE_ID],
    ),
]  # fmt: skip
Title = Annotated[str, Meta(max_length=TITLE_LENGTH, pattern=LINE_PATTERN, examples=["Encoding"])]
Description = Annotated[str, Meta(max_length=DESCRIPTION_LENGTH, pattern=LINES_PATTERN, examples=["first pass"])]
Value = Annotated[float, Meta(ge=0, le=1, description="How much is done; 1 within 1e-9.", examples=[0.25])]
Count = Annotated[float, Meta(ge=-NUMBER_LIMIT, le=NUMBER_LIMIT)]
Weight = Annotated[int, Meta(ge=-WEIGHT_LIMIT, le=WEIGHT_LIMIT, description="The highest is listed first.")]
Unit = Annotated[str, Meta(max_length=UNIT_LENGTH, pattern=LINE_PATTERN, examples=["frames"])]
Group = Annotated[
    str,
    Meta(
        max_length=GROUP_LENGTH, pattern=LINE_PATTERN,
        description="A heading to be listed under; an empty one is none.",
        examples=["nightly"],
    ),
]  # fmt: skip
Error = Annotated[str, Meta(max_length=ERROR_LENGTH, pattern=LINES_PATTERN, examples=["ValueError: bad row"])]
_MetaKey = Annotated[str, Meta(min_length=1, max_length=META_LENGTH, pattern=LINE_PATTERN)]
_MetaValue = Annotated[str, Meta(max_length=META_LENGTH, pattern=LINES_PATTERN)]
Metadata = Annotated[
    dict[_MetaKey, _MetaValue], Meta(max_length=META_ENTRIES, description="Host, pid, command and the like.")
]
Parent = Annotated[str, Meta(max_length=ID_LENGTH, pattern=LINE_PATTERN, description="The id of the enclosing bar.")]
RunId = Annotated[
    str, Meta(min_length=1, max_length=ID_LENGTH, pattern=LINE_PATTERN, description="Which run of the program.")
]
Seq = Annotated[int, Meta(ge=0, le=WEIGHT_LIMIT, description="The run's own count of its writes.")]
Part = Annotated[
    str,
    Meta(max_length=PART_LENGTH, pattern=LINE_PATTERN, description="One process's share; counts of parts are summed."),
]
Seconds = Annotated[float, Meta(ge=0, le=NUMBER_LIMIT)]
Notify = Annotated[
    list[Annotated[str, Meta(min_length=1, max_length=NOTIFY_LENGTH, pattern=LINE_PATTERN)]],
    Meta(max_length=NOTIFY_ENTRIES, description="The channels that are told of it, by name.", examples=[["phone"]]),
]
Instant = Annotated[
    str,
    Meta(
        description="RFC 3339, UTC.", examples=["2026-01-31T12:00:00.000Z"], extra_json_schema={"format": "date-time"}
    ),
]


class LegacyItem(TypedDict):
    """The five fields of the 1.0.0 SDK. A value of 1 ends the item as succeeded."""

    id: Id
    title: Title
    description: Description
    value: Value
    weight: Weight


class Item(TypedDict):
    """One tracked bar."""

    id: Id
    title: Title
    description: Description
    value: Value
    completed: Annotated[Count | None, Meta(description="Units done; of all parts together.")]
    total: Annotated[Count | None, Meta(description="Units there are; unknown if null, 0 or less.")]
    unit: Unit
    weight: Weight
    status: Status
    stalled: Annotated[bool, Meta(description="Running, and silent for longer than heartbeat_timeout.")]
    late: Annotated[bool, Meta(description="Running, and its deadline has passed.")]
    error: Error | None
    group: Group | None
    parent: Parent | None
    meta: Metadata
    rate: Annotated[float | None, Meta(description="Units a second, smoothed.")]
    eta: Annotated[float | None, Meta(description="Seconds left.")]
    owner: Annotated[str, Meta(description="The name of the key that created it.")]
    run_id: RunId
    seq: Seq
    created_at: Instant
    updated_at: Instant
    ended_at: Instant | None
    heartbeat_timeout: Seconds | None
    deadline: Annotated[Instant | None, Meta(description="When it is late, if it runs still.")]
    notify: Notify
    ttl: Annotated[Seconds | None, Meta(description="How long it stays listed once it has ended.")]


class Run(TypedDict):
    """A run of the history: the item as it was, with the end that it came to."""

    id: Id
    title: Title
    description: Description
    value: Value
    completed: Count | None
    total: Count | None
    unit: Unit
    weight: Weight
    status: EndStatus
    stalled: bool
    late: bool
    error: Error | None
    group: Group | None
    parent: Parent | None
    meta: Metadata
    rate: None
    eta: None
    owner: str
    run_id: RunId
    seq: Seq
    created_at: Instant
    updated_at: Instant
    ended_at: Instant
    heartbeat_timeout: Seconds | None
    deadline: Instant | None
    notify: Notify
    ttl: Seconds | None


class _ItemWrite(TypedDict, total=False):
    title: Title | None
    description: Description | None
    value: Value
    completed: Count | None
    total: Count | None
    unit: Unit | None
    weight: Weight | None
    status: Status
    error: Error | None
    group: Group | None
    parent: Parent | None
    run_id: RunId
    seq: Seq
    part: Part | None
    heartbeat_timeout: Seconds | None
    deadline: Instant | None
    notify: Notify | None
    ttl: Seconds | None


class ItemWrite(_ItemWrite, total=False):
    """What a client may write. Absent and null become the default; what is not named here is ignored."""

    meta: Metadata | None


class ItemPatch(_ItemWrite, total=False):
    """What a client may change. Absent keeps, null clears; what is not named here is ignored."""

    meta: Annotated[dict[str, _MetaValue | None], Meta(description="Merged entry by entry.")] | None


class _OpBase(TypedDict):
    op: Literal["put", "patch", "delete"]
    id: Id


class Op(_OpBase, ItemPatch):
    """One operation."""


class Batch(TypedDict):
    """Operations, judged one by one, kept by one commit."""

    ops: Annotated[list[Op], Meta(max_length=BATCH_OPS)]


class Problem(TypedDict, total=False):
    """RFC 9457: why the answer is no."""

    type: Annotated[str, Meta(description="Tells one problem from another.", examples=["/problems/item-not-found"])]
    title: str
    status: int
    detail: Annotated[str, Meta(description="A sentence for people.")]
    field: Annotated[str, Meta(description="The field at fault, where there is one.")]


class _OpStatus(TypedDict):
    id: str
    status: Annotated[int, Meta(examples=[200])]


class OpResult(_OpStatus, total=False):
    """What became of one operation."""

    problem: Problem


class BatchResult(TypedDict):
    """One result for each operation, in their order."""

    results: list[OpResult]
    rev: int


class Items(TypedDict):
    """A page of the list; the next one is in ``Link``."""

    items: list[Item]
    rev: Annotated[int, Meta(description="Grows with every change.")]


class Runs(TypedDict):
    """A page of the history, newest first; the next one is in ``Link``."""

    items: list[Run]


class Server(TypedDict):
    """Who answers."""

    version: str
    boot_id: Annotated[str, Meta(description="Changes whenever state may have been lost.")]


class Limits(TypedDict):
    """What may be sent and kept."""

    body_bytes: int
    batch_bytes: int
    batch_ops: int
    items: Annotated[int, Meta(description="Of one key.")]
    parts: Annotated[int, Meta(description="Of one run.")]
    streams: Annotated[int, Meta(description="Of all keys together.")]
    requests: NotRequired[Annotated[int, Meta(description="A second, of one key; absent where they are not counted.")]]


class KeyInfo(TypedDict):
    """What the key may do, and whom it talks to."""

    type: KeyType
    permissions: list[Permission]
    name: str
    api: list[str]
    server: Server
    limits: Limits


class Key(TypedDict):
    """A key, without its secret."""

    key_id: Annotated[str, Meta(examples=["k7m2p9xq"])]
    name: str
    type: KeyType
    group: Group | None
    created_at: Instant
    expires_at: Instant | None
    revoked_at: Instant | None
    previous_until: Annotated[Instant | None, Meta(description="Until then the secret before the rotation works.")]
    last_used_at: Instant | None


class MadeKey(Key):
    """A key with its secret, which is told this once."""

    key: Annotated[str, Meta(examples=["pbt_w_k7m2p9xq_..."])]


class Keys(TypedDict):
    """All keys, oldest first."""

    keys: list[Key]


class _RequiredKeyFields(TypedDict):
    type: KeyType
    name: Annotated[str, Meta(min_length=1, max_length=100, pattern=LINE_PATTERN, examples=["ci"])]


class KeyWrite(_RequiredKeyFields, total=False):
    """A key to make."""

    expires_at: Annotated[Instant | None, Meta(description="In the future, RFC 3339.")]
    group: Annotated[Group | None, Meta(description="Of the items that are written with it and name none.")]


class Session(TypedDict):
    """A browser that is signed in."""

    session_id: str
    created_at: Instant
    seen_at: Instant | None
    expires_at: Instant
    current: Annotated[bool, Meta(description="Whether it is the one that asks.")]
    key_id: Annotated[str | None, Meta(description="The key that it was signed in with, if it was one.")]
    agent: Annotated[str, Meta(description="What the browser calls itself.")]


class Sessions(TypedDict):
    """All of them, newest first."""

    sessions: list[Session]


class ShareOf(TypedDict, total=False):
    """A share to make, of either a group or an item."""

    group: Annotated[Group, Meta(min_length=1)] | None
    item: Id | None
    expires_at: Annotated[Instant | None, Meta(description="In the future, RFC 3339.")]


ShareWrite = Annotated[
    ShareOf,
    Meta(
        extra_json_schema={
            "oneOf": [
                {"required": ["group"], "properties": {"group": {"type": "string"}, "item": {"type": "null"}}},
                {"required": ["item"], "properties": {"item": {"type": "string"}, "group": {"type": "null"}}},
            ]
        }
    ),
]


class Share(TypedDict):
    """A read-only link, without its token."""

    share_id: str
    group: Group | None
    item: Id | None
    created_at: Instant
    expires_at: Instant | None


class MadeShare(Share):
    """A share with its token, which is told this once."""

    token: str
    path: Annotated[str, Meta(description="Relative to the server's own.", examples=["s/..."])]
    badge: Annotated[str, Meta(examples=["badge/....svg"])]


class Shares(TypedDict):
    """All of them, oldest first."""

    shares: list[Share]


class Channel(TypedDict):
    """A channel that the operator has set up; neither its address nor its secret."""

    name: Annotated[str, Meta(min_length=1, max_length=NOTIFY_LENGTH, examples=["phone"])]
    kind: Literal["webhook", "apprise"]
    place: Annotated[str, Meta(description="A webhook's host, or the kind of service.", examples=["hooks.example.org"])]
    on: Annotated[list[str], Meta(description="The events it is told of.", examples=[["failed", "25%"]])]
    groups: list[str]
    all: bool
    off: Annotated[bool, Meta(description="Its webhook has answered 410.")]
    waiting: Annotated[int, Meta(description="Messages that are to be sent.")]
    delivered: Annotated[int, Meta(description="Messages that were, of those that are remembered.")]
    given_up: Annotated[int, Meta(description="Messages that never will be, of those that are remembered.")]
    delivered_at: Instant | None
    error: Annotated[str | None, Meta(description="Why the latest that was not delivered was not.")]


class Channels(TypedDict):
    """All of them, by name."""

    channels: list[Channel]


class Tested(TypedDict):
    """What became of a test."""

    delivered: bool
    detail: Annotated[str | None, Meta(description="Why not.")]


class Alive(TypedDict):
    """It is there."""

    status: Literal["ok"]
    boot_id: str


class Ready(TypedDict):
    """Its database takes writes."""

    status: Literal["ok"]


class SignIn(TypedDict, total=False):
    """A form: the administrator's name and password, or a key."""

    username: str
    password: str
    key: str
