"""Checks the advice on installation while the index has only the old version 1.0.0."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
UNPUBLISHED_PATTERN = re.compile(
    r"(?<!un)install(?:\s+-\S+)*\s+['\"]?(?:progressbar[-_]tracker|\{PROGRAM_NAME\})(?:\[[\w,]+\])?(?=['\"`]?(?:[\s.,;)]|$))"
)
"""An installation from the index by name, without a bound that excludes 1.0.0."""

TEXT_PATHS = [
    path
    for folder in ("src", "examples", ".github")
    for path in sorted((ROOT / folder).rglob("*"))
    if path.suffix in {".py", ".md", ".html", ".service", ".yaml", ".yml", ".sh"}
] + [ROOT / "README.md"]


@pytest.mark.parametrize(
    ("text", "is_advice"),
    [
        ("pip install 'progressbar-tracker[server]'", True),
        ("pip install progressbar-tracker", True),
        ("pip install -U progressbar_tracker.", True),
        ("f'pip install \n{PROGRAM_NAME}[server]'", True),
        ("pip install 'progressbar-tracker[server]>=2'", False),
        ("pip install '.[server]' in a clone of progressbar-tracker", False),
        ("pip uninstall progressbar-tracker", False),
        ("pip install progressbar_tracker-2.0.0-py3-none-any.whl", False),
        ('pip install "$(ls dist/progressbar_tracker-*.whl)[server]"', False),
    ],
)
def test_pattern_finds_installations_from_the_index(text, is_advice):
    assert bool(UNPUBLISHED_PATTERN.search(text)) is is_advice


def test_no_text_recommends_the_published_version():
    assert [
        f"{path.relative_to(ROOT)}: {match[0]}"
        for path in TEXT_PATHS
        for match in UNPUBLISHED_PATTERN.finditer(path.read_text("utf-8"))
    ] == []
