from __future__ import annotations

import pytest

from progressbar_tracker._amounts import format_count, format_number, format_percent
from progressbar_tracker._text import format_duration


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.0, "0.0 s"), (2.35, "2.4 s"), (59.94, "59.9 s"), (59.96, "1 min"), (61.2, "1 min 1 s")]
)
def test_duration_with_decimals_rounds_them(seconds: float, text: str) -> None:
    assert format_duration(seconds, decimals=1) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (12.0, "12"),
        (0.1234, "0.12"),
        (1_234_567, "1,234,567"),
        (-1.5, "-1.50"),
        (123.4, "123"),
        (3e15, "3000T"),
        (1e300, "1E300"),
    ],
)
def test_number_has_two_decimals_at_most(value: float, text: str) -> None:
    assert format_number(value) == text


def test_percent_is_100_only_at_the_end() -> None:
    assert [format_percent(value) for value in (0.0, 0.9999, 1.0)] == ["0 %", "99 %", "100 %"]


def test_count_has_its_total_and_unit() -> None:
    assert [format_count(None, 5, "B"), format_count(3, None, ""), format_count(3, 5, "B")] == ["", "3", "3 / 5 B"]


def test_byte_counts_share_one_scale_and_round_down() -> None:
    counts = [(9_999, None), (999_999, None), (47_999_999_999, 48_000_000_000), (0, 1e17), (5, 1e19), (20_000, 5)]
    texts = [format_count(completed, total, "B") for completed, total in counts]
    assert texts == ["9,999 B", "999 kB", "47.9 / 48.0 GB", "0 / 100 PB", "5 / 1E19 B", "20.0 / 0.0 kB"]
    assert format_count(48_000_000_000, None, "steps") == "48,000,000,000 steps"
