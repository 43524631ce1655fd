"""Each example runs against a real server, and each is listed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from progressbar_tracker.server.run import BackgroundServer
from progressbar_tracker.server.settings import Settings

EXAMPLES = Path(__file__).parents[2] / "examples"
ENDS = {
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


SHELL_ENDS = {
    "run.sh": ("example-run", "succeeded", 0),
    "exec.sh": ("example-exec", "succeeded", 8),
    "pipe.sh": ("example-pipe", "succeeded", 20_000),
}


@pytest.mark.parametrize("name", sorted(path.name for path in EXAMPLES.glob("*.py")))
def test_an_example_runs_and_its_end_is_in_the_history(name, tmp_path):
    with BackgroundServer(Settings(database=tmp_path / "progress.db", port=0, local_key=False)) as server:
        key = server.create_key("write", "example")
        done = subprocess.run(
            [sys.executable, "-W", "error", str(EXAMPLES / name)],
            env={**os.environ, "PROGRESSBAR_URL": server.url, "PROGRESSBAR_API_KEY": key},
            capture_output=True,
            text=True,
            timeout=50,
        )
        assert (done.returncode, done.stderr) == (0, "")
        runs = httpx.get(f"{server.url}/api/v1/history", headers={"X-API-KEY": key}).json()["items"]
    ends = {(run["id"], run["status"], run["completed"]) for run in runs}
    assert set(ENDS[name]) <= ends


@pytest.mark.parametrize("name", sorted(path.name for path in EXAMPLES.glob("*.sh")))
def test_a_shell_example_runs_and_its_end_is_in_the_history(name, tmp_path):
    with BackgroundServer(Settings(database=tmp_path / "progress.db", port=0, local_key=False)) as server:
        key = server.create_key("write", "example")
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        done = subprocess.run(
            ["sh", str(EXAMPLES / name)],
            env={**os.environ, "PATH": path, "PROGRESSBAR_URL": server.url, "PROGRESSBAR_API_KEY": key},
            capture_output=True,
            text=True,
            timeout=50,
        )
        assert done.returncode == 0, done.stderr
        runs = httpx.get(f"{server.url}/api/v1/history", headers={"X-API-KEY": key}).json()["items"]
    assert SHELL_ENDS[name] in {(run["id"], run["status"], run["completed"]) for run in runs}


def test_every_example_is_listed():
    text = (EXAMPLES / "README.md").read_text("utf-8")
    assert [
        path.name for path in EXAMPLES.glob("*.*") if path.suffix in (".py", ".sh") and f"`{path.name}`" not in text
    ] == []
