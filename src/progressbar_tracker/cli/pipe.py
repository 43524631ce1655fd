"""``pipe``: a pipeline whose lines or bytes are counted on their way."""

from __future__ import annotations

import math
import sys
from typing import TYPE_CHECKING, Final, Unpack

import click

from progressbar_tracker._programs import pipe as pipeline
from progressbar_tracker._programs import supervisor
from progressbar_tracker._tracking.tracker import track

from . import reporting, streams
from .help import list_examples
from .item_options import ItemOptions, item_options, send_option

if TYPE_CHECKING:
    from progressbar_tracker._models import Number


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


@click.command(
    "pipe",
    epilog=list_examples(
        "$cat urls.txt | progressbar-tracker pipe --total 1e4 | xargs -n1 curl -sO",
        "$progressbar-tracker pipe --bytes --id dump < dump.sql | psql",
        "$find . -print0 | progressbar-tracker pipe --null | xargs -0 gzip",
    ),
)
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
    if as_bytes and null:
        raise click.UsageError("--bytes and --null exclude each other")
    if sys.stdin is None or streams.is_stdout_closed():
        raise click.ClickException(f"{'stdin' if sys.stdin is None else 'stdout'} is closed")
    reporting.report_to(url)
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


CLI_COMMANDS: Final = (pipe,)
