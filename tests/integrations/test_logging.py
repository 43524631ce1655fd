"""Log output above the bars, and bars as log lines."""

from __future__ import annotations

import io
import logging
import os
import pty
import select
import subprocess
import sys
import termios
import textwrap
import time

import pytest
import tqdm as plain_tqdm
from rich.file_proxy import FileProxy

from progressbar_tracker import track
from progressbar_tracker._tracking import run as run_module
from progressbar_tracker.integrations._log_lines import Lines
from progressbar_tracker.integrations.logging import lines, redirect
from progressbar_tracker.tqdm import tqdm
from tests.support.clock import ManualClock


@pytest.fixture
def pop_messages(caplog):
    """Return and clear the logged lines."""
    caplog.set_level(logging.DEBUG, "bars")

    def pop():
        messages = [(record.levelname, record.getMessage()) for record in caplog.records if record.name == "bars"]
        caplog.clear()
        return messages

    return pop


@pytest.fixture
def clock():
    """A clock for intervals between log lines."""
    return ManualClock(100.0)


@pytest.fixture
def log_lines(clock, monkeypatch):
    """Lines that are written only by ``step()``."""
    monkeypatch.setattr("progressbar_tracker._sender.worker.Worker.start", lambda self, **_: True)
    with Lines(logging.getLogger("bars"), 30.0, logging.INFO, clock) as lines_:
        yield lines_


# --- lines() ----------------------------------------------------------------------------------------------------------


def test_bar_has_line_per_interval_and_at_end(recorder, log_lines, clock, pop_messages):
    with track(total=1000, title="import") as bar:
        log_lines.step()
        bar.advance(450)
        clock.now += 29
        log_lines.step()
        assert pop_messages() == []
        clock.now += 1
        log_lines.step()
        log_lines.step()
        assert pop_messages() == [("INFO", "import: 45 % 450/1000 it, 15 it/s, 00:36 left")]
        clock.now += 30
        bar.update(completed=999, description="nearly\nthere")
        log_lines.step()
        assert pop_messages() == [("INFO", "import: 99 % 999/1000 it, 16.6 it/s, 00:00 left, nearly there")]
        bar.advance()
    log_lines.step()
    log_lines.step()
    assert pop_messages() == [("INFO", "import: succeeded after 01:00, 1000/1000 it")]


def test_failure_is_warning_with_its_text(recorder, log_lines, pop_messages):
    with pytest.raises(ValueError, match="bad"), track(total=3, title="import", unit="rows"):
        raise ValueError("bad\nrow")
    log_lines.step()
    assert pop_messages() == [("WARNING", "import: failed after 00:00, 0/3 rows: ValueError: bad row")]


def test_bytes_and_unknown_total_are_readable(recorder, log_lines, clock, pop_messages):
    with track(title="upload", unit="B", total=4 << 20) as upload, track(title="log") as log:
        upload.advance(1 << 20)
        log.advance(3)
        clock.now += 30
        log_lines.step()
    assert pop_messages() == [
        ("INFO", "upload: 25 % 1.0M/4.0M B, 34.1K B/s, 01:30 left"),
        ("INFO", "log: 3 it, 0.1 it/s, 00:30"),
    ]


def test_only_long_nested_bars_are_logged(recorder, log_lines, clock, pop_messages):
    for number in track(range(2), title="outer"):
        for _ in track(range(3), title="inner"):
            pass
        if number == 0:
            log_lines.step()
            assert pop_messages() == []
        with track(total=2, title="long"):
            clock.now += 30
            log_lines.step()
        log_lines.step()
    log_lines.step()
    assert [text.partition(",")[0] for _, text in pop_messages()] == [
        "outer: 0 % 0/2 it",
        "long: 0 % 0/2 it",
        "long: succeeded after 00:30",
        "outer: 50 % 1/2 it",
        "long: 0 % 0/2 it",
        "long: succeeded after 00:30",
        "outer: succeeded after 01:00",
    ]


def test_tqdm_bars_are_logged(recorder, log_lines, clock, pop_messages):
    with tqdm(total=10, desc="theirs", initial=4, disable=None) as bar:
        bar.update(3)
        clock.now += 30
        log_lines.step()
    log_lines.step()
    assert pop_messages() == [
        ("INFO", "theirs: 70 % 7/10 it, 0.1 it/s, 00:30 left"),
        ("INFO", "theirs: succeeded after 00:30, 7/10 it"),
    ]


