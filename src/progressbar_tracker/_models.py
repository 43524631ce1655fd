"""The shapes that travel between client and server, each defined once, and the rules for their fields.

The client validates arguments with the ``check_*`` functions before it sends anything, and the server validates bodies
with the same functions, so both have the same limits. The shapes are ``TypedDict`` classes, because the published
interface returns dictionaries, and msgspec on the server decodes directly into them. With ``total=False`` an absent key
means "keep" and ``None`` means "clear", as in RFC 7396.

Only ``typing`` and ``math`` are imported: this module is on the path of ``import progressbar_tracker``.
"""

from __future__ import annotations

import math
from typing import Final, Literal, NamedTuple, NotRequired, TypeAlias, TypedDict

Status: TypeAlias = Literal["running", "succeeded", "failed", "stopped"]
KeyType: TypeAlias = Literal["read", "write", "admin"]
Permission: TypeAlias = Literal["read", "create", "update_own", "update_all", "delete_own", "delete_all", "read_tail"]
Number: TypeAlias = int | float
StuckAfter: TypeAlias = float | Literal["auto"] | None

ITEM_STATUSES: Final[tuple[Status, ...]] = ("running", "succeeded", "failed", "stopped")
KEY_TYPES: Final[tuple[KeyType, ...]] = ("read", "write", "admin")
KEY_PERMISSIONS: Final[dict[KeyType, tuple[Permission, ...]]] = {
    "read": ("read",),
    "write": ("read", "create", "update_own", "delete_own"),
    "admin": ("read", "create", "update_all", "delete_all"),
}

MAX_ID_LENGTH: Final = 200
MAX_TITLE_LENGTH: Final = 200
MAX_DESCRIPTION_LENGTH: Final = 2000
MAX_ERROR_LENGTH: Final = 2000
MAX_UNIT_LENGTH: Final = 20
MAX_GROUP_LENGTH: Final = 200
MAX_PART_LENGTH: Final = 64
MAX_META_ENTRIES: Final = 16
MAX_META_LENGTH: Final = 200
MAX_NOTIFY_ENTRIES: Final = 8
MAX_NOTIFY_LENGTH: Final = 64
MAX_AGE_SECONDS: Final = 10 * 365 * 86400.0
WEIGHT_LIMIT: Final = 2**53
NUMBER_LIMIT: Final = 1e300
COMPLETION_TOLERANCE: Final = 1e-9  # the fraction of a total that a float may miss and still be complete
MAX_BODY_BYTES: Final = 64 * 1024
MAX_BATCH_BYTES: Final = 1024 * 1024
MAX_BATCH_OPS: Final = 500
MAX_TAIL_BYTES: Final = 64 * 1024  # of UTF-8, for a run
MAX_TAIL_LINES: Final = 1000
DEFAULT_TAIL_LINES: Final = 100


FieldKind: TypeAlias = Literal[
    "id", "line", "text", "optional_line", "optional_text", "fraction", "number", "seconds", "weight", "seq", "status",
    "meta", "notify", "deadline", "age", "stuck_after", "bool", "measure", "name", "optional_name", "basis", "instant",
    "optional_instant", "tail",
]  # fmt: skip
"""The rule of a field. A ``line`` has no newlines, a ``text`` may; an optional one is ``None`` when it is empty."""


class ItemField:
    """The declaration of one field of an item.

    Attributes:
        kind: The type, and the rule that values obey.
        limit: The maximum length of a text.
        write: ``"copy"`` for a client's field that is stored unchanged, ``"apply"`` for one with a rule of its own,
            ``None`` for one that the server computes. Copied fields are also merged between servers.
        is_public: A share shows the field.
        is_shown: Responses show the field.
        stored_as: The name of the stored field, if it differs.
    """

    __slots__ = ("is_public", "is_shown", "kind", "limit", "stored_as", "write")

    def __init__(  # a NamedTuple would slow the import of the package
        self,
        kind: FieldKind,
        limit: int = 0,
        write: Literal["copy", "apply"] | None = None,
        *,
        is_public: bool = False,
        is_shown: bool = True,
        stored_as: str | None = None,
    ) -> None:
        self.kind: Final = kind
        self.limit: Final = limit
        self.write: Final = write
        self.is_public: Final = is_public
        self.is_shown: Final = is_shown
        self.stored_as: Final = stored_as


