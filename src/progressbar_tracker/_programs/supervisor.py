"""Runs a program as one item: starts it, forwards signals, waits, and reports its exit.

The child inherits stdin, stdout, process group and terminal, so Ctrl-C, Ctrl-Z and job control reach it directly.
Signals that only the supervisor receives are forwarded. The supervisor exits like the child: with the same code, or by
the same signal.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Final, NamedTuple, Self

from progressbar_tracker import _config, _runtime
from progressbar_tracker._clock import read_clock
from progressbar_tracker._environments.systemd import Progress, start_notifier
from progressbar_tracker._models import MAX_META_LENGTH
from progressbar_tracker._sender.sender import STARTUP_TIMEOUT
from progressbar_tracker._text import clean_text, format_duration
from progressbar_tracker._tracking.creation import create_run
from progressbar_tracker._tracking.run import Run
from progressbar_tracker._tracking.tail import find_mask_error, make_masker, make_tail, try_make_tail
from progressbar_tracker._tracking.tracker import Tracker

from .job_id import make_job_id
from .output_lines import find_last_line
from .program_run import ProgramRun
from .relay import Relay, has_terminal, in_foreground

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import FrameType

    from progressbar_tracker._models import StuckAfter
    from progressbar_tracker._output_tail import OutputTail
    from progressbar_tracker._tracking.deadline import DeadlineLike

    from .output_flood import FloodFilter
    from .output_parser import ParsedFrame, Parser

ERROR_LINES: Final = 20  # of stderr that are kept for its last line with text
EXIT_NOT_FOUND: Final = 127  # exit code of the shells
EXIT_NOT_EXECUTABLE: Final = 126  # exit code of the shells

# The terminal sends its signals to the whole process group, which includes the program. The others must be forwarded.
_TERMINAL_SIGNALS: Final = [name for name in ("SIGINT", "SIGQUIT") if hasattr(signal, name)]
_FORWARDED_SIGNALS: Final = [name for name in ("SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2") if hasattr(signal, name)]


class Job(NamedTuple):
    """The item of a program.

    Attributes:
        command: The program and its arguments, as the user wrote them.
        name: Prefix of a generated id.
        id: The item's id.
        title: By default the command.
        group: Heading on the dashboard.
        notify: Names of the channels to notify.
        deadline: Instant after which the item is late.
        stuck_after: Seconds without progress after which the item is stuck.
        stop_signal: Sent once to the program when its stop is requested; ``None`` if it is not stoppable.
        tail_lines: Lines of the output to send, from 1 to 1000; ``None`` for none.
    """

    command: Sequence[str]
    name: str
    id: str | None = None
    title: str | None = None
    group: str | None = None
    notify: tuple[str, ...] = ()
    deadline: DeadlineLike | None = None
    stuck_after: StuckAfter = "auto"
    stop_signal: signal.Signals | None = None
    tail_lines: int | None = None


class NotStartedError(Exception):
    """The program could not be started. ``code`` is the exit code of a shell in this case."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


