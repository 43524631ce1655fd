"""``run``: a Python program with every tqdm bar in it on the server."""

from __future__ import annotations

import os
import sys
from typing import Final, Unpack

import click

from progressbar_tracker._programs import supervisor

from .exec import supervise_item
from .item_options import PASSTHROUGH_SETTINGS, ItemOptions, check_url, item_options, send_option


@click.command("run", context_settings=PASSTHROUGH_SETTINGS)
@send_option
@click.option("--job", is_flag=True, help="Also show the run as an item, with its bars below it.")
@item_options
@click.option("-m", "as_module", is_flag=True, help="Run a module, as python -m does.")
@click.argument("arguments", metavar="SCRIPT [ARGUMENT]...", nargs=-1, required=True, type=click.UNPROCESSED)
def run_python(
    arguments: tuple[str, ...],
    as_module: bool,
    job: bool,
    url: str | None,
    **item: Unpack[ItemOptions],
) -> int:
    """Run an unchanged Python program, and show its tqdm bars and those of its Python subprocesses on the server.

    The program runs in this command's Python, with the arguments, exit code, signals and tracebacks of python SCRIPT.
    --id, --title, --group, --notify and --deadline belong to --job, and imply it.
    """
    check_url(url)
    if not sys.executable:
        raise click.ClickException("the path of Python is unknown")
    command = [sys.executable, *(["-m"] if as_module else []), *arguments]
    environ = supervisor.with_tqdm_env(supervisor.with_server_env(os.environ, url))
    if job or any(value not in (None, ()) for value in item.values()):
        shown_command = ["python", *command[1:]]
        stem = os.path.splitext(os.path.basename(arguments[0]))[0]  # noqa: PTH119, PTH122
        return supervise_item(command, supervisor.Job(shown_command, stem, **item), environ, url)
    if sys.platform == "win32":
        import subprocess

        # On Windows, execve() starts a process that the caller does not wait for.
        return subprocess.call(command, env=environ)  # noqa: S603
    sys.stdout.flush()
    return os.execve(command[0], command, environ)  # noqa: S606 - no shell is the point


CLI_COMMANDS: Final = (run_python,)
