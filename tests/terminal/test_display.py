"""The terminal bar: formatted by tqdm, drawn by the display thread."""

from __future__ import annotations

import io
import threading

import pytest

from progressbar_tracker import _runtime, track
from progressbar_tracker._terminal.display import Display


class FakeTerminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def terminal(monkeypatch):
    """A display of the test's own. That it is chosen by what stderr is, is a test of its own."""
    file = FakeTerminal()
    display = Display(file=file)
    monkeypatch.setattr(_runtime, "_display", display)
    yield file
    display.close()


def drawn_lines(terminal):
    return [part for line in terminal.getvalue().split("\n") for part in line.split("\r") if part.strip()]


def test_loop_on_terminal_ends_with_full_bar_and_newline(terminal):
    for _ in track(range(10), id="job", title="A job", display=True):
        pass
    assert terminal.getvalue().endswith("\n")
    assert "A job: 100%" in drawn_lines(terminal)[-1]
    assert "10/10" in drawn_lines(terminal)[-1]


def test_output_after_break_starts_on_new_line(terminal):
    display = _runtime.get_display()
    for number in track(range(10), id="job", display=True):
        display.draw_frame()  # a frame has been drawn
        if number == 3:
            break
    assert terminal.getvalue().endswith("\n")
    assert "3/10" in drawn_lines(terminal)[-1]


def test_finalizer_does_not_wait_for_held_lock(terminal):
    display = _runtime.get_display()
    acquired, done = threading.Event(), threading.Event()

    def hold_lock():
        with display._lock:
            acquired.set()
            done.wait(60)

    for _ in track(range(10), id="job", display=True):
        display.draw_frame()
        thread = threading.Thread(target=hold_lock)
        thread.start()
        acquired.wait(60)
        break
    assert not terminal.getvalue().endswith("\n")  # neither waited nor drew
    done.set()
    thread.join()
    display.draw_frame()
    assert terminal.getvalue().endswith("\n")


def test_failed_block_shows_reason(terminal):
    with pytest.raises(ValueError, match="bad row"):
        with track(total=10, id="job", display=True) as bar:
            bar.advance(4)
            raise ValueError("bad row")
    assert "4/10" in drawn_lines(terminal)[-1]
    assert "ValueError: bad row" in drawn_lines(terminal)[-1]


def test_nested_bar_leaves_no_line(terminal):
    display = _runtime.get_display()
    for _ in track(range(2), id="outer", display=True):
        for _ in track(range(3), id="inner", display=True):
            display.draw_frame()
    assert "outer: 100%" in terminal.getvalue().rstrip().split("\n")[-1].split("\r")[-1]


def test_unknown_total_shows_count(terminal):
    for _ in track(iter(range(7)), id="job", unit="files", display=True):
        pass
    assert "job: 7files" in drawn_lines(terminal)[-1]


def test_bytes_are_shown_with_prefix(terminal):
    with track(total=2048, id="job", unit="B", display=True) as bar:
        bar.advance(2048)
    assert "2.00k/2.00k" in drawn_lines(terminal)[-1]


@pytest.mark.parametrize("is_terminal", [True, False])
def test_bar_is_drawn_by_default_when_stderr_is_terminal(terminal, monkeypatch, is_terminal):
    monkeypatch.setattr("sys.stderr", FakeTerminal() if is_terminal else io.StringIO())
    for _ in track(range(10), id="job"):
        pass
    assert bool(terminal.getvalue()) is is_terminal


@pytest.mark.parametrize("display", [True, False])
def test_display_argument_overrides_stderr(terminal, monkeypatch, display):
    monkeypatch.setenv("PROGRESSBAR_DISABLE", "1")
    assert list(track(range(3), id="job", display=display)) == [0, 1, 2]
    assert ("100%" in terminal.getvalue()) is display


def test_program_without_stderr_runs(monkeypatch):
    monkeypatch.setattr("sys.stderr", None)
    assert list(track(range(3), id="job")) == [0, 1, 2]


def test_display_thread_draws_while_loop_works(terminal):
    drawn = threading.Event()
    write = terminal.write

    def watching(text):
        if "job:" in text:
            drawn.set()
        return write(text)

    terminal.write = watching
    for _ in track(range(1), id="job", display=True):
        assert drawn.wait(60)


def test_written_line_stays_above_bars(terminal):
    display = _runtime.get_display()
    for _ in track(range(1), id="job", display=True):
        display.draw_frame()
        display.write_line("the server is down")
        display.draw_frame()
    first, last = terminal.getvalue().rstrip("\n").split("\n")
    assert first.split("\r")[-1].rstrip() == "the server is down"
    assert "job: 100%" in last


def test_written_line_needs_no_bar_and_no_thread(terminal):
    display = _runtime.get_display()
    display._worker._start_failures = 99  # no thread starts
    display.write_line("the server\x1b[2J is\ndown")
    assert drawn_lines(terminal) == ["the server [2J is down"]
    assert terminal.getvalue().endswith("\n")


def test_written_line_is_drawn_before_exit(terminal):
    display = _runtime.get_display()
    display.write_line("the server is down")
    display.close()
    assert drawn_lines(terminal) == ["the server is down"]
