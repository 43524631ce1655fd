"""The time left on the terminal bar, on a clock of the test."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys

import pytest

from progressbar_tracker._sender.snapshot import Snapshot, StaticFields
from progressbar_tracker._terminal.display import Display

START_TIME = 1000.0


class FakeRun:
    """A run whose position the test sets."""

    is_nested = False
    started_at = START_TIME

    def __init__(self, total):
        self.position, self.total, self.status = 0, total, "running"

    def sample(self):
        return Snapshot("job", "", self.position, self.total, 0, self.status, None)

    def get_static_fields(self):
        return StaticFields("it", None, None)


class Terminal:
    """A display without a thread, on a clock of the test."""

    def __init__(self, total):
        self.now, self.file, self.run = START_TIME, io.StringIO(), FakeRun(total)
        self._display = Display(lambda: self.now, self.file)
        self._display._worker._start_failures = 99  # no thread starts
        self._display._added.append((self.run, self.file))

    def draw_at(self, seconds, position):
        """Draw a frame at some seconds after the start, and return the line."""
        self.now, self.run.position = START_TIME + seconds, position
        self._display.draw_frame()
        return re.split(r"[\r\n]", self.file.getvalue())[-1]

    def end_at(self, seconds, position, status="succeeded"):
        self.run.status = status
        self.draw_at(seconds, position)
        return self.file.getvalue().rstrip("\n").rsplit("\r", 1)[-1]


def parse_seconds_left(line):
    hours, minutes, seconds = re.search(r"<(?:(\d+):)?(\d+):(\d\d),", line).groups("0")
    return int(hours) * 3600 + int(minutes) * 60 + int(seconds)


def test_steady_loop_shows_the_time_left():
    terminal = Terminal(100)
    for second in range(1, 51):
        line = terminal.draw_at(second, second)
    assert re.search(r"50/100 \[00:50<00:(49|50), +1\.00it/s\]$", line)


def test_first_frame_has_no_time_left():
    assert "0/100 [00:00<?, ?it/s]" in Terminal(100).draw_at(0.0, 0)


def test_unknown_total_shows_no_time_left():
    terminal = Terminal(None)
    terminal.draw_at(1.0, 1)
    assert re.search(r"job: 10it \[00:10, +1\.\d\dit/s\]$", terminal.draw_at(10.0, 10))


def test_burst_moves_the_speed_more_than_the_time_left():
    """Half an hour at one item a second, and then a burst: the rest will take about as long as before."""
    terminal = Terminal(3600)
    for second in range(1, 1801):
        terminal.draw_at(second, second)
    for tenth in range(1, 101):
        line = terminal.draw_at(1800 + tenth / 10, 1800 + tenth)
    assert float(re.search(r", +([\d.]+)it/s", line)[1]) > 4
    assert 1300 < parse_seconds_left(line) < 1700


def test_slow_first_item_counts_for_its_time_only():
    """One item of 0.5 s, and then four of them in that time."""
    terminal = Terminal(100)
    for tenth in range(1, 31):
        line = terminal.draw_at(tenth / 10, max(0, (tenth - 5) * 4 // 5) + (tenth >= 5))
    assert 5 < float(re.search(r", +([\d.]+)it/s", line)[1]) < 9


def test_resumed_run_is_measured_from_its_first_count():
    terminal = Terminal(1000)
    for second in range(51):
        line = terminal.draw_at(second, 500 + second)
    assert re.search(r"550/1000 \[00:50<07:(29|30), +1\.00it/s\]$", line)


def test_lasting_change_of_speed_is_learnt():
    terminal = Terminal(400)
    for second in range(1, 101):
        terminal.draw_at(second, second)
    for second in range(101, 301):
        line = terminal.draw_at(second, 100 + (second - 100) // 2)
    assert 300 < parse_seconds_left(line) <= 420  # 200 items at two seconds each


def test_time_left_falls_between_two_items():
    terminal = Terminal(10)
    for second in range(0, 301, 10):
        terminal.draw_at(second, second // 60)
    before = parse_seconds_left(terminal.draw_at(301, 5))
    assert parse_seconds_left(terminal.draw_at(331, 5)) == pytest.approx(before - 30, abs=1)


def test_suspended_program_keeps_its_estimate():
    terminal = Terminal(100)
    for second in range(1, 51):
        terminal.draw_at(second, second)
    line = terminal.draw_at(50 + 3600, 51)
    assert parse_seconds_left(line) < 120


def test_count_that_falls_begins_again():
    terminal = Terminal(100)
    for second in range(1, 51):
        terminal.draw_at(second, second)
    assert "0/100" in terminal.draw_at(51, 0)
    assert "1/100" in terminal.draw_at(52, 1)


def test_final_line_shows_the_speed_of_the_whole_run():
    terminal = Terminal(100)
    for second in range(1, 51):
        terminal.draw_at(second, second)
    assert re.search(r"100/100 \[01:40<00:00, +1\.00it/s\]$", terminal.end_at(100, 100))


def test_program_without_a_bar_loads_no_estimator():
    code = (
        "import json, sys\n"
        "from progressbar_tracker import track\n"
        "list(track(range(3), display=False))\n"
        "print(json.dumps('progressbar_tracker._estimate' in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True, timeout=100)
    assert json.loads(done.stdout) is False
