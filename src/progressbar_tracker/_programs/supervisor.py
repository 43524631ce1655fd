"""Runs a program as one item: starts it, forwards signals, waits, and reports its exit.

The child inherits stdin, stdout, process group and terminal, so Ctrl-C, Ctrl-Z and job control reach it directly.
Signals that only the supervisor receives are forwarded. The supervisor exits like the child: with the same code, or by
the same signal.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shlex
import signal
import subprocess
import threading
import time
from typing import TYPE_CHECKING, Final, NamedTuple, Self

from progressbar_tracker import _config, _runtime
from progressbar_tracker._models import MAX_META_LENGTH
from progressbar_tracker._sender.sender import STARTUP_TIMEOUT
from progressbar_tracker._text import clean_text, format_duration
from progressbar_tracker._tracking.run import make_unique_name
from progressbar_tracker._tracking.tracker import track

from .output_parser import Parser, ProgressFilter, find_last_line
from .relay import Relay, in_foreground

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import FrameType

    from progressbar_tracker._tracking.deadline import DeadlineLike
    from progressbar_tracker._tracking.tracker import Tracker

TAIL_BYTES: Final = 8192  # of stderr that are kept for its last line
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
    """

    command: Sequence[str]
    name: str
    id: str | None = None
    title: str | None = None
    group: str | None = None
    notify: tuple[str, ...] = ()
    deadline: DeadlineLike | None = None


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
    """
    line = shlex.join(job.command)
    bar = track(
        id=f"{job.name[:60] or 'program'}-{make_unique_name()}" if job.id is None else job.id,
        title=line if job.title is None else job.title,
        group=job.group,
        notify=job.notify,
        deadline=job.deadline,
        unit="",
        display=False,
    )
    relays: list[Relay] = []
    tail = _StreamTail()
    with _SignalForwarder() as signals:
        started_at = time.monotonic()
        try:
            progress = _OutputProgress(bar) if parse else None
            streams: dict[str, int] = {}
            if parse:
                relays.append(Relay(1, [progress.make_reader()] if progress else []))
                streams["stdout"] = relays[-1].child_descriptor
            if parse or read_errors:
                relays.append(Relay(2, [tail.feed, *([progress.make_reader()] if progress else [])]))
                streams["stderr"] = relays[-1].child_descriptor
            process = _start_process(command, {**environ, _config.PARENT_VARIABLE: bar.id}, streams)
        except NotStartedError as error:
            for relay in relays:
                relay.close()
            bar.share()
            bar.fail(str(error))
            raise
        signals.forward_to(process, relays)
        meta = {"command": line, "pid": str(process.pid), "program": job.name}
        _runtime.set_meta(**{name: clean_text(text, MAX_META_LENGTH) for name, text in meta.items()})
        bar.share()  # starts the item; short runs are sent too, because other processes refer to it
        for relay in relays:
            relay.start()
        code = process.wait()
        elapsed = time.monotonic() - started_at
    for relay in relays:
        relay.finish()
    _report_exit(bar, code, elapsed, tail.final_line(), is_followed=progress is not None and progress.is_followed)
    return code


def with_server_env(environ: Mapping[str, str], url: str | None) -> dict[str, str]:
    """Return an environment that reports to ``url`` if it is set, without the key of another server."""
    result = dict(environ)
    if url is not None:
        if environ.get(_config.URL_VARIABLE) and not _config.is_same_server(url, environ[_config.URL_VARIABLE]):
            result.pop(_config.API_KEY_VARIABLE, None)
            result.pop(_config.API_KEY_FILE_VARIABLE, None)
        result[_config.URL_VARIABLE] = url
    return result


def with_tqdm_env(environ: Mapping[str, str]) -> dict[str, str]:
    """Return an environment in which every Python process mirrors its tqdm bars, child processes included.

    Exceptions: a Python without ``site`` (``-S``), without this environment (``-E``, ``-I`` or a new one), or without
    this package.
    """
    folder = os.path.join(os.path.dirname(os.path.abspath(__file__)), "bootstrap")  # noqa: PTH100, PTH118, PTH120
    paths = [path for path in environ.get("PYTHONPATH", "").split(os.pathsep) if path != folder]
    # An empty entry means the current folder, but an empty variable means no entry.
    return {**environ, "PYTHONPATH": os.pathsep.join([folder, *paths] if paths != [""] else [folder])}


def _report_exit(bar: Tracker[None], code: int, elapsed: float, last_output: str, *, is_followed: bool) -> None:
    reason = describe_exit(code)
    if is_followed and code == 0 and bar.total is not None:
        bar.update(completed=bar.total)
    bar.update(description=f"{reason} after {format_duration(elapsed, decimals=1)}")
    if code:
        bar.fail(f"{reason}: {last_output}" if last_output else reason)
    else:
        bar.close()


def describe_exit(code: int) -> str:
    """Return an exit code of ``subprocess`` as text.

    >>> describe_exit(3), describe_exit(-9)
    ('exit code 3', 'killed by SIGKILL')
    """
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"


def exit_like_child(code: int) -> int:
    """Flush the last state, then exit by the child's signal or return its exit code.

    If the child ended before the sender was ready, wait for the sender, so that short runs are reported too.
    """
    if not _runtime.is_disabled():
        sender, deadline = _runtime.get_sender(), time.monotonic() + STARTUP_TIMEOUT
        while not sender.is_ready and time.monotonic() < deadline and not sender.flush(0.1):
            pass
    if code >= 0:
        return code
    _runtime.shutdown()
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        # Only the child's core dump is useful.
        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    with contextlib.suppress(OSError, ValueError):
        signal.signal(-code, signal.SIG_DFL)  # SIGKILL has no handler to set
    os.kill(os.getpid(), -code)
    return 128 - code  # process 1 of a container ignores the signal


def _start_process(
    command: Sequence[str], environ: Mapping[str, str], streams: Mapping[str, int]
) -> subprocess.Popen[bytes]:
    def popen(arguments: Sequence[str]) -> subprocess.Popen[bytes]:
        # The program inherits open descriptors, such as <(...) of a shell. Those of this library are not inheritable.
        return subprocess.Popen(  # noqa: S603 - the command is the user's
            arguments, env=environ, close_fds=False, stdout=streams.get("stdout"), stderr=streams.get("stderr")
        )

    try:
        try:
            return popen(command)
        except OSError as error:
            if error.errno != errno.ENOEXEC:
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

    def forward_to(self, process: subprocess.Popen[bytes], relays: Sequence[Relay]) -> None:
        """Forward signals to a program from now on, and those that arrived before its start."""
        self._process, self._relays = process, relays
        while self._pending:
            self._handle(self._pending.pop(0), None)

    def _handle(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        if self._process is None:
            self._pending.append(number)
            return
        if signal.Signals(number).name == "SIGWINCH":
            resized = [relay.resize() for relay in self._relays]
            if True not in resized:
                return  # the program received it from the terminal
        elif signal.Signals(number).name in _TERMINAL_SIGNALS and in_foreground():
            return
        with contextlib.suppress(OSError):
            self._process.send_signal(number)


class _StreamTail:
    """Keeps the last bytes of a stream."""

    def __init__(self) -> None:
        self._bytes = b""

    def feed(self, data: bytes) -> None:
        self._bytes = (self._bytes + data)[-TAIL_BYTES:]

    def final_line(self) -> str:
        return find_last_line(self._bytes)


class _OutputProgress:
    """Updates a bar from the output streams of a program."""

    def __init__(self, bar: Tracker[None]) -> None:
        self._bar = bar
        self._filter = ProgressFilter()
        self._lock = threading.Lock()  # each stream has its own thread
        self.is_followed = False

    def make_reader(self) -> Callable[[bytes], None]:
        """Return a callback for the chunks of one more stream."""
        parser = Parser()

        def read_chunk(data: bytes) -> None:
            newest = parser.feed(data)
            if newest is None:
                return
            with self._lock:
                reading = self._filter.accept(newest)
                if reading is not None:
                    self.is_followed = True
                    phase = self._filter.phase
                    self._bar.update(
                        completed=reading.completed,
                        total=reading.total,
                        description=f"phase {phase}" if phase > 1 else None,
                    )

        return read_chunk
