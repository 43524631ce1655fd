"""Runs the README's code, and compares its lists with the source."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest

from progressbar_tracker import cli

README_PATH = Path(__file__).parents[2] / "README.md"
README_TEXT = README_PATH.read_text("utf-8")
PYTHON_BLOCKS = re.findall(r"```python\n(.*?)```", README_TEXT, re.DOTALL)
CONSOLE_LINES = [
    line[2:] for block in re.findall(r"```console\n(.*?)```", README_TEXT, re.DOTALL) for line in block.splitlines()
]


(QUICK_START,) = (code for code in PYTHON_BLOCKS if "first-steps" in code)


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
    run_code(QUICK_START, server, programs)
    (ended,) = programs.history()
    assert (ended["id"], ended["title"], ended["status"], ended["completed"]) == (
        "first-steps",
        "First steps",
        "succeeded",
        40,
    )


def test_quick_start_server_configures_the_quick_start_loop(tmp_path):
    """Only the port and the database file differ from the README. The loop has no configuration."""
    (line,) = (line for line in CONSOLE_LINES if line.endswith(" serve"))
    environ = {**os.environ, "PROGRESSBAR_DATABASE": str(tmp_path / "progress.db"), "PROGRESSBAR_PORT": "0"}
    command = [sys.executable, "-m", "progressbar_tracker", *shlex.split(line)[1:]]
    server = subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, text=True)
    try:
        for output in server.stdout:
            if output.startswith("Serving on"):
                break
        (tmp_path / "loop.py").write_text(QUICK_START, "utf-8")
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


def test_every_environment_variable_is_documented():
    package = Path(cli.__file__).parents[1]
    text = "".join(path.read_text("utf-8") for path in package.rglob("*.py"))
    known = set(re.findall(r"\"((?:PROGRESSBAR|ADMIN)_[A-Z_]+[A-Z])\"", text))
    assert {"PROGRESSBAR_URL", "PROGRESSBAR_HOST", "ADMIN_PASSWORD"} <= known
    assert {name for name in known if f"`{name}`" not in README_TEXT} == set()


def test_every_command_and_option_is_documented():
    commands = {}
    for name, command in cli.commands.commands.items():
        group = command.commands.items() if isinstance(command, click.Group) else [("", command)]
        commands.update({f"{name} {sub}".strip(): each for sub, each in group})
    assert [name for name in commands if not re.search(rf"`{name}[ `]", README_TEXT)] == []
    options = {
        option.opts[0] for command in commands.values() for option in command.params if isinstance(option, click.Option)
    }
    assert {"--port", "--json", "--bytes"} <= options
    assert [option for option in sorted(options) if not re.search(rf"{option}(?![a-z-])", README_TEXT)] == []


def test_readme_has_at_most_300_lines():
    assert len(README_TEXT.splitlines()) <= 300
