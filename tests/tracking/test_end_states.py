"""The matrix of ends: each way to end a bare loop, a block and an ``async for``, in a separate process."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import NamedTuple

import pytest

import progressbar_tracker
from progressbar_tracker import ProgressBar
from tests.support.clock import ManualClock
from tests.support.programs import PROGRAM_PRELUDE
from tests.support.server import start_server

END_STATE_PRELUDE = "import asyncio\n" + PROGRAM_PRELUDE

# BODY runs for each of five items. `flush` makes sure that the server has the item before the program ends.
LOOP_CODE = {
    "bare loop": """
        for i in track(SOURCE, id="job", total=5):
            flush(20)
            BODY
        """,
    "block": """
        with track(SOURCE, id="job", total=5) as bar:
            for i in bar:
                flush(20)
                BODY
        """,
    "async for": """
        async def source():
            for i in SOURCE:
                yield i
        async def main():
            async for i in track(source(), id="job", total=5):
                flush(20)
                BODY
        asyncio.run(main())
        """,
}


class EndCase(NamedTuple):
    body: str = "pass"
    source: str = "range(5)"


RAISING_SOURCE = "(i if i < 2 else exec('raise OSError(\"line dropped\")') for i in range(5))"

END_CASES = {
    "exhausted": EndCase(),
    "break": EndCase("if i == 2: break"),
    "break on the last item": EndCase("if i == 4: break"),
    "raise": EndCase("if i == 2: raise ValueError('bad row')"),
    "KeyboardInterrupt": EndCase("if i == 2: os.kill(os.getpid(), signal.SIGINT); time.sleep(9)"),
    "exception in the source": EndCase(source=RAISING_SOURCE),
    "sys.exit()": EndCase("if i == 2: sys.exit()"),
    "sys.exit(3)": EndCase("if i == 2: sys.exit(3)"),
    "os._exit": EndCase("if i == 2: os._exit(0)"),
    "SIGTERM": EndCase("if i == 2: os.kill(os.getpid(), signal.SIGTERM); time.sleep(9)"),
    "SIGKILL": EndCase("if i == 2: os.kill(os.getpid(), signal.SIGKILL); time.sleep(9)"),
}

# status, count, error
EXPECTED_ENDS = {
    "exhausted": {
        "bare loop": ("succeeded", 5, None),
        "block": ("succeeded", 5, None),
        "async for": ("succeeded", 5, None),
    },
    "break": {"bare loop": ("stopped", 2, None), "block": ("stopped", 2, None), "async for": ("stopped", 2, None)},
    "break on the last item": {
        "bare loop": ("stopped", 4, None),
        "block": ("stopped", 4, None),
        "async for": ("stopped", 4, None),
    },
    "raise": {
        "bare loop": ("failed", 2, "ValueError: bad row"),
        "block": ("failed", 2, "ValueError: bad row"),
        "async for": ("failed", 2, "ValueError: bad row"),
    },
    "KeyboardInterrupt": {
        "bare loop": ("failed", 2, "KeyboardInterrupt"),
        "block": ("failed", 2, "KeyboardInterrupt"),
        "async for": ("failed", 2, "KeyboardInterrupt"),
    },
    "exception in the source": {
        "bare loop": ("failed", 1, "OSError: line dropped"),
        "block": ("failed", 1, "OSError: line dropped"),
        "async for": ("failed", 1, "OSError: line dropped"),
    },
    "sys.exit()": {
        "bare loop": ("stopped", 2, None),
        "block": ("stopped", 2, None),
        "async for": ("stopped", 2, None),
    },
    "sys.exit(3)": {
        "bare loop": ("stopped", 2, None),
        "block": ("failed", 2, "SystemExit: 3"),
        "async for": ("stopped", 2, None),
    },
    # These skip the exit hook: the server shows the item as stalled when heartbeats are missing.
    "os._exit": {"bare loop": ("running", 2, None), "block": ("running", 2, None), "async for": ("running", 2, None)},
    "SIGTERM": {"bare loop": ("running", 2, None), "block": ("running", 2, None), "async for": ("running", 2, None)},
    "SIGKILL": {"bare loop": ("running", 2, None), "block": ("running", 2, None), "async for": ("running", 2, None)},
}


@pytest.fixture
def pb(server):
    """A client with an admin key."""
    with ProgressBar(server.url, server.create_key("admin", "looker")) as pb:
        yield pb


def run_program(programs, code):
    return programs.run_python(END_STATE_PRELUDE + textwrap.dedent(code))


def get_final_item(programs, pb, item_id="job"):
    """Return the listed item, or else the newest run in the history."""
    for item in pb.get_all():
        if item["id"] == item_id:
            return item
    return programs.history()[0]


def item_state(item):
    return item["status"], item["completed"], item["error"]


@pytest.mark.parametrize("form", LOOP_CODE)
@pytest.mark.parametrize("case", END_CASES)
def test_program_that_ends_leaves_its_true_end_on_the_server(programs, pb, case, form):
    end_case = END_CASES[case]
    # Asyncio turns Ctrl-C into a cancellation at the next await.
    body = end_case.body.replace("time.sleep", "await asyncio.sleep") if form == "async for" else end_case.body
    code = LOOP_CODE[form].replace("SOURCE", end_case.source).replace("BODY", body)
    result = run_program(programs, code)
    assert item_state(get_final_item(programs, pb)) == EXPECTED_ENDS[case][form], result.stderr


def test_return_from_a_loop_or_a_block_is_stopped(programs, pb):
    code = """
    def bare():
        for i in track(range(5), id="bare", keep=True):
            flush(20)
            if i == 2: return
    def block():
        with track(range(5), id="block", keep=True) as bar:
            for i in bar:
                if i == 2: return
    bare(); block()
    """
    run_program(programs, code)
    assert item_state(pb.get("bare")) == item_state(pb.get("block")) == ("stopped", 2, None)


def test_closed_generator_is_stopped_in_all_forms(programs, pb):
    code = """
    def bare():
        for i in track(range(5), id="bare", keep=True): yield i
    def block():
        with track(range(5), id="block", keep=True) as bar:
            for i in bar: yield i
    async def source():
        for i in range(5): yield i
    async def afor():
        async for i in track(source(), id="async", keep=True): yield i
    async def main():
        g = afor()
        await anext(g); await anext(g)
        await g.aclose()
    for g in (bare(), block()):
        next(g); next(g)
        g.close()
    asyncio.run(main())
    flush(20)
    """
    assert run_program(programs, code).stderr == ""
    for item_id in ("bare", "block", "async"):
        assert item_state(pb.get(item_id)) == ("stopped", 1, None)


def test_loop_that_never_starts_leaves_no_item(programs, pb):
    code = """
    never = track(range(5), id="never", keep=True)
    with track(range(5), id="block", keep=True): pass
    flush(20)
    """
    run_program(programs, code)
    assert [item["id"] for item in pb.get_all()] == ["block"]
    assert item_state(pb.get("block")) == ("succeeded", 0, None)


def test_second_loop_over_a_tracker_is_a_second_run(programs, pb):
    code = """
    twice = track(range(5), id="job")
    for i in twice: flush(20)
    for i in twice:
        flush(20)
        if i == 3: break
    """
    run_program(programs, code)
    assert [item_state(item) for item in programs.history()] == [("stopped", 3, None), ("succeeded", 5, None)]


def test_sigterm_with_the_documented_handler_is_reported(programs, pb):
    code = """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))
    with track(range(5), id="job") as bar:
        for i in bar:
            flush(20)
            if i == 2: os.kill(os.getpid(), signal.SIGTERM); time.sleep(9)
    """
    run_program(programs, code)
    assert item_state(pb.get("job")) == ("failed", 2, "SystemExit: terminated")


def test_killed_program_stalls_and_its_successor_takes_over(tmp_path):
    clock = ManualClock()
    with (
        start_server(tmp_path / "progress.db", clock=clock) as server,
        ProgressBar(server.url, server.create_key("admin", "looker")) as pb,
    ):
        key = server.create_key("write", "program")

        def start():
            code = (
                END_STATE_PRELUDE
                + 'for i in track(range(5), id="job"):\n    flush(20)\n    print(i, flush=True)\n    time.sleep(60)\n'
            )
            process = subprocess.Popen(
                [sys.executable, "-c", code],
                env={**os.environ, "PROGRESSBAR_URL": server.url, "PROGRESSBAR_API_KEY": key},
                stdout=subprocess.PIPE,
                text=True,
            )
            assert process.stdout.readline() == "0\n"
            return process

        process = start()
        first = pb.get("job")
        process.send_signal(signal.SIGKILL)
        process.communicate()
        clock.advance(first["heartbeat_timeout"] - 1)
        assert pb.get("job")["stalled"] is False
        clock.advance(2)
        assert pb.get("job")["stalled"] is True
        process = start()
        second = pb.get("job")
        assert (second["stalled"], second["status"]) == (False, "running")
        assert second["run_id"] != first["run_id"]
        process.kill()
        process.communicate()


def format_cell(status, completed, error):
    return f"{status}, {completed}" + (f", `{error}`" if error else "")


def test_the_handbook_has_this_table():
    page = (Path(progressbar_tracker.__file__).parent / "handbook/explanation/endings.md").read_text("utf-8")
    rows = re.findall(r"^\| (.*?) \| (.*) \|$", page, re.MULTILINE)
    documented = {case: ends for cases, ends in rows for case in cases.split(", ")}
    for case, ends in EXPECTED_ENDS.items():
        assert documented[case] == " | ".join(format_cell(*ends[form]) for form in LOOP_CODE)