def test_loop_left_early_is_logged_in_live_process(recorder, log_lines, pop_messages):
    for _ in track(range(4), title="import"):
        break
    log_lines.step()
    assert pop_messages() == []
    log_lines.step()
    assert pop_messages() == [("INFO", "import: stopped after 00:00, 0/4 it")]


def test_hostile_titles_stay_on_line(recorder, log_lines, pop_messages):
    list(track([1], title="a\nb\x1b[31m\u202e"))
    log_lines.step()
    ((_, text),) = pop_messages()
    assert text.isprintable()


def test_number_of_followed_bars_is_bounded(recorder, log_lines, pop_messages):
    bars = [track(total=1, title=f"bar {number}") for number in range(1200)]
    for bar in bars:
        bar.advance(0)
    log_lines.step()
    assert len(log_lines._followed_runs) == 1000
    for bar in bars:
        bar.close()
    log_lines.step()
    assert log_lines._followed_runs == []


def test_close_logs_ended_bars_only(recorder, log_lines, pop_messages):
    list(track([1], title="before"))
    log_lines.close()
    log_lines.close()
    list(track([1], title="after"))
    log_lines.step()
    assert [text.partition(":")[0] for _, text in pop_messages()] == ["before"]
    assert run_module.start_observers == []


def test_second_call_for_logger_replaces_first(recorder, pop_messages):
    with lines(logger="bars"), lines(interval=60, logger=logging.getLogger("bars"), level=logging.DEBUG):
        assert len(run_module.start_observers) == 1
        list(track([1], title="once"))
    assert pop_messages() == [("DEBUG", "once: succeeded after 00:00, 1/1 it")]
    assert run_module.start_observers == []


def test_disabled_tracking_logs_nothing(monkeypatch, log_lines, pop_messages):
    monkeypatch.setenv("PROGRESSBAR_DISABLE", "1")
    list(track([1]))
    log_lines.step()
    assert pop_messages() == []


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"interval": 0}, ValueError),
        ({"interval": float("nan")}, ValueError),
        ({"interval": "1"}, TypeError),
        ({"interval": True}, TypeError),
        ({"logger": 5}, TypeError),
        ({"level": "INFO"}, TypeError),
    ],
)
def test_invalid_arguments_are_refused(options, error):
    with pytest.raises(error, match=next(iter(options))):
        lines(**options)
    assert run_module.start_observers == []


def run_program(program):
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=100,
    )


def test_lines_need_no_server_and_end_at_exit():
    done = run_program("""
        import logging, sys, threading
        from progressbar_tracker import track
        from progressbar_tracker.integrations.logging import lines

        come = threading.Event()
        class Watch(logging.Handler):
            def emit(self, record):
                if "%" in record.getMessage():
                    come.set()
        logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
        logging.getLogger().addHandler(Watch())
        lines(interval=0.1)
        for i in track(range(4), title="import"):
            if i == 2:
                assert come.wait(60)
                raise OSError("line dropped")
        """)
    import_lines = [line for line in done.stdout.splitlines() if line.startswith("import")]
    assert "OSError: line dropped" in done.stderr
    assert done.returncode == 1
    assert "/4 it" in import_lines[0]
    assert import_lines[-1].startswith("import: failed after 00:0")
    assert import_lines[-1].endswith("2/4 it: OSError: line dropped")


def test_blocking_handler_does_not_block_program():
    done = run_program("""
        import logging, threading, time
        from progressbar_tracker import track
        from progressbar_tracker.integrations.logging import lines

        entered = threading.Event()
        class Hang(logging.Handler):
            def handle(self, record):  # takes no lock, for logging itself would wait for it at the end
                if threading.current_thread() is not threading.main_thread():
                    entered.set()
                    time.sleep(300)
        logger = logging.getLogger("bars")
        logger.setLevel(logging.INFO)
        logger.addHandler(Hang())
        handle = lines(interval=0.1, logger=logger)
        with track(total=2) as bar:
            assert entered.wait(60)
            started_at = time.monotonic()
            bar.advance(2)
        assert time.monotonic() - started_at < 20
        handle.close()
        assert time.monotonic() - started_at < 20
        """)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_forked_child_starts_empty(recorder, log_lines, pop_messages):
    bar = track(total=1, title="the parent's")
    bar.advance()
    log_lines.step()
    child = os.fork()
    if child == 0:
        os._exit(0 if log_lines._followed_runs == [] and not log_lines._started_runs else 1)
    assert os.waitpid(child, 0)[1] == 0
    bar.close()
    log_lines.step()
    assert len(pop_messages()) == 1


