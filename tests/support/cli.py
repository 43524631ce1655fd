"""Command lines as processes of their own, against a server of the module's."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.support.connections import list_history, list_items, open_client

CLI_COMMAND = [sys.executable, "-m", "progressbar_tracker"]


class CommandRunner:
    """Starts our commands, and asks the server what became of them."""

    def __init__(self, server):
        self.url = server.url
        self.key = server.create_key("write", "shell")
        self.http = open_client(server.url, self.key)

    @property
    def environ(self):
        return {**os.environ, "PROGRESSBAR_URL": self.url, "PROGRESSBAR_API_KEY": self.key}

    def start(self, *arguments, environ=None, **how):
        return subprocess.Popen([*CLI_COMMAND, *map(str, arguments)], env={**self.environ, **(environ or {})}, **how)

    def run(self, *arguments, environ=None, **how):
        environ = {**self.environ, **(environ or {})}
        how = {"capture_output": True, "timeout": 100, **how}
        return subprocess.run([*CLI_COMMAND, *map(str, arguments)], env=environ, **how)

    def bash(self, line, environ=None, **how):
        """Run a line of a shell in which ``pbt`` is our command."""
        prelude = f'pbt() {{ "{sys.executable}" -m progressbar_tracker "$@"; }}\n'
        environ = {**self.environ, **(environ or {})}
        how = {"capture_output": True, "timeout": 100, **how}
        return subprocess.run(["bash", "-c", prelude + line], env=environ, **how)

    def item(self, item_id):
        """Return the item, or its last run if it has left the list."""
        found = list_items(self.http).get(item_id)
        return found or next((run for run in list_history(self.http) if run["id"] == item_id), None)

    def items(self):
        return {**{run["id"]: run for run in reversed(list_history(self.http))}, **list_items(self.http)}


def write_script(folder, text, name="script.py"):
    path = Path(folder) / name
    path.write_text(text)
    return path
