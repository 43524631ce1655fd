"""The command line: thin shells over the client, the tracker and the server, one file for each noun.

A key is never an argument, because every user of the machine can read the process list. It comes from the environment,
the config file, or a prompt without echo. Only the commands that need the server import it.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Final

import click

from progressbar_tracker._errors import PermissionError, ProgressBarError, TransportError
from progressbar_tracker._sender.failure_log import add_hint
from progressbar_tracker._version import VERSION

from . import (
    database,
    doctor,
    history,
    items,
    keys,
    login,
    mcp,
    ping_tokens,
    pipe,
    run,
    schedule,
    serve,
    shares,
    stop,
    streams,
    wait,
    watch,
)
from . import exec as exec_command
from .help import COMPLETION_VARIABLE, CommandGroup, describe_completion, list_examples
from .streams import PROGRAM_NAME

if TYPE_CHECKING:
    from collections.abc import Sequence

_ROOT_EXAMPLES = list_examples("serve", "run train.py", "exec -- make all", "ls", "doctor", "COMMAND --help")

_NO_ARGUMENTS_ERROR: type[click.UsageError] | tuple[()] = getattr(click.exceptions, "NoArgsIsHelpError", ())
"""Raised for a group without a command; click before 8.2 prints the help itself."""


def run_command_line(arguments: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit code: 0, 1 with one line on stderr, or 2 for wrong usage."""
    streams.prepare_streams()
    if COMPLETION_VARIABLE in os.environ:
        commands.main(prog_name=PROGRAM_NAME, complete_var=COMPLETION_VARIABLE)
    try:
        # Not main(): it has exit codes of its own for interrupts and broken pipes.
        arguments = sys.argv[1:] if arguments is None else list(arguments)
        with commands.make_context(PROGRAM_NAME, arguments, color=streams.color_mode()) as context:
            code = commands.invoke(context)
    except click.exceptions.Exit as end:
        return end.exit_code
    except _NO_ARGUMENTS_ERROR as error:
        streams.print_text(
            error.format_message()
        )  # click's convention: the help on stderr, and the code of wrong usage
        return 2
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
    except click.ClickException as error:
        streams.print_error(error.format_message())
        return 1
    except (TransportError, PermissionError) as error:
        streams.print_error(add_hint(str(error)))  # the address or the key is wrong: doctor says where it is from
        return 1
    except ProgressBarError as error:
        streams.print_error(str(error))
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


_HANDBOOK_NOTE: Final = "The handbook is at /handbook of every server, such as http://127.0.0.1:8989/handbook."


@click.group(
    cls=CommandGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=f"{_ROOT_EXAMPLES}\n\n{describe_completion()}\n\n{_HANDBOOK_NOTE}",
)
@click.version_option(VERSION, "--version", message="%(version)s")
def commands() -> None:
    """Follow programs from anywhere: their progress, their expected end, and their failures."""


@commands.command(epilog=list_examples("version"))
def version() -> None:
    """Print the version."""
    click.echo(VERSION)


for _command in (
    *serve.CLI_COMMANDS, *run.CLI_COMMANDS, *exec_command.CLI_COMMANDS, *pipe.CLI_COMMANDS, *items.CLI_COMMANDS,
    *watch.CLI_COMMANDS, *history.CLI_COMMANDS, *wait.CLI_COMMANDS, *stop.CLI_COMMANDS, *schedule.CLI_COMMANDS,
    *keys.CLI_COMMANDS, *shares.CLI_COMMANDS, *ping_tokens.CLI_COMMANDS, *login.CLI_COMMANDS, *database.CLI_COMMANDS,
    *doctor.CLI_COMMANDS, *mcp.CLI_COMMANDS,
):  # fmt: skip
    commands.add_command(_command)
