"""A program as one item: started, waited for, its signals passed on, its end told.

``supervise`` stays out of the way. The child has our stdin, stdout, process group and terminal, so Ctrl-C, Ctrl-Z and
job control reach it from the terminal as they would without us; what reaches us alone is handed on. We end as it ended:
by the same code, or of the same signal.
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
from progressbar_tracker._models import META_LENGTH
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

TAIL_BYTES: Final = 8192  # bytes of stderr in which its last line is looked for
EXIT_NOT_FOUND: Final = 127  # the shells' code
EXIT_NOT_EXECUTABLE: Final = 126

# A signal that the terminal sends goes to the whole process group, the program included. The others come to us alone.
_TERMINAL_SIGNALS: Final = [name for name in ("SIGINT", "SIGQUIT") if hasattr(signal, name)]
_FORWARDED_SIGNALS: Final = [name for name in ("SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2") if hasattr(signal, name)]


class Job(NamedTuple):
    """What the item of a program is called.

    Attributes:
        command: The program and its arguments, as the user wrote them.
        name: What an id begins with that is made.
        id: The item's id.
        title: By default the command.
        group: A heading to sort under.
        notify: Whom to tell of it.
        deadline: When it is late.
    """

    command: Sequence[str]
    name: str
    id: str | None = None
    title: str | None = None
    group: str | None = None
    notify: tuple[str, ...] = ()
    deadline: DeadlineLike | None = None


class NotStartedError(Exception):
    """The program could not be started. ``code`` is what a shell would exit with."""

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
        job: What to call the item. Bars that the program makes have it as their parent.
        environ: The program's environment.
        read_errors: Relay stderr, for the error's text.
        parse: Relay stdout and stderr, and look for progress in them.

    Returns:
        The exit code, negative for a signal, as ``subprocess`` has it.

    Raises:
        NotStartedError: It could not be started; the item has failed.
        ValueError: The id cannot be one.
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
        began = time.monotonic()
        try:
            gauge = _OutputProgress(bar) if parse else None
            streams: dict[str, int] = {}
            if parse:
                relays.append(Relay(1, [gauge.make_reader()] if gauge else []))
                streams["stdout"] = relays[-1].child_descriptor
            if parse or read_errors:
                relays.append(Relay(2, [tail.feed, *([gauge.make_reader()] if gauge else [])]))
                streams["stderr"] = relays[-1].child_descriptor
            process = _start_process(command, {**environ, _config.PARENT_VARIABLE: bar.id}, streams)
        except NotStartedError as error:
            for relay in relays:
                relay.close()
            bar.share()
            bar.fail(str(error))
            raise
        signals.forward_to(process, relays)
        about = {"command": line, "pid": str(process.pid), "program": job.name}
        _runtime.set_meta(**{name: clean_text(text, META_LENGTH) for name, text in about.items()})
        bar.share()  # begins it; and other processes name it, so it is told of however short it is
        for relay in relays:
            relay.start()
        code = process.wait()
        took = time.monotonic() - began
    for relay in relays:
        relay.finish()
    _report_exit(bar, code, took, tail.final_line(), is_followed=gauge is not None and gauge.is_followed)
    return code


def with_server_env(environ: Mapping[str, str], url: str | None) -> dict[str, str]:
    """Return an environment whose programs report to ``url``, if there is one, with a key that is meant for it."""
    made = dict(environ)
    if url is not None:
        if environ.get(_config.URL_VARIABLE) and not _config.is_same_server(url, environ[_config.URL_VARIABLE]):
            made.pop(_config.API_KEY_VARIABLE, None)
            made.pop(_config.API_KEY_FILE_VARIABLE, None)
        made[_config.URL_VARIABLE] = url
    return made


def with_tqdm_env(environ: Mapping[str, str]) -> dict[str, str]:
    """Return an environment in which every Python that starts shows its tqdm bars, and so do those that it starts.

    Not reached is a Python without ``site`` (``-S``), without the environment (``-E``, ``-I``, or started with one of
    its own), or without this package.
    """
    folder = os.path.join(os.path.dirname(os.path.abspath(__file__)), "bootstrap")  # noqa: PTH100, PTH118, PTH120
    paths = [path for path in environ.get("PYTHONPATH", "").split(os.pathsep) if path != folder]
    # An empty entry would be the current folder; an empty variable is none.
    return {**environ, "PYTHONPATH": os.pathsep.join([folder, *paths] if paths != [""] else [folder])}


def _report_exit(bar: Tracker[None], code: int, elapsed: float, last_output: str, *, is_followed: bool) -> None:
    """Tell how it ended."""
    how = describe_exit(code)
    if is_followed and code == 0 and bar.total is not None:
        bar.update(completed=bar.total)
    bar.update(description=f"{how} after {format_duration(elapsed, decimals=1)}")
    if code:
        bar.fail(f"{how}: {last_output}" if last_output else how)
    else:
        bar.close()


def describe_exit(code: int) -> str:
    """Return how a program ended, in words.

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
    """Send the last state, then end as the program did: die of its signal, or return its exit code.

    A program that is over at once is told of all the same, even where it takes us longer to get ready to tell.
    """
    if not _runtime.is_disabled():
        sender, end = _runtime.get_sender(), time.monotonic() + STARTUP_TIMEOUT
        while not sender.is_ready and time.monotonic() < end and not sender.flush(0.1):
            pass
    if code >= 0:
        return code
    _runtime.shutdown()
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        # The core that matters is the program's.
        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    with contextlib.suppress(OSError, ValueError):
        signal.signal(-code, signal.SIG_DFL)  # nothing to set for SIGKILL
    os.kill(os.getpid(), -code)
    return 128 - code  # process 1 of a container does not die of a signal


