"""Each threat in ``THREATS.md`` names tests, and all of them exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TESTS_FOLDER = Path(__file__).parents[1]
THREAT_ROWS = [
    [cell.strip() for cell in line[1:-1].split("|")]
    for line in (TESTS_FOLDER / "security" / "THREATS.md").read_text("utf-8").splitlines()
    if line.startswith("|") and not line.startswith(("| actor | goal", "| ---"))
]


@pytest.fixture(scope="module")
def defined_tests():
    """The names of all test functions."""
    text = "\n".join(path.read_text("utf-8") for path in TESTS_FOLDER.rglob("test_*.py"))
    return set(re.findall(r"(?m)^(?:async )?def (test_\w+)", text))


@pytest.mark.parametrize("row", THREAT_ROWS, ids=lambda row: row[1][:40])
def test_each_threat_names_existing_tests(row, defined_tests):
    _, goal, control, tests = row
    named = re.findall(r"`(\w+)`", tests)
    assert goal
    assert control
    assert named
    assert set(named) - defined_tests == set()
