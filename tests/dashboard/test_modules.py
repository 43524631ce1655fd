"""The files of the dashboard: their size, and how pages reach them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from progressbar_tracker.server.dashboard import static_files

DASHBOARD_FOLDER = Path(static_files.__file__).parent
MAX_LINE_COUNT = 300
# A response of a route may be a script, such as that of the service worker.
ENTRY_FILES = [*sorted((DASHBOARD_FOLDER / "templates").iterdir()), *sorted(DASHBOARD_FOLDER.glob("*.py"))]
SOURCE_FILES = sorted(path for path in (DASHBOARD_FOLDER / "static").iterdir() if path.suffix in {".css", ".js"})

COMMENT_LINE = re.compile(r"^\s*(//|/\*|\*|#).*$", re.MULTILINE)
FILE_REFERENCE = re.compile(r"""["'/}]([\w.-]+\.(?:js|css))["'?]""")
"""The name of a file in an import, in a URL or in an attribute."""


def find_references(text):
    return set(FILE_REFERENCE.findall(COMMENT_LINE.sub("", text)))


@pytest.mark.parametrize("path", SOURCE_FILES, ids=lambda path: path.name)
def test_module_has_at_most_300_lines(path):
    line_count = len(path.read_text("utf-8").splitlines())
    assert line_count <= MAX_LINE_COUNT


def test_every_module_is_reachable_from_a_page():
    texts = {path.name: path.read_text("utf-8") for path in SOURCE_FILES}
    found = set().union(*(find_references(page.read_text("utf-8")) for page in ENTRY_FILES)) & texts.keys()
    waiting = list(found)
    while waiting:
        more = (find_references(texts[waiting.pop()]) & texts.keys()) - found
        found |= more
        waiting += more
    assert sorted(texts.keys() - found) == []
