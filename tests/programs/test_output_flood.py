"""The filter for floods: readings take a fifth of the time, and the last lines are kept."""

from __future__ import annotations

import pytest

from progressbar_tracker._programs.output_flood import MAX_BACKLOG_BYTES, FloodFilter
from tests.support.clock import ManualClock


class SlowReader:
    """Reads each chunk in a second."""

    def __init__(self, clock):
        self.clock, self.chunks = clock, []

    def __call__(self, data):
        self.chunks.append(data)
        self.clock.now += 1.0


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def reader(clock):
    return SlowReader(clock)


@pytest.fixture
def flood_filter(clock):
    return FloodFilter(lambda: clock.now)


def test_chunk_after_a_pause_is_read(clock, reader, flood_filter):
    flood_filter.read(b"1\n", reader)
    clock.now += 4.0
    flood_filter.read(b"2\n", reader)
    assert reader.chunks == [b"1\n", b"2\n"]


def test_chunk_in_a_pause_is_read_with_the_next(clock, reader, flood_filter):
    flood_filter.read(b"1\n", reader)
    clock.now += 3.9
    flood_filter.read(b"2\n", reader)
    clock.now += 0.2
    flood_filter.read(b"3\n", reader)
    assert reader.chunks == [b"1\n", b"2\n3\n"]


def test_flood_in_a_pause_keeps_whole_last_lines(clock, reader, flood_filter):
    flood_filter.read(b"start", reader)
    flood_filter.read(b"".join(b"%06d\n" % number for number in range(10_000)), reader)
    backlog = flood_filter.take_backlog()
    assert len(backlog) <= MAX_BACKLOG_BYTES
    lines = backlog.split(b"\n")
    assert lines[0] == b""
    assert {len(line) for line in lines[1:-1]} == {6}
    assert lines[-2:] == [b"009999", b""]
