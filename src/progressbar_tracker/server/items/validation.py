"""Validation of bodies: JSON to checked fields, by the rules that client and server share.

An absent field stays absent; ``None`` becomes the field's default. Unknown fields and those of the server (``owner``,
``rate``, ...) are dropped silently, so that newer clients work.

There are two readers. The fast one decodes a body into a shape that carries the limits; it only accepts. Bodies that
it does not accept go to the careful one, which checks field after field and names the invalid one, if any. Nearly every
write is valid, and costs a quarter that way.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, NamedTuple, cast

import msgspec
from msgspec import Meta

from progressbar_tracker._models import (
    COMPLETION_TOLERANCE,
    ITEM_FIELDS,
    MAX_BATCH_OPS,
    MAX_DESCRIPTION_LENGTH,
    MAX_TITLE_LENGTH,
    FieldError,
    ItemWrite,
    LegacyItem,
    check_id,
    check_meta,
    check_text,
    check_value,
    check_weight,
    format_value,
)
from progressbar_tracker.server.problems import ProblemError, field_problem, missing_field

from .fields import LEGACY_FIELDS, WRITABLE_FIELDS, build_shape
from .rules import FIELD_RULES

if TYPE_CHECKING:
    from collections.abc import Mapping


class WriteFields(ItemWrite, total=False):
    """Checked fields of a write.

    ``title``, ``description``, ``unit``, ``weight`` and ``meta`` are never ``None``. ``meta_cleared`` names the entries
    of ``meta`` to remove, ``"*"`` for all. ``deadline_at`` is the ``deadline`` in seconds since the epoch.
    """

    meta_cleared: tuple[str, ...]
    deadline_at: float | None


class BatchOperation(WriteFields):
    """Fields of an operation of a batch."""

    op: Literal["put", "patch", "delete"]
    id: str


class InvalidOperation(NamedTuple):
    """An operation of a batch that breaks a rule: its id, ``""`` if that is unusable, and the problem."""

    id: str
    problem: ProblemError


_FIELD_CHECKS: Final = {
    name: (FIELD_RULES[field.kind].check, field.limit)
    for name, field in ITEM_FIELDS.items()
    if field.write is not None and field.kind in FIELD_RULES
}


# The fast reader


def _fast_type(name: str) -> Any:
    field = ITEM_FIELDS[name]
    return FIELD_RULES[field.kind].fast_type(field.limit) if field.kind in FIELD_RULES else object


_FAST_TYPES: Final = {name: _fast_type(name) for name in WRITABLE_FIELDS}
_ID_TYPE: Final = {"id": _fast_type("id")}
_Operation: Any = build_shape("Operation", {"op": Literal["put", "patch", "delete"], **_ID_TYPE}, _FAST_TYPES)

_decode_write = msgspec.json.Decoder(build_shape("Write", {}, _FAST_TYPES | _ID_TYPE)).decode
_decode_batch = msgspec.json.Decoder(
    build_shape("Batch", {"ops": Annotated[list[_Operation], Meta(max_length=MAX_BATCH_OPS)]})
).decode
_decode_legacy = msgspec.json.Decoder(build_shape("Legacy", {name: _fast_type(name) for name in LEGACY_FIELDS})).decode
_DECODE_ERRORS: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_CHECKED_FLOAT_FIELDS: Final = frozenset(
    name for name, field in ITEM_FIELDS.items() if field.kind in {"weight", "seq", "fraction"}
)
"""The fields whose floats need the careful reader; a fraction only if it is close to 0 or 1."""
_CAREFUL_FIELDS: Final = frozenset(name for name, type in _FAST_TYPES.items() if type is object)
"""The fields that only the careful reader parses."""
_CONDITIONAL_FIELDS: Final = _CAREFUL_FIELDS | _CHECKED_FLOAT_FIELDS - {"seq"}


def parse_write_fast(body: bytes) -> WriteFields | None:
    """Return the fields of a valid PUT or PATCH body; ``None`` if it needs the careful reader."""
    try:
        fields = cast("WriteFields", _decode_write(body))
    except _DECODE_ERRORS:
        return None
    return fields if is_valid(fields) else None


def parse_batch_fast(body: bytes) -> list[BatchOperation | InvalidOperation] | None:
    """Return the operations of a batch; ``None`` if it needs the careful reader.

    Single operations that the fast reader does not accept are parsed by the careful one.
    """
    try:
        ops = cast("list[BatchOperation]", _decode_batch(body)["ops"])
    except _DECODE_ERRORS:
        return None
    # Without escapes and DEL, every ASCII text is printable: one check of the body instead of one of each text.
    is_printable = body.isascii() and b"\\" not in body and b"\x7f" not in body
    check = _is_valid_if_printable if is_printable else is_valid
    return [op if check(op) else _parse_operation_safely(op) for op in ops]


def parse_legacy_fast(body: bytes) -> LegacyItem | None:
    """Return a valid body of part 1 of the protocol; ``None`` if it needs the careful reader."""
    try:
        fields = cast("dict[str, object]", _decode_legacy(body))
    except _DECODE_ERRORS:
        return None
    return cast("LegacyItem", fields) if is_valid(fields) else None


def is_valid(fields: Mapping[str, object]) -> bool:
    """Return whether fields that the fast reader has decoded are valid without the careful one.

    False for texts with newlines or control characters, although some are valid, and for fields that the careful
    reader changes: ``meta`` is merged, a ``deadline`` becomes a number, and ``notify`` names each channel once. The
    length of a ``tail`` is limited in bytes.
    """
    for name, value in fields.items():
        # Half the cost of isinstance(), for every field of every write.
        kind = value.__class__
        if kind is str:
            if not value.isprintable():  # type: ignore[attr-defined]
                return False
        elif kind is float and name in _CHECKED_FLOAT_FIELDS and (name != "value" or not _is_plain_fraction(value)):
            return False
    return "meta" not in fields and "deadline" not in fields and "notify" not in fields and "tail" not in fields


def _is_valid_if_printable(fields: Mapping[str, object]) -> bool:
    return fields.get("seq").__class__ is not float and (_CONDITIONAL_FIELDS.isdisjoint(fields) or is_valid(fields))


def _is_plain_fraction(value: object) -> bool:
    return isinstance(value, float) and (COMPLETION_TOLERANCE < value < 1 - 2 * COMPLETION_TOLERANCE or value == 1)


PROGRESS_FIELDS: Final = frozenset({"op", "id", "run_id", "seq", "completed", "description", "age_seconds"})
"""The fields of a write that reports progress and nothing else."""


# The careful reader


def parse_write(body: Mapping[str, object], *, merge: bool) -> WriteFields:
    """Return the checked fields of a PUT, or with ``merge`` of a PATCH.

    Args:
        body: The decoded JSON object.
        merge: ``meta`` is merged entry by entry; an entry that is ``None`` is cleared.

    Raises:
        ProblemError: ``invalid-field``, naming the field.
    """
    fields: dict[str, object] = {}
    try:
        for name, value in body.items():
            if name in _FIELD_CHECKS:
                check, limit = _FIELD_CHECKS[name]
                fields[name] = check(name, value, limit)
        if "meta" in body:
            _parse_meta(body["meta"], fields, merge=merge)
        if "deadline" in body:
            fields["deadline_at"] = parse_instant("deadline", body["deadline"])
    except FieldError as error:
        raise field_problem(error) from None
    return fields  # type: ignore[return-value]  # the check of its name returned each value


def parse_batch(body: Mapping[str, object]) -> list[BatchOperation | InvalidOperation]:
    """Return the operations of a batch.

    Raises:
        ProblemError: ``invalid-field``: ``ops`` is missing, no list or too long.
    """
    ops = body.get("ops")
    if ops is None:
        raise missing_field("ops")
    if not isinstance(ops, list):
        raise ProblemError("invalid-field", f"ops must be a list, not {format_value(ops)}", field="ops")
    if len(ops) > MAX_BATCH_OPS:
        raise ProblemError(
            "invalid-field", f"ops must have at most {MAX_BATCH_OPS} entries, not {len(ops)}", field="ops"
        )
    return [_parse_operation_safely(op) for op in ops]


def _parse_operation_safely(op: object) -> BatchOperation | InvalidOperation:
    try:
        return _parse_operation(op)
    except FieldError as error:
        problem = field_problem(error)
    except ProblemError as error:
        problem = error
    item_id = op.get("id") if isinstance(op, dict) else None
    return InvalidOperation(item_id if isinstance(item_id, str) and item_id.isprintable() else "", problem)


def _parse_operation(op: object) -> BatchOperation:
    if not isinstance(op, dict):
        raise ProblemError("invalid-field", "an operation must be an object", field="ops")
    name, item_id = op.get("op"), op.get("id")
    if name not in ("put", "patch", "delete"):
        raise ProblemError("invalid-field", f"op must be put, patch or delete, not {format_value(name)}", field="op")
    if item_id is None:
        raise missing_field("id")
    item_id = check_id(item_id)
    if name == "delete":
        op = {} if op.get("run_id") is None else {"run_id": op["run_id"]}
    return {"op": name, "id": item_id, **parse_write(op, merge=name == "patch")}


def _parse_meta(value: object, fields: dict[str, object], *, merge: bool) -> None:
    if value is None:
        fields["meta"] = {}
        fields["meta_cleared"] = ("*",)
    elif merge and isinstance(value, dict):
        fields["meta"] = check_meta({name: text for name, text in value.items() if text is not None})
        fields["meta_cleared"] = tuple(str(name) for name, text in value.items() if text is None)
    else:
        fields["meta"] = check_meta(value)


_MAX_INSTANT: Final = datetime(9999, 1, 1, tzinfo=UTC).timestamp()
"""Responses show a year of four digits."""


def parse_instant(field: str, value: object) -> float | None:
    """Return an RFC 3339 instant of a body in seconds since the epoch, or ``None`` for null.

    Raises:
        FieldError: The value is no RFC 3339 instant, or outside the years 1970 to 9998.
    """
    if value is None:
        return None
    text = check_text(field, value, 40, min_length=1)
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        raise FieldError(field, f"{field} must be an RFC 3339 instant, not {format_value(text)}") from None
    if instant.tzinfo is None:
        raise FieldError(field, f"{field} must name its offset from UTC, such as Z, not {format_value(text)}")
    at = instant.timestamp()
    if not 0 <= at < _MAX_INSTANT:
        raise FieldError(field, f"{field} must be in the years from 1970 to 9998 in UTC, not {format_value(text)}")
    return at


def parse_legacy(body: Mapping[str, object]) -> LegacyItem:
    """Return the checked body of part 1 of the protocol; all five fields are required.

    Raises:
        ProblemError: ``invalid-field``, naming the field.
    """
    for field in LEGACY_FIELDS:
        if field not in body:
            raise missing_field(field)
    try:
        return {
            "id": check_id(body["id"]),
            "title": check_text("title", body["title"], MAX_TITLE_LENGTH),
            "description": check_text("description", body["description"], MAX_DESCRIPTION_LENGTH, allow_newlines=True),
            "value": check_value(body["value"]),
            "weight": check_weight(body["weight"]),
        }
    except FieldError as error:
        raise field_problem(error) from None
