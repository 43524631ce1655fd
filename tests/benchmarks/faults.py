"""What a server that misbehaves costs a loop: ``python tests/benchmarks/faults.py [--quick]``.

One loop of 200 turns of 10 ms in a program of its own, as a user writes it: first bare, then with ``track()``. For each
fault of the server: how long both took, how long the program took to end after the loop, what the server then holds,
and the requests that came. The goals: the loop as long as the bare one and a tenth of a second, the end of the program
within its deadline and the fifth of a second that an interpreter with HTTP loaded takes itself, the right end state.

The named peer is tqdm, whose bar goes to the null device. It knows no server, so it is in one row. The published
1.0.0 of this package is no peer here, for it has to be installed from a network.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from harness import options, table

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.support.fault_server import HANG, KEY, Fault, FaultServer, answer

LOOP = 0.1  # seconds that a loop may take longer than a bare one
OWN = 0.2  # seconds that an interpreter's own end may take
AWAY, FLUSH = 0.3, 1.5  # seconds that the end of a program may wait for a server: known to be away, or not

PROGRAM = """
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
    begun = time.perf_counter()
    for number in items:
        time.sleep(0.01)
        if number == turns // 2:
            print("half", flush=True)
    return time.perf_counter() - begun

print(json.dumps([loop(range(turns)), loop(wrap(range(turns))), time.monotonic()]), flush=True)
"""


def nothing(server):
    pass


def always(fault):
    def prepare(server):
        server.always = fault

    return prepare


def restart(server):
    server.stop()
    server.restart()
    server.start()


# The fault, what is done to the server before and in the middle of the loop, the deadline, the end state.
FAULTS = [
    ("answers", nothing, nothing, FLUSH, "succeeded"),
    ("refuses", FaultServer.stop, nothing, AWAY, ""),
    ("accepts, never answers", always(HANG), nothing, FLUSH, ""),
    ("always 500", always(answer(500)), nothing, AWAY, ""),
    ("429, Retry-After: 5", always(answer(429, Retry_After="5")), nothing, AWAY, ""),
    ("answers after 100 ms", always(Fault("late", delay=0.1)), nothing, FLUSH, "succeeded"),
    ("stops answering midway", nothing, always(HANG), FLUSH, "running"),
    ("comes up late", FaultServer.stop, FaultServer.start, FLUSH, "succeeded"),
    ("restarts midway, empty", nothing, restart, FLUSH, "succeeded"),
]


def program(url, turns, midway=lambda: None, contender="track"):
    """Return the seconds of the bare loop, of the tracked one, and of the program's end."""
    environ = {name: text for name, text in os.environ.items() if not name.startswith("PROGRESSBAR_")}
    environ["PROGRESSBAR_CONFIG"] = str(Path(tempfile.gettempdir()) / "there-is-no-such-file.toml")
    if url is not None:
        environ |= {"PROGRESSBAR_URL": url, "PROGRESSBAR_API_KEY": KEY}
    command = [sys.executable, "-c", PROGRAM, str(turns), contender]
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


def row(name, figures, deadline, held="-", requests="-", right=True):
    bare, took, left = figures
    judged = [took <= bare + LOOP, left <= deadline + OWN, right]
    verdicts = ["yes" if well else "NO" for well in judged]
    return [name, f"{bare:.2f}", f"{took:.2f}", verdicts[0], f"{left:.2f}", f"{deadline:.1f}", verdicts[1], held,
            verdicts[2], requests]  # fmt: skip


def faulty(turns, name, before, midway, deadline, status):
    server = FaultServer()
    try:
        before(server)
        figures = program(server.url, turns, lambda: midway(server))
        item = server.items.get("job")
        held = "nothing" if item is None else f"{item['status']} {item['completed']}"
        whole = status != "succeeded" or (item is not None and item["completed"] == turns)
        right = whole and (item["status"] if item else "") == status
        return row(name, figures, deadline, held, len(server.seen), right)
    finally:
        server.close()


def main():
    turns = 20 if options(__doc__).quick else 200
    rows = [
        row("tqdm, no server", program(None, turns, contender="tqdm"), 0.0),
        row("no server configured", program(None, turns), AWAY),
        *(faulty(turns, *fault) for fault in FAULTS),
    ]
    heads = [
        "the server",
        "bare, s",
        "loop, s",
        f"+{LOOP}",
        "end, s",
        "deadline",
        "within",
        "it holds",
        "right",
        "requests",
    ]
    table(f"A loop of {turns} x 10 ms beside a server that misbehaves", heads, rows)


if __name__ == "__main__":
    main()
