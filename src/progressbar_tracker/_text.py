"""Texts and numbers for people and for a server: clean, escape, truncate, parse and format. Nothing here does I/O.

The functions that clean a value of the tracked program never raise.
"""

from __future__ import annotations

import os
import re
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

    Escape sequences of terminals are removed, and other control characters become spaces. Lone surrogates, as in a file
    name that is not UTF-8, become U+FFFD.

    >>> clean_text("a\x00b" + "c" * 10, 6), clean_text("caf\udce9", 6), clean_text("\x1b[1mbold\x1b[0m", 6)
    ('a bcc…', 'caf\ufffd', 'bold')
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
        text = re.sub(_ESCAPE_SEQUENCE, "", text)
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
    r"""Return a server's text made safe for a log: one line of at most 1,000 characters; ``""`` if it is no text.

    >>> clean_detail("a\x1b[2Jb\n"), clean_detail({"a": 1})
    ('ab ', '')
    """
    return clean_text(value[: MAX_DETAIL_LENGTH + 1], MAX_DETAIL_LENGTH) if isinstance(value, str) else ""


def sanitize_line(text: object, *, keep: str = "") -> str:
    r"""Return a text on one line, without characters that move a cursor or change the direction of writing.

    Args:
        text: Any object; ``None`` is the empty text.
        keep: Characters that stay all the same, such as the joiner of emoji.

    >>> sanitize_line(" a\x1b[2J\n\u202eb "), sanitize_line(None), sanitize_line("👩\u200d🚀", keep="\u200d")
    ('a[2J b', '', '👩\u200d🚀')
    """
    return remove_hidden(" ".join(str(text or "").split()), keep=keep)


def remove_hidden(text: str, *, keep: str = "") -> str:
    r"""Return a text without control characters, format characters and surrogates, except those of ``keep``.

    >>> remove_hidden("a\x1b\u202e\U000e0041b\n", keep="\n")
    'ab\n'
    """
    if text.isprintable():
        return text
    return "".join(
        c for c in text if c in keep or not (unicodedata.category(c) in _HIDDEN_CATEGORIES or c in _XML_NONCHARACTERS)
    )


def clean_label(text: object) -> str:
    r"""Return a text of another library as a title: one line without escape sequences, control and format characters.

    >>> clean_label("  \x1b[1;31mEpoch\x1b[0m\t1\r\n"), clean_label("\x1b]8;;http://x\x07link\x1b]8;;\x07 👩\u200d🚀")
    ('Epoch 1', 'link 👩\u200d🚀')
    """
    line = str(text)
    if not line.isprintable():
        line = re.sub(_ESCAPE_SEQUENCE, "", line)
    return sanitize_line(line, keep=EMOJI_JOINERS)


# A string up to its terminator, a control sequence, or a short escape sequence; the first two also with 8-bit codes.
_ESCAPE_SEQUENCE: Final = (
    r"\x1b[\]PX^_][^\x07\x1b\x9c]*(?:\x07|\x9c|\x1b\\|$)|[\x90\x98\x9d-\x9f][^\x07\x1b\x9c]*(?:\x07|\x9c)"
    r"|(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]?|\x1b[ -/]*[0-~]?"
)
EMOJI_JOINERS: Final = "\u200c\u200d"
_HIDDEN_CATEGORIES: Final = frozenset({"Cc", "Cf", "Cs"})  # control, format and surrogate characters
_XML_NONCHARACTERS: Final = "\ufffe\uffff"  # XML cannot hold them


def summarize_error(error: BaseException) -> str:
    r"""Return the message of an error on one line, without the number of an ``OSError``.

    >>> [summarize_error(error) for error in (OSError(13, "Permission denied"), ValueError("a\nb"), KeyError())]
    ['Permission denied', 'a b', 'KeyError']
    """
    reason = error.strerror if isinstance(error, OSError) else None
    return sanitize_line(reason or error) or type(error).__name__


