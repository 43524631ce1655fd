"""The JSON schemas of bodies and responses, for the OpenAPI document and the tests.

They do not validate bodies: ``items.validation`` does, with the same limits, because it names the invalid field and
accepts the unknown fields of newer clients.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, NotRequired, TypeAlias, TypedDict

from msgspec import Meta

from progressbar_tracker._models import (
    ITEM_FIELDS,
    MAX_AGE_SECONDS,
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
from progressbar_tracker.server.access.keys import CELL_PATTERN
from progressbar_tracker.server.items.fields import (
    LEGACY_FIELDS,
    OPTIONAL_FIELDS,
    PUBLIC_FIELDS,
    WIRE_FIELDS,
    WRITABLE_FIELDS,
    build_shape,
)
from progressbar_tracker.server.items.serializer import ESTIMATE_FIELDS
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
    "age": lambda _: Annotated[float, Meta(ge=0, le=MAX_AGE_SECONDS)],
    "stuck_after": lambda _: Annotated[float, Meta(gt=0, le=MAX_AGE_SECONDS)],
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
    "optional_name": lambda _: str,
    "basis": lambda _: str,
    "instant": lambda _: Instant,
    "optional_instant": lambda _: Instant,
    "tail": _text,
}
_OPTIONAL_KINDS: Final[frozenset[FieldKind]] = frozenset(
    {
        "optional_line",
        "optional_text",
        "number",
        "seconds",
        "deadline",
        "age",
        "stuck_after",
        "measure",
        "optional_name",
        "basis",
        "optional_instant",
    }
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
    "short_runs": Meta(
        description="Runs inside this one that ended too soon to be items. The client counts them, and sends the count."
    ),
    "part": Meta(description="The name of one process's share; the counts of all parts are summed."),
    "age_seconds": Meta(description="Seconds since the start of the run, when this attempt of the write is sent."),
    "duration_seconds": Meta(
        description="Seconds from the start of the run to its end; with an end status. The end is never after now."
    ),
    "notify": Meta(description="The names of the channels that are notified.", examples=[["phone"]]),
    "stuck_after": Meta(description="Seconds without progress until the item is stuck; absent: automatic, null: off."),
    "stoppable": Meta(description="The program stops its run when it is requested."),
    "tail": Meta(
        description="The last lines of the output, at most 64 KiB of UTF-8. The server masks secrets, and stores the "
        "text with the run; `/api/v1/tails` returns it. Absent keeps it, null clears it."
    ),
}
"""The documentation of fields, wherever they occur."""

_ITEM_DOCS: Final[dict[str, Meta]] = {
    "completed": Meta(description="Completed units, summed over all parts."),
    "total": Meta(description="Total units; unknown if null, 0 or less."),
    "stalled": Meta(description="Running, without a sign of life for heartbeat_timeout, or the limit of the server."),
    "late": Meta(description="Running, past its deadline."),
    "stuck": Meta(
        description="Running and alive, without progress for stuck_after, or for longer than is plausible. "
        "The progress of running inner items of the same key counts. Outages and suspended machines do not count."
    ),
    "slower": Meta(description="Running, and slower than its former runs make plausible."),
    "rate": Meta(description="Units per second, smoothed over 15 seconds; null while stuck."),
    "eta": Meta(description="Seconds left; null without a basis for an estimate, and while the item is stuck."),
    "eta_low": Meta(description="The end is later with a probability of 90 %."),
    "eta_high": Meta(description="The end is earlier with a probability of 90 %."),
    "finish_at": Meta(description="The estimated instant of the end; it changes only with the evidence."),
    "basis": Meta(
        description="The basis of the estimate: the run itself, or a number of former runs.",
        examples=["this run", "6 former runs"],
    ),
    "estimated_total": Meta(description="The total of former runs, if the item has none."),
    "estimated_value": Meta(description="The estimated fraction, if the item has no total.", examples=[0.4]),
    "usual_gap_seconds": Meta(description="Mean seconds between two steps of progress of this run."),
    "usual_duration_seconds": Meta(description="The typical duration of the former runs."),
    "started_at": Meta(
        description="The start of the run, by the age that its writes report.", examples=["2026-01-31T12:00:00.000Z"]
    ),
    "progressed_at": Meta(
        description="The latest progress, of inner items too; signs of life do not count.",
        examples=["2026-01-31T12:00:00.000Z"],
    ),
    "owner": Meta(description="The name of the key that created it."),
    "deadline": Meta(description="When a running item becomes late."),
    "ttl": Meta(description="Seconds that an ended item stays listed."),
    "stop_requested_at": Meta(description="The first request to stop the run."),
    "stop_requested_by": Meta(description="The name of the key or the operator that requested it.", examples=["ci"]),
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
_OPTIONAL_TYPES: Final = {name: _RUN_TYPES[name] for name in OPTIONAL_FIELDS}


def _require(types: dict[str, Any]) -> dict[str, Any]:
    return {name: type for name, type in types.items() if name not in OPTIONAL_FIELDS}


_WRITE_TYPES: Final = {
    name: _FIELD_TYPES[name] if ITEM_FIELDS[name].kind in _REQUIRED_KINDS else _FIELD_TYPES[name] | None
    for name in WRITABLE_FIELDS
}
_PATCH_TYPES: Final = _WRITE_TYPES | {
    "meta": Annotated[
        dict[_line(MAX_META_LENGTH, min_length=1), _MetaValue | None],  # type: ignore[misc]
        Meta(description="Merged entry by entry."),
    ]
    | None
}

if TYPE_CHECKING:
    Id: TypeAlias = str
    Group: TypeAlias = str
    RunId: TypeAlias = str
    LegacyItem: TypeAlias = _models.LegacyItem
    Item: TypeAlias = _models.Item
    Run: TypeAlias = _models.Item
    PublicItem: TypeAlias = _models.Item
    PublicRun: TypeAlias = _models.Item
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
        "Item", _require({name: _document(type, _ITEM_DOCS.get(name)) for name, type in _RUN_TYPES.items()}),
        _OPTIONAL_TYPES, doc="One tracked item.",
    )  # fmt: skip
    Run = build_shape(
        "Run", _require(_RUN_TYPES) | {"status": EndStatus, "ended_at": Instant, **dict.fromkeys(ESTIMATE_FIELDS)},
        _OPTIONAL_TYPES, doc="A run of the history: the item's last state, with the run's end.",
    )  # fmt: skip
    PublicItem = build_shape(
        "PublicItem", {name: _document(_RUN_TYPES[name], _ITEM_DOCS.get(name)) for name in PUBLIC_FIELDS},
        {"parent": _RUN_TYPES["parent"]}, doc="An item as a share shows it; `parent` only in the share of a group.",
    )  # fmt: skip
    PublicRun = build_shape(
        "PublicRun", {name: _RUN_TYPES[name] for name in PUBLIC_FIELDS}
        | {"status": EndStatus, "ended_at": Instant, **dict.fromkeys(ESTIMATE_FIELDS)},
        {"parent": _RUN_TYPES["parent"]}, doc="A run of the history as a share shows it.",
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


class WriteWarning(TypedDict):
    """A part of a write that has no effect. The rest is written."""

    code: Literal["unknown-channel"]
    field: Annotated[str, Meta(examples=["notify"])]
    detail: Annotated[str, Meta(description="A sentence for humans.")]


if TYPE_CHECKING:
    WrittenItem: TypeAlias = _models.Item
else:
    WrittenItem = build_shape(
        "WrittenItem", _require({name: _document(type, _ITEM_DOCS.get(name)) for name, type in _RUN_TYPES.items()}),
        {**_OPTIONAL_TYPES, "warnings": Annotated[list[WriteWarning], Meta(description="Absent if there are none.")]},
        doc="The item after a write.",
    )  # fmt: skip


class StopRequest(TypedDict):
    """A request to stop the run of an operation."""

    run_id: RunId
    requested_by: Annotated[str, Meta(description="The name of the key or the operator.", examples=["ci"])]


class StopWrite(TypedDict, total=False):
    """The run to stop."""

    run_id: Annotated[RunId | None, Meta(description="Refuse the request if the item belongs to another run.")]


class OpResult(_OpStatus, total=False):
    """The result of one operation."""

    problem: Problem
    stop_request: Annotated[StopRequest, Meta(description="Absent unless the run should stop.")]
    warnings: Annotated[list[WriteWarning], Meta(description="Absent if there are none.")]


class BatchResult(TypedDict):
    """One result for each operation, in their order."""

    results: list[OpResult]
    rev: int


class Items(TypedDict):
    """A page of the list; ``Link`` has the next one."""

    items: list[Item]
    rev: Annotated[int, Meta(description="Grows with every change.")]


class PublicItems(TypedDict):
    """The items of a share."""

    items: list[PublicItem]
    rev: Annotated[int, Meta(description="Grows with every change.")]


class PublicRuns(TypedDict):
    """The last ended runs of a share, newest first."""

    items: list[PublicRun]


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
    read_tail: Annotated[bool, Meta(description="Whether the key reads the output of runs; an admin key does.")]
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
    read_tail: Annotated[bool | None, Meta(description="Whether the key reads the output of runs.")]
    cell: Annotated[
        Annotated[str, Meta(pattern=CELL_PATTERN)] | None,
        Meta(description="The cell whose name the key begins with, for a balancer."),
    ]


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
    url: Annotated[str | None, Meta(description="The link, if the server has a public URL.")]
    badge_url: Annotated[str | None, Meta(description="The badge, if the server has a public URL.")]


class Shares(TypedDict):
    """All shares, oldest first."""

    shares: list[Share]


class Channel(TypedDict):
    """A channel of the operator's file, without its address and its secret."""

    name: Annotated[str, Meta(min_length=1, max_length=MAX_NOTIFY_LENGTH, examples=["phone"])]
    kind: Literal["webhook", "apprise", "ntfy", "slack", "discord", "telegram"]
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
    """A form: the administrator's name and password, or a key, and the page to open."""

    username: str
    password: str
    key: str
    next: str
