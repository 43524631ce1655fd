"""The documents for contributors name paths and checks that exist."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT_ROOT = Path(__file__).parents[2]
DOCUMENT_PATHS = sorted((PROJECT_ROOT / ".github").rglob("*.md"))
SEARCH_FOLDERS = [PROJECT_ROOT / folder for folder in ("", "src/progressbar_tracker", "tests/benchmarks")]
CONTRIBUTING_TEXT = (PROJECT_ROOT / ".github" / "CONTRIBUTING.md").read_text("utf-8")


def find_paths(text):
    """Return the link targets of a document, and each word of its code that looks like a path."""
    text = re.sub(r"(?s)```.*?```", "", text)
    words = {word for code in re.findall(r"`([^`]+)`", text) for word in code.split()}
    paths = {word for word in words if re.search(r"^[\w.][\w./-]*(/|\.(py|md|toml))[\w./-]*$", word)}
    return paths - {word for word in paths if word.startswith(".venv/")}, set(re.findall(r"\]\(([^)#:]+)\)", text))


@pytest.mark.parametrize("document", DOCUMENT_PATHS, ids=lambda path: path.name)
def test_contributor_document_names_only_existing_paths(document):
    paths, targets = find_paths(document.read_text("utf-8"))
    missing = [path for path in paths if not any((folder / path).exists() for folder in SEARCH_FOLDERS)]
    assert sorted(missing) == []
    assert [target for target in targets if not (document.parent / target).exists()] == []


def test_path_search_finds_paths_commands_and_links():
    text = "`server/routes.py`, `.ci/run`, `nox -f .ci/noxfile.py -s long`, `track()`, `area: do what`, [a](../b.md)"
    assert find_paths(text) == ({"server/routes.py", ".ci/run", ".ci/noxfile.py"}, {"../b.md"})


def test_every_named_check_is_documented():
    """``nox -l`` lists the sessions; a parametrized one counts once."""
    command = [sys.executable, "-m", "nox", "-f", str(PROJECT_ROOT / ".ci" / "noxfile.py"), "-l"]
    listing = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    sessions = set(re.findall(r"(?m)^[*-] (\w+)", listing))
    assert {"lint", "long", "soak"} <= sessions
    assert [name for name in sorted(sessions) if f"`{name}`" not in CONTRIBUTING_TEXT] == []
