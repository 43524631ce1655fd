"""``run``, ``exec`` and ``pipe``: unchanged programs and pipelines as items."""

from __future__ import annotations

import math
import os
import sys
from typing import TYPE_CHECKING, Any, Final, TypedDict, Unpack

import click

from progressbar_tracker import _runtime
from progressbar_tracker._programs import pipe as pipeline
from progressbar_tracker._programs import supervisor
from progressbar_tracker._tracking.deadline import parse_deadline
from progressbar_tracker._tracking.tracker import track

from . import streams

if TYPE_CHECKING:
    from collections.abc import Callable

    from progressbar_tracker._models import Number
    from progressbar_tracker._tracking.deadline import DeadlineLike

PASSTHROUGH_SETTINGS: Final = {"ignore_unknown_options": False, "allow_interspersed_args": False}
"""The program gets the rest of the line, including its options."""

send_option = click.option("--url", metavar="URL", help="Server to report to instead of the configured one.")


def _read_deadline(context: click.Context, option: click.Parameter, text: str | None) -> DeadlineLike | None:
    if text is None:
        return None
    try:
        return parse_deadline(text)
    except ValueError as error:
        raise click.BadParameter(str(error), context, option) from None


class ItemOptions(TypedDict):
    """The values of the options that :func:`item_options` adds."""

    id: str | None
    title: str | None
    group: str | None
    notify: tuple[str, ...]
    deadline: DeadlineLike | None


def item_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of the item, a decorator for commands."""
    for option in (
        click.option(
            "--deadline", metavar="TIME", callback=_read_deadline, help="The item is late after 90s, 1h30m, an instant."
        ),
        click.option("--notify", metavar="CHANNEL", multiple=True, help="Notify this channel; repeatable."),
        click.option("--group", help="Group of the item on the page."),
        click.option("--title", help="Title of the item (default: the command, or the id)."),
        click.option("--id", metavar="ID", help="Id of the item; a new run with the same id takes it over."),
    ):
        command = option(command)
    return command


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
    _check_url(url)
    if not sys.executable:
        raise click.ClickException("the path of Python is unknown")
    command = [sys.executable, *(["-m"] if as_module else []), *arguments]
    environ = supervisor.with_tqdm_env(supervisor.with_server_env(os.environ, url))
    if job or any(value not in (None, ()) for value in item.values()):
        shown_command = ["python", *command[1:]]
        stem = os.path.splitext(os.path.basename(arguments[0]))[0]  # noqa: PTH119, PTH122
        return _supervise(command, supervisor.Job(shown_command, stem, **item), environ, url)
    if sys.platform == "win32":
        import subprocess

        # On Windows, execve() starts a process that the caller does not wait for.
        return subprocess.call(command, env=environ)  # noqa: S603
    sys.stdout.flush()
    return os.execve(command[0], command, environ)  # noqa: S606 - no shell is the point


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
    _check_url(url)
    name = os.path.basename(command[0])  # noqa: PTH119
    job = supervisor.Job(command, name, **item)
    return _supervise(command, job, supervisor.with_server_env(os.environ, url), url, read_errors=True, parse=parse)


def _supervise(
    command: list[str] | tuple[str, ...],
    job: supervisor.Job,
    environ: dict[str, str],
    url: str | None,
    *,
    read_errors: bool = False,
    parse: bool = False,
) -> int:
    if url is not None:
        _runtime.configure(url=url)
    try:
        code = supervisor.supervise(command, job, environ, read_errors=read_errors, parse=parse)
    except supervisor.NotStartedError as error:
        streams.print_error(str(error))
        code = error.code
    return supervisor.exit_like_child(code)


def _read_number(context: click.Context, option: click.Parameter, text: str | None) -> Number | None:
    if text is None:
        return None
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 <= number < math.inf:
        raise click.BadParameter(f"{text!r} is not a number such as 10000 or 1e6", context, option)
    return int(number) if number.is_integer() else number


@click.command("pipe")
@send_option
@item_options
@click.option("--total", metavar="N", callback=_read_number, help="Expected count, such as 10000 or 1e6.")
@click.option("--bytes", "as_bytes", is_flag=True, help="Count bytes. The size of a file is its total.")
@click.option("--null", is_flag=True, help="Count records that end with a NUL byte, as of find -print0.")
@click.option("--unit", help="Unit of the count.")
@click.option("--quiet", is_flag=True, help="No bar on the terminal.")
def pipe(
    total: Number | None,
    as_bytes: bool,
    null: bool,
    unit: str | None,
    quiet: bool,
    url: str | None,
    **item: Unpack[ItemOptions],
) -> int:
    """Copy stdin to stdout unchanged, and count its lines."""
    _check_url(url)
    if as_bytes and null:
        raise click.UsageError("--bytes and --null exclude each other")
    if sys.stdin is None or streams.is_stdout_closed():
        raise click.ClickException(f"{'stdin' if sys.stdin is None else 'stdout'} is closed")
    if url is not None:
        _runtime.configure(url=url)
    item["title"] = item["title"] or item["id"] or "pipe"
    bar = track(
        **item,
        total=pipeline.get_remaining_size(0) if as_bytes and total is None else total,
        unit=unit or ("B" if as_bytes else "records" if null else "lines"),
        display=False if quiet else None,
    )
    try:
        code = pipeline.run_pipe(bar, None if as_bytes else b"\0" if null else b"\n")
    except OSError as error:
        streams.print_error(str(error))
        code = 1
    return supervisor.exit_like_child(code)


def _check_url(url: str | None) -> None:
    if url is not None:
        from progressbar_tracker._http.messages import parse_base_url

        parse_base_url(url, "--url")


CLI_COMMANDS: Final = (run_python, execute, pipe)
