"""Convert a program's texts and numbers to valid ones, and format them for people. Nothing here raises."""

from __future__ import annotations

import os
import sys
import unicodedata
from operator import index
from typing import TYPE_CHECKING, Final, cast

from ._models import NUMBER_LIMIT, WEIGHT_LIMIT, has_control

if TYPE_CHECKING:
    from ._models import Number

MAX_DETAIL_LENGTH: Final = 1000  # characters of a server's explanation


def clean_text(value: object, limit: int, *, allow_newlines: bool = False) -> str:
    r"""Convert any object to a valid text of at most ``limit`` characters.

    Control characters become spaces. Lone surrogates, as in a file name that is not UTF-8, become U+FFFD.

    >>> clean_text("a\x00b" + "c" * 10, 6), clean_text("caf\udce9", 6)
    ('a bcc…', 'caf\ufffd')
    """
    if type(value) is str:
        text = value
    else:
        try:
            # Methods of a subclass of str are not called: they may raise or lie.
            text = "" if value is None else str.__str__(value if isinstance(value, str) else str(value))
        except Exception as error:  # noqa: BLE001 - a user's __str__ may raise anything
            text = f"<{type(value).__name__}: str() raised {type(error).__name__}>"
    if has_control(text):
        allowed = "\n\t" if allow_newlines else ""
        text = "".join(_replace_character(c) if has_control(c) and c not in allowed else c for c in text)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _replace_character(character: str) -> str:
    return "\ufffd" if "\ud800" <= character <= "\udfff" else " "


def clean_number(value: object) -> Number | None:
    """Convert an object to a valid number of exactly the type ``int`` or ``float``, or return ``None``."""
    kind = type(value)
    if kind is not int and kind is not float:
        try:
            value = _to_plain_number(value)
        except Exception:  # noqa: BLE001 - see clean_text()
            return None
    number = cast("Number", value)
    if not -NUMBER_LIMIT <= number <= NUMBER_LIMIT:
        return None
    # Every party to the protocol can represent a float of this size, but not every one an int.
    return float(number) if kind is not float and not -WEIGHT_LIMIT <= number <= WEIGHT_LIMIT else number


def _to_plain_number(value: object) -> Number:
    # Operators of a subclass are not called. A bool becomes an int, because JSON would write it as true or false.
    if isinstance(value, int):
        return int.__add__(value, 0)
    if isinstance(value, float):
        return float.__add__(value, 0.0)
    if hasattr(value, "__index__"):  # for example numpy's integers
        return int.__add__(index(value), 0)
    return float.__add__(float(value), 0.0)  # type: ignore[arg-type]  # for example of numpy and decimal


def clean_int(value: object) -> int:
    """Return a valid int, or 0."""
    if not issubclass(type(value), int):
        return 0
    number = int.__add__(cast("int", value), 0)
    return number if -WEIGHT_LIMIT <= number <= WEIGHT_LIMIT else 0


def get_script_path() -> str:
    """Return ``sys.argv[0]``, or ``""`` if the program has removed it or replaced it by an object of another type."""
    try:
        return os.fsdecode(sys.argv[0])
    except (AttributeError, LookupError, TypeError):
        return ""


def clean_detail(value: object) -> str:
    r"""Return a server's explanation as one bounded line for a log; ``""`` if it is not a string.

    >>> clean_detail("a\x1b[2Jb\n"), clean_detail({"a": 1})
    ('a [2Jb ', '')
    """
    if not isinstance(value, str):
        return ""
    text = value[:MAX_DETAIL_LENGTH]
    return "".join(" " if has_control(c) else c for c in text) if has_control(text) else text


def display_width(text: str) -> int:
    """Return the number of terminal columns of a text: two for a wide character, none for a combining one.

    >>> display_width("abc"), display_width("日本"), display_width("e\u0301")
    (3, 4, 1)
    """
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.category(c) in ("Mn", "Me", "Cf") else 2 if unicodedata.east_asian_width(c) in "WF" else 1
        for c in text
    )


def sanitize_line(text: object) -> str:
    """Return a text on one line, without characters that move the cursor or change the writing direction."""
    line = " ".join(str(text or "").split())
    return "".join(c for c in line if unicodedata.category(c) not in ("Cc", "Cf", "Cs"))


def truncate(text: str, width: int) -> str:
    """Cut a text to at most ``width`` columns.

    >>> truncate("abcdef", 4), truncate("日本語", 4)
    ('abc…', '日…')
    """
    if display_width(text) <= width:
        return text
    characters, used = [], 0
    for character in text:
        used += display_width(character)
        if used > width - 1:
            break
        characters.append(character)
    return "".join(characters) + "…" if width > 0 else ""


def format_duration(seconds: float | None) -> str:
    """Format seconds for people, with the two or three largest units.

    >>> format_duration(5), format_duration(65), format_duration(3700), format_duration(200000), format_duration(None)
    ('00:05', '01:05', '1:01:40', '2d 07h', '')
    """
    if seconds is None:
        return ""
    if not seconds < 1e9:
        return "ages"
    total = int(seconds)
    if total >= 86400:
        return f"{total // 86400}d {total % 86400 // 3600:02}h"
    if total >= 3600:
        return f"{total // 3600}:{total % 3600 // 60:02}:{total % 60:02}"
    return f"{total // 60:02}:{total % 60:02}"


def format_amount(number: Number, unit: str) -> str:
    """Format a number briefly; bytes with a prefix.

    >>> format_amount(1234567, "B"), format_amount(1234567, "it"), format_amount(0.5, "s"), format_amount(10**300, "B")
    ('1.2M', '1234567', '0.5', '1e+300')
    """
    if abs(number) >= 1e18:
        return f"{float(number):.3g}"
    if unit != "B":
        return f"{number:.10g}" if isinstance(number, float) else str(number)
    for prefix in ("", "K", "M", "G", "T"):
        if abs(number) < 1024:
            return f"{number:.1f}{prefix}" if prefix else f"{number:.0f}"
        number /= 1024
    return f"{number:.1f}P"
