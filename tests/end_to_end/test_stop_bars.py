"""Unchanged programs with bars of other libraries under ``run --stoppable``, stopped through a real server."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING, TypeAlias

import pytest

from tests.support.cli import CLI_COMMAND
from tests.support.server_process import ADMIN_KEY, ServerProcess
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import httpx

ROWS_CODE = """
import sys, time

class Rows:
    def __len__(self):
        return 1_000_000

    def __iter__(self):
        try:
            yield from range(1_000_000)
        finally:
            print("closed", flush=True)

"""

LOOP_CODES = {
    "rich": "from rich.progress import track\nfor row in track(Rows()): time.sleep(0.01)",
    "rich in a block": """
from rich.progress import Progress
with Progress() as progress:
    for row in progress.track(Rows()): time.sleep(0.01)
    print("in the block", flush=True)
    sys.stdin.readline()""",
    "rich with a task": """
from rich.progress import Progress
with Progress() as progress:
    task = progress.add_task("Loop", total=None)
    for row in progress.track(Rows(), task_id=task): time.sleep(0.01)""",
    "alive_progress": "from alive_progress import alive_it\nfor row in alive_it(Rows()): time.sleep(0.01)",
    "progressbar2": "import progressbar\nfor row in progressbar.progressbar(Rows()): time.sleep(0.01)",
    "progressbar2 in a block": """
import progressbar
with progressbar.ProgressBar() as bar:
    for row in bar(Rows()): time.sleep(0.01)""",
    "progressbar2 by next()": """
import progressbar
bar = progressbar.ProgressBar()(Rows())
while next(bar, None) is not None: time.sleep(0.01)""",
    "click": "import click\nwith click.progressbar(Rows()) as bar:\n  for row in bar: time.sleep(0.01)",
    "typer": "import typer\nwith typer.progressbar(Rows()) as bar:\n  for row in bar: time.sleep(0.01)",
    "enlighten": """
import enlighten
counter = enlighten.get_manager().counter(total=1_000_000, desc="Loop")
for row in counter(Rows()): time.sleep(0.01)""",
    "fastprogress": "from fastprogress import progress_bar\nfor row in progress_bar(Rows()): time.sleep(0.01)",
    "atpbar": "from atpbar import atpbar\nfor row in atpbar(Rows(), name='Loop'): time.sleep(0.01)",
    "tqdm": "from tqdm import tqdm\nfor row in tqdm(Rows()): time.sleep(0.01)",
}
"""Loops whose iteration can end before its next item."""

UPDATED_BAR_CODES = {
    "rich": """
from rich.progress import Progress
with Progress() as progress:
    task = progress.add_task("Steps", total=1_000_000)
    while True: progress.advance(task); time.sleep(0.01)""",
    "alive_progress": """
from alive_progress import alive_bar
with alive_bar(1_000_000) as bar:
    while True: bar(); time.sleep(0.01)""",
    "progressbar2": """
import progressbar
bar = progressbar.ProgressBar(max_value=1_000_000)
for step in range(1_000_000): bar.update(step); time.sleep(0.01)""",
    "progressbar2 by next()": """
import progressbar
bar = progressbar.ProgressBar(max_value=1_000_000)
while True: next(bar); time.sleep(0.01)""",
    "click": """
import click
with click.progressbar(length=1_000_000) as bar:
    while True: bar.update(1); time.sleep(0.01)""",
    "enlighten": """
import enlighten
counter = enlighten.get_manager().counter(total=1_000_000, desc="Steps")
while True: counter.update(); time.sleep(0.01)""",
    "fastprogress": """
from fastprogress import progress_bar
bar = progress_bar(range(1_000_000))
bar.on_iter_begin()
for step in range(1_000_000): bar.update(step); time.sleep(0.01)""",
}
"""Bars that the program updates itself: there is no iteration to end."""

NESTED_CODE = """
from rich.progress import Progress
with Progress() as progress:
    for outer in progress.track(Rows(), description="Outer"):
        for inner in progress.track(range(50), description="Inner"): time.sleep(0.1)
"""

StartProgram: TypeAlias = "Callable[[str], subprocess.Popen[str]]"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    process = ServerProcess(tmp_path_factory.mktemp("server"), limit=1500.0)
    yield process
    process.close()


@pytest.fixture
def http(server: ServerProcess) -> Iterator[httpx.Client]:
    """A client of a server whose list is empty."""
    with server.http() as client:
        for item in client.get("/api/v1/items").json()["items"]:
            client.delete(f"/api/v1/items/{item['id']}")
        yield client


@pytest.fixture
def start(server: ServerProcess, tmp_path: Path) -> Iterator[StartProgram]:
    """Start a program under ``run --stoppable``; it is killed at the end."""
    programs: list[subprocess.Popen[str]] = []

    def start(code: str) -> subprocess.Popen[str]:
        script = tmp_path / "work.py"
        script.write_text(f"{ROWS_CODE}{code}\nprint('after')")
        environ = {**os.environ, "PROGRESSBAR_URL": server.url, "PROGRESSBAR_API_KEY": ADMIN_KEY}
        program = subprocess.Popen(
            [*CLI_COMMAND, "run", "--stoppable", str(script)], env=environ, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        programs.append(program)
        return program

    yield start
    for program in programs:
        program.kill()
        program.communicate()


def list_running(http: httpx.Client) -> list[dict[str, object]]:
    items: list[dict[str, object]] = http.get("/api/v1/items", params={"status": "running"}).json()["items"]
    return items


def wait_for_items(http: httpx.Client, count: int = 1) -> list[dict[str, object]]:
    wait_until(lambda: len(list_running(http)) >= count, timeout=60)
    return list_running(http)


def wait_for_end(http: httpx.Client, item_id: object) -> dict[str, object]:
    def read() -> list[dict[str, object]]:
        runs: list[dict[str, object]] = http.get("/api/v1/history", params={"id": item_id}).json()["items"]
        return runs

    wait_until(lambda: bool(read()), timeout=60)
    return read()[0]


@pytest.mark.parametrize("name", LOOP_CODES)
def test_loop_of_a_bar_ends_before_its_next_item(http: httpx.Client, start: StartProgram, name: str) -> None:
    program = start(LOOP_CODES[name])
    (item,) = wait_for_items(http)
    assert item["stoppable"] is True
    assert http.post(f"/api/v1/items/{item['id']}:stop", json={}).status_code == 200
    run = wait_for_end(http, item["id"])
    assert (run["status"], run["error"], run["stop_requested_by"]) == ("stopped", None, "admin")
    out, err = program.communicate("\n", timeout=100)
    assert program.returncode == 0, err
    assert "closed" in out
    assert out.rstrip().endswith("after")


@pytest.mark.parametrize("name", UPDATED_BAR_CODES)
def test_bar_that_the_program_updates_is_not_stoppable(http: httpx.Client, start: StartProgram, name: str) -> None:
    start(UPDATED_BAR_CODES[name])
    (item,) = wait_for_items(http)
    assert item["stoppable"] is False
    reply = http.post(f"/api/v1/items/{item['id']}:stop", json={})
    assert (reply.status_code, reply.json()["type"]) == (409, "/problems/not-stoppable")


def test_only_the_outermost_loop_of_rich_is_stoppable(http: httpx.Client, start: StartProgram) -> None:
    start(NESTED_CODE)
    items = wait_for_items(http, 2)
    assert {item["title"]: item["stoppable"] for item in items} == {"Outer": True, "Inner": False}