def escape_unprintable(text: str) -> str:
    r"""Return a text whose line breaks and other characters that do not print are escape sequences.

    >>> print(escape_unprintable("a\nb\x1b"))
    a\nb\x1b
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def escape_json_controls(document: str) -> str:
    r"""Return JSON text that is harmless on a terminal: escape characters that JSON allows, but a terminal obeys.

    >>> print(escape_json_controls('["\x9b2J\u202e"]'))
    ["\u009b2J\u202e"]
    """
    return re.sub(_JSON_CONTROLS, lambda match: f"\\u{ord(match[0]):04x}", document)


# Patterns stay strings until their first use: compiling them would slow the import of the package.
_JSON_CONTROLS: Final = r"[\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]"


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


def parse_duration(text: str, *, default_unit: str = "") -> float:
    """Return the seconds of a duration such as ``90s``, ``1.5h``, ``1h30m`` or ``2 d``.

    Args:
        text: Numbers with the units s, m or min, h, d, w and y (365 days).
        default_unit: The unit of a number without one; by default such a number is an error.

    Raises:
        ValueError: The text is no duration.

    >>> parse_duration("1h30m"), parse_duration("1y"), parse_duration("90", default_unit="s")
    (5400.0, 31536000.0, 90.0)
    """
    compact = text.replace(" ", "")
    pieces: list[tuple[str, str]] = re.findall(_DURATION_PIECE, compact, re.ASCII)
    try:
        seconds = [float(number) * _UNIT_SECONDS[unit or default_unit] for number, unit in pieces]
    except KeyError:
        seconds = []
    if not seconds or "".join(number + unit for number, unit in pieces) != compact:
        raise ValueError(f"{text!r} is not a duration such as 90s or 1h30m")
    return sum(seconds)


_UNIT_SECONDS: Final = {
    "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0, "w": 7 * 86400.0, "y": 365 * 86400.0
}  # fmt: skip

_DURATION_PIECE: Final = r"(\d{1,12}(?:\.\d{1,12})?)(s|min|m|h|d|w|y)?"


def round_to_step(seconds: float, step: int) -> int:
    """Return seconds rounded to a multiple of a step; half a step is rounded up."""
    return int((seconds / step + 0.5) // 1) * step


def format_steps(seconds: int) -> str:
    """Return a rounded duration in its two largest units, without zeros."""
    if seconds < 60:
        return f"{seconds} s"
    large, small, names = (
        (60, 1, ("min", "s")) if seconds < 3600
        else (3600, 60, ("h", "min")) if seconds < 2 * 86400
        else (86400, 3600, ("days", "h"))
    )  # fmt: skip
    first, second = seconds // large, seconds % large // small
    return f"{first} {names[0]} {second} {names[1]}" if second else f"{first} {names[0]}"


def format_duration(seconds: float, *, decimals: int = 0) -> str:
    """Return a duration in its two largest units, rounded to the smaller one, for a page or a message.

    Args:
        seconds: The duration.
        decimals: The decimals of seconds below a minute.

    >>> format_duration(59.4), format_duration(302.6), format_duration(3700), format_duration(200000)
    ('59 s', '5 min 3 s', '1 h 2 min', '2 days 8 h')
    >>> format_duration(2.345, decimals=1), format_duration(1e9)
    ('2.3 s', 'ages')
    """
    if not seconds < _MAX_SECONDS:
        return "ages"
    scale = 10**decimals
    if decimals and (rounded := (seconds * scale + 0.5) // 1 / scale) < 60:
        return f"{rounded:.{decimals}f} s"
    return format_steps(round_to_step(seconds, 1 if seconds < 3600 else 60 if seconds < 2 * 86400 else 3600))


def format_clock(seconds: float | None) -> str:
    """Return a duration as a clock shows it, for a terminal; ``""`` for ``None``.

    >>> format_clock(5), format_clock(65), format_clock(3700), format_clock(200000), format_clock(None)
    ('00:05', '01:05', '1:01:40', '2d 07h', '')
    """
    if seconds is None:
        return ""
    if not seconds < _MAX_SECONDS:
        return "ages"
    whole = int(seconds)
    if whole >= 86400:
        return f"{whole // 86400}d {whole % 86400 // 3600:02}h"
    if whole >= 3600:
        return f"{whole // 3600}:{whole % 3600 // 60:02}:{whole % 60:02}"
    return f"{whole // 60:02}:{whole % 60:02}"


def format_age(seconds: float) -> str:
    """Return how old something is, at a glance.

    >>> format_age(12.7), format_age(150), format_age(11520), format_age(40000), format_age(200000)
    ('12 s', '2 min', '3 h 12 min', '11 h', '2 days')
    """
    past = max(int(seconds), 0)
    if past < 60:
        return f"{past} s"
    if past < 3600:
        return f"{past // 60} min"
    if past < 36000:
        return f"{past // 3600} h {past % 3600 // 60} min"
    return f"{past // 3600} h" if past < 172800 else f"{past // 86400} days"


_MAX_SECONDS: Final = 1e9  # 32 years: an estimate beyond that has no meaning


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