def supervise(
    command: Sequence[str],
    job: Job,
    environ: Mapping[str, str],
    *,
    read_errors: bool = False,
    parse: bool = False,
) -> int:
    """Run a program as one item and wait for it.

    Args:
        command: The program and its arguments.
        job: The item. It is the parent of the bars that the program creates.
        environ: The program's environment.
        read_errors: Relay stderr, to report its last line as the error.
        parse: Relay stdout and stderr, and parse progress from them.

    Returns:
        The exit code, or the negative number of a signal, as in ``subprocess``.

    Raises:
        NotStartedError: The program could not be started; the item has failed.
        ValueError: The id is invalid.
        ConfigError: The pattern for masks is invalid.
    """
    line = shlex.join(job.command)
    shown = describe_command(job, environ)
    run = create_run(
        ProgramRun if parse else Run,
        id=make_job_id(job.name, line, None) if job.id is None else job.id,
        title=shown if job.title is None else job.title,
        group=job.group,
        notify=job.notify,
        deadline=job.deadline,
        stuck_after=job.stuck_after,
        stoppable=job.stop_signal is not None,
        unit="",
    )
    bar: Tracker[None] = Tracker(None, run)
    relays: list[Relay] = []
    if job.tail_lines is not None:
        run.tail = make_tail(environ, job.tail_lines)
    error_tail = try_make_tail("Texts of the program's output", environ, ERROR_LINES)
    if isinstance(run, ProgramRun):
        run.mask = (lambda _: "") if error_tail is None else make_masker(environ).mask_text
    writers = [] if run.tail is None else [run.tail.make_writer(), run.tail.make_writer()]
    with _SignalForwarder() as signals:
        started_at = read_clock()
        try:
            progress = _OutputProgress(run) if isinstance(run, ProgramRun) else None
            streams: dict[str, int] = {}
            if parse or writers:
                relays.append(Relay(1, [*writers[:1], *([progress.make_reader()] if progress else [])]))
                streams["stdout"] = relays[-1].child_descriptor
            if parse or read_errors or writers:
                error_writers = [] if error_tail is None else [error_tail.make_writer()]
                relays.append(Relay(2, [*error_writers, *writers[1:], *([progress.make_reader()] if progress else [])]))
                streams["stderr"] = relays[-1].child_descriptor
            has_own_group = job.stop_signal is not None and not has_terminal()
            process = _start_process(
                command, {**environ, _config.PARENT_VARIABLE: bar.id}, streams, has_own_group=has_own_group
            )
        except NotStartedError as error:
            for relay in relays:
                relay.close()
            bar.share()
            bar.fail(str(error))
            raise
        signals.forward_to(process, relays, has_own_group=has_own_group)
        meta = {"command": shown, "pid": str(process.pid), "program": job.name}
        _runtime.set_meta(**{name: clean_text(text, MAX_META_LENGTH) for name, text in meta.items()})
        bar.share()  # starts the item; short runs are sent too, because other processes refer to it
        if run.stop is not None and job.stop_signal is not None:
            run.stop.call_on_request(functools.partial(signals.send_to_group, job.stop_signal))
        for relay in relays:
            relay.start()
        notifier = start_notifier(environ, lambda: _read_progress(run))
        code = process.wait()
        elapsed = read_clock() - started_at
        run.record_end()  # reading the rest of the output may take longer
    for relay in relays:
        relay.finish()
    for tail in (run.tail, error_tail):
        if tail is not None:
            tail.finish()
    if notifier is not None:
        notifier.stop()
    if progress is not None:
        progress.finish(is_success=code == 0)
    _report_exit(bar, run, code, elapsed, error_tail)
    return code


def _read_progress(run: Run) -> Progress:
    """Return the progress for systemd. Not by a sample, which the sender compares with its next one."""
    shown = run.progress if isinstance(run, ProgramRun) else None
    return Progress(run.title or "", *((0, None) if shown is None else (shown.completed, shown.total)))


def with_server_env(environ: Mapping[str, str], url: str | None) -> dict[str, str]:
    """Return an environment that reports to ``url`` if it is set, without the key of another server."""
    result = dict(environ)
    if url is not None:
        if environ.get(_config.URL_VARIABLE) and not _config.is_same_server(url, environ[_config.URL_VARIABLE]):
            result.pop(_config.API_KEY_VARIABLE, None)
            result.pop(_config.API_KEY_FILE_VARIABLE, None)
        result[_config.URL_VARIABLE] = url
    return result


def with_bars_env(environ: Mapping[str, str]) -> dict[str, str]:
    """Return an environment in which every Python process mirrors the bars of its libraries, child processes included.

    Exceptions: a Python without ``site`` (``-S``), without this environment (``-E``, ``-I`` or a new one), or without
    this package.
    """
    folder = os.path.join(os.path.dirname(os.path.abspath(__file__)), "bootstrap")  # noqa: PTH100, PTH118, PTH120
    paths = [path for path in environ.get("PYTHONPATH", "").split(os.pathsep) if path != folder]
    # An empty entry means the current folder, but an empty variable means no entry.
    return {**environ, "PYTHONPATH": os.pathsep.join([folder, *paths] if paths != [""] else [folder])}


