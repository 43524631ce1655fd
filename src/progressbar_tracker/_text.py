"""Turn what a program says about itself into texts and numbers that a server takes. Nothing here raises."""

from __future__ import annotations

import os
import sys
from operator import index
from typing import TYPE_CHECKING, Final, cast

from ._models import NUMBER_LIMIT, WEIGHT_LIMIT, has_control

if TYPE_CHECKING:
    from ._models import Number

SENTENCE_LENGTH: Final = 1000  # characters of what a server says that are kept


def clean(value: object, limit: int, *, lines: bool = False) -> str:
    r"""Return a text that the server takes, whatever comes.

    Control characters become spaces, and lone surrogates, as in a file name that is not UTF-8, the sign for "unknown".

    >>> clean("a\x00b" + "c" * 10, 6), clean("caf\udce9", 6)
    ('a bcc…', 'caf\ufffd')
    """
    if type(value) is str:
        text = value
    else:
        try:
            # The methods of a subclass of str are not trusted: only its characters count.
            text = "" if value is None else str.__str__(value if isinstance(value, str) else str(value))
        except Exception as error:  # noqa: BLE001 - a user's __str__ may raise whatever it likes
            text = f"<{type(value).__name__}: str() raised {type(error).__name__}>"
    if has_control(text):
        allowed = "\n\t" if lines else ""
        text = "".join(_replacement(c) if has_control(c) and c not in allowed else c for c in text)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _replacement(character: str) -> str:
    return "\ufffd" if "\ud800" <= character <= "\udfff" else " "


def count(value: object) -> Number | None:
    """Return a number that the server takes, of exactly the type ``int`` or ``float``, or ``None``."""
    kind = type(value)
    if kind is not int and kind is not float:
        try:
            value = _plain_number(value)
        except Exception:  # noqa: BLE001 - see clean()
            return None
    number = cast("Number", value)
    if not -NUMBER_LIMIT <= number <= NUMBER_LIMIT:
        return None
    # Every party to the protocol can hold a float of this size, not every one an int.
    return float(number) if kind is not float and not -WEIGHT_LIMIT <= number <= WEIGHT_LIMIT else number


def _plain_number(value: object) -> Number:
    # The operators of a subclass are not trusted: only its value counts. JSON has a form of its own for a bool.
    if isinstance(value, int):
        return int.__add__(value, 0)
    if isinstance(value, float):
        return float.__add__(value, 0.0)
    if hasattr(value, "__index__"):  # numpy's, for example
        return int.__add__(index(value), 0)
    return float.__add__(float(value), 0.0)  # type: ignore[arg-type]  # of numpy and decimal, for example


def whole(value: object) -> int:
    """Return an int that the server takes, or 0."""
    if not issubclass(type(value), int):
        return 0
    number = int.__add__(cast("int", value), 0)
    return number if -WEIGHT_LIMIT <= number <= WEIGHT_LIMIT else 0


def script_path() -> str:
    """Return ``sys.argv[0]``, or ``""`` where a program has removed it or put something else there."""
    try:
        return os.fsdecode(sys.argv[0])
    except (AttributeError, LookupError, TypeError):
        return ""


def sentence(value: object) -> str:
    r"""Return what a server says in words, fit for a log: one line, not too long; ``""`` if it is no text.

    >>> sentence("a\x1b[2Jb\n"), sentence({"a": 1})
    ('a [2Jb ', '')
    """
    if not isinstance(value, str):
        return ""
    text = value[:SENTENCE_LENGTH]
    return "".join(" " if has_control(c) else c for c in text) if has_control(text) else text
