"""Numbers in variables that other programs set."""

from __future__ import annotations

import math

MAX_SECONDS = 3e9  # an instant of the year 2065, or 95 years


def parse_positive(text: str) -> float | None:
    """Return a positive number of seconds, or ``None`` for any other text.

    >>> parse_positive("3600"), parse_positive("UNLIMITED"), parse_positive("nan")
    (3600.0, None, None)
    """
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) and 0 < number < MAX_SECONDS else None
