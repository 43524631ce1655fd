"""``schedule``: when items are expected to start."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

import click

from progressbar_tracker._http.schedules import request_schedule, request_schedule_deletion, request_schedules
from progressbar_tracker._phrases import read_instant
from progressbar_tracker._reader_clock import format_clock_time
from progressbar_tracker._text import format_duration, parse_duration, sanitize_line
from progressbar_tracker.cli.table import format_table

from .connection import read_clock, request
from .help import CommandGroup, list_examples
from .options import json_option, print_json, refuse_value, terminal_width, url_option
from .streams import print_note

if TYPE_CHECKING:
    from collections.abc import Mapping

    from progressbar_tracker._reader_clock import Clock

_TABLE_COLUMNS: Final = ("ID", "EXPECTED", "LAST START", "STATE", "RULE", "GRACE", "OWNER")


def _read_period(context: click.Context, option: click.Parameter, text: str | None) -> float | None:
    if text is None:
        return None
    with refuse_value(context, option):
        return parse_duration(text, default_unit="s")


@click.group(
    "schedule",
    cls=CommandGroup,
    epilog=list_examples(
        'schedule set backup --cron "0 3 * * *"', "schedule ls", "schedule delete backup"
    ),
)  # fmt: skip
def schedule_group() -> None:
    """Set when items are expected to start: one that does not start in time is missed, and channels are notified."""


@schedule_group.command(
    "set",
    epilog=list_examples('schedule set backup --cron "0 3 * * *" --grace 10m', "schedule set sync --every 1h"),
)
@click.argument("item_id", metavar="ID")
@click.option("--cron", metavar="EXPRESSION", help='Five fields, such as "0 3 * * *".')
@click.option("--every", metavar="TIME", callback=_read_period, help="From one start to the next: 90m, 1h, 7d.")
@click.option("--timezone", metavar="ZONE", help="The time zone of --cron, such as Europe/Paris; UTC by default.")
@click.option(
    "--grace", metavar="TIME", callback=_read_period, help="After an expected start until it is missed; 5m by default."
)
@click.option("--group", metavar="GROUP", help="The group of its item, for ping tokens and channels.")
@click.option("--notify", metavar="CHANNEL", multiple=True, help="A channel to notify; repeat it for several.")
@url_option
@json_option
def schedule_set(
    item_id: str, cron: str | None, every: float | None, timezone: str | None, grace: float | None,
    group: str | None, notify: tuple[str, ...], url: str | None, as_json: bool,
) -> None:  # fmt: skip
    """Set or replace the schedule of an item, which need not exist yet.

    Options that are left out have their defaults, and not the values of a former schedule. The server compares each
    expected start with the starts of the item's runs, whatever reports them.
    """
    if (cron is None) is (every is None):
        raise click.UsageError("give either --cron or --every")
    if timezone is not None and cron is None:
        raise click.UsageError("--timezone needs --cron")
    fields = {
        "cron": cron, "every": every, "timezone": timezone, "grace": grace, "group": group, "notify": list(notify),
    }  # fmt: skip
    schedule = request(url, request_schedule(item_id, fields))
    if as_json:
        print_json(schedule)
        return
    next_start = _format_instant(schedule, "next_at", time.time(), read_clock()) or "never"
    details = f"{_format_rule(schedule)}, grace {_format_grace(schedule)}"
    click.echo(sanitize_line(f"{item_id}: expected {next_start} ({details})"))


@schedule_group.command("ls", epilog=list_examples("schedule ls", "schedule ls --missed", "schedule ls --json"))
@click.option("--missed", "only_missed", is_flag=True, help="Only items that have not started in time.")
@url_option
@json_option
def schedule_ls(only_missed: bool, url: str | None, as_json: bool) -> None:
    """List the schedules, by id."""
    schedules = request(url, request_schedules())
    if only_missed:
        schedules = [schedule for schedule in schedules if schedule.get("missed")]
    if as_json:
        print_json(schedules)
        return
    if not schedules:
        print_note("No start was missed." if only_missed else "There is no schedule.")
        return
    now, clock = time.time(), read_clock()
    rows = [[sanitize_line(cell) for cell in _format_row(schedule, now, clock)] for schedule in schedules]
    click.echo("\n".join(format_table(rows, terminal_width(), _TABLE_COLUMNS, whole={0, 1, 4}, optional=(6, 5, 2))))


@schedule_group.command("delete", epilog=list_examples("schedule delete nightly-backup"))
@click.argument("item_ids", metavar="ID...", nargs=-1, required=True)
@url_option
def schedule_delete(item_ids: tuple[str, ...], url: str | None) -> None:
    """Delete schedules. The items stay."""
    for item_id in item_ids:
        request(url, request_schedule_deletion(item_id))
        print_note(f"Deleted the schedule of {sanitize_line(item_id)}.")


def _format_row(schedule: Mapping[str, object], now: float, clock: Clock) -> list[str]:
    next_at = read_instant(schedule, "next_at")
    is_open = next_at is not None and next_at <= now
    return [
        str(schedule.get("id")), _format_instant(schedule, "next_at", now, clock) or "never",
        _format_instant(schedule, "started_at", now, clock),
        "missed" if schedule.get("missed") else "expected now" if is_open else "waiting",
        _format_rule(schedule), _format_grace(schedule), str(schedule.get("owner") or ""),
    ]  # fmt: skip


def _format_instant(schedule: Mapping[str, object], name: str, now: float, clock: Clock) -> str:
    at = read_instant(schedule, name)
    return "" if at is None else format_clock_time(at, now, clock)


def _format_rule(schedule: Mapping[str, object]) -> str:
    every = schedule.get("every")
    if isinstance(every, int | float):
        return f"every {format_duration(float(every))}"
    return f"{schedule.get('cron')} {schedule.get('timezone')}"


def _format_grace(schedule: Mapping[str, object]) -> str:
    grace = schedule.get("grace")
    return format_duration(float(grace)) if isinstance(grace, int | float) else ""


CLI_COMMANDS: Final = (schedule_group,)
