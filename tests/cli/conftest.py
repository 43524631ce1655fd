from __future__ import annotations

import json
from typing import Any, NamedTuple

import pytest

from progressbar_tracker import cli
from tests.support.cli import CommandRunner
from tests.support.server import start_server


class CommandResult(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture(scope="module")
def shell(tmp_path_factory):
    """The command line in processes, with one server for the module."""
    database = tmp_path_factory.mktemp("shell") / "progress.db"
    with start_server(database) as server:
        shell = CommandRunner(server)
        yield shell
        shell.http.close()


@pytest.fixture
def configured_server(server, monkeypatch):
    """A server whose URL and write key are in the environment."""
    monkeypatch.setenv("PROGRESSBAR_URL", server.url)
    monkeypatch.setenv("PROGRESSBAR_API_KEY", server.create_key("write", "me"))
    return server


@pytest.fixture
def command(capsys):
    """Run a command line in this process, with its output captured as in a pipe."""

    def run(*arguments: str) -> CommandResult:
        capsys.readouterr()
        code = cli.run_command_line([str(argument) for argument in arguments])
        return CommandResult(code, *capsys.readouterr())

    return run
