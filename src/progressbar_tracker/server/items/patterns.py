"""The pattern of an id: what the ids of repeated runs of one job have in common.

A nightly job may put its date into the id, and a program without an id gets a random one. Their former runs are found
by the pattern. A wrong match is worse than a missing one, so only typical dates, numbers and random tokens count.
"""

from __future__ import annotations

import re
from typing import Final

PATTERN_MARK: Final = "*"
"""Stands for a date, a time, a long number or a random token."""

MIN_RANDOM_LENGTH: Final = 8
"""Characters of a random token; hexadecimal ones may have one less, as the short name of a Git commit has."""

_YEAR_DIGITS: Final = r"(?:19|20)\d\d"
_MONTH_NAME: Final = r"(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]{0,6}"
_ZONE_OFFSET: Final = r"(?:Z|[+-]\d\d:?\d\d)?"
_CLOCK_TIME: Final = (
    rf"(?:[T _@.-](?:\d\d(?:[:h._-]\d\d){{1,2}}|\d{{4}}|\d{{6}})(?:[.,]\d+)?{_ZONE_OFFSET}(?!\d)|T\d\dZ?(?!\d))?"
)

_DATE_PATTERN: Final = re.compile(
    "|".join((
        r"(?<![^\W_])[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}(?![^\W_])",  # a UUID
        # The program's own ids: the number of the bar stays.
        r"(?<=-)[0-9a-f]{8}(?=-\d{1,4}$)",
        # The pods of a deployment.
        r"(?<=-)(?=[a-z]*[2-9])[bcdfghjklmnpqrstvwxz2456789]{8,10}-[bcdfghjklmnpqrstvwxz2456789]{5}$",
        rf"(?<!\d)\d{{4}}([-_./])\d\d?\1\d\d?(?!\d){_CLOCK_TIME}",
        rf"(?<!\d)\d\d?([-_./])\d\d?\2{_YEAR_DIGITS}(?!\d){_CLOCK_TIME}",
        rf"(?<!\d){_YEAR_DIGITS}年\d{{1,2}}月(?:\d{{1,2}}日)?",
        rf"(?<![^\W_])(?:\d\d?[-_. ]?)?{_MONTH_NAME}[-_. ]?(?:\d\d?[-_. ,]{{1,2}})?{_YEAR_DIGITS}(?!\d){_CLOCK_TIME}",
        rf"(?<![\d.]){_YEAR_DIGITS}[-_](?:0[1-9]|1[0-2])(?![\d.])",
        rf"(?<!\d){_YEAR_DIGITS}[-_]?(?:W[0-5]\d|Q[1-4]|H[12])(?![^\W_])",
        rf"(?<![^\W_])(?:Q[1-4]|H[12])[-_]?{_YEAR_DIGITS}(?!\d)",
        rf"(?<!\d)\d{{8}}(?:T\d{{2,6}}(?:[.,]\d+)?{_ZONE_OFFSET}|{_CLOCK_TIME})(?![^\W_])",
        rf"(?<!\d)\d\d:\d\d(?::\d\d(?:[.,]\d+)?)?{_ZONE_OFFSET}(?!\d)",
        r"(?<!\d)\d\dh\d\d(?:m\d\ds?)?(?![^\W_])",
    )),
    re.IGNORECASE,
)  # fmt: skip
_TOKEN_PATTERN: Final = re.compile(r"[^\W_]{7,}")
_TEMPORARY_PATTERN: Final = re.compile(r"(?<![^\W_])tmp(?=[a-z_]*\d)[a-z0-9_]{8}(?![^\W_])")  # of tempfile
_NUMBER_PATTERN: Final = re.compile(r"\d{5,}(?:\.\d+)?")
_ADJACENT_PATTERN: Final = re.compile(r"\*(?:[-_.: ]?\*)+")
_DIGIT_PATTERN: Final = re.compile(r"\d")
_LETTERS_PATTERN: Final = re.compile(r"[A-Za-z]+")
_CHANGE_PATTERN: Final = re.compile(r"(?<=\d)(?=[A-Za-z])|(?<=[A-Za-z])(?=\d)")
_HEX_PATTERN: Final = re.compile(r"[0-9a-f]{7,}|[0-9A-F]{7,}")
_ULID_PATTERN: Final = re.compile(r"[0-7][0-9A-HJKMNP-TV-Z]{25}")


def find_pattern(item_id: str) -> str:
    """Return an id with a placeholder for each date, time, long number and random token.

    Numbers of up to four digits stay: ``fold-1`` and ``fold-2`` are different jobs. An id without a letter outside the
    placeholders is its own pattern.

    >>> find_pattern("nightly-2026-11-28"), find_pattern("train.py-3fa9c2d1-7"), find_pattern("fold-1/resnet50")
    ('nightly-*', 'train.py-*-7', 'fold-1/resnet50')

    Args:
        item_id: The id; at most 200 characters.

    Returns:
        At most 200 characters. The pattern of a pattern is the pattern itself.
    """
    if _DIGIT_PATTERN.search(item_id) is None:  # a token has a digit, and most ids have none
        return item_id
    pattern, previous = _replace_tokens(item_id), item_id
    # A placeholder is a new boundary, so another token may begin beside it.
    while pattern != previous and _DIGIT_PATTERN.search(pattern) is not None:
        pattern, previous = _replace_tokens(pattern), pattern
    return pattern if any(map(str.isalpha, pattern)) else item_id


def _replace_tokens(text: str) -> str:
    replaced = _DATE_PATTERN.sub(PATTERN_MARK, text)
    replaced = _TEMPORARY_PATTERN.sub(PATTERN_MARK, replaced)
    replaced = _TOKEN_PATTERN.sub(lambda found: PATTERN_MARK if _is_random(found[0]) else found[0], replaced)
    replaced = _NUMBER_PATTERN.sub(PATTERN_MARK, replaced)
    return text if replaced == text else _ADJACENT_PATTERN.sub(PATTERN_MARK, replaced)


def _is_random(token: str) -> bool:
    """Return whether letters and digits alternate as they do in no name: names have words, and few numbers."""
    changes = len(_CHANGE_PATTERN.findall(token))
    if not changes or not token.isascii():
        return False
    longest_word = max(map(len, _LETTERS_PATTERN.findall(token)))
    if _HEX_PATTERN.fullmatch(token):
        return len(token) >= 12 or (changes >= 2 and longest_word <= 3) or (len(token) >= 8 and token[0].isdigit())
    if _ULID_PATTERN.fullmatch(token):
        return True
    if len(token) >= 20:
        return changes >= 5 and longest_word <= 5
    return len(token) >= MIN_RANDOM_LENGTH and changes >= 4 and longest_word <= 3
