"""An agent: the client of the official SDK, on the stdin and stdout of the command ``mcp``.

Its calls block, so that tests need no event loop. The configuration of the command is a file, which a test may write
again between two calls.
"""

from __future__ import annotations

import contextlib
import os
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from anyio.from_thread import start_blocking_portal
from mcp import Client, StdioServerParameters, stdio_client

from progressbar_tracker._config import write_user_config
from tests.support.cli import CLI_COMMAND

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import Future
    from pathlib import Path

    from anyio.from_thread import BlockingPortal
    from mcp_types import CallToolResult, Tool


class ToolReply(NamedTuple):
    """The result of a call: whether it is an error, its text, and its fields."""

    is_error: bool
    text: str
    content: dict[str, Any]


class ProgressNotice(NamedTuple):
    progress: float
    total: float | None
    message: str | None


class Agent:
    """A running command with its client.

    Args:
        portal: Runs the client in its event loop.
        client: The client.
        config_path: The configuration of the command.
        log_path: The stderr of the command.
    """

    def __init__(self, portal: BlockingPortal, client: Client, config_path: Path, log_path: Path) -> None:
        self._portal = portal
        self.client = client
        self._config_path = config_path
        self._log_path = log_path

    @property
    def log(self) -> str:
        return self._log_path.read_text("utf-8")

    def configure(self, url: str, key: str) -> None:
        """Write the configuration of the command."""
        write_user_config(self._config_path, url, key)

    def remove_configuration(self) -> None:
        self._config_path.unlink(missing_ok=True)

    def list_tools(self) -> dict[str, Tool]:
        return {tool.name: tool for tool in self._portal.call(self.client.list_tools).tools}

    def start(
        self, tool: str, *, notify: Callable[[ProgressNotice], object] | None = None, **arguments: object
    ) -> Future[ToolReply]:
        """Start a call; to cancel the future cancels the call."""

        async def record(progress: float, total: float | None, message: str | None) -> None:
            assert notify is not None
            notify(ProgressNotice(progress, total, message))

        async def call() -> ToolReply:
            callback = None if notify is None else record
            return _read_reply(await self.client.call_tool(tool, arguments, progress_callback=callback))

        return self._portal.start_task_soon(call)

    def call(self, tool: str, **arguments: object) -> ToolReply:
        return self.start(tool, **arguments).result(timeout=100)


def _read_reply(result: CallToolResult) -> ToolReply:
    (block,) = result.content
    assert block.type == "text"
    return ToolReply(bool(result.is_error), block.text, result.structured_content or {})


@contextlib.contextmanager
def start_agent(folder: Path, *, mode: str = "auto", **environ: str) -> Iterator[Agent]:
    """Start the command, with a configuration in ``folder`` that does not exist yet.

    Args:
        folder: For the configuration and the log.
        mode: How the client negotiates the version of the protocol.
        **environ: Further variables of the command.
    """
    config_path, log_path = folder / "config.toml", folder / "agent.log"
    parameters = StdioServerParameters(
        command=CLI_COMMAND[0],
        args=[*CLI_COMMAND[1:], "mcp"],
        env={**os.environ, "PROGRESSBAR_CONFIG": str(config_path), **environ},
    )
    with log_path.open("w") as log, start_blocking_portal() as portal:
        client = Client(stdio_client(parameters, errlog=log), mode=mode)
        with portal.wrap_async_context_manager(client):
            yield Agent(portal, client, config_path, log_path)


connect_legacy = partial(start_agent, mode="legacy")
