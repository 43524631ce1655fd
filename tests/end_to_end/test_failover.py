"""Tests of the oracle of ``failover.py``, which runs alone: a round takes longer than a test may."""

from __future__ import annotations

import pytest

from .failover import compare_views


@pytest.mark.parametrize(
    ("shown", "complaints"),
    [
        ({"a": ("r", 1, "running"), "b": ("r", 2, "succeeded")}, []),
        ({"a": ("r", 1, "running")}, ["server has 1 missing items, such as b"]),
        (
            {"a": ("r", 0, "running"), "b": ("r", 2, "succeeded"), "c": ("r", 0, "running")},
            ["server has 1 phantom items, such as c", "server has 1 outdated items, such as a"],
        ),
    ],
)
def test_failover_oracle_reports_each_difference(shown, complaints):
    stored = {"a": ("r", 1, "running"), "b": ("r", 2, "succeeded")}
    assert list(compare_views("server", shown, stored)) == complaints
