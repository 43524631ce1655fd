"""A run that mirrors the bar of another library."""

from __future__ import annotations

import sys
import threading

from progressbar_tracker._tracking.mirror import Mirror, Reading
from progressbar_tracker._tracking.run_options import RunOptions


def test_late_reading_does_not_replace_the_last_count():
    """The sender's thread may be reading while the program ends the run."""
    run = Mirror("x", RunOptions(), None)
    is_reading, run_ended = threading.Event(), threading.Event()

    def read():
        if threading.current_thread() is late_thread:
            is_reading.set()
            assert run_ended.wait(60)
            return Reading(4, 5, None, "nearly", unit="it")
        return Reading(5, 5, None, "all", unit="it")

    late_thread = threading.Thread(target=run.sample)
    run.read = read
    run.start(sys._getframe(), in_block=False)
    late_thread.start()
    assert is_reading.wait(60)
    run.end("succeeded")
    run_ended.set()
    late_thread.join()
    snapshot = run.sample()
    assert (snapshot.completed, snapshot.description, snapshot.status) == (5, "all", "succeeded")