# --- redirect() -------------------------------------------------------------------------------------------------------


@pytest.fixture
def logger(monkeypatch):
    """A logger on a terminal."""
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    terminal_logger = logging.getLogger("tests.redirect.terminal")
    terminal_logger.setLevel(logging.INFO)
    handler = logging.StreamHandler(terminal)
    handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
    monkeypatch.setattr(terminal_logger, "handlers", [handler])
    return terminal_logger, terminal


def test_log_line_is_written_above_bar(logger):
    terminal_logger, terminal = logger
    with plain_tqdm.tqdm(total=4, file=terminal, ncols=40, mininterval=0) as bar, redirect([terminal_logger]):
        bar.update(2)
        terminal_logger.info("half way")
        screen = terminal.getvalue()
    before, _, after = screen.partition("INFO half way\n")
    assert before.endswith(" \r")  # the bar was erased
    assert "2/4" in after


def test_handlers_keep_format_and_regain_stream(logger):
    terminal_logger, terminal = logger
    (handler,) = terminal_logger.handlers
    handler.setLevel(logging.WARNING)
    with redirect([terminal_logger]), redirect([terminal_logger]):
        terminal_logger.info("not this")
        terminal_logger.warning("this")
        assert terminal_logger.handlers == [handler]
    assert handler.stream is terminal
    assert terminal.getvalue() == "WARNING this\n"


def test_file_handler_is_unchanged(tmp_path):
    file_logger = logging.getLogger("tests.redirect.file")
    handler = logging.FileHandler(tmp_path / "log")
    file_logger.addHandler(handler)
    stream = handler.stream
    with redirect([file_logger]):
        assert handler.stream is stream
    file_logger.removeHandler(handler)
    handler.close()


def test_changed_handler_is_not_restored(monkeypatch):
    named = logging.getLogger("tests.redirect")
    handler = logging.StreamHandler(sys.stderr)
    other = io.StringIO()
    named.addHandler(handler)
    try:
        with redirect():
            assert handler.stream is not sys.stderr
            handler.setStream(other)
        assert handler.stream is other
    finally:
        named.removeHandler(handler)


def test_log_line_is_written_above_richs_bars(logger, monkeypatch):
    terminal_logger, terminal = logger
    printed = []

    class Console:
        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def print(self, text):
            printed.append(str(text))

    with redirect([terminal_logger]):
        monkeypatch.setattr(sys, "stdout", FileProxy(Console(), terminal))
        terminal_logger.info("above")
        monkeypatch.undo()
    assert printed == ["INFO above"]


def test_invalid_logger_is_refused():
    with pytest.raises(TypeError, match="loggers"):
        redirect(["name"]).__enter__()


def test_no_line_is_torn_on_real_terminal():
    program = textwrap.dedent("""
        import logging, time
        from progressbar_tracker import track
        from progressbar_tracker.integrations.logging import redirect
        with redirect():
            for i in track(range(30), title="import"):
                (logging if i % 2 else logging.getLogger("named")).warning("line %d", i)
                time.sleep(0.01)
        """)
    parent, child = pty.openpty()
    termios.tcsetwinsize(child, (24, 80))
    process = subprocess.Popen([sys.executable, "-c", program], stdout=child, stderr=child, stdin=child)
    os.close(child)
    shown, deadline = b"", time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            if select.select([parent], [], [], 0.2)[0]:
                shown += os.read(parent, 65536)
        except OSError:
            break
    os.close(parent)
    assert process.wait(60) == 0
    # The visible part of a line follows its last carriage return.
    left = [line.rstrip("\r").rpartition("\r")[2].replace("\x1b[A", "") for line in shown.decode().split("\n")]
    logged = [line.removeprefix("WARNING:root:").removeprefix("WARNING:named:") for line in left]
    assert [line for line in logged if line.startswith("line")] == [f"line {number}" for number in range(30)]
    assert sum("import:" in line for line in left) == 1
