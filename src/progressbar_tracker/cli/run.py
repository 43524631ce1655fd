"""``run``: a Python program with every bar in it on the server."""

from __future__ import annotations

import os
import sys
from typing import Final, Unpack

import click

from progressbar_tracker._config import STOPPABLE_VARIABLE
from progressbar_tracker._models import DEFAULT_TAIL_LINES
from progressbar_tracker._programs import supervisor

from . import reporting
from .exec import supervise_item
from .help import list_examples
from .item_options import PASSTHROUGH_SETTINGS, ItemOptions, item_options, send_option
from .options import OptionalValueCommand, tail_option


class _RunCommand(OptionalValueCommand):
    default_values = {"--tail": str(DEFAULT_TAIL_LINES)}  # noqa: RUF012 - a constant


@click.command(
    "run",
    cls=_RunCommand,
    context_settings=PASSTHROUGH_SETTINGS,
    epilog=list_examples("run train.py --epochs 10", "run -m package.module", "run --job --notify phone nightly.py"),
)
@send_option
@click.option("--job", is_flag=True, help="Also show the run as an item, with its bars below it.")
@click.option("--stoppable", is_flag=True, help="Let the page stop the outermost loops of track() and bar libraries.")
@tail_option
@item_options
@click.option("-m", "as_module", is_flag=True, help="Run a module, as python -m does.")
@click.argument("arguments", metavar="SCRIPT [ARGUMENT]...", nargs=-1, required=True, type=click.UNPROCESSED)
def run_python(
    arguments: tuple[str, ...],
    as_module: bool,
    job: bool,
    stoppable: bool,
    tail_lines: int | None,
    url: str | None,
    **item: Unpack[ItemOptions],
) -> int:
    """Run an unchanged Python program, and show its bars and those of its Python subprocesses on the server.

    The libraries are tqdm, rich, click and others: the handbook lists them (reference/libraries).
    The program runs in this command's Python, with the arguments, exit code, signals and tracebacks of python SCRIPT.
    --id, --title, --group, --notify, --deadline, --stuck-after and --tail belong to --job, and imply it.
    """
    if not sys.executable:
        raise click.ClickException("the path of Python is unknown")
    command = [sys.executable, *(["-m"] if as_module else []), *arguments]
    environ = supervisor.with_bars_env(supervisor.with_server_env(os.environ, url))
    if stoppable:
        environ[STOPPABLE_VARIABLE] = "1"
    is_job = (
        job
        or tail_lines is not None
        or any(value != supervisor.Job._field_defaults[name] for name, value in item.items())
    )
    environ |= reporting.describe_job() if is_job else reporting.describe_program(url)
    if is_job:
        shown_command = ["python", *command[1:]]
        stem = os.path.splitext(os.path.basename(arguments[0]))[0]  # noqa: PTH119, PTH122
        return supervise_item(command, supervisor.Job(shown_command, stem, tail_lines=tail_lines, **item), environ, url)
    if sys.platform == "win32":
        return _run_and_wait(command, environ)
    sys.stdout.flush()
    return os.execve(command[0], command, environ)  # noqa: S606 - no shell is the point


def _run_and_wait(command: list[str], environ: dict[str, str]) -> int:
    """Run a program on Windows, whose ``execve()`` starts a process that the caller does not wait for."""
    import signal
    import subprocess

    # The program gets Ctrl-C from the console, too, and decides what it does.
    signal.signal(signal.SIGINT, lambda *_: None)
    return supervisor.make_exit_code(subprocess.call(command, env=environ))  # noqa: S603


CLI_COMMANDS: Final = (run_python,)