ITEM_FIELDS: Final[dict[str, ItemField]] = {
    "id": ItemField("id", MAX_ID_LENGTH, is_public=True),
    "title": ItemField("line", MAX_TITLE_LENGTH, "copy", is_public=True),
    "description": ItemField("text", MAX_DESCRIPTION_LENGTH, "copy", is_public=True),
    "value": ItemField("fraction", write="apply", is_public=True),
    "completed": ItemField("number", write="apply", is_public=True),
    "total": ItemField("number", write="copy", is_public=True),
    "unit": ItemField("line", MAX_UNIT_LENGTH, "copy", is_public=True),
    "weight": ItemField("weight", write="copy", is_public=True),
    "status": ItemField("status", write="apply", is_public=True),
    "stalled": ItemField("bool", is_public=True),
    "late": ItemField("bool", is_public=True),
    "stuck": ItemField("bool", is_public=True),
    "slower": ItemField("bool", is_public=True),
    "error": ItemField("optional_text", MAX_ERROR_LENGTH, "copy", is_public=True),
    "group": ItemField("optional_line", MAX_GROUP_LENGTH, "copy"),
    "parent": ItemField("optional_line", MAX_ID_LENGTH, "copy"),
    "meta": ItemField("meta", write="apply"),
    "rate": ItemField("measure", is_public=True),
    "eta": ItemField("measure", is_public=True),
    "eta_low": ItemField("measure", is_public=True),
    "eta_high": ItemField("measure", is_public=True),
    "finish_at": ItemField("optional_instant", is_public=True),
    "basis": ItemField("basis", is_public=True),
    "estimated_total": ItemField("measure", is_public=True),
    "estimated_value": ItemField("measure", is_public=True),
    "usual_gap_seconds": ItemField("measure", is_public=True),
    "usual_duration_seconds": ItemField("measure", is_public=True),
    "owner": ItemField("name"),
    "run_id": ItemField("id", MAX_ID_LENGTH, "apply"),
    "seq": ItemField("seq", write="apply"),
    "short_runs": ItemField("seq", write="copy"),
    "part": ItemField("optional_line", MAX_PART_LENGTH, "apply", is_shown=False),
    "age_seconds": ItemField("age", write="apply", is_shown=False),
    "duration_seconds": ItemField("age", write="apply", is_shown=False),
    "created_at": ItemField("instant", is_public=True),
    "started_at": ItemField("instant", is_public=True),
    "progressed_at": ItemField("instant", is_public=True),
    "updated_at": ItemField("instant", is_public=True),
    "ended_at": ItemField("optional_instant", is_public=True),
    "heartbeat_timeout": ItemField("seconds", write="copy"),
    "deadline": ItemField("deadline", write="copy", is_public=True, stored_as="deadline_at"),
    "notify": ItemField("notify", write="copy"),
    "stuck_after": ItemField("stuck_after", write="copy"),
    "ttl": ItemField("seconds", write="copy"),
    "stoppable": ItemField("bool", write="copy"),
    "stop_requested_at": ItemField("optional_instant"),
    "stop_requested_by": ItemField("optional_name"),
    "tail": ItemField("tail", MAX_TAIL_BYTES, "apply", is_shown=False),
}
"""Each field of an item, in the order of responses.

The server derives its validation, schemas, copies, merges and shares from this table. A new field also needs its line
in :class:`Item` and :class:`ItemWrite`, in the server's stored ``Item``, and in ``serialize_item``.
"""


class LegacyItem(TypedDict):
    """The body of part 1 of the protocol: the five fields of the 1.0.0 SDK."""

    id: str
    title: str
    description: str
    value: float
    weight: int


class Item(TypedDict):
    """One tracked item as the server serializes it; ``protocol.md`` describes each field."""

    id: str
    title: str
    description: str
    value: float
    completed: Number | None
    total: Number | None
    unit: str
    weight: int
    status: Status
    stalled: bool
    late: bool
    stuck: bool
    slower: bool
    error: str | None
    group: str | None
    parent: str | None
    meta: dict[str, str]
    rate: float | None
    eta: float | None
    eta_low: float | None
    eta_high: float | None
    finish_at: str | None
    basis: str | None
    estimated_total: float | None
    estimated_value: float | None
    usual_gap_seconds: float | None
    usual_duration_seconds: float | None
    owner: str
    run_id: str
    seq: int
    short_runs: int
    created_at: str
    started_at: str
    progressed_at: str
    updated_at: str
    ended_at: str | None
    heartbeat_timeout: float | None
    deadline: str | None
    notify: list[str]
    stuck_after: NotRequired[float | None]
    ttl: float | None
    stoppable: bool
    stop_requested_at: str | None
    stop_requested_by: str | None


