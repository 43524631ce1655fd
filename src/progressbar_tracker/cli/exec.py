"""``exec``: any program as one item."""

from __future__ import annotations

import os
import shlex
import signal
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Unpack

import click

from progressbar_tracker import _runtime
from progressbar_tracker._clock import read_clock
from progressbar_tracker._environments.github_summary import SUMMARY_VARIABLE, append_summary, format_summary
from progressbar_tracker._environments.place import describe_place
from progressbar_tracker._errors import ConfigError
from progressbar_tracker._models import DEFAULT_TAIL_LINES
from progressbar_tracker._programs import supervisor
from progressbar_tracker._programs.job_id import make_job_id
from progressbar_tracker._programs.output_patterns import list_known_tools
from progressbar_tracker._tracking.tail import find_mask_error

from . import reporting, streams
from .help import join_blocks, list_examples, list_exit_codes, list_names
from .item_options import PASSTHROUGH_SETTINGS, ItemOptions, item_options, send_option
from .options import OptionalValueCommand, refuse_value, tail_option
from .run_history import build_item_url

if TYPE_CHECKING:
    from collections.abc import Sequence

STOP_SIGNALS: Final = tuple(
    name
    for name in ("TERM", "INT", "HUP", "QUIT", "USR1", "USR2")
    if hasattr(signal, f"SIG{name}") and (name == "TERM" or sys.platform != "win32")
)
"""The signals that ``exec --stoppable`` can send. On Windows, TERM ends a program; elsewhere it can handle all."""


class _ExecCommand(OptionalValueCommand):
    default_values = {"--stoppable": signal.SIGTERM.name, "--tail": str(DEFAULT_TAIL_LINES)}  # noqa: RUF012 - a constant


def _read_signal(context: click.Context, option: click.Parameter, text: str | None) -> signal.Signals | None:
    if text is None:
        return None
    with refuse_value(context, option):
        name = text.upper().removeprefix("SIG")
        if name not in STOP_SIGNALS:
            raise ValueError(f"the signal must be one of {', '.join(STOP_SIGNALS)}, not {text}")
        return signal.Signals[f"SIG{name}"]


@click.command(
    "exec",
    cls=_ExecCommand,
    context_settings=PASSTHROUGH_SETTINGS,
    epilog=join_blocks(
        list_exit_codes(
            "otherwise the program's",
            {2: "wrong usage", 126: "the program cannot be executed", 127: "the program is not found"},
        ),
        list_names(
            "--parse reads the progress of these, and of any that prints 45 % or 45/120:",
            sorted((name for tools, *_ in list_known_tools() for name in tools.split(", ")), key=str.lower),
        ),
        list_examples(
            "exec --deadline 2h -- make -j8 all",
            "exec --id backup --title Backup -- restic backup ~",
            "exec --parse -- rsync -a --info=progress2 /data /mnt",
            "exec --stoppable=INT -- python train.py",
            "exec --tail=50 -- ./nightly.sh",
        ),
    ),
)
@send_option
@item_options
@click.option("--parse", is_flag=True, help="Move the bar by the progress that the command prints.")
@click.option(
    "--stoppable",
    "stop_signal",
    metavar="[=SIGNAL]",
    callback=_read_signal,
    help="Send the command SIGTERM, or this signal, when its stop is requested.",
)
@tail_option
@click.argument("command", metavar="COMMAND [ARGUMENT]...", nargs=-1, required=True, type=click.UNPROCESSED)
def execute(
    command: tuple[str, ...],
    parse: bool,
    stop_signal: signal.Signals | None,
    tail_lines: int | None,
    url: str | None,
    **item: Unpack[ItemOptions],
) -> int:
    """Run any program as one item: running, then succeeded, or failed with the last line of its stderr.

    The output passes through unchanged, and the exit code is the program's. The server shows the command line with
    masked secrets, also as the title: set --title, and put secrets into the environment.
    """
    name = os.path.basename(command[0])  # noqa: PTH119
    job = supervisor.Job(command, name, stop_signal=stop_signal, tail_lines=tail_lines, **item)
    environ = supervisor.with_server_env(os.environ, url) | reporting.describe_job()
    return supervise_item(command, job, environ, url, read_errors=True, parse=parse)


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
    reporting.report_to(url)
    job = _place_job(job)
    if job.tail_lines is None and (error_text := find_mask_error(environ)) is not None:
        streams.print_error(f"texts of the program's output are not sent: {error_text}")
    started_at, failure = read_clock(), None
    try:
        code = supervisor.supervise(command, job, environ, read_errors=read_errors, parse=parse)
    except ConfigError as error:
        raise click.ClickException(str(error)) from None
    except supervisor.NotStartedError as error:
        streams.print_error(str(error))
        code, failure = error.code, str(error)
    _summarize(job, failure or (supervisor.describe_exit(code) if code else None), read_clock() - started_at)
    return supervisor.exit_like_child(code)


def _place_job(job: supervisor.Job) -> supervisor.Job:
    """Return a job with the id and the deadline of the batch job that it runs in, unless the user has set them."""
    place = describe_place(os.environ)
    item_id, deadline = job.id, job.deadline
    if item_id is None:
        item_id = make_job_id(job.name, shlex.join(job.command), place.job)
    if deadline is None:
        ends_at = None if place.ends_at is None else datetime.fromtimestamp(place.ends_at, UTC)
        deadline = ends_at or place.seconds_left
    return job._replace(id=item_id, deadline=deadline)


def _summarize(job: supervisor.Job, error: str | None, seconds: float) -> None:
    """Add a line to the summary of the current step of GitHub Actions, if there is one."""
    if os.environ.get(SUMMARY_VARIABLE) and job.id is not None:
        server_url = None if _runtime.is_disabled() else _runtime.get_sender().server_url
        url = None if server_url is None else build_item_url(server_url, job.id)
        line = format_summary(job.title or supervisor.describe_command(job, os.environ), error, seconds, url)
        append_summary(os.environ, line)


CLI_COMMANDS: Final = (execute,)
