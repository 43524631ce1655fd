"""``progressbar-tracker serve`` as a process that tests kill and restart."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import threading

from tests.support.connections import find_free_port, open_client
from tests.support.waiting import wait_until

ADMIN_KEY = "the-admin-key-of-these-tests"


class ServerProcess:
    """A server process. Every restart uses the same database and the first port.

    A timer kills a process that outlives ``limit`` seconds. Its stderr is a file, because a full pipe would block it.
    ``prelude`` is code that runs before the command, for example to change a limit.
    """

    def __init__(self, folder, limit=200.0, prelude="", **environ):
        self._limit = limit
        self._prelude = prelude
        self._environ = {
            **os.environ,
            "PROGRESSBAR_CONFIG": str(folder / "config.toml"),
            "PROGRESSBAR_DATABASE": str(folder / "progress.db"),
            "PROGRESSBAR_ADMIN_KEY": ADMIN_KEY,
            **environ,
        }
        self.url = ""
        self._port = find_free_port()
        self.start()

    def start(self):
        """Start the process, and return when it serves."""
        self.launch()
        for line in self.process.stdout:
            if match := re.match(r"Serving on (\S+) ", line):
                self.url = match[1]
                return
        raise AssertionError(f"the server did not start: {self._wait_for_exit()[1]}")

    def launch(self):
        """Start the process without waiting."""
        self._stderr = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed when the process has ended
        command = ["-m", "progressbar_tracker"]
        if self._prelude:
            command = ["-c", f"{self._prelude}\nfrom progressbar_tracker.__main__ import main; main()"]
        self.process = subprocess.Popen(
            [sys.executable, *command, "serve", "--port", str(self._port), "--no-local-key"],
            env=self._environ,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            text=True,
        )
        self._timer = threading.Timer(self._limit, self.process.kill)
        self._timer.daemon = True
        self._timer.start()

    def stop(self, number):
        """Send a signal; return the exit code and the stderr."""
        self.process.send_signal(number)
        return self._wait_for_exit()

    def close(self):
        if self.process.returncode is None:
            self.process.kill()
            self._wait_for_exit()

    def _wait_for_exit(self):
        self.process.communicate(timeout=60)
        self._timer.cancel()
        with self._stderr:
            self._stderr.seek(0)
            return self.process.returncode, self._stderr.read()

    def http(self, key=ADMIN_KEY):
        """Return a client, by default with the admin key."""
        return open_client(self.url, key)


def find_leader(*processes):
    """Wait until one of the servers on a database is the leader, and return it."""

    def list_leaders():
        return [process for process in processes if "\nprogressbar_leader 1.0" in read_metrics(process)]

    wait_until(lambda: len(list_leaders()) == 1)
    return list_leaders()[0]


def read_metrics(process):
    with process.http() as http:
        return http.get("/metrics").raise_for_status().text