def _start_process(
    command: Sequence[str], environ: Mapping[str, str], streams: Mapping[str, int]
) -> subprocess.Popen[bytes]:
    def popen(arguments: Sequence[str]) -> subprocess.Popen[bytes]:
        # What we were given to hold open, such as <(...) of a shell, is the program's. Ours is never inherited.
        return subprocess.Popen(  # noqa: S603 - what the user asks for
            arguments, env=environ, close_fds=False, stdout=streams.get("stdout"), stderr=streams.get("stderr")
        )

    try:
        try:
            return popen(command)
        except OSError as error:
            if error.errno != errno.ENOEXEC:
                raise
            # A script that does not name its interpreter: execvp(3) and the shells have it read by a shell.
            import shutil

            path = shutil.which(command[0]) or command[0]
            return popen(["/bin/sh", path, *command[1:]])
    except FileNotFoundError:
        # With a path it is the file that is missing, or the interpreter that it names.
        reason = "No such file or directory" if os.sep in command[0] else "command not found"
        raise NotStartedError(f"{command[0]}: {reason}", EXIT_NOT_FOUND) from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise NotStartedError(f"{command[0]}: {reason}", EXIT_NOT_EXECUTABLE) from None


class _SignalForwarder:
    """While the block runs, signals are the program's business."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._relays: Sequence[Relay] = ()
        self._pending: list[int] = []
        self._former_handlers: dict[int, object] = {}

    def __enter__(self) -> Self:
        for name in (*_TERMINAL_SIGNALS, *_FORWARDED_SIGNALS, "SIGWINCH"):
            number = getattr(signal, name, None)
            # What we were started to ignore, under nohup for example, the program ignores as well.
            if number is not None and signal.getsignal(number) != signal.SIG_IGN:
                self._former_handlers[number] = signal.signal(number, self._handle)
        children = getattr(signal, "SIGCHLD", None)
        if children is not None and signal.getsignal(children) == signal.SIG_IGN:
            # Or nobody could tell how the program has ended.
            self._former_handlers[children] = signal.signal(children, signal.SIG_DFL)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._former_handlers.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def forward_to(self, process: subprocess.Popen[bytes], relays: Sequence[Relay]) -> None:
        """Hand signals on to a program from now on, and those that came before it was there."""
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
                return  # the terminal has told the program itself
        elif signal.Signals(number).name in _TERMINAL_SIGNALS and in_foreground():
            return
        with contextlib.suppress(OSError):
            self._process.send_signal(number)


class _StreamTail:
    """Keeps the end of a stream."""

    def __init__(self) -> None:
        self._bytes = b""

    def feed(self, data: bytes) -> None:
        self._bytes = (self._bytes + data)[-TAIL_BYTES:]

    def final_line(self) -> str:
        return find_last_line(self._bytes)


class _OutputProgress:
    """Moves a bar to what is read from the streams of a program."""

    def __init__(self, bar: Tracker[None]) -> None:
        self._bar = bar
        self._filter = ProgressFilter()
        self._lock = threading.Lock()  # each stream has a thread
        self.is_followed = False

    def make_reader(self) -> Callable[[bytes], None]:
        """Return what takes in one more stream."""
        parser = Parser()

        def see(data: bytes) -> None:
            found = parser.feed(data)
            if found is None:
                return
            with self._lock:
                reading = self._filter.accept(found)
                if reading is not None:
                    self.is_followed = True
                    phase = self._filter.phase
                    self._bar.update(
                        completed=reading.completed,
                        total=reading.total,
                        description=f"phase {phase}" if phase > 1 else None,
                    )

        return see
