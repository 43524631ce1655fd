"""``history``: the runs that have left the list, newest first."""

from __future__ import annotations

import shlex
import sys
import time
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

import click

from progressbar_tracker._amounts import format_item_count
from progressbar_tracker._errors import ItemNotFoundError
from progressbar_tracker._http.exchanges import request_history
from progressbar_tracker._models import ITEM_STATUSES
from progressbar_tracker._phrases import read_instant
from progressbar_tracker._reader_clock import format_clock_time
from progressbar_tracker._text import parse_duration, sanitize_line
from progressbar_tracker.cli.table import STATUS_COLOURS, STATUS_MARKS, format_details, format_table, format_took

from . import streams
from .connection import connect, read_clock, request
from .help import list_examples
from .options import json_option, print_json, terminal_width, url_option
from .streams import PROGRAM_NAME

if TYPE_CHECKING:
    from collections.abc import Mapping

    from progressbar_tracker._reader_clock import Clock

END_STATUSES: Final = (*(status for status in ITEM_STATUSES if status != "running"), "deleted")
DEFAULT_LIMIT: Final = 20
MAX_LIMIT: Final = 10_000

_RUN_HEADINGS: Final = ("STATUS", "ENDED", "TOOK", "COUNT", "TITLE")
_OPTIONAL_COLUMNS: Final = (3, 2)
_ID_COLUMN: Final = 5


def parse_time(text: str, *, is_end: bool) -> datetime:
    """Return an instant from an age such as ``2h``, a date or a date with a time; a date ends with its day.

    Raises:
        ValueError: The text has another form.
    """
    try:
        return datetime.now().astimezone() - timedelta(seconds=parse_duration(text))
    except ValueError:
        pass
    try:
        instant = datetime.fromisoformat(text.strip())
    except ValueError:
        raise ValueError(
            f"{text!r} is neither an age such as 2h or 7d nor an instant such as 2026-01-31 or 2026-01-31T18:00"
        ) from None
    is_date = len(text.strip()) == len("2026-01-31")
    return (instant + timedelta(days=1, milliseconds=-1) if is_date and is_end else instant).astimezone()


def _read_time(context: click.Context, option: click.Parameter, text: str | None) -> str | None:
    if text is None:
        return None
    try:
        return parse_time(text, is_end=option.name == "until").isoformat(timespec="milliseconds")
    except (ValueError, OverflowError, OSError) as error:
        raise click.BadParameter(str(error), context, option) from None


@click.command(
    epilog=list_examples(
        "history",
        "history nightly-import",
        "history --status failed --since 7d",
        "history --group nightly --limit 500 --json",
    )
)
@click.argument("item_id", metavar="[ID]", required=False)
@click.option("--status", type=click.Choice(END_STATUSES), help="Only runs with this end.")
@click.option("--group", metavar="GROUP", help="Only runs of a group.")
@click.option("--text", metavar="TEXT", help="Only runs with this text in their id or title.")
@click.option(
    "--since", metavar="TIME", callback=_read_time, help="Only runs that ended then or later: 2h, 7d, a date."
)
@click.option("--until", metavar="TIME", callback=_read_time, help="Only runs that started then or earlier.")
@click.option("--inner", is_flag=True, help="Also inner bars that have not failed; always with an ID.")
@click.option(
    "--limit",
    type=click.IntRange(1, MAX_LIMIT),
    default=DEFAULT_LIMIT,
    help=f"Maximum number of runs ({DEFAULT_LIMIT}).",
)
@url_option
@json_option
def history(
    item_id: str | None,
    status: str | None,
    group: str | None,
    text: str | None,
    since: str | None,
    until: str | None,
    inner: bool,
    limit: int,
    url: str | None,
    as_json: bool,
) -> None:
    r"""List the runs that have left the list, newest first: of an ID, or of all items.

    An item that is still listed, such as a failed one, is not in the history yet: see ls. The RUN of a row is for
    get ID --run RUN.
    """
    given = {
        "id": item_id, "status": status, "group": group, "q": text, "since": since, "until": until,
        "inner": None if inner or item_id is not None else "false",
    }  # fmt: skip
    criteria = {name: value for name, value in given.items() if value is not None}
    runs, has_more = request(url, request_history(criteria, limit))
    if as_json:
        print_json(runs)
        return
    if not runs:
        is_filtered = any(value is not None for value in (status, group, text, since, until))
        of_item = "" if item_id is None else f" of {sanitize_line(item_id)}"
        note = f"No run{of_item} matches." if is_filtered else f"The history has no run{of_item} yet."
        streams.print_note(note if item_id is None else note + _describe_listed_item(item_id, url))
        return
    now, clock = time.time(), read_clock()
    last = "ID" if item_id is None else "RUN"
    rows = [
        (*format_run_row(run, now, clock), sanitize_line(run.get("id" if item_id is None else "run_id")))
        for run in runs
    ]
    heading, *lines = format_table(
        rows, terminal_width(), (*_RUN_HEADINGS, last), whole={_ID_COLUMN}, optional=_OPTIONAL_COLUMNS
    )
    styled = [
        click.style(line, fg=STATUS_COLOURS.get(str(run.get("status")))) for run, line in zip(runs, lines, strict=True)
    ]
    click.echo("\n".join([click.style(heading, bold=True), *styled]))
    sys.stdout.flush()
    if has_more:
        streams.print_note(f"There are older runs: {PROGRAM_NAME} history --limit N shows more.")


def _describe_listed_item(item_id: str, url: str | None) -> str:
    """Return a sentence about an item that has not left the list; empty if it is not listed."""
    with connect(url) as client:
        try:
            item = client.get(item_id)
        except ItemNotFoundError:
            return ""
    status, argument = sanitize_line(item.get("status", "running")), shlex.quote(sanitize_line(item_id))
    return f" The item is still listed, as {status}: {PROGRAM_NAME} get {argument} shows it."


def format_run_row(run: Mapping[str, object], now: float, clock: Clock) -> tuple[str, ...]:
    """Return the cells of a run that has ended: its status, end, duration, count and title.

    Args:
        run: A run of the history; any field may be absent or invalid.
        now: Seconds since the epoch.
        clock: The clock of the terminal.
    """
    ended_at, status = read_instant(run, "ended_at"), str(run.get("status"))
    cells = (
        f"{STATUS_MARKS.get(status, ' ')} {status}",
        "" if ended_at is None else format_clock_time(ended_at, now, clock),
        format_took(run),
        format_item_count(run),
        format_details(run),
    )
    return tuple(map(sanitize_line, cells))


CLI_COMMANDS: Final = (history,)
