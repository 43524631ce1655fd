"""Bodies to checked fields: what a client may write, by the rules that both sides share.

A field that is absent stays absent; ``None`` has become the field's default. What is not the client's to write
(``owner``, ``rate``, ...) and what is unknown is left out silently, so that newer clients work.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypedDict

from progressbar_tracker._models import (
    DESCRIPTION_LENGTH,
    ERROR_LENGTH,
    GROUP_LENGTH,
    ID_LENGTH,
    PART_LENGTH,
    STATUSES,
    TITLE_LENGTH,
    UNIT_LENGTH,
    WEIGHT_LIMIT,
    FieldError,
    FieldTypeError,
    LegacyItem,
    Number,
    Status,
    check_id,
    check_meta,
    check_number,
    check_seconds,
    check_text,
    check_value,
    check_weight,
    shown,
)

from .problems import missing, of_field

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class Fields(TypedDict, total=False):
    """Checked fields of a write, in the board's own types."""

    title: str
    description: str
    value: float
    completed: Number | None
    total: Number | None
    unit: str
    weight: int
    status: Status
    error: str | None
    group: str | None
    parent: str | None
    meta: dict[str, str]
    meta_cleared: tuple[str, ...]
    run_id: str
    seq: int
    part: str | None
    heartbeat_timeout: float | None
    ttl: float | None


def _seq(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise FieldTypeError("seq", f"seq must be an int, not {shown(value)}")
    if not 0 <= value <= WEIGHT_LIMIT:
        raise FieldError("seq", f"seq must be from 0 to 2**53, not {shown(value)}")
    return value


def _status(value: object) -> Status:
    for status in STATUSES:
        if value == status:
            return status
    raise FieldError("status", f"status must be one of {', '.join(STATUSES)}, not {shown(value)}")


def _optional(field: str, limit: int, *, lines: bool = False) -> Callable[[object], str | None]:
    # An empty text and none mean the same; one of them has to be the stored one.
    return lambda value: None if value is None else check_text(field, value, limit, lines=lines) or None


def _text(field: str, limit: int, *, lines: bool = False) -> Callable[[object], str]:
    return lambda value: "" if value is None else check_text(field, value, limit, lines=lines)


def _number(field: str) -> Callable[[object], Number | None]:
    return lambda value: None if value is None else check_number(field, value)


def _seconds(field: str) -> Callable[[object], float | None]:
    return lambda value: None if value is None else check_seconds(field, value)


_CHECKS: Final[dict[str, Callable[[object], object]]] = {
    "title": _text("title", TITLE_LENGTH),
    "description": _text("description", DESCRIPTION_LENGTH, lines=True),
    "value": check_value,
    "completed": _number("completed"),
    "total": _number("total"),
    "unit": _text("unit", UNIT_LENGTH),
    "weight": lambda value: 0 if value is None else check_weight(value),
    "status": _status,
    "error": _optional("error", ERROR_LENGTH, lines=True),
    "group": _optional("group", GROUP_LENGTH),
    "parent": _optional("parent", ID_LENGTH),
    "run_id": lambda value: check_text("run_id", value, ID_LENGTH, least=1),
    "seq": _seq,
    "part": _optional("part", PART_LENGTH),
    "heartbeat_timeout": _seconds("heartbeat_timeout"),
    "ttl": _seconds("ttl"),
}


def read_write(body: Mapping[str, object], *, merge: bool) -> Fields:
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
            check = _CHECKS.get(name)
            if check is not None:
                fields[name] = check(value)
        if "meta" in body:
            _read_meta(body["meta"], fields, merge=merge)
    except FieldError as error:
        raise of_field(error) from None
    return fields  # type: ignore[return-value]  # each value has just been made by the check of its name


def _read_meta(value: object, fields: dict[str, object], *, merge: bool) -> None:
    if value is None:
        fields["meta"] = {}
        fields["meta_cleared"] = ("*",)
    elif merge and isinstance(value, dict):
        fields["meta"] = check_meta({name: text for name, text in value.items() if text is not None})
        fields["meta_cleared"] = tuple(str(name) for name, text in value.items() if text is None)
    else:
        fields["meta"] = check_meta(value)


def read_legacy(body: Mapping[str, object]) -> LegacyItem:
    """Return the checked body of part 1 of the protocol; all five fields are required.

    Raises:
        ProblemError: ``invalid-field``, naming the field.
    """
    for field in ("id", "title", "description", "value", "weight"):
        if field not in body:
            raise missing(field)
    try:
        return {
            "id": check_id(body["id"]),
            "title": check_text("title", body["title"], TITLE_LENGTH),
            "description": check_text("description", body["description"], DESCRIPTION_LENGTH, lines=True),
            "value": check_value(body["value"]),
            "weight": check_weight(body["weight"]),
        }
    except FieldError as error:
        raise of_field(error) from None