class Change(NamedTuple):
    """An event of ``watch()``: first a snapshot of all items, then the changes.

    Attributes:
        snapshot: Whether ``items`` is complete: an item that it lacks does not exist any more.
        items: All items of a snapshot, else the new and changed ones; each with all fields.
        gone: The ids of the removed items.
        ended: The runs that moved to the history; their ``status`` may also be ``"deleted"``.
        rev: The server's revision, which grows with every change.
    """

    snapshot: bool
    items: list[Item]
    gone: list[str]
    ended: list[Item]
    rev: int


class ItemWrite(TypedDict, total=False):
    """The fields that a client may write. An absent key keeps a value, ``None`` clears it."""

    title: str | None
    description: str | None
    value: float
    completed: Number | None
    total: Number | None
    unit: str | None
    weight: int | None
    status: Status
    error: str | None
    group: str | None
    parent: str | None
    meta: dict[str, str] | None
    run_id: str
    seq: int
    short_runs: int
    part: str | None
    age_seconds: float | None
    duration_seconds: float | None
    heartbeat_timeout: float | None
    deadline: str | None
    notify: list[str] | None
    stuck_after: float | None
    ttl: float | None
    stoppable: bool | None
    tail: str | None


class _OpName(TypedDict):
    op: Literal["put", "patch", "delete"]
    id: str


class Op(_OpName, ItemWrite):
    """One operation of a batch."""


class Problem(TypedDict, total=False):
    """The reason of a refusal, see RFC 9457. ``field`` names the invalid argument, if there is one."""

    type: str
    title: str
    status: int
    detail: str
    field: str


class _OpStatus(TypedDict):
    id: str
    status: int


class WriteWarning(TypedDict):
    """A part of a write that has no effect, such as the name of an unknown channel. The rest is written."""

    code: str
    field: str
    detail: str


class StopRequest(TypedDict):
    """A request to stop the run that an operation has written."""

    run_id: str
    requested_by: str


class OpResult(_OpStatus, total=False):
    """The result of one operation of a batch."""

    problem: Problem
    warnings: list[WriteWarning]
    stop_request: StopRequest


class KeyInfo(NamedTuple):
    """The properties of a key and of its server.

    Attributes:
        type: ``"read"``, ``"write"`` or ``"admin"``.
        permissions: The permissions of the key, such as ``("read", "create", "update_own", "delete_own")``.
        api: Versions beyond the original protocol, such as ``("v1",)``; empty for a 1.0.0 server.
        server_version: The server's version, or ``""``.
        boot_id: Changes at every start of the server; ``""`` if it is not known.
    """

    type: str
    permissions: tuple[str, ...]
    api: tuple[str, ...] = ()
    server_version: str = ""
    boot_id: str = ""


class FieldError(ValueError):
    """A field that breaks a rule. ``field`` is its name; the server responds with 422."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field

    def __reduce__(self) -> tuple[object, ...]:
        # Process pools pickle exceptions, and the default __reduce__ loses the field.
        return (type(self), (self.field, str(self)))


class FieldTypeError(FieldError, TypeError):
    """A field of the wrong type. Both a ``TypeError`` and a ``ValueError``, because the server's 422 covers both."""


def format_value(value: object, limit: int = 80) -> str:
    """Return ``repr(value)`` cut to ``limit`` characters, for an error message.

    >>> format_value("a" * 200, 10)
    "'aaaaaa..."
    """
    try:
        text = repr(value)
    except Exception as error:  # noqa: BLE001 - a user's __repr__ may raise anything, and repr() of a huge int raises
        text = f"<{type(value).__name__}: repr() raised {type(error).__name__}>"
    return text if len(text) <= limit else text[: limit - 3] + "..."


