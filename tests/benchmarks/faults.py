"""The cost of a faulty server for a loop: ``python tests/benchmarks/faults.py [--quick]``.

A program runs a loop of 200 turns of 10 ms, first bare, then with ``track()``. For each fault of the server: the times
of both loops, the time from the loop to the program's end, the item on the server, and the number of requests. The
goals: the loop takes at most 0.1 s more than the bare one, the program ends within its deadline and the 0.2 s of an
interpreter with HTTP, and the final state is right.

The peer is tqdm, whose bar goes to the null device. It has no server, so it is one row. The published package 1.0.0 is
no peer, because its installation needs a network.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from harness import parse_options, print_table

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.support.fault_server import HANG, WRITE_KEY, Fault, FaultServer, make_response

MAX_LOOP_OVERHEAD = 0.1  # seconds that a loop may add to a bare one
MAX_OWN_SECONDS = 0.2  # seconds of an interpreter's own exit
OUTAGE_SECONDS, FLUSH_SECONDS = (
    0.3,
    1.5,
)  # seconds that the exit may wait for a server that is known to be down, or not

LOOP_PROGRAM = """
import json, os, sys, time
turns, contender = int(sys.argv[1]), sys.argv[2]
if contender == "tqdm":
    from tqdm import tqdm
    null = open(os.devnull, "w")
    wrap = lambda items: tqdm(items, file=null)
else:
    from progressbar_tracker import track
    wrap = lambda items: track(items, id="job", keep=True, display=False)

def loop(items):
    started = time.perf_counter()
    for number in items:
        time.sleep(0.01)
        if number == turns // 2:
            print("half", flush=True)
    return time.perf_counter() - started

print(json.dumps([loop(range(turns)), loop(wrap(range(turns))), time.monotonic()]), flush=True)
"""


def do_nothing(server):
    pass


def set_fault(fault):
    def prepare(server):
        server.default_fault = fault

    return prepare


def restart_server(server):
    server.stop()
    server.restart()
    server.start()


# The fault, its actions on the server before and in the middle of the loop, the deadline, the final state.
FAULT_CASES = [
    ("answers", do_nothing, do_nothing, FLUSH_SECONDS, "succeeded"),
    ("refuses", FaultServer.stop, do_nothing, OUTAGE_SECONDS, ""),
    ("accepts, never answers", set_fault(HANG), do_nothing, FLUSH_SECONDS, ""),
    ("always 500", set_fault(make_response(500)), do_nothing, OUTAGE_SECONDS, ""),
    ("429, Retry-After: 5", set_fault(make_response(429, Retry_After="5")), do_nothing, OUTAGE_SECONDS, ""),
    ("answers after 100 ms", set_fault(Fault("late", delay=0.1)), do_nothing, FLUSH_SECONDS, "succeeded"),
    ("stops answering midway", do_nothing, set_fault(HANG), FLUSH_SECONDS, "running"),
    ("comes up late", FaultServer.stop, FaultServer.start, FLUSH_SECONDS, "succeeded"),
    ("restarts midway, empty", do_nothing, restart_server, FLUSH_SECONDS, "succeeded"),
]


def run_program(url, turns, midway=lambda: None, contender="track"):
    """Return the seconds of the bare loop, of the tracked one, and of the program's exit."""
    environ = {name: text for name, text in os.environ.items() if not name.startswith("PROGRESSBAR_")}
    environ["PROGRESSBAR_CONFIG"] = str(Path(tempfile.gettempdir()) / "there-is-no-such-file.toml")
    if url is not None:
        environ |= {"PROGRESSBAR_URL": url, "PROGRESSBAR_API_KEY": WRITE_KEY}
    command = [sys.executable, "-c", LOOP_PROGRAM, str(turns), contender]
    with subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as started:
        try:
            for awaited in ("bare", "tracked"):
                if started.stdout.readline() != "half\n":
                    raise SystemExit(f"a program ended before its {awaited} loop did: {started.communicate()[1]}")
            midway()
            bare, took, ended = json.loads(started.stdout.readline())
            _, err = started.communicate(timeout=30)
            left = time.monotonic() - ended
        finally:
            started.kill()
    if started.returncode or err:
        raise SystemExit(f"a program ended with {started.returncode}: {err}")
    return bare, took, left


def format_row(name, figures, deadline, held="-", requests="-", right=True):
    bare, took, left = figures
    judged = [took <= bare + MAX_LOOP_OVERHEAD, left <= deadline + MAX_OWN_SECONDS, right]
    verdicts = ["yes" if well else "NO" for well in judged]
    return [name, f"{bare:.2f}", f"{took:.2f}", verdicts[0], f"{left:.2f}", f"{deadline:.1f}", verdicts[1], held,
            verdicts[2], requests]  # fmt: skip


def measure_fault(turns, name, before, midway, deadline, status):
    server = FaultServer()
    try:
        before(server)
        figures = run_program(server.url, turns, lambda: midway(server))
        item = server.items.get("job")
        held = "nothing" if item is None else f"{item['status']} {item['completed']}"
        is_complete = status != "succeeded" or (item is not None and item["completed"] == turns)
        right = is_complete and (item["status"] if item else "") == status
        return format_row(name, figures, deadline, held, len(server.requests), right)
    finally:
        server.close()


def main():
    turns = 20 if parse_options(__doc__).quick else 200
    rows = [
        format_row("tqdm, no server", run_program(None, turns, contender="tqdm"), 0.0),
        format_row("no server configured", run_program(None, turns), OUTAGE_SECONDS),
        *(measure_fault(turns, *fault) for fault in FAULT_CASES),
    ]
    heads = [
        "the server",
        "bare, s",
        "loop, s",
        f"+{MAX_LOOP_OVERHEAD}",
        "end, s",
        "deadline",
        "within",
        "it holds",
        "right",
        "requests",
    ]
    print_table(f"A loop of {turns} x 10 ms beside a server that misbehaves", heads, rows)


if __name__ == "__main__":
    main()
