"""``mcp``: tools for agents, over the Model Context Protocol on stdin and stdout.

A thin client of the HTTP interface. Only this command imports the package ``mcp``, of the extra of the same name.
"""

from __future__ import annotations

import signal
import sys
from typing import Final

import click

from progressbar_tracker.cli import streams
from progressbar_tracker.cli.help import list_examples
from progressbar_tracker.cli.options import require_extra, url_option
from progressbar_tracker.cli.streams import PROGRAM_NAME

MCP_MISSING_MESSAGE: Final = (
    f"the package mcp is not installed, or is not of version 2: run pip install '.[mcp]' in a clone of {PROGRAM_NAME}"
)


@click.command(
    epilog=list_examples(
        "mcp",
        "$claude mcp add progress -- progressbar-tracker mcp",
        "$codex mcp add progress -- progressbar-tracker mcp",
    )
)
@url_option
def mcp(url: str | None) -> None:
    """Serve tools for an agent over stdin and stdout, until stdin ends: list, get and wait for items.

    An agent starts this command, see the handbook: how-to/agents. A read key is enough.
    """
    import logging

    import anyio

    if sys.stdin is None or streams.is_stdout_closed():
        raise click.ClickException("the agent's messages come from stdin and go to stdout, and one of them is closed")
    with require_extra(MCP_MISSING_MESSAGE):
        from .server import serve
    if sys.stdin.isatty():
        streams.print_note("Waiting for an agent on stdin: a client of the Model Context Protocol starts this command.")
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format=f"{PROGRAM_NAME}: %(message)s")
    # A thread reads stdin, and asyncio would wait for its line before it ends.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        anyio.run(serve, url)
    except* BrokenPipeError:
        streams.discard_output()  # the agent has ended


CLI_COMMANDS: Final = (mcp,)
