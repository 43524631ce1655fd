"""Recorded output of programs, on pipes and terminals, in chunks of any size, and the resulting bar."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from progressbar_tracker._programs.output_parser import Parser, ProgressFilter, Reading, find_last_line

RECORDED_FOLDER = Path(__file__).parent / "recorded"
PIECE_SIZES = [7, 100, 65536]


def read_states(data, size):
    """Return the states that a bar shows, and the number of phases."""
    parser, progress_filter, states = Parser(), ProgressFilter(), []
    for start in range(0, len(data), size):
        reading = parser.feed(data[start : start + size])
        if reading is not None and (state := progress_filter.accept(reading)) is not None:
            states.append(state)
    return states, progress_filter.phase


def read_states_by_line(data):
    """Like ``read_states``, with one chunk for each line or redraw."""
    parser, progress_filter, states = Parser(), ProgressFilter(), []
    for piece in data.replace(b"\r", b"\r\0").replace(b"\n", b"\n\0").split(b"\0"):
        reading = parser.feed(piece)
        if reading is not None and (state := progress_filter.accept(reading)) is not None:
            states.append(state)
    return states, progress_filter.phase


@pytest.mark.parametrize(
    ("name", "min_state_count", "last", "phases"),
    [
        ("wget.txt", 8, Reading(30000000, 30000000), 1),
        ("wget-terminal.txt", 13, Reading(30000000, 30000000), 1),
        ("curl.txt", 4, Reading(100, 100, "%"), 1),
        ("curl-bar.txt", 6, Reading(100, 100, "%"), 1),
        ("rsync-progress.txt", 6, Reading(6, 6, "files"), 1),
        ("rsync-progress2.txt", 6, Reading(100, 100, "%"), 1),
        ("ffmpeg.txt", 19, Reading(59.96, 60.0, "s"), 1),
        ("pip-terminal.txt", 5, Reading(16.9, 16.9, "MB"), 1),
        ("tqdm.txt", 12, Reading(120, 120), 1),
        ("apt-terminal.txt", 3, Reading(100, 100, "%"), 1),
        ("git-clone.txt", 30, Reading(390, 390), 4),  # counting, compressing, receiving, resolving
    ],
)
def test_bar_follows_recorded_output(name, min_state_count, last, phases):
    data = (RECORDED_FOLDER / name).read_bytes()
    shown_states, phase_count = read_states_by_line(data)
    assert (shown_states[-1], phase_count) == (last, phases)
    assert len(shown_states) >= min_state_count
    regressions = sum(later.fraction < earlier.fraction - 0.01 for earlier, later in itertools.pairwise(shown_states))
    assert regressions == phases - 1


@pytest.mark.parametrize("size", PIECE_SIZES)
@pytest.mark.parametrize("name", sorted(path.name for path in RECORDED_FOLDER.iterdir()))
def test_end_is_independent_of_chunks(name, size):
    data = (RECORDED_FOLDER / name).read_bytes()
    states, _ = read_states(data, size)
    assert states[-1].fraction >= 0.99


@pytest.mark.parametrize(
    ("text", "reading"),
    [
        ("[12/345] Building CXX object a.o\n", Reading(12, 345)),
        ("[ 45%] Building CXX object a.o\n", Reading(45, 100, "%")),
        ("Step 3/12 : RUN make\n", Reading(3, 12)),
        ("45 of 120 done\n", Reading(45, 120)),
        ("1,234 of 12,340\n", Reading(1234, 12340)),
        ("Progress: [ 45%] [####....]\r", Reading(45, 100, "%")),
        ("\x1b[1m\x1b[32m 7.5 %\x1b[0m\r", Reading(7.5, 100, "%")),
        ("12,5% erledigt\n", Reading(12.5, 100, "%")),
        ("Epoch 1: 37%|###7  | 45/120 [00:05<00:08,  8.50it/s]", Reading(45, 120)),
        ("1.2/4.5 MB 3.2 MB/s eta 0:00:01\n", Reading(1.2, 4.5, "MB")),
        ("50% of 7/8 inch pipes\n", Reading(50, 100, "%")),
    ],
)
def test_line_with_progress_is_parsed(text, reading):
    assert Parser().feed(text.encode()) == reading


@pytest.mark.parametrize(
    "text",
    [
        "",
        "12/25/2026 10:00 started\n",
        "see https://example.org/1/20 for more\n",
        "version 1.2/4.5-rc\n",
        "HTTP/1.1 200 OK\n",
        "22/11 is no progress\n",
        "0/0 [\n",
        "250% of nominal speed\n",
        "-5% is no progress\n",
        "%d%% done\n",
        "100%complete\n",
        "\x1b[4",
        "\xff\xfe\x00" * 20,
    ],
)
def test_line_without_progress_is_ignored(text):
    assert Parser().feed(text.encode("latin-1")) is None


def test_incomplete_number_is_ignored():
    parser = Parser()
    assert parser.feed(b"12/1") is None
    assert parser.feed(b"20 [00:01<") == Reading(12, 120)
    assert Parser().feed(b"\r 4") is None


def test_lower_reading_needs_phase_end_or_confirmation():
    progress_filter = ProgressFilter()

    def accept_percent(percent):
        return progress_filter.accept(Reading(percent, 100, "%")) is not None

    assert [accept_percent(10), accept_percent(50), accept_percent(20), accept_percent(60)] == [True, True, False, True]
    assert [accept_percent(100), accept_percent(3), accept_percent(4)] == [True, True, True]
    assert progress_filter.phase == 2
    assert [
        accept_percent(90),
        accept_percent(10),
        accept_percent(11),
        accept_percent(12),
        accept_percent(13),
        accept_percent(14),
        accept_percent(15),
    ] == [True, False, False, False, False, True, True]
    assert progress_filter.phase == 3


def test_long_line_uses_bounded_memory():
    parser = Parser()
    for _ in range(200):
        assert parser.feed(b"x" * 65536) is None
    assert len(parser._buffer) <= 4096
    assert parser.feed(b" 5%\n") == Reading(5, 100, "%")


def test_last_line_skips_blank_lines():
    assert find_last_line(b"Traceback\n  File\nValueError: no\n\n \x1b[0m\n") == "ValueError: no"
    assert find_last_line(b" 10%\r 20%\r 30%\r\n") == "30%"
    assert find_last_line(b"\xff bad \xc3\n") == "\ufffd bad \ufffd"
    assert find_last_line(b"") == ""
