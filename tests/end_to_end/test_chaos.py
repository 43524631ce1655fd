"""Tests of the parts of ``chaos.py``, which runs alone."""

from __future__ import annotations

import os
import subprocess
import sys

from .chaos import CLOCK_VARIABLE, PATCHED_CLOCK


def test_clock_of_a_server_is_moved_by_the_time_of_a_file(tmp_path):
    (tmp_path / "sitecustomize.py").write_text(PATCHED_CLOCK)
    clock = tmp_path / "clock"
    clock.touch()
    program = f"""
import os, time
for offset in (0, 7200, -7200):
    os.utime({str(clock)!r}, (1_000_000 + offset,) * 2)
    print(round((time.time() - time.clock_gettime(time.CLOCK_REALTIME)) / 3600))
"""
    environ = {**os.environ, "PYTHONPATH": str(tmp_path), CLOCK_VARIABLE: str(clock)}
    done = subprocess.run([sys.executable, "-c", program], env=environ, capture_output=True, text=True, timeout=60)
    assert (done.stdout.split(), done.stderr) == (["0", "2", "-2"], "")
