from __future__ import annotations

import pytest

from progressbar_tracker.server.dashboard.view import count, duration, number, percent


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0, "0 s"), (59.9, "59 s"), (61, "1 min 1 s"), (3700, "1 h 1 min"), (200_000, "2 d 7 h"), (1e300, "ages")],
)
def test_a_duration_is_short_to_read(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(12.0, "12"), (0.1234, "0.12"), (1_234_567, "1,234,567"), (-1.5, "-1.50"), (123.4, "123"), (1e300, "1e+300")],
)
def test_a_number_is_short_to_read(value: float, text: str) -> None:
    assert number(value) == text


def test_a_hundred_per_cent_are_not_reached_before_the_end() -> None:
    assert [percent(value) for value in (0.0, 0.9999, 1.0)] == ["0 %", "99 %", "100 %"]


def test_a_count_tells_its_total_and_unit_where_there_are_any() -> None:
    assert [count(None, 5, "B"), count(3, None, ""), count(3, 5, "B")] == ["", "3", "3 / 5 B"]
