"""The rule of each kind of field: as a type for msgspec, and as a check that names what is wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final, NamedTuple

from msgspec import Meta

from progressbar_tracker._models import (
    ITEM_STATUSES,
    MAX_AGE_SECONDS,
    NUMBER_LIMIT,
    WEIGHT_LIMIT,
    FieldError,
    FieldTypeError,
    Status,
    check_age,
    check_notify,
    check_number,
    check_seconds,
    check_stuck_after,
    check_tail,
    check_text,
    check_value,
    check_weight,
    format_value,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from progressbar_tracker._models import FieldKind


class Rule(NamedTuple):
    """The two forms of a rule.

    Attributes:
        fast_type: Returns the type that msgspec decodes, from the maximum length of a text.
        check: Returns the value to store, from the field's name, the value, and the maximum length of a text; raises
            :class:`~progressbar_tracker._models.FieldError`.
    """

    fast_type: Callable[[int], object]
    check: Callable[[str, object, int], object]


def _check_seq(field: str, value: object, _limit: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise FieldTypeError(field, f"{field} must be an int, not {format_value(value)}")
    if not 0 <= value <= WEIGHT_LIMIT:
        raise FieldError(field, f"{field} must be from 0 to 2**53, not {format_value(value)}")
    return value


def _check_status(field: str, value: object, _limit: int) -> Status:
    for status in ITEM_STATUSES:
        if value == status:
            return status
    raise FieldError(field, f"{field} must be one of {', '.join(ITEM_STATUSES)}, not {format_value(value)}")


def _check_bool(field: str, value: object, _limit: int) -> bool:
    if value is not None and not isinstance(value, bool):
        raise FieldTypeError(field, f"{field} must be true or false, not {format_value(value)}")
    return value is True


def _text_rule(*, lines: bool) -> Rule:
    return Rule(
        lambda limit: Annotated[str, Meta(max_length=limit)],
        lambda field, value, limit: "" if value is None else check_text(field, value, limit, allow_newlines=lines),
    )


def _optional_text_rule(*, lines: bool) -> Rule:
    # An empty text and null mean the same; null is stored.
    return Rule(
        lambda limit: Annotated[str, Meta(min_length=1, max_length=limit)] | None,
        lambda field, value, limit: (
            None if value is None else check_text(field, value, limit, allow_newlines=lines) or None
        ),
    )


# msgspec would accept 1.0 as an int. In a union it stays a float, which `is_valid` refuses.
FIELD_RULES: Final[dict[FieldKind, Rule]] = {
    "id": Rule(
        lambda limit: Annotated[str, Meta(min_length=1, max_length=limit)],
        lambda field, value, limit: check_text(field, value, limit, min_length=1),
    ),
    "line": _text_rule(lines=False),
    "text": _text_rule(lines=True),
    "optional_line": _optional_text_rule(lines=False),
    "optional_text": _optional_text_rule(lines=True),
    "fraction": Rule(
        lambda _: Annotated[float, Meta(ge=0, le=1)],
        lambda field, value, _: check_value(value, field),
    ),
    "number": Rule(
        lambda _: (
            Annotated[int, Meta(ge=-WEIGHT_LIMIT, le=WEIGHT_LIMIT)]
            | Annotated[float, Meta(ge=-NUMBER_LIMIT, le=NUMBER_LIMIT)]
            | None
        ),
        lambda field, value, _: None if value is None else check_number(field, value),
    ),
    "seconds": Rule(
        lambda _: Annotated[float, Meta(ge=0, le=NUMBER_LIMIT)] | None,
        lambda field, value, _: None if value is None else check_seconds(field, value),
    ),
    "age": Rule(
        lambda _: Annotated[float, Meta(ge=0, le=MAX_AGE_SECONDS)] | None,
        lambda field, value, _: None if value is None else check_age(field, value),
    ),
    "stuck_after": Rule(
        lambda _: Annotated[float, Meta(gt=0, le=MAX_AGE_SECONDS)] | None,
        lambda field, value, _: None if value is None else check_stuck_after(value, field),
    ),
    "weight": Rule(
        lambda _: Annotated[int, Meta(ge=-WEIGHT_LIMIT, le=WEIGHT_LIMIT)] | float,
        lambda field, value, _: 0 if value is None else check_weight(value, field),
    ),
    "seq": Rule(lambda _: Annotated[int, Meta(ge=0, le=WEIGHT_LIMIT)] | float, _check_seq),
    "status": Rule(lambda _: Status, _check_status),
    "bool": Rule(lambda _: bool, _check_bool),
    "tail": Rule(lambda _: object, lambda field, value, _: "" if value is None else check_tail(value, field)),
    "notify": Rule(lambda _: object, lambda field, value, _: () if value is None else check_notify(value, field)),
}
"""The rules of writable fields, except ``meta`` and ``deadline``: see :func:`~.validation.parse_write`."""