def has_control(text: str) -> bool:
    r"""Return whether a text has control characters or lone surrogates, which JSON or a database would refuse.

    >>> has_control("tab\there"), has_control("fine: ü 😀")
    (True, False)
    """
    # isprintable() is one pass in C and true for nearly every title; unusual spaces need the slow check.
    return not text.isprintable() and any(c < " " or "\x7f" <= c <= "\x9f" or "\ud800" <= c <= "\udfff" for c in text)


def check_text(field: str, value: object, limit: int, *, min_length: int = 0, allow_newlines: bool = False) -> str:
    """Return ``value`` if it is a string of ``min_length`` to ``limit`` characters without control characters.

    Args:
        field: The name of the field in the error.
        value: Any object.
        limit: The maximum number of characters.
        min_length: The minimum number of characters.
        allow_newlines: Allow newlines and tabs.

    Raises:
        FieldTypeError: It is not a string.
        FieldError: It is too short, too long, or has control characters.
    """
    if not isinstance(value, str):
        raise FieldTypeError(field, f"{field} must be a string, not {format_value(value)}")
    if not min_length <= len(value) <= limit:
        raise FieldError(
            field, f"{field} must be {min_length} to {limit} characters long, not {len(value)}: {format_value(value)}"
        )
    plain = value.replace("\n", "").replace("\t", "").replace("\r", "") if allow_newlines else value
    if has_control(plain):
        raise FieldError(field, f"{field} must not contain control characters: {format_value(value)}")
    return value


def check_id(value: object, field: str = "id") -> str:
    """Return ``value`` if it is a valid id of an item: 1 to 200 characters, without control characters."""
    return check_text(field, value, MAX_ID_LENGTH, min_length=1)


def check_tail(value: object, field: str = "tail") -> str:
    """Return ``value`` if it is at most 64 KiB of UTF-8, without control characters except tabs and newlines."""
    text = check_text(field, value, MAX_TAIL_BYTES, allow_newlines=True)
    if len(text.encode()) > MAX_TAIL_BYTES:
        raise FieldError(field, f"{field} must have at most {MAX_TAIL_BYTES} bytes of UTF-8, not {len(text.encode())}")
    return text


def check_number(field: str, value: object) -> Number:
    """Return ``value`` if it is a finite int or float (``bool`` is not), within +-1e300.

    An int beyond 2**53 is returned as a float, which every party to the protocol can represent.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise FieldTypeError(field, f"{field} must be a number, not {format_value(value)}")
    # The comparison is exact for ints of any size, and false for NaN.
    if not -NUMBER_LIMIT <= value <= NUMBER_LIMIT:
        raise FieldError(field, f"{field} must be a finite number, not {format_value(value)}")
    return float(value) if isinstance(value, int) and not -WEIGHT_LIMIT <= value <= WEIGHT_LIMIT else value


def check_value(value: object, field: str = "value") -> float:
    """Return ``value`` as a float if it is a finite number from 0 to 1.

    Sums of fractions have rounding errors, so 0 and 1 have a tolerance of 1e-9; see :func:`is_complete`.

    >>> check_value(1.0000000000000007), check_value(sum([0.1] * 10)), check_value(-1e-17)
    (1.0, 1.0, 0.0)
    """
    number = check_number(field, value)
    if number == 0 or -COMPLETION_TOLERANCE <= number < 0:
        return 0.0
    if is_complete(float(number), 1) and number <= 1 + COMPLETION_TOLERANCE:
        return 1.0
    if not 0 <= number <= 1:
        raise FieldError(field, f"{field} must be from 0 to 1, not {format_value(value)}")
    return float(number)


def check_weight(value: object, field: str = "weight") -> int:
    """Return ``value`` if it is an int (``bool`` is not) within +-2**53."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise FieldTypeError(field, f"{field} must be an int, not {format_value(value)}")
    if not -WEIGHT_LIMIT <= value <= WEIGHT_LIMIT:
        raise FieldError(field, f"{field} must be within +-2**53, not {format_value(value)}")
    return value


def check_seconds(field: str, value: object) -> float:
    """Return ``value`` as a float if it is a finite number of seconds, 0 or more."""
    number = check_number(field, value)
    if number < 0:
        raise FieldError(field, f"{field} must be 0 or more seconds, not {format_value(value)}")
    return float(number)


def check_age(field: str, value: object) -> float:
    """Return ``value`` as a float if it is a number of seconds from 0 to ten years."""
    number = check_seconds(field, value)
    if number > MAX_AGE_SECONDS:
        raise FieldError(field, f"{field} must be at most {MAX_AGE_SECONDS:.0f} seconds, not {format_value(value)}")
    return number


