"""Runs the README's code. ``test_handbook.py`` compares the lists of the handbook with the source."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

README_PATH = Path(__file__).parents[2] / "README.md"
README_TEXT = README_PATH.read_text("utf-8")
PYTHON_BLOCKS = re.findall(r"```python\n(.*?)```", README_TEXT, re.DOTALL)
CONSOLE_LINES = [
    line[2:] for block in re.findall(r"```console\n(.*?)```", README_TEXT, re.DOTALL) for line in block.splitlines()
]


(QUICK_START,) = (code for code in PYTHON_BLOCKS if "first-steps" in code)
QUICK_START_ITEMS, QUICK_START_SLEEP = 600, "time.sleep(0.05)"


def speed_up(code):
    """Return the quick start with a shorter sleep. As written, it takes long enough to open the page."""
    assert QUICK_START_SLEEP in code
    return code.replace(QUICK_START_SLEEP, "time.sleep(0.0005)")


def run_code(code, server, programs):
    code = code.replace("http://your-server:8989", server.url).replace("your-api-key", programs.key)
    done = programs.run_python(code)
    expected_stderr = done.stderr if "tqdm" in code else ""  # tqdm's bars need no terminal
    assert (done.returncode, done.stderr) == (0, expected_stderr)


@pytest.mark.parametrize(
    "code", [code for code in PYTHON_BLOCKS if code != QUICK_START], ids=range(1, len(PYTHON_BLOCKS))
)
def test_readme_python_snippet_runs_as_written(code, server, programs):
    run_code(code, server, programs)


def test_quick_start_leaves_its_run_in_the_history(server, programs):
    run_code(speed_up(QUICK_START), server, programs)
    (ended,) = programs.history()
    assert (ended["id"], ended["title"], ended["status"], ended["completed"]) == (
        "first-steps",
        "First steps",
        "succeeded",
        QUICK_START_ITEMS,
    )


def test_quick_start_server_configures_the_quick_start_loop(tmp_path):
    """Only the port, the database file and the sleep differ from the README. The loop has no configuration."""
    (line,) = (line for line in CONSOLE_LINES if line.endswith(" serve"))
    environ = {**os.environ, "PROGRESSBAR_DATABASE": str(tmp_path / "progress.db"), "PROGRESSBAR_PORT": "0"}
    command = [sys.executable, "-m", "progressbar_tracker", *shlex.split(line)[1:]]
    server = subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, text=True)
    try:
        for output in server.stdout:
            if output.startswith("Serving on"):
                break
        (tmp_path / "loop.py").write_text(speed_up(QUICK_START), "utf-8")
        subprocess.run([sys.executable, str(tmp_path / "loop.py")], check=True, timeout=100)
        listed = subprocess.run(
            [sys.executable, "-m", "progressbar_tracker", "ls", "--json"],
            capture_output=True,
            text=True,
            check=True,
            timeout=100,
        )
        assert listed.stdout == "[]\n"  # a succeeded run leaves the list
    finally:
        server.kill()
        server.communicate()


def test_readme_has_at_most_130_lines():
    assert len(README_TEXT.splitlines()) <= 130


def test_links_of_the_readme_lead_to_files():
    links = re.findall(r"\]\(([^)#:]+)\)|(?:src|srcset)=\"([^\"]+)\"", README_TEXT)
    assert len(links) > 30
    assert [path for pair in links for path in pair if path and not (README_PATH.parent / path).exists()] == []
