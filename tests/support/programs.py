"""Programs as processes, with a server and a key in their environment."""

from __future__ import annotations

import os
import subprocess
import sys

from tests.support.connections import list_history, open_client

PROGRAM_TIMEOUT = 100.0  # seconds

# Runs before the program's own code, and in its child processes. The default exit timeout of 1.5 s can be too short on
# a busy machine; these tests check the reported states, not the time.
LONG_EXIT_PRELUDE = (
    "import progressbar_tracker._sender.sender; progressbar_tracker._sender.sender.EXIT_TIMEOUT = 60.0\n"
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
        path.write_text(LONG_EXIT_PRELUDE + code, "utf-8")
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
