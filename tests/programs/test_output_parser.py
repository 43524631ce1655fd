"""The parts of the parser: frames, readings of single frames, and the choice of the readings that the bar shows."""

from __future__ import annotations

import pytest

from progressbar_tracker._programs.output_general import read_frame
from progressbar_tracker._programs.output_lines import FLOOD_BYTES, MAX_FLOOD_FRAMES, FrameReader
from progressbar_tracker._programs.output_parser import Parser
from progressbar_tracker._programs.output_patterns import KNOWN_FORMS
from progressbar_tracker._programs.output_progress import ProgressJudge
from progressbar_tracker._programs.output_readings import Reading
from tests.support.output_samples import format_curve, read_curve


def read_frames(data):
    reader = FrameReader()
    return [frame.text for frame in [*reader.feed(data), *reader.finish()]]


def read_lines(*lines):
    """Return the curve of complete lines."""
    return format_curve(read_curve(["".join(f"{line}\n" for line in lines).encode()]))


def describe(reading):
    return None if reading is None else (reading.completed, reading.total, reading.unit)


# ---------------------------------------------------------------- frames


@pytest.mark.parametrize(
    ("data", "frames"),
    [
        (b"one\ntwo\r\n\r\nthree", ["one", "two", "three"]),
        (b" 4%\r45%\r\n", [" 4%", "45%"]),
        (b"  0%\b\b\b\b    \b\b\b\b  7% 3 + a.txt\n", ["  0%", "    ", "  7% 3 + a.txt"]),
        (b"tables:  3/80\b\b\b\b\b 14/80\n", ["tables:  3/80", "tables:  14/80"]),
        (b"rows: 1/9\x1b[3D2/9\n", ["rows: 1/9", "rows: 2/9"]),
        (b"\x1b[2K\x1b[1m45%\x1b[0m\x1b[1A\x1b[0K46%\n", ["45%", "46%"]),
        (b"a\x1b[4Cb\n", ["a b"]),
        (b"0...10...20...100 - done.\n", ["0", "0...10", "0...10...20", "0...10...20...100 - done."]),
        (b"loading... done\n", ["loading... done"]),
        (b"\x1b]0;title\x07text\n", ["text"]),
        (b"caf\xc3\xa9 \xff\n", ["café \ufffd"]),
    ],
)
def test_frames_are_the_states_of_a_line(data, frames):
    assert read_frames(data) == frames


def test_long_line_uses_bounded_memory():
    parser = Parser()
    for _ in range(200):
        assert parser.feed(b"x" * 65536) == []
    assert len(parser._frames._pending) <= 4096
    assert [describe(frame.reading) for frame in parser.feed(b" 5%\n")] == [(5, 100, "%")]


def test_flood_reads_its_last_frames():
    data = b"".join(b"%d of 9999 rows\n" % number for number in range(9999))
    assert len(data) > FLOOD_BYTES
    frames = FrameReader().feed(data)
    assert len(frames) == MAX_FLOOD_FRAMES
    assert frames[-1].text == "9998 of 9999 rows"


# ---------------------------------------------------------------- readings


@pytest.mark.parametrize("form", KNOWN_FORMS, ids=lambda form: form.name)
def test_form_reads_its_example(form):
    reading = read_frame(form.example + "\n")
    assert reading is not None
    assert reading.form == form.name


@pytest.mark.parametrize(
    ("text", "reading"),
    [
        ("[12/345] Building CXX object a.o", (12, 345, "")),
        ("[ 45%] Building CXX object a.o", (45, 100, "%")),
        ("45 of 120 done", (45, 120, "")),
        ("1,234 of 12,340", (1234, 12340, "")),
        ("Progress: [ 45%] [####....]", (45, 100, "%")),
        (" 7.5 %", (7.5, 100, "%")),
        ("12,5% erledigt", (12.5, 100, "%")),
        ("1.2/4.5 MB 3.2 MB/s", (1.2, 4.5, "MB")),
        ("12.3MB/45.6MB", (12.3, 45.6, "MB")),
        ("12.3 MiB / 45.6 MiB", (12.3, 45.6, "MiB")),
        ("512 kB / 2 MB", (0.512, 2, "MB")),
        ("12.1MB of 45.6MB", (12.1, 45.6, "MB")),
        ("Completed 256.0 KiB/12.0 MiB (1.0 MiB/s) with 1 file(s) remaining", (0.25, 12, "MiB")),
        ("12 out of 45 new replicas have been updated", (12, 45, "")),
        ("50% of 7/8 inch pipes", (50, 100, "%")),
        ("Epoch 3/3", (2, 3, "epochs")),
        ("Step 3/10", (2, 10, "steps")),
        ("Step 3/12 : RUN make", (2, 12, "steps")),
        ("Epoch [1/10], Step [150/600], Loss: 0.5", (0.25, 10, "epochs")),
        ("10%...20%...30%", (30, 100, "%")),
    ],
)
def test_frame_with_progress_is_read(text, reading):
    assert describe(read_frame(text + "\n")) == reading


