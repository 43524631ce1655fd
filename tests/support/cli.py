"""Command lines as processes, against one server."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

from tests.support.connections import list_history, list_items, open_client
from tests.support.programs import PATIENT_EXIT_PRELUDE

CLI_COMMAND = [sys.executable, "-m", "progressbar_tracker"]
PATIENT_CLI_COMMAND = [
    sys.executable, "-c", f"{PATIENT_EXIT_PRELUDE}from progressbar_tracker.__main__ import main; main()"
]  # fmt: skip
"""A command line whose end is sent however slow the machine is."""


class CommandRunner:
    """Runs commands with a URL and a write key, and reads the resulting items, whose ends are sent at any speed."""

    def __init__(self, server):
        self.url = server.url
        self.key = server.create_key("write", "shell")
        self.http = open_client(server.url, self.key)

    @property
    def environ(self):
        return {**os.environ, "PROGRESSBAR_URL": self.url, "PROGRESSBAR_API_KEY": self.key}

    def start(self, *arguments, environ=None, **options):
        return subprocess.Popen(
            [*PATIENT_CLI_COMMAND, *map(str, arguments)], env={**self.environ, **(environ or {})}, **options
        )

    def run(self, *arguments, environ=None, **options):
        environ = {**self.environ, **(environ or {})}
        options = {"capture_output": True, "timeout": 100, **options}
        return subprocess.run([*PATIENT_CLI_COMMAND, *map(str, arguments)], env=environ, **options)

    def bash(self, line, environ=None, **options):
        """Run a shell line in which ``pbt`` is the command."""
        prelude = f'pbt() {{ {shlex.join(PATIENT_CLI_COMMAND)} "$@"; }}\n'
        environ = {**self.environ, **(environ or {})}
        options = {"capture_output": True, "timeout": 100, **options}
        return subprocess.run(["bash", "-c", prelude + line], env=environ, **options)

    def item(self, item_id):
        """Return the item, else its last run from the history, else ``None``."""
        item = list_items(self.http).get(item_id)
        return item or next((run for run in list_history(self.http) if run["id"] == item_id), None)

    def items(self):
        """Return the items of the board, and the last runs of all other ids."""
        return {**{run["id"]: run for run in reversed(list_history(self.http))}, **list_items(self.http)}


def write_script(folder, text, name="script.py"):
    path = Path(folder) / name
    path.write_text(text)
    return path