def _report_exit(bar: Tracker[None], run: Run, code: int, elapsed: float, error_tail: OutputTail | None) -> None:
    reason = describe_exit(code)
    bar.update(description=f"{reason} after {format_duration(elapsed, decimals=1)}")
    if code and run.stop_requested:
        run.end("stopped")
    elif code:
        last_output = "" if error_tail is None else find_last_line(error_tail.read())
        bar.fail(f"{reason}: {last_output}" if last_output else reason)
    else:
        bar.close()


def describe_exit(code: int) -> str:
    """Return an exit code of ``subprocess`` as text.

    >>> describe_exit(3), describe_exit(-9), describe_exit(0xC000013A)
    ('exit code 3', 'killed by SIGKILL', 'exit code 0xC000013A')
    """
    if code >= 2**31:  # of Windows, such as that of Ctrl-C
        return f"exit code 0x{code:X}"
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"


def make_exit_code(code: int) -> int:
    """Return an exit code that Python passes on: those of Windows have 32 bits, and its ``sys.exit`` takes signed ones.

    >>> make_exit_code(3), make_exit_code(0xC000013A)
    (3, -1073741510)
    """
    return code - 2**32 if code >= 2**31 else code


def exit_like_child(code: int) -> int:
    """Flush the last state, then exit by the child's signal or return its exit code.

    If the child ended before the sender was ready, wait for the sender, so that short runs are reported too.
    """
    if not _runtime.is_disabled():
        sender, deadline = _runtime.get_sender(), time.monotonic() + STARTUP_TIMEOUT
        while not sender.is_ready and time.monotonic() < deadline and not sender.flush(0.1):
            pass
    if code >= 0:
        return make_exit_code(code)
    _runtime.shutdown()
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        # Only the child's core dump is useful.
        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    if sys.platform == "win32":
        return 128 - code  # os.kill() would end this process with the number of the signal as its exit code
    with contextlib.suppress(OSError, ValueError):
        signal.signal(-code, signal.SIG_DFL)  # SIGKILL has no handler to set
    os.kill(os.getpid(), -code)
    return 128 - code  # process 1 of a container ignores the signal


def describe_command(job: Job, environ: Mapping[str, str]) -> str:
    """Return the command line with masked secrets: a shell has replaced the variables in it by their values."""
    if find_mask_error(environ) is not None:
        return job.name
    return make_masker(environ).mask_text(shlex.join(job.command))


def _start_process(
    command: Sequence[str], environ: Mapping[str, str], streams: Mapping[str, int], *, has_own_group: bool
) -> subprocess.Popen[bytes]:
    if sys.platform == "win32":
        import shutil

        # Windows itself finds no script, such as npm.cmd, in the folders of PATH.
        command = [shutil.which(command[0]) or command[0], *command[1:]]

    def popen(arguments: Sequence[str]) -> subprocess.Popen[bytes]:
        # The program inherits open descriptors, such as <(...) of a shell. Those of this library are not inheritable.
        return subprocess.Popen(  # noqa: S603 - the command is the user's
            arguments, env=environ, close_fds=False, stdout=streams.get("stdout"), stderr=streams.get("stderr"),
            process_group=0 if has_own_group else None,
        )  # fmt: skip

    try:
        try:
            return popen(command)
        except OSError as error:
            if error.errno != errno.ENOEXEC or sys.platform == "win32":
                raise
            # A script without an interpreter line: execvp(3) and the shells run it with a shell.
            import shutil

            path = shutil.which(command[0]) or command[0]
            return popen(["/bin/sh", path, *command[1:]])
    except FileNotFoundError:
        # For a path, either the file or its interpreter is missing.
        reason = "No such file or directory" if os.sep in command[0] else "command not found"
        raise NotStartedError(f"{command[0]}: {reason}", EXIT_NOT_FOUND) from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise NotStartedError(f"{command[0]}: {reason}", EXIT_NOT_EXECUTABLE) from None


