"""The JSON schemas of bodies and responses, for the OpenAPI document and the tests.

They do not validate bodies: ``items.validation`` does, with the same limits, because it names the invalid field and
accepts the unknown fields of newer clients.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, NotRequired, TypeAlias, TypedDict

from msgspec import Meta

from progressbar_tracker._models import (
    ITEM_FIELDS,
    MAX_BATCH_OPS,
    MAX_META_ENTRIES,
    MAX_META_LENGTH,
    MAX_NOTIFY_ENTRIES,
    MAX_NOTIFY_LENGTH,
    NUMBER_LIMIT,
    WEIGHT_LIMIT,
    FieldKind,
    KeyType,
    Permission,
    Status,
)
from progressbar_tracker.server.items.fields import LEGACY_FIELDS, WIRE_FIELDS, WRITABLE_FIELDS, build_shape
from progressbar_tracker.server.models import EndStatus

if TYPE_CHECKING:
    from collections.abc import Callable

    from progressbar_tracker import _models

LINE_PATTERN: Final = r"^[^\u0000-\u001F\u007F-\u009F]*$"
"""No control characters."""
LINES_PATTERN: Final = r"^[^\u0000-\u0008\u000B\u000C\u000E-\u001F\u007F-\u009F]*$"
"""No control characters except tabs and line breaks."""


def _line(limit: int, *, min_length: int | None = None) -> Any:
    return Annotated[str, Meta(min_length=min_length, max_length=limit, pattern=LINE_PATTERN)]


def _text(limit: int) -> Any:
    return Annotated[str, Meta(max_length=limit, pattern=LINES_PATTERN)]


_MetaValue: Any = _text(MAX_META_LENGTH)
Instant = Annotated[
    str,
    Meta(
        description="RFC 3339, UTC.", examples=["2026-01-31T12:00:00.000Z"], extra_json_schema={"format": "date-time"}
    ),
]

_KIND_TYPES: Final[dict[FieldKind, Callable[[int], Any]]] = {
    "id": lambda limit: _line(limit, min_length=1),
    "line": _line,
    "text": _text,
    "optional_line": _line,
    "optional_text": _text,
    "fraction": lambda _: Annotated[float, Meta(ge=0, le=1)],
    "number": lambda _: Annotated[float, Meta(ge=-NUMBER_LIMIT, le=NUMBER_LIMIT)],
    "seconds": lambda _: Annotated[float, Meta(ge=0, le=NUMBER_LIMIT)],
    "weight": lambda _: Annotated[int, Meta(ge=-WEIGHT_LIMIT, le=WEIGHT_LIMIT)],
    "seq": lambda _: Annotated[int, Meta(ge=0, le=WEIGHT_LIMIT)],
    "status": lambda _: Status,
    "meta": lambda _: Annotated[
        dict[_line(MAX_META_LENGTH, min_length=1), _MetaValue], Meta(max_length=MAX_META_ENTRIES)  # type: ignore[misc]
    ],
    "notify": lambda _: Annotated[list[_line(MAX_NOTIFY_LENGTH, min_length=1)], Meta(max_length=MAX_NOTIFY_ENTRIES)],  # type: ignore[misc]
    "deadline": lambda _: Instant,
    "bool": lambda _: bool,
    "measure": lambda _: float,
    "name": lambda _: str,
    "instant": lambda _: Instant,
    "optional_instant": lambda _: Instant,
}
_OPTIONAL_KINDS: Final[frozenset[FieldKind]] = frozenset(
    {"optional_line", "optional_text", "number", "seconds", "deadline", "measure", "optional_instant"}
)
"""The fields that may be null in an item."""
_REQUIRED_KINDS: Final[frozenset[FieldKind]] = frozenset({"id", "fraction", "seq", "status"})
"""The fields that may not be null in a write."""

_FIELD_DOCS: Final[dict[str, Meta]] = {
    "id": Meta(description="Chosen by the client; no control characters.", examples=["video-001"]),
    "title": Meta(examples=["Encoding"]),
    "description": Meta(examples=["first pass"]),
    "value": Meta(description="The completed fraction; 1 within 1e-9.", examples=[0.25]),
    "unit": Meta(examples=["frames"]),
    "weight": Meta(description="Items with a higher weight are listed first."),
    "error": Meta(examples=["ValueError: bad row"]),
    "group": Meta(description="The heading in the list; an empty one means none.", examples=["nightly"]),
    "parent": Meta(description="The id of the enclosing item."),
    "meta": Meta(description="Host, pid, command and similar."),
    "run_id": Meta(description="The id of the program's run."),
    "seq": Meta(description="The run's own counter of its writes."),
    "part": Meta(description="The name of one process's share; the counts of all parts are summed."),
    "notify": Meta(description="The names of the channels that are notified.", examples=[["phone"]]),
}
"""The documentation of fields, wherever they occur."""

_ITEM_DOCS: Final[dict[str, Meta]] = {
    "completed": Meta(description="Completed units, summed over all parts."),
    "total": Meta(description="Total units; unknown if null, 0 or less."),
    "stalled": Meta(description="Running, without a sign of life for heartbeat_timeout."),
    "late": Meta(description="Running, past its deadline."),
    "rate": Meta(description="Units per second, smoothed."),
    "eta": Meta(description="Seconds left."),
    "owner": Meta(description="The name of the key that created it."),
    "deadline": Meta(description="When a running item becomes late."),
    "ttl": Meta(description="Seconds that an ended item stays listed."),
}
"""The documentation of fields of an item on the board."""


def _document(type: Any, doc: Meta | None) -> Any:
    return type if doc is None else Annotated[type, doc]


_FIELD_TYPES: Final = {
    name: _document(_KIND_TYPES[field.kind](field.limit), _FIELD_DOCS.get(name)) for name, field in ITEM_FIELDS.items()
}
"""The type of each field where it is not null."""
_RUN_TYPES: Final = {
    name: _FIELD_TYPES[name] | None if ITEM_FIELDS[name].kind in _OPTIONAL_KINDS else _FIELD_TYPES[name]
    for name in WIRE_FIELDS
}
_WRITE_TYPES: Final = {
    name: _FIELD_TYPES[name] if ITEM_FIELDS[name].kind in _REQUIRED_KINDS else _FIELD_TYPES[name] | None
    for name in WRITABLE_FIELDS
}
_PATCH_TYPES: Final = _WRITE_TYPES | {
    "meta": Annotated[dict[str, _MetaValue | None], Meta(description="Merged entry by entry.")] | None
}

if TYPE_CHECKING:
    Id: TypeAlias = str
    Group: TypeAlias = str
    RunId: TypeAlias = str
    LegacyItem: TypeAlias = _models.LegacyItem
    Item: TypeAlias = _models.Item
    Run: TypeAlias = _models.Item
    ItemWrite: TypeAlias = _models.ItemWrite
    ItemPatch: TypeAlias = _models.ItemWrite
    Op: TypeAlias = _models.Op
else:
    Id, Group, RunId = _FIELD_TYPES["id"], _FIELD_TYPES["group"], _FIELD_TYPES["run_id"]
    LegacyItem = build_shape(
        "LegacyItem", {name: _FIELD_TYPES[name] for name in LEGACY_FIELDS},
        doc="The five fields of the 1.0.0 SDK. A value of 1 ends the item as succeeded.",
    )  # fmt: skip
    Item = build_shape(
        "Item", {name: _document(type, _ITEM_DOCS.get(name)) for name, type in _RUN_TYPES.items()},
        doc="One tracked item.",
    )  # fmt: skip
    Run = build_shape(
        "Run", _RUN_TYPES | {"status": EndStatus, "rate": None, "eta": None, "ended_at": Instant},
        doc="A run of the history: the item's last state, with the run's end.",
    )  # fmt: skip
    ItemWrite = build_shape(
        "ItemWrite", {}, _WRITE_TYPES,
        doc="The writable fields. Absent and null ones become the default; unknown ones are ignored.",
    )  # fmt: skip
    ItemPatch = build_shape(
        "ItemPatch", {}, _PATCH_TYPES,
        doc="The writable fields. Absent ones stay, null clears; unknown ones are ignored.",
    )  # fmt: skip
    Op = build_shape(
        "Op", {"op": Literal["put", "patch", "delete"], "id": Id}, _PATCH_TYPES, doc="One operation of a batch."
    )


class Batch(TypedDict):
    """Operations, validated one by one and persisted by one commit."""

    ops: Annotated[list[Op], Meta(max_length=MAX_BATCH_OPS)]


class Problem(TypedDict, total=False):
    """A problem, as in RFC 9457."""

    type: Annotated[str, Meta(description="Identifies the problem.", examples=["/problems/item-not-found"])]
    title: str
    status: int
    detail: Annotated[str, Meta(description="A sentence for humans.")]
    field: Annotated[str, Meta(description="The invalid field, if any.")]


class _OpStatus(TypedDict):
    id: str
    status: Annotated[int, Meta(examples=[200])]


class OpResult(_OpStatus, total=False):
    """The result of one operation."""

    problem: Problem


class BatchResult(TypedDict):
    """One result for each operation, in their order."""

    results: list[OpResult]
    rev: int


class Items(TypedDict):
    """A page of the list; ``Link`` has the next one."""

    items: list[Item]
    rev: Annotated[int, Meta(description="Grows with every change.")]


class Runs(TypedDict):
    """A page of the history, newest first; ``Link`` has the next one."""

    items: list[Run]


class Server(TypedDict):
    """The server."""

    version: str
    boot_id: Annotated[str, Meta(description="Changes whenever state may have been lost.")]


class Limits(TypedDict):
    """The limits for programs."""

    body_bytes: int
    batch_bytes: int
    batch_ops: int
    items: Annotated[int, Meta(description="For one key.")]
    parts: Annotated[int, Meta(description="For one run.")]
    streams: Annotated[int, Meta(description="For all keys together.")]
    requests: NotRequired[Annotated[int, Meta(description="Per second and key; absent if unlimited.")]]


class KeyInfo(TypedDict):
    """The permissions of the key, and the server's version and limits."""

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
    previous_until: Annotated[Instant | None, Meta(description="The secret before the rotation works until then.")]
    last_used_at: Instant | None


