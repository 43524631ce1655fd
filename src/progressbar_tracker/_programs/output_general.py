"""Reads a frame of any program: the form of a known tool, or a percentage or count in general."""

from __future__ import annotations

import re
from typing import Final

from .output_patterns import KNOWN_FORMS
from .output_readings import (
    FRONT_PATTERN,
    NUMBER_PATTERN,
    PERCENT_PATTERN,
    SIZE_PATTERN,
    Reading,
    describe_label,
    make_reading,
    make_size_reading,
    parse_number,
)

_COMPILED_FORMS: Final = [(form, re.compile(form.pattern)) for form in KNOWN_FORMS]
_PERCENT_PATTERN: Final = re.compile(rf"{FRONT_PATTERN}{PERCENT_PATTERN} ?%(?![\w%/])")
_BRACKET_PATTERN: Final = re.compile(r"\[ *(?P<percent>\d{1,3}(?:\.\d+)?) ?%\]")
_CHAIN_PATTERN: Final = re.compile(rf"(?<=%\.\.\.){PERCENT_PATTERN}%$")
_SIZES_PATTERN: Final = re.compile(
    rf"{FRONT_PATTERN}(?P<done>{NUMBER_PATTERN}) ?(?P<d>{SIZE_PATTERN})?(?: ?/ ?| of )"
    rf"(?P<total>{NUMBER_PATTERN}) ?(?P<t>{SIZE_PATTERN})(?![\w/=])(?! +=)"
)
_COUNTS_PATTERN: Final = re.compile(
    rf"{FRONT_PATTERN}(?P<done>{NUMBER_PATTERN}) ?(?:/ *| out of +| of )(?P<total>{NUMBER_PATTERN})"
    r"(?= ?[\])}>|\[(]| +(?![/=%])|[;,] | ?: |\n)"
)
_BARE_NUMBER: Final = re.compile(r"^(?P<percent>\d{1,6})$")

_RESOURCE_WORDS: Final = (
    "remaining|left|free|used|idle|packet loss|non-contiguous|full|cpu|memory|mem|gpu|util\\w*"
)  # fmt: skip
_SCORE_WORDS: Final = (
    "acc|accuracy|loss|precision|recall|f1|auc|cpu|gpu|mem|memory|usage|use|used|free|load|utili[sz]ation|coverage|cover"
    "|battery|confidence|ratio|hit rate|miss|failed|errors?|util|packets"
)

_TABLE_COLUMN: Final = r"\s{1,20}[\d.,]+[KMGTP]?i?(?=\s)"

DENIED_TEXTS: Final = (
    (
        "apt's lists and database",
        re.compile(r"^\(?(?:Reading|Building) (?:package|dependency|state|database)\b.*\.\.\. "),
    ),
    ("pip's bars of single files", re.compile(r"^ +[━╸╺-]+ *[\d.]+/[\d.]+ ?[kMG]?B\b")),
    ("Maven's downloads of single files", re.compile(r"^Progress \(\d+\): ")),
    ("results of compression", re.compile(r"\d%\s+\(.* => ")),
    ("free or used resources", re.compile(rf"% *(?:of \w+ )*(?:{_RESOURCE_WORDS})\b", re.IGNORECASE)),
    ("rates and scores", re.compile(rf"\b(?:{_SCORE_WORDS})\b[^A-Za-z%]{{0,12}}\d+(?:\.\d+)? ?%", re.IGNORECASE)),
    (
        "rows of tables",
        re.compile(rf"^\s*\|[^|]*\|[^|]*\|(?:[^|]*\|)*\s*$|{_TABLE_COLUMN}{_TABLE_COLUMN}\s{{1,20}}\d{{1,3}}%"),
    ),
)
"""Text that has a percentage or a count, and is not progress of the job."""

_NUMBER_HINT: Final = re.compile(
    r"\d ?(?:[kKMGTP]?i?B)? ?[%/)]|\d ?(?:[kKMGTP]?i?B)? (?:of|out of|bytes) |%\]|\.\.\.\d|^\d{1,6}$"
    r"|checkpoint|remaining: | O \d|Left: |/s\]|[\d-]:[\d-]{2}:[\d-]{2}|⠂"
)
"""A part of every frame with a reading: most lines of a program have none, and are skipped at once."""


def read_frame(text: str) -> Reading | None:
    r"""Return the reading of a frame, or ``None``. A complete line ends with a line feed.

    >>> read_frame("Copying: 45% done\n")
    Reading(form='percent', completed=45, total=100, unit='%', label='Copying', title='', evidence=3, is_step=False)
    """
    if _NUMBER_HINT.search(text) is None:
        return None
    for form, pattern in _COMPILED_FORMS:
        if form.hint in text and (match := pattern.search(text)) is not None:
            reading = form.read(match)
            if reading is not None:
                return reading
    if any(pattern.search(text) for _, pattern in DENIED_TEXTS):
        return None
    return _read_generic(text)


def _read_generic(text: str) -> Reading | None:
    count = _read_count(text)
    if brackets := _BRACKET_PATTERN.search(text):
        percent = make_reading("brackets", parse_number(brackets["percent"]), 100, "%", evidence=2)
    elif match := _CHAIN_PATTERN.search(text.rstrip()) or _PERCENT_PATTERN.search(text):
        done = parse_number(match["percent"].replace(",", "."))
        label = describe_label(text[: match.start()])
        percent = make_reading("percent", done, 100, "%", label=label, evidence=3)
    elif (match := _BARE_NUMBER.search(text)) and text.endswith("\n"):
        percent = make_reading("number", int(match["percent"]), 100, "%", evidence=4)
        return percent or Reading("number", -1, 100)  # such lines are no percentages
    else:
        return count
    if percent is None or count is None:
        return percent
    # A count that agrees with the percentage is more exact. Any other count is unrelated.
    return count if abs(count.fraction - percent.fraction) <= 0.01 else percent


def _read_count(text: str) -> Reading | None:
    if match := _SIZES_PATTERN.search(text):
        label = describe_label(text[: match.start()])
        pair = (match["done"], match["d"] or "", match["total"], match["t"])
        return make_size_reading("sizes", [pair], label=label, evidence=2)
    if match := _COUNTS_PATTERN.search(text):
        front = text[: match.start()].rstrip()
        # In brackets it counts steps, whose names are the text around it.
        is_bracketed = front.endswith(("[", "(")) and text[match.end() :].lstrip().startswith(("]", ")"))
        label = "" if is_bracketed else describe_label(front)
        done, total = parse_number(match["done"]), parse_number(match["total"])
        if is_bracketed and done and text.rstrip().endswith("..."):
            done -= 1  # the step starts
        return make_reading("count", done, total, label=label, evidence=2)
    return None