def check_stuck_after(value: object, field: str = "stuck_after") -> float:
    """Return ``value`` as a float if it is a number of seconds above 0, at most ten years."""
    number = check_age(field, value)
    if number == 0:
        raise FieldError(field, f"{field} must be more than 0 seconds, or null for off")
    return number


def check_meta(value: object, field: str = "meta") -> dict[str, str]:
    """Return ``value`` if it maps at most 16 short names to texts of at most 200 characters."""
    if not isinstance(value, dict):
        raise FieldTypeError(field, f"{field} must be a dictionary of strings, not {format_value(value)}")
    if len(value) > MAX_META_ENTRIES:
        raise FieldError(field, f"{field} must have at most {MAX_META_ENTRIES} entries, not {len(value)}")
    return {
        check_text(field, name, MAX_META_LENGTH, min_length=1): check_text(
            field, text, MAX_META_LENGTH, allow_newlines=True
        )
        for name, text in value.items()
    }


def check_notify(value: object, field: str = "notify") -> tuple[str, ...]:
    """Return ``value`` without duplicates if it is a list of at most 8 channel names of 1 to 64 characters.

    >>> check_notify(["phone", "team", "phone"])
    ('phone', 'team')
    """
    if not isinstance(value, list | tuple):
        raise FieldTypeError(field, f"{field} must be a list of names, not {format_value(value)}")
    if len(value) > MAX_NOTIFY_ENTRIES:
        raise FieldError(field, f"{field} must have at most {MAX_NOTIFY_ENTRIES} names, not {len(value)}")
    return tuple(dict.fromkeys(check_text(field, name, MAX_NOTIFY_LENGTH, min_length=1) for name in value))


def is_complete(completed: Number, total: Number) -> bool:
    """Return whether the total is reached. Ints are compared exactly; with a float, 1e-9 of the total may be missing.

    >>> is_complete(2**53 - 1, 2**53), is_complete(sum([0.1] * 10), 1), is_complete(0.99, 1), is_complete(12, 10)
    (False, True, False, True)
    """
    if completed >= total:
        return True
    return (
        isinstance(completed, float) or isinstance(total, float)
    ) and total - completed <= COMPLETION_TOLERANCE * total


def is_indeterminate(completed: Number | None, total: Number | None, status: str) -> bool:
    """Return whether units are counted without a usable total, so that no percentage can be shown.

    A total of zero or below has no meaning while the run is running: its percentage would be 0 or 100.

    >>> is_indeterminate(5, None, "running"), is_indeterminate(0, 0, "running"), is_indeterminate(0, 0, "stopped")
    (True, True, False)
    """
    return completed is not None and (total is None or (total <= 0 and status == "running"))


def compute_fraction(completed: Number | None, total: Number | None, status: str = "running") -> float | None:
    """Return the completed fraction, 0 to 1, or ``None`` without a count and a total.

    An incomplete run is never rounded up to 1, however large its total is. With a total of zero the fraction is 0 until
    the run has succeeded.

    >>> [compute_fraction(*counts) for counts in ((2**53 - 1, 2**53), (5, None), (12, 10), (-0.0, 10))]
    [0.9999999999999999, None, 1.0, 0.0]
    >>> compute_fraction(0, 0), compute_fraction(0, 0, "succeeded"), compute_fraction(sum([0.1] * 10), 1)
    (0.0, 1.0, 1.0)
    """
    if completed is None or total is None:
        return None
    if total <= 0:
        return 1.0 if status == "succeeded" else 0.0
    if is_complete(completed, total):
        return 1.0
    # max() returns the first of two equal numbers, so this order avoids -0.0.
    return min(max(0.0, completed / total), math.nextafter(1.0, 0.0))


def floor_percent(value: float) -> int:
    """Return a fraction as an integer percentage: rounded down, and 100 only at the end.

    >>> floor_percent(0.29), floor_percent(math.nextafter(1.0, 0.0)), floor_percent(1.0)
    (29, 99, 100)
    """
    # 0.29 * 100 is 28.999999999999996.
    return 100 if value >= 1 else min(math.floor((value + COMPLETION_TOLERANCE) * 100), 99)