class _SignalForwarder:
    """Forwards signals to the program while the block runs."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._relays: Sequence[Relay] = ()
        self._pending: list[int] = []
        self._former_handlers: dict[int, object] = {}
        self._has_own_group = False
        self._own_signal: int | None = None  # this process sends it to its own group

    def __enter__(self) -> Self:
        for name in (*_TERMINAL_SIGNALS, *_FORWARDED_SIGNALS, "SIGWINCH"):
            number = getattr(signal, name, None)
            # The program inherits ignored signals, for example under nohup.
            if number is not None and signal.getsignal(number) != signal.SIG_IGN:
                self._former_handlers[number] = signal.signal(number, self._handle)
        children = getattr(signal, "SIGCHLD", None)
        if children is not None and signal.getsignal(children) == signal.SIG_IGN:
            # With SIG_IGN the exit code of the program would be lost.
            self._former_handlers[children] = signal.signal(children, signal.SIG_DFL)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._former_handlers.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def forward_to(
        self, process: subprocess.Popen[bytes], relays: Sequence[Relay], *, has_own_group: bool = False
    ) -> None:
        """Forward signals to a program from now on, and those that arrived before its start."""
        self._process, self._relays, self._has_own_group = process, relays, has_own_group
        while self._pending:
            self._handle(self._pending.pop(0), None)

    def _handle(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        if self._process is None:
            self._pending.append(number)
            return
        if number == self._own_signal:
            self._own_signal = None  # the program has received it too
            return
        if signal.Signals(number).name == "SIGWINCH":
            resized = [relay.resize() for relay in self._relays]
            if True not in resized:
                return  # the program received it from the terminal
        elif signal.Signals(number).name in _TERMINAL_SIGNALS and in_foreground():
            return
        self._send(self._process, number)

    def send_to_group(self, number: int) -> None:
        """Send a signal to the program and the processes that it has started, from any thread.

        They have a group of their own, or that of the shell's job, which this process leads. Otherwise the group has
        processes that do not belong to the program, so that it gets the signal alone.
        """
        process = self._process
        if process is None or process.returncode is not None:
            return
        is_leader = os.name == "posix" and os.getpgrp() == os.getpid()
        if is_leader and not self._has_own_group and number in self._former_handlers:
            self._own_signal = number  # this process is a member, and handles the signal
            with contextlib.suppress(OSError):
                os.killpg(os.getpgrp(), number)
        else:
            self._send(process, number)

    def _send(self, process: subprocess.Popen[bytes], number: int) -> None:
        with contextlib.suppress(OSError):
            if self._has_own_group and process.returncode is None:
                os.killpg(process.pid, number)
            else:
                process.send_signal(number)


class _OutputProgress:
    """Updates a run from the output streams of a program."""

    def __init__(self, run: ProgramRun) -> None:
        from .output_progress import ProgressJudge  # the parser and its patterns are imported for --parse alone

        self._run = run
        self._judge = ProgressJudge()
        self._streams: list[tuple[Parser, FloodFilter]] = []
        self._lock = threading.Lock()  # each stream has its own thread

    def make_reader(self) -> Callable[[bytes], None]:
        """Return a callback for the chunks of one more stream."""
        from .output_flood import FloodFilter
        from .output_parser import Parser

        parser, flood_filter = Parser(), FloodFilter(time.monotonic)
        self._streams.append((parser, flood_filter))

        def read_chunk(data: bytes) -> None:
            frames = parser.feed(data)
            visible = parser.read_visible()
            with self._lock:
                self._show(frames)
                shown = None if visible is None else self._judge.preview(visible)
                if shown is not None:
                    self._run.progress = shown

        return lambda data: flood_filter.read(data, read_chunk)

    def finish(self, *, is_success: bool) -> None:
        """Read the unfinished lines at the end of the program. After a success, the run is complete."""
        with self._lock:
            for parser, flood_filter in self._streams:
                self._show([*parser.feed(flood_filter.take_backlog()), *parser.finish()])
        if is_success:
            self._run.complete()

    def _show(self, frames: Sequence[ParsedFrame]) -> None:
        for frame in frames:
            shown = self._judge.add(frame.reading, is_redrawn=frame.is_redrawn)
            if shown is not None:
                self._run.progress = shown if shown.phase else None
