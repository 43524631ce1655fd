"""The table of threats names tests that there are, and each threat has one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
ROWS = [
    [cell.strip() for cell in line[1:-1].split("|")]
    for line in (TESTS / "security" / "THREATS.md").read_text("utf-8").splitlines()
    if line.startswith("|") and not line.startswith(("| who | wants", "| ---"))
]


@pytest.fixture(scope="module")
def defined():
    text = "\n".join(path.read_text("utf-8") for path in TESTS.rglob("test_*.py"))
    return set(re.findall(r"(?m)^(?:async )?def (test_\w+)", text))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[1][:40])
def test_each_threat_is_held_by_tests_that_there_are(row, defined):
    _, wants, control, tests = row
    named = re.findall(r"`(\w+)`", tests)
    assert wants
    assert control
    assert named
    assert set(named) - defined == set()
