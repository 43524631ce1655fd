"""The command line: thin shells over the client, the tracker and the server, one file for each noun.

A key is never an argument, where every user of the machine could read it in the process list: it comes from the
environment, from the config file, or from a prompt without echo. The server is imported by the commands that need it.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import click

from progressbar_tracker._errors import ProgressBarError
from progressbar_tracker._table import plain

from . import database, doctor, items, keys, programs, serving
from .shared import NAME

if TYPE_CHECKING:
    from collections.abc import Sequence


def run(arguments: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit code: 0, 1 with one line on stderr, or 2 for wrong usage."""
    try:
        code = commands.main(arguments, prog_name=NAME, standalone_mode=False, windows_expand_args=False)
    except click.UsageError as error:
        where = f"{error.ctx.command_path} --help" if error.ctx else f"{NAME} --help"
        click.echo(f"{NAME}: {plain(error.format_message())} (see: {where})", err=True)
        return 2
    except click.Abort:
        click.echo(err=True)
        return 130
    except (click.ClickException, ProgressBarError, ValueError) as error:
        text = error.format_message() if isinstance(error, click.ClickException) else str(error)
        click.echo(f"{NAME}: {plain(text)}", err=True)
        return 1
    except BrokenPipeError:
        # The reader, such as head, has seen enough. Python would complain while it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return code if isinstance(code, int) else 0


def version_text() -> str:
    """Return the installed version."""
    import importlib.metadata  # slow, and no other command needs it

    return importlib.metadata.version(NAME)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(None, "--version", package_name=NAME, message="%(version)s")
def commands() -> None:
    """See from anywhere how far a program is, when it will be done, and whether it failed."""


@commands.command()
def version() -> None:
    """Print the version."""
    click.echo(version_text())


for _command in (
    *serving.COMMANDS, *programs.COMMANDS, *items.COMMANDS, *keys.COMMANDS, *database.COMMANDS, *doctor.COMMANDS,
):  # fmt: skip
    commands.add_command(_command)
