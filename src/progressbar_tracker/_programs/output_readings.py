"""Readings: the numbers, sizes and times in a frame, as progress."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple, TypedDict, Unpack

if TYPE_CHECKING:
    from progressbar_tracker._models import Number

MAX_LABEL_LENGTH: Final = 60
MAX_COUNT: Final = 1e15

NUMBER_PATTERN: Final = r"\d{1,3}(?:,\d{3})+|\d+(?:\.\d+)?"
SIZE_PATTERN: Final = r"[kKMGTP]?i?[Bb](?:ytes)?"
FRONT_PATTERN: Final = r"(?<![\w.,/:+=%#-])"  # not the end of a date, a version, a path or a setting
PERCENT_PATTERN: Final = r"(?P<percent>\d{1,3}(?:[.,]\d+)?)"

_SIZE_FACTORS: Final = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4, "P": 5}


class Reading(NamedTuple):
    """Progress that a frame shows: ``completed`` of ``total`` units.

    Attributes:
        form: Name of the form.
        completed: Units done.
        total: Units to do; ``None`` if the program counts up.
        unit: Name of a unit.
        label: The text in front of it, without numbers: readings with the same label are a series.
        title: The program's name for the phase, or both levels of nested progress.
        evidence: Rising readings that the series needs.
        is_step: The frame marks the start of a step, so that the bars after it are a share of one step.
    """

    form: str
    completed: Number
    total: Number | None = None
    unit: str = ""
    label: str = ""
    title: str = ""
    evidence: int = 1
    is_step: bool = False

    @property
    def fraction(self) -> float:
        """Completed share, 0 to 1; 0 without a total."""
        return 0.0 if self.total is None else self.completed / self.total


class ReadingFields(TypedDict, total=False):
    """The optional fields of a reading."""

    label: str
    title: str
    evidence: int
    is_step: bool


def parse_number(text: str) -> float:
    """Return the number of a text, in which commas may group the digits.

    >>> parse_number("1,234.5")
    1234.5
    """
    return float(text.replace(",", ""))


def parse_clock(text: str) -> float:
    """Return the seconds of a time such as ``1:02:03.5``.

    >>> parse_clock("1:02:03.5")
    3723.5
    """
    seconds = 0.0
    for part in text.split(":"):
        seconds = seconds * 60 + float(part)
    return seconds


def parse_size(number: str, unit: str) -> float:
    """Return the bytes of a size.

    >>> parse_size("1.5", "KiB"), parse_size("1.5", "kB")
    (1536.0, 1500.0)
    """
    base = 1024 if "i" in unit else 1000
    factor = float(base) ** _SIZE_FACTORS.get(unit[:1].upper().replace("B", ""), 0)
    return round(parse_number(number) * factor, 3)


def describe_label(text: str) -> str:
    """Return the words of the text in front of a reading, without numbers and bars.

    >>> describe_label("Copying 12 files: |####   | ")
    'Copying files'
    """
    return " ".join(re.findall(r"[^\W\d_]{2,}", text))[-MAX_LABEL_LENGTH:]


def make_reading(
    form: str, completed: float, total: float | None, unit: str = "", **fields: Unpack[ReadingFields]
) -> Reading | None:
    """Return a reading with whole numbers where possible, or ``None`` if the count is impossible."""
    if completed > MAX_COUNT or completed < 0:
        return None
    if total is not None and (total <= 0 or completed > total or total > MAX_COUNT):
        return None
    return Reading(form, _simplify(completed), None if total is None else _simplify(total), unit, **fields)


def _simplify(value: float) -> Number:
    return int(value) if float(value).is_integer() else value


def make_size_reading(
    form: str, pairs: list[tuple[str, str, str, str]], **fields: Unpack[ReadingFields]
) -> Reading | None:
    """Return the sum of sizes as ``completed, unit, total, unit``, in the unit of the first total."""
    if not pairs:
        return None
    unit = pairs[0][3]
    if len(pairs) == 1 and pairs[0][1] in (unit, ""):
        return make_reading(form, parse_number(pairs[0][0]), parse_number(pairs[0][2]), unit, **fields)
    scale = parse_size("1", unit)
    completed = sum(parse_size(number, size) for number, size, _, _ in pairs) / scale
    total = sum(parse_size(number, size) for _, _, number, size in pairs) / scale
    return make_reading(form, round(completed, 3), round(total, 3), unit, **fields)
