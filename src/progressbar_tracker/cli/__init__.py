"""The command line: thin shells over the client, the tracker and the server, one file for each noun.

A key is never an argument, because every user of the machine can read the process list. It comes from the environment,
the config file, or a prompt without echo. Only the commands that need the server import it.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Final

import click

from progressbar_tracker._errors import ProgressBarError
from progressbar_tracker._version import VERSION

from . import database, doctor, items, keys, pipe, run, serve, streams
from . import exec as exec_command
from .streams import PROGRAM_NAME

if TYPE_CHECKING:
    from collections.abc import Sequence

_COMPLETION_VARIABLE: Final = "_PROGRESSBAR_TRACKER_COMPLETE"


def run_command_line(arguments: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit code: 0, 1 with one line on stderr, or 2 for wrong usage."""
    streams.prepare_streams()
    if _COMPLETION_VARIABLE in os.environ:
        commands.main(prog_name=PROGRAM_NAME, complete_var=_COMPLETION_VARIABLE)
    try:
        # Not main(): it has exit codes of its own for interrupts and broken pipes.
        arguments = sys.argv[1:] if arguments is None else list(arguments)
        with commands.make_context(PROGRAM_NAME, arguments, color=streams.color_mode()) as context:
            code = commands.invoke(context)
    except click.exceptions.Exit as end:
        return end.exit_code
    except click.UsageError as error:
        help_command = f"{error.ctx.command_path} --help" if error.ctx else f"{PROGRAM_NAME} --help"
        streams.print_error(f"{error.format_message()} (see: {help_command})")
        return 2
    except (click.Abort, EOFError) as error:
        if isinstance(error, EOFError) or isinstance(error.__context__, EOFError):
            streams.print_error("nothing was entered: stdin has ended")
            return 1
        streams.print_note("")
        return 130
    except KeyboardInterrupt:
        streams.print_note("")
        return 130
    except (click.ClickException, ProgressBarError) as error:
        streams.print_error(error.format_message() if isinstance(error, click.ClickException) else str(error))
        return 1
    except BrokenPipeError:
        streams.discard_output()  # a reader such as head has ended
        return 0
    except (OSError, ValueError) as error:
        streams.print_error(_describe_error(error))
        streams.discard_output()
        return 1
    return code if isinstance(code, int) else 0


def _describe_error(error: OSError | ValueError) -> str:
    if not isinstance(error, OSError) or not error.strerror:
        return str(error)
    return f"cannot write: {error.strerror}" if error.filename is None else f"{error.filename}: {error.strerror}"


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(VERSION, "--version", message="%(version)s")
def commands() -> None:
    """Follow programs from anywhere: their progress, their expected end, and their failures."""


@commands.command()
def version() -> None:
    """Print the version."""
    click.echo(VERSION)


for _command in (
    *serve.CLI_COMMANDS, *run.CLI_COMMANDS, *exec_command.CLI_COMMANDS, *pipe.CLI_COMMANDS, *items.CLI_COMMANDS,
    *keys.CLI_COMMANDS, *database.CLI_COMMANDS, *doctor.CLI_COMMANDS,
):  # fmt: skip
    commands.add_command(_command)
