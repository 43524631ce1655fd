"""``exec``: any program as one item."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final, Unpack

import click

from progressbar_tracker import _runtime
from progressbar_tracker._programs import supervisor

from . import streams
from .item_options import PASSTHROUGH_SETTINGS, ItemOptions, check_url, item_options, send_option

if TYPE_CHECKING:
    from collections.abc import Sequence


@click.command("exec", context_settings=PASSTHROUGH_SETTINGS)
@send_option
@item_options
@click.option("--parse", is_flag=True, help="Read percentages or counts from the command's output.")
@click.argument("command", metavar="COMMAND [ARGUMENT]...", nargs=-1, required=True, type=click.UNPROCESSED)
def execute(
    command: tuple[str, ...],
    parse: bool,
    url: str | None,
    **item: Unpack[ItemOptions],
) -> int:
    """Run any program as one item: running, then succeeded, or failed with the last line of its stderr.

    The output passes through unchanged, and the exit code is the program's. The server shows the command line: put
    secrets into the environment.
    """
    check_url(url)
    name = os.path.basename(command[0])  # noqa: PTH119
    job = supervisor.Job(command, name, **item)
    return supervise_item(command, job, supervisor.with_server_env(os.environ, url), url, read_errors=True, parse=parse)


def supervise_item(
    command: Sequence[str],
    job: supervisor.Job,
    environ: dict[str, str],
    url: str | None,
    *,
    read_errors: bool = False,
    parse: bool = False,
) -> int:
    """Run a command as an item and return its exit code, or end as it did if a signal ended it.

    Args:
        command: The program and its arguments.
        job: The item.
        environ: The environment of the program.
        url: The server to report to instead of the configured one.
        read_errors: Whether the last line of stderr is the error of a failure.
        parse: Whether the progress that the program prints moves the bar.
    """
    if url is not None:
        _runtime.configure(url=url)
    try:
        code = supervisor.supervise(command, job, environ, read_errors=read_errors, parse=parse)
    except supervisor.NotStartedError as error:
        streams.print_error(str(error))
        code = error.code
    return supervisor.exit_like_child(code)


CLI_COMMANDS: Final = (execute,)
