"""The progress in the terminal's tab, by the sequence OSC 9;4."""

from __future__ import annotations

import re

import pytest

from progressbar_tracker import track
from progressbar_tracker._terminal.taskbar import supports_taskbar
from tests.support.pseudo_terminal import run_on_terminal

SUPPORTED_ENVIRONS = (
    {"WT_SESSION": "1"},
    {"ConEmuANSI": "ON"},
    {"TERM_PROGRAM": "WezTerm"},
    {"TERM_PROGRAM": "ghostty", "TERM_PROGRAM_VERSION": "1.2.0"},
    {"TERM_PROGRAM": "ghostty", "TERM_PROGRAM_VERSION": "1.10.0-dev+1"},
    {"TERM_PROGRAM": "iTerm.app", "TERM_PROGRAM_VERSION": "3.6.6"},
    {"VTE_VERSION": "8000"},
)
OTHER_ENVIRONS = (
    {},
    {"TERM": "xterm-256color"},
    {"ConEmuANSI": "OFF"},
    {"TERM_PROGRAM": "ghostty", "TERM_PROGRAM_VERSION": "1.1.3"},
    {"TERM_PROGRAM": "iTerm.app", "TERM_PROGRAM_VERSION": "3.6.5"},
    {"TERM_PROGRAM": "iTerm.app"},
    {"TERM_PROGRAM": "Apple_Terminal", "TERM_PROGRAM_VERSION": "455"},
    {"VTE_VERSION": "7603"},
    {"VTE_VERSION": "\u00b2"},
    {"WT_SESSION": "1", "TMUX": "/tmp/tmux-0/default,1,0"},
    {"WT_SESSION": "1", "STY": "1.pts-0"},
    {"WT_SESSION": "1", "TERM": "screen-256color"},
    {"WT_SESSION": "1", "PROGRESSBAR_TASKBAR": "0"},
)


def find_states(output):
    text = output.decode() if isinstance(output, bytes) else output
    return re.findall(r"\x1b\]9;4;(\d;\d+)\x1b\\", text)


@pytest.fixture
def supported(monkeypatch, emulator):
    for name in ("TMUX", "STY", "TERM_PROGRAM"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("WT_SESSION", "1")
    return emulator


@pytest.mark.parametrize("environ", SUPPORTED_ENVIRONS)
def test_terminal_on_the_list_is_supported(environ):
    assert supports_taskbar(environ)


@pytest.mark.parametrize("environ", OTHER_ENVIRONS)
def test_terminal_off_the_list_is_not_supported(environ):
    assert not supports_taskbar(environ)


def test_outermost_bar_is_shown_and_cleared(supported):
    with track(total=4, id="outer") as outer:
        supported.draw()
        with track(total=2, id="inner") as inner:
            inner.advance()
            supported.draw()
        outer.advance(2)
        supported.draw()
    assert find_states(supported.read()) == ["1;0", "1;50", "0;0"]


def test_unchanged_percentage_is_not_written_again(supported):
    with track(total=1000, id="job") as bar:
        for _ in range(9):
            bar.advance()
            supported.draw()
        assert find_states(supported.read()) == ["1;0"]


def test_bar_without_total_is_indeterminate(supported):
    with track(id="job"):
        supported.draw()
        assert find_states(supported.read()) == ["3;0"]


def test_failure_is_shown_until_the_exit(supported):
    with pytest.raises(ValueError, match="bad row"):
        with track(total=4, id="job") as bar:
            bar.advance()
            supported.draw()
            raise ValueError("bad row")
    supported.draw()
    assert find_states(supported.read()) == ["1;25", "2;25"]
    supported.display.close()
    assert find_states(supported.read()) == ["0;0"]


def test_next_bar_replaces_a_failure(supported):
    with track(total=4, id="first") as bar:
        supported.draw()
        bar.fail("bad row")
    with track(total=4, id="second"):
        supported.draw()
    assert find_states(supported.read()) == ["1;0", "2;0", "1;0", "0;0"]


def test_unsupported_terminal_gets_no_sequence(supported, monkeypatch):
    monkeypatch.delenv("WT_SESSION")
    with track(total=4, id="job"):
        supported.draw()
    assert b"\x1b]9" not in supported.read()


def test_pipe_gets_no_sequence(supported, monkeypatch, tmp_path):
    with (tmp_path / "out").open("w") as file:
        monkeypatch.setattr("sys.stderr", file)
        with track(total=4, id="job", display=True):
            supported.draw()
    text = (tmp_path / "out").read_text()
    assert "job" in text
    assert "\x1b]9" not in text


LOOP_PROGRAM = """
    import os, threading
    from progressbar_tracker import _runtime, track
    for number in track(range(3), id="job"):
        _runtime.get_display().draw_frame()
        END
"""


@pytest.mark.parametrize(
    "end", ["raise ValueError('bad row')", "raise SystemExit(3)", "os.write(1, b'drawn'); threading.Event().wait()"]
)
def test_sequence_is_cleared_however_the_program_ends(end):
    # Ctrl-C during the frame would end the drawing: the thread of the display has no signals, but this program's has.
    output = run_on_terminal(LOOP_PROGRAM.replace("END", end), interrupt_at=b"drawn", WT_SESSION="1", TMUX="", STY="")
    assert find_states(output)[0] == "1;0"
    assert find_states(output)[-1] == "0;0"