@pytest.mark.parametrize(
    "text",
    [
        "",
        "12/25/2026 10:00 started",
        "see https://example.org/1/20 for more",
        "version 1.2/4.5-rc",
        "HTTP/1.1 200 OK",
        "22/11 is no progress",
        "0/0 [",
        "250% of nominal speed",
        "-5% is no progress",
        "%d%% done",
        "100%complete",
        "[Parsed_testsrc_0 @ 0x55] SAR=1/1",
        "(Reading database ... 45%",
        "     ━━━━━━━━━━━━━━━━━━━━━━━━ 16.9/16.9 MB 30.1 MB/s eta 0:00:00",
        "  cpu          : usr=1.20%, sys=3.00%, ctx=123, majf=0, minf=12",
        "     | 99.00th=[  510], 99.50th=[  562]",
        "src/package/module.py          120     12    90%",
        "/dev/sda1        12345678 1234567  11111111  10% /",
        "| 30%   45C    P2    60W / 250W |   1234MiB / 11178MiB |     45%      Default |",
        "  40% of test remaining.",
        "10 packets transmitted, 9 received, 10% packet loss, time 9012ms",
        "Progress (1): 12/45 kB",
        "Completed 256.0 KiB/~12.0 MiB (1.0 MiB/s) with ~3 file(s) remaining (calculating...)",
        "rnd                  :45.00%   (  60.0 MiB =>   27.0 MiB, y.zst)",
        "\ufffd\ufffd" * 20,
    ],
)
def test_frame_without_progress_is_ignored(text):
    assert read_frame(text + "\n") is None


def test_incomplete_number_is_ignored():
    assert read_frame("rows 12/1") is None
    assert read_frame("rows 12/120 [") is not None


# ---------------------------------------------------------------- the choice


def test_single_percentage_is_no_progress():
    assert read_lines("disk 40% busy") == []


def test_percentage_counts_from_its_third_rise():
    assert read_lines("copied 10%", "copied 20%", "copied 30%") == ["of 100 %: 30"]


def test_count_rises_from_its_second_line():
    assert read_lines("1 of 4 parts", "2 of 4 parts", "2 of 4 parts") == ["of 4: 2"]


def test_value_that_falls_twice_is_withdrawn():
    judge = ProgressJudge()
    shown = [judge.add(Reading("percent", done, 100, "%", evidence=3)) for done in (20, 30, 50, 40, 60, 45)]
    assert [state and state.phase for state in shown] == [None, None, 1, None, 1, 0]
    assert judge.add(Reading("percent", 90, 100, "%", evidence=3)) is None


def test_rows_with_other_names_are_a_table():
    assert read_lines("alpha 10%", "beta 20%", "gamma 30%", "delta 40%") == []


def test_count_that_is_complete_starts_a_phase():
    assert read_lines("1/2 [", "2/2 [", "1/5 [", "2/5 [") == ["of 2: 1", "of 5: 2"]


def test_bar_inside_an_unfinished_one_is_not_followed():
    outer, inner = "1/3 [00:01<00:02]", [f"{n}/2 [00:00<00:01]" for n in (1, 2)]
    assert read_lines(outer, *inner, "2/3 [00:02<00:01]") == ["of 3: 1 2"]


def test_bar_after_an_abandoned_one_is_followed():
    later = [f"{n}/2 [00:00<00:01]" for n in (1, 2)]
    assert read_lines("1/3 [00:01<00:02]", *later) == ["of 3: 1"]
    assert read_lines("1/3 [00:01<00:02]", *later, *later) == ["of 3: 1", "of 2: 1"]


def test_epoch_is_refined_by_the_bar_inside():
    lines = ["Epoch 1/2", "1/4 [", "2/4 [", "4/4 [", "Epoch 2/2", "1/4 [", "2/4 ["]
    assert read_lines(*lines) == ["Epoch 1/2 of 2 epochs: 0 0.5 0.999 1 1.25 1.5"]


def test_complete_count_stays_below_its_total():
    assert read_lines("11/12 [", "12/12 [") == ["of 12: 11"]
    assert read_lines("1.0/2.0 MB", "2.0/2.0 MB") == ["of 2 MB: 1.998"]


def test_bare_numbers_beyond_100_are_no_percentages():
    assert read_lines(*range(0, 120, 10))[-1:] == ["withdrawn"]


def test_preview_only_continues_the_followed_series():
    judge = ProgressJudge()
    judge.add(Reading("tqdm", 4, 10))
    assert judge.preview(Reading("tqdm", 5, 10)).completed == 5
    assert judge.preview(Reading("tqdm", 3, 10)) is None
    assert judge.preview(Reading("tqdm", 5, 20)) is None
    assert judge.add(Reading("tqdm", 5, 10)) is None  # it is shown already


def test_preview_shows_the_first_state_of_a_known_form():
    judge = ProgressJudge()
    assert judge.preview(Reading("percent", 5, 100, evidence=3)) is None
    assert judge.preview(Reading("tqdm", 0, 10)).total == 10
    assert judge.add(Reading("tqdm", 1, 10)).completed == 1


def test_preview_that_was_wrong_is_a_phase_of_its_own():
    judge = ProgressJudge()
    assert judge.preview(Reading("tqdm", 9, 10)).phase == 1
    assert judge.add(Reading("git", 1, 10)).phase == 2
