"""Runs each example with a real server."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from progressbar_tracker._config import get_user_config_path, write_user_config

EXAMPLES_FOLDER = Path(__file__).parents[2] / "examples"
EXPECTED_RUNS = {
    "loop.py": [("example-loop", "succeeded", 50)],
    "block.py": [("example-block", "succeeded", 1_000_000)],
    "asynchronous.py": [("example-async", "succeeded", 20)],
    "nested.py": [("example-nested", "succeeded", 3)],
    "processes.py": [("example-processes", "succeeded", 200)],
    "training.py": [("example-training", "succeeded", 8)],
    "client.py": [("example-client", "deleted", None)],
    "threads.py": [("example-threads", "succeeded", 60)],
    "downloads.py": [("example-downloads", "succeeded", 2), ("example-downloads/b.iso", "succeeded", 500_000)],
    "pandas_apply.py": [("example-pandas/read", "succeeded", 1_288_897), ("example-pandas/apply", "succeeded", 200)],
    "rich_bar.py": [
        ("example-rich/0", "succeeded", 50),
        ("example-rich/1", "succeeded", 25),
        ("example-rich-track", "succeeded", 50),
    ],
    "dropin.py": [("example-dropin/copy", "succeeded", 1_000_000)],
    "logs.py": [("example-logs", "succeeded", 60)],
}


EXPECTED_SHELL_RUNS = {
    "run.sh": ("example-run", "succeeded", 0),
    "exec.sh": ("example-exec", "succeeded", 8),
    "pipe.sh": ("example-pipe", "succeeded", 20_000),
}


NO_VARIABLES = {"PROGRESSBAR_URL": "", "PROGRESSBAR_API_KEY": ""}
"""An empty variable counts as one that is not set."""


@pytest.fixture
def configured_programs(server, programs):
    """Start programs that find the server and a key in the user's config file only, as after ``serve``."""
    write_user_config(get_user_config_path(os.environ), server.url, programs.key)
    return programs


@pytest.mark.parametrize("name", sorted(path.name for path in EXAMPLES_FOLDER.glob("*.py")))
def test_example_ends_in_the_history(name, configured_programs):
    programs = configured_programs
    done = programs.run_python((EXAMPLES_FOLDER / name).read_text("utf-8"), **NO_VARIABLES)
    assert (done.returncode, done.stderr) == (0, "")
    assert set(EXPECTED_RUNS[name]) <= programs.final_states()


@pytest.mark.parametrize("name", sorted(path.name for path in EXAMPLES_FOLDER.glob("*.sh")))
def test_shell_example_ends_in_the_history(name, configured_programs):
    programs = configured_programs
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = programs.run("sh", EXAMPLES_FOLDER / name, PATH=path, **NO_VARIABLES)
    assert done.returncode == 0, done.stderr
    assert EXPECTED_SHELL_RUNS[name] in programs.final_states()


def test_every_example_is_listed():
    text = (EXAMPLES_FOLDER / "README.md").read_text("utf-8")
    assert [
        path.name
        for path in EXAMPLES_FOLDER.glob("*.*")
        if path.suffix in (".py", ".sh") and f"`{path.name}`" not in text
    ] == []
