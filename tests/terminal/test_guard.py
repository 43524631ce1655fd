"""Output of the program while a bar is drawn on its terminal."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import sys
import termios
import threading

import pytest

from progressbar_tracker import _runtime, track
from tests.support.pseudo_terminal import run_on_terminal


@pytest.fixture
def bar(emulator):
    with track(total=4, id="job") as bar:
        emulator.draw()
        yield bar


def is_bar(line, count):
    return line.startswith("job:") and f"{count}/4" in line


def advance(emulator, bar):
    """Make progress, and draw it. A second frame of the same 0.1 s changes the line too."""
    bar.advance()
    emulator.draw()


def test_printed_line_stays_above_the_bar(emulator, bar):
    print("one")
    print("two", file=sys.stderr)
    advance(emulator, bar)
    first, second, third = emulator.lines
    assert (first, second) == ("one", "two")
    assert is_bar(third, 1)


def test_bar_is_redrawn_with_the_printed_line(emulator, bar):
    print("one")
    assert is_bar(emulator.lines[1], 0)


def test_handler_made_before_the_bar_writes_whole_lines(emulator):
    handler = logging.StreamHandler()
    with track(total=4, id="job") as bar:
        emulator.draw()
        handler.emit(logging.makeLogRecord({"msg": "logged"}))
        advance(emulator, bar)
        assert emulator.lines[0] == "logged"


def test_nested_bars_stay_below_the_lines(emulator, bar):
    with track(total=2, id="inner"):
        emulator.draw()
        print("one\ntwo")
        lines = emulator.lines
    assert lines[:2] == ["one", "two"]
    assert [line.partition(":")[0] for line in lines[2:]] == ["job", "inner"]


def test_lines_that_scroll_the_screen_stay_whole(emulator, bar):
    for number in range(30):
        print("line", number)
    emulator.draw()
    lines = emulator.lines
    assert lines[:-1] == [f"line {number}" for number in range(30 - len(lines) + 1, 30)]
    assert is_bar(lines[-1], 0)


def test_unfinished_line_stays_above_the_bar(emulator, bar):
    print("loading", end="", flush=True)
    emulator.draw()
    assert emulator.lines == ["loading"]
    advance(emulator, bar)
    assert emulator.lines[0] == "loading"
    assert is_bar(emulator.lines[1], 1)
    print(" done")
    advance(emulator, bar)
    assert emulator.lines[0] == "loading done"
    assert is_bar(emulator.lines[1], 2)


def test_unfinished_line_at_the_bottom_stays_whole(emulator, bar):
    print("\n" * 20 + "loading", end="", flush=True)
    advance(emulator, bar)
    print(" done")
    advance(emulator, bar)
    assert emulator.lines[-2] == "loading done"


def test_bar_that_ends_leaves_an_unfinished_line(emulator):
    with track(total=4, id="job"):
        emulator.draw()
        print("loading", end="", flush=True)
    print("after")
    first, second, third = emulator.lines
    assert first == "loading"
    assert is_bar(second, 0)
    assert third == "after"


def test_bytes_of_the_buffer_stay_above_the_bar(emulator, bar):
    sys.stdout.buffer.write(b"raw\n")
    sys.stdout.buffer.flush()
    advance(emulator, bar)
    assert emulator.lines[0] == "raw"


def test_large_output_stays_above_the_bar(emulator, bar):
    sys.stdout.buffer.write(b"x\n" * 5000)
    assert "x" in emulator.lines[0]
    sys.stdout.flush()
    assert emulator.lines[:-1] == ["x"] * (len(emulator.lines) - 1)


def test_output_that_moves_the_cursor_is_unchanged(emulator, bar):
    emulator.read()
    print("\r50%", end="", flush=True)
    print("\x1b[1Aup", end="", flush=True)
    assert emulator.read() == b"\r50%\x1b[1Aup"


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_stream_has_no_hook_after_the_bar(emulator, stream):
    object_before, attributes_before = getattr(sys, stream), dict(vars(getattr(sys, stream).buffer))
    with track(total=1, id="job"):
        emulator.draw()
        assert vars(getattr(sys, stream).buffer) != attributes_before
        assert getattr(sys, stream) is object_before
        assert type(object_before) is io.TextIOWrapper
        assert object_before.fileno() != -1
    assert vars(object_before.buffer) == attributes_before


def test_hook_of_the_program_is_restored_and_kept(emulator):
    def original(data):
        return type(sys.stdout.buffer).write(sys.stdout.buffer, data)

    sys.stdout.buffer.write = original
    with track(total=1, id="job"):
        emulator.draw()
        assert sys.stdout.buffer.write is not original
    assert sys.stdout.buffer.write is original


def test_hook_that_the_program_replaced_is_left(emulator):
    with track(total=1, id="job"):
        emulator.draw()
        hook = sys.stdout.buffer.write
        sys.stdout.buffer.write = wrapper = lambda data: hook(data)
    assert sys.stdout.buffer.write is wrapper
    print("after")
    assert emulator.lines[-1] == "after"


def test_replaced_stdout_is_left(emulator):
    with track(total=1, id="job"):
        emulator.draw()
        sys.stdout = replacement = io.StringIO()
    assert sys.stdout is replacement


def test_stream_opened_during_the_bar_is_guarded(emulator, bar):
    sys.stdout = emulator.open_stream()
    emulator.draw()
    print("one")
    advance(emulator, bar)
    assert emulator.lines[0] == "one"


def test_redirected_output_is_unchanged(emulator, bar, tmp_path):
    with (tmp_path / "out").open("w") as file, contextlib.redirect_stdout(file):
        emulator.draw()
        print("one\rtwo", end="")
        sys.stdout.buffer.write(b"\x00")
        assert "write" not in vars(sys.stdout.buffer)
    assert (tmp_path / "out").read_bytes() == b"\x00one\rtwo"


def test_other_terminal_is_not_guarded(emulator, bar, monkeypatch):
    master, slave = os.openpty()
    with os.fdopen(slave, "w") as other, os.fdopen(master, "rb"):
        monkeypatch.setattr("sys.stdout", other)
        emulator.draw()
        assert "write" not in vars(other.buffer)


def test_variable_disables_the_guard(emulator, monkeypatch):
    monkeypatch.setenv("PROGRESSBAR_PRINT_GUARD", "0")
    with track(total=4, id="job"):
        emulator.draw()
        emulator.read()
        assert "write" not in vars(sys.stdout.buffer)
        print("one")
        assert emulator.read() == b"one\r\n"


@pytest.mark.parametrize("guard", ["0", "1"])
def test_write_stays_above_the_bar(emulator, monkeypatch, guard):
    monkeypatch.setenv("PROGRESSBAR_PRINT_GUARD", guard)
    with track(total=4, id="job") as bar:
        emulator.draw()
        bar.write("one")
        bar.write(2, file=sys.stderr)
        advance(emulator, bar)
        assert emulator.lines[:2] == ["one", "2"]


def test_write_without_a_bar_prints(capsys):
    with track(total=4, id="job", display=False) as bar:
        bar.write("one", end="!")
    assert capsys.readouterr().out == "one!"


def test_threads_write_whole_lines(emulator, bar):
    def work(name):
        for _ in range(50):
            print(name * 20 + "\n", end="")

    threads = [threading.Thread(target=work, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    for _ in range(20):
        emulator.draw()
        emulator.read()
    for thread in threads:
        thread.join()
    printed = [line for line in emulator.lines if not line.startswith("job")]
    assert set(printed) <= {"a" * 20, "b" * 20}


def test_held_lock_does_not_block_print(emulator, bar):
    guard = emulator.display._terminals[0].guard
    guard._lock.acquire()
    for number in range(20):
        print("line", number)
    assert b"line 19" in emulator.read()


def test_print_of_the_thread_that_draws_is_plain(emulator, bar):
    guard = emulator.display._terminals[0].guard
    guard.write(lambda: print("in a signal handler"), completes_line=True)
    assert b"in a signal handler\r\n" in emulator.read()


def test_bar_is_hidden_while_input_is_awaited(emulator, bar):
    bar.advance()  # just before, so that the next frame finds progress
    sys.stdout.fileno()  # as input() does before it reads
    sys.stdout.flush()
    os.write(emulator.descriptor, b"Name? ")
    for _ in range(4):
        emulator.draw()
    assert emulator.lines == ["Name?"]
    os.write(emulator.descriptor, b"\r\n")  # the echo
    advance(emulator, bar)
    assert is_bar(emulator.lines[1], 2)


def test_bar_that_ends_during_input_is_drawn(emulator):
    with track(total=4, id="job"):
        emulator.draw()
        sys.stdout.fileno()
        sys.stdout.flush()
        os.write(emulator.descriptor, b"Name? \r\n")
    emulator.draw()
    assert is_bar(emulator.lines[1], 0)


def test_lines_in_a_row_redraw_the_bar_once(emulator, bar):
    emulator.display._terminals[0].guard._clock = lambda: 100.0
    emulator.read()
    for number in range(50):
        print("line", number)
    assert emulator.read().count(b"job:") == 1
    emulator.draw()
    assert is_bar(emulator.lines[-1], 0)


def test_replaced_stream_is_released_with_its_last_lines(emulator, bar, tmp_path, monkeypatch):
    path = tmp_path / "log.txt"
    monkeypatch.setattr(sys, "stdout", path.open("w"))
    emulator.draw()
    print("line")
    with pytest.warns(ResourceWarning):  # the file is closed because nothing refers to it
        sys.stdout = sys.__stdout__
    assert path.read_text() == "line\n"


@pytest.mark.parametrize("data", [5, 10**12, "text", None])
def test_data_that_the_buffer_refuses_is_refused(emulator, bar, data):
    with pytest.raises(TypeError):
        sys.stdout.buffer.write(data)


def test_bar_is_not_redrawn_while_an_editor_reads(emulator, bar):
    emulator.read()
    settings = termios.tcgetattr(emulator.descriptor)
    settings[3] &= ~termios.ICANON
    termios.tcsetattr(emulator.descriptor, termios.TCSANOW, settings)
    emulator.display._bars[next(iter(emulator.display._bars))][1]._drawn_at = -100.0
    emulator.draw()
    assert emulator.read() == b""
    advance(emulator, bar)
    assert b"1/4" in emulator.read()


def test_child_of_a_fork_has_no_hooks(emulator, bar):
    assert "write" in vars(sys.stdout.buffer)
    _runtime.get_display().reset()
    assert "write" not in vars(sys.stdout.buffer)


def test_input_and_traceback_work_on_a_terminal():
    output = run_on_terminal(
        """
        from progressbar_tracker import _runtime, track
        for number in track(range(3), id="job"):
            _runtime.get_display().draw_frame()
            print("hello", input("Name? "))
            if number == 1:
                raise ValueError("bad row")
        """,
        typed="Ann\nBob\n",
    )
    assert "hello Ann" in output
    assert "hello Bob" in output
    assert "ValueError: bad row" in output
    traceback = output[output.index("Traceback") :].splitlines()
    assert all("job" not in line or "in <module>" in line or 'id="job"' in line for line in traceback[:4])
