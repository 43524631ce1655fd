"""Draw bars with a stopped clock: ``run_bars.py MODULE SCENARIO``. The output of two runs is equal then.

At its item 20, the bar waits for a file ``gate`` in the working directory.
"""

import datetime as dt
import importlib
import sys
import threading
import time
from pathlib import Path

wait = time.sleep


class StoppedClock(dt.datetime):
    @classmethod
    def now(cls, tz=None):
        return cls(2026, 1, 1, tzinfo=tz)


dt.datetime = StoppedClock
time.time = lambda: 1_800_000_000.0
time.perf_counter = lambda: 1000.0


def wait_at_gate(item):
    while item == 20 and not Path("gate").exists():
        wait(0.01)


def complete(work, file):
    work("Baking", 60, wait_at_gate, file)


def leave(work, file):
    work("Baking", 60, lambda item: wait_at_gate(item) or item == 20, file)
    print("left")


def fail(work, file):
    def step(item):
        wait_at_gate(item)
        if item == 20:
            raise ValueError("no flour")

    work("Baking", 60, step, file)


def abandon(work, file):
    """Exit while the bar is at its item 20, in a daemon thread."""
    has_begun = threading.Event()

    def step(item):
        if item == 20:
            has_begun.set()
            threading.Event().wait()

    threading.Thread(target=work, args=("Baking", 60, step, file), daemon=True).start()
    has_begun.wait()
    wait_at_gate(20)


def nest(work, file):
    def step(item):
        if item == 1:
            work("Stirring", 30, wait_at_gate, file)

    work("Baking", 3, step, file)


if __name__ == "__main__":
    _, module, scenario = sys.argv
    globals()[scenario](importlib.import_module(module).work, sys.stderr)