class MadeKey(Key):
    """A key with its secret, which only this response contains."""

    key: Annotated[str, Meta(examples=["pbt_w_k7m2p9xq_..."])]


class Keys(TypedDict):
    """All keys, oldest first."""

    keys: list[Key]


class _RequiredKeyFields(TypedDict):
    type: KeyType
    name: Annotated[str, Meta(min_length=1, max_length=100, pattern=LINE_PATTERN, examples=["ci"])]


class KeyWrite(_RequiredKeyFields, total=False):
    """A key to create."""

    expires_at: Annotated[Instant | None, Meta(description="In the future, RFC 3339.")]
    group: Annotated[Group | None, Meta(description="The default group of items written with the key.")]


class Session(TypedDict):
    """The session of a signed-in browser."""

    session_id: str
    created_at: Instant
    seen_at: Instant | None
    expires_at: Instant
    current: Annotated[bool, Meta(description="Whether it is the session of this request.")]
    key_id: Annotated[str | None, Meta(description="The key that signed in, if any.")]
    agent: Annotated[str, Meta(description="The User-Agent of the browser.")]


class Sessions(TypedDict):
    """All sessions, newest first."""

    sessions: list[Session]


class ShareOf(TypedDict, total=False):
    """A share to create, for either a group or an item."""

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
    """A share with its token, which only this response contains."""

    token: str
    path: Annotated[str, Meta(description="The URL, relative to the server.", examples=["s/..."])]
    badge: Annotated[str, Meta(examples=["badge/....svg"])]


