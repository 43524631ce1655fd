"""The language rules hold for all prose and all names of the project. The rules: ``.github/CONTRIBUTING.md``."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from tests.support.language import MAX_MEAN_WORDS, expand_paths, find_violations, mean_words, split_sentences

PROJECT_ROOT = Path(__file__).parents[2]
CHECKED_PATHS = [
    PROJECT_ROOT / name for name in ("src", "tests", "examples", ".github", ".ci", "README.md", "CHANGELOG.md")
]
RULES_FILE = PROJECT_ROOT / "tests" / "support" / "language.py"
EXAMPLES_FILE = PROJECT_ROOT / ".github" / "CONTRIBUTING.md"


def folder_of(path: Path) -> Path:
    return path.parent.relative_to(PROJECT_ROOT)


CHECKED_FILES = [
    path for path in expand_paths(CHECKED_PATHS) if path not in (RULES_FILE, EXAMPLES_FILE, Path(__file__))
]
FILES_BY_FOLDER = {
    folder: list(paths) for folder, paths in itertools.groupby(sorted(CHECKED_FILES, key=folder_of), folder_of)
}


@pytest.mark.parametrize("folder", FILES_BY_FOLDER, ids=str)
def test_folder_has_plain_prose_and_names(folder):
    assert [str(found) for path in FILES_BY_FOLDER[folder] for found in find_violations(path)] == []


@pytest.mark.parametrize("folder", FILES_BY_FOLDER, ids=str)
def test_folder_has_short_sentences(folder):
    assert mean_words(FILES_BY_FOLDER[folder]) <= MAX_MEAN_WORDS


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("banned.py", '"""Tell the server."""\n'),
        ("subject.py", "# Who listens is closed.\n"),
        ("name.py", "def told():\n    pass\n"),
        ("constant.py", "MOST = 5\n"),
        ("message.py", 'raise ValueError("nobody is signed in here")\n'),
        ("test_long.py", f"def test_{'x' * 60}():\n    pass\n"),
        ("long.md", "word " * 41 + "\n"),
        ("script.js", "// This shall be seen to by itself.\n"),
        ("page.html", "<p>Whoever has the link may look.</p>\n"),
    ],
)
def test_checker_reports_violation_of_each_rule(tmp_path, name, text):
    path = tmp_path / name
    path.write_text(text)
    assert list(find_violations(path))


def test_checker_ignores_code_and_calls_of_other_apis(tmp_path):
    path = tmp_path / "sound.py"
    path.write_text('"""Read ``tell`` of a file."""\n\nposition = open("x").tell()\n')
    assert list(find_violations(path)) == []


def test_sentences_end_at_full_stops_and_leave_out_code():
    sentences = [sentence.text for sentence in split_sentences(1, "Close ``now()``. Then wait.\n\n>>> told\n")]
    assert sentences == ["Close X.", "Then wait."]
