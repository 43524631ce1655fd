"""A run that shows somebody else's bar."""

from __future__ import annotations

import sys
import threading

from progressbar_tracker._tracking.mirror import Mirror, Reading
from progressbar_tracker._tracking.run import intern_options


def test_late_reading_does_not_replace_the_last_count():
    """The sender's thread may be in the middle of reading while the program ends the run."""
    run = Mirror("x", intern_options("it", None, keep=False, interval=0.5), None)
    reading, go_on = threading.Event(), threading.Event()

    def read():
        if threading.current_thread() is late:
            reading.set()
            assert go_on.wait(20)
            return Reading(4, 5, None, "nearly", unit="it")
        return Reading(5, 5, None, "all", unit="it")

    late = threading.Thread(target=run.sample)
    run.read = read
    run.start(sys._getframe(), in_block=False)
    late.start()
    assert reading.wait(20)
    run.end("succeeded")
    go_on.set()
    late.join()
    last = run.sample()
    assert (last.completed, last.description, last.status) == (5, "all", "succeeded")
