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


def test_every_example_is_listed():
    text = (EXAMPLES / "README.md").read_text("utf-8")
    assert [path.name for path in EXAMPLES.glob("*.py") if f"`{path.name}`" not in text] == []