class Shares(TypedDict):
    """All shares, oldest first."""

    shares: list[Share]


class Channel(TypedDict):
    """A channel of the operator's file, without its address and its secret."""

    name: Annotated[str, Meta(min_length=1, max_length=MAX_NOTIFY_LENGTH, examples=["phone"])]
    kind: Literal["webhook", "apprise"]
    place: Annotated[str, Meta(description="The host of a webhook, or the service.", examples=["hooks.example.org"])]
    on: Annotated[list[str], Meta(description="The events that are sent.", examples=[["failed", "25%"]])]
    groups: list[str]
    all: bool
    off: Annotated[bool, Meta(description="Disabled: the webhook has responded with 410.")]
    waiting: Annotated[int, Meta(description="Messages in the outbox.")]
    delivered: Annotated[int, Meta(description="Delivered messages, of those in the database.")]
    given_up: Annotated[int, Meta(description="Abandoned messages, of those in the database.")]
    delivered_at: Instant | None
    error: Annotated[str | None, Meta(description="The error of the latest undelivered message.")]


class Channels(TypedDict):
    """All channels, by name."""

    channels: list[Channel]


class Tested(TypedDict):
    """The result of a test message."""

    delivered: bool
    detail: Annotated[str | None, Meta(description="The error, if it was not delivered.")]


class Alive(TypedDict):
    """The server is running."""

    status: Literal["ok"]
    boot_id: str


class Ready(TypedDict):
    """The database accepts writes."""

    status: Literal["ok"]


class SignIn(TypedDict, total=False):
    """A form: the administrator's name and password, or a key."""

    username: str
    password: str
    key: str
