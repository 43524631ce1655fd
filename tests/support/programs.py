"""Programs as processes, with a server and a key in their environment."""

from __future__ import annotations

import os
import subprocess
import sys

from tests.support.connections import list_history, open_client
from tests.support.fault_server import WRITE_KEY

PROGRAM_TIMEOUT = 100.0  # seconds

# With these timeouts, a program that waits for a hanging server takes over a minute: longer than any program on a busy
# machine. The benchmark measures the time on an idle one.
LONG_TIMEOUT_PRELUDE = (
    "from progressbar_tracker import _runtime; from progressbar_tracker._sender import sender\n"
    "_runtime.REQUEST_TIMEOUT = sender.REQUEST_TIMEOUT = 90.0\n"
)
MAX_EXIT_SECONDS = 30.0

# At exit, a busy machine may need longer than the default timeout of 1.5 s, for the imports of the sender alone.
PATIENT_EXIT_PRELUDE = (
    "from progressbar_tracker import _runtime; from progressbar_tracker._sender import sender\n"
    "_runtime.EXIT_TIMEOUT = sender.EXIT_TIMEOUT = 90.0\n"
)

PROGRAM_PRELUDE = (
    "import os, signal, sys, threading, time\nfrom progressbar_tracker import track, flush\n"
    "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # background jobs of a shell ignore SIGINT
)


class ProgramRunner:
    """Starts programs, and kills those that still run at the end."""

    def __init__(self, server, folder):
        self.key = server.create_key("write", "program")
        self.environ = {"PROGRESSBAR_URL": server.url, "PROGRESSBAR_API_KEY": self.key}
        self._folder = folder
        self._processes = []

    def run_python(self, code, **environ):
        """Run code as the main module, with warnings as errors; return its exit code and output."""
        # A file, because a spawned child process imports the main module.
        path = self._folder / "program.py"
        path.write_text(PATIENT_EXIT_PRELUDE + code, "utf-8")
        return self.run(sys.executable, "-W", "error", path, **environ)

    def run(self, *command, **environ):
        process = self.start(*command, **environ)
        out, err = process.communicate(timeout=PROGRAM_TIMEOUT)
        return subprocess.CompletedProcess(command, process.returncode, out, err)

    def start(self, *command, **environ):
        process = subprocess.Popen(
            [str(argument) for argument in command],
            env={**os.environ, **self.environ, **environ},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._processes.append(process)
        return process

    def history(self):
        """Return the runs of the history, newest first."""
        with open_client(self.environ["PROGRESSBAR_URL"], self.key) as http:
            return list_history(http)

    def final_states(self):
        return {(run["id"], run["status"], run["completed"]) for run in self.history()}

    def close(self):
        for process in self._processes:
            process.kill()
            process.communicate()


def start_program(url, code, tmp_path, stdin=None, **extra):
    """Start code as the main module, with warnings as errors, against a server with faults.

    Its end is sent however slow the machine is, unless the code is about a server that hangs.
    """
    patience = "" if LONG_TIMEOUT_PRELUDE in code else PATIENT_EXIT_PRELUDE
    script = tmp_path / "program.py"
    script.write_text(PROGRAM_PRELUDE + patience + code)
    environ = {name: text for name, text in os.environ.items() if not name.startswith("PROGRESSBAR_")}
    environ |= {"PROGRESSBAR_URL": url, "PROGRESSBAR_API_KEY": WRITE_KEY, **extra}
    return subprocess.Popen(
        [sys.executable, "-W", "error", str(script)],
        env=environ,
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run_program(url, code, tmp_path, **extra):
    """Run code as :func:`start_program` does; return its exit code, stdout and stderr."""
    process = start_program(url, code, tmp_path, **extra)
    try:
        out, err = process.communicate(timeout=PROGRAM_TIMEOUT)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    return process.returncode, out, err


def get_final_item(faults, item_id="job"):
    """Return the listed item, or else its last run in the history."""
    return faults.items[item_id] if item_id in faults.items else faults.last_run(item_id)
