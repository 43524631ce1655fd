"""``ls``, ``get``, ``set`` and ``rm``: items, through the client."""

from __future__ import annotations

import contextlib
import time
import warnings
from typing import TYPE_CHECKING, Final, TypedDict, Unpack, cast

import click

from progressbar_tracker._errors import ItemNotFoundError, TrackingWarning
from progressbar_tracker._http.exchanges import request_statistics, request_tail
from progressbar_tracker._models import ITEM_STATUSES
from progressbar_tracker._text import format_duration, sanitize_line
from progressbar_tracker._tracking.deadline import make_deadline
from progressbar_tracker.cli.table import (
    ID_COLUMN,
    OPTIONAL_COLUMNS,
    STATUS_COLOURS,
    STATUS_FILTERS,
    describe_item,
    find_clock_offset,
    format_item_row,
    format_status,
    format_table,
    has_status,
)

from . import streams
from .connection import connect, find_server, read_clock, request
from .help import list_examples
from .item_options import deadline_option, notify_option, stuck_after_option
from .lookups import request_item_or_last_run, request_run_or_item
from .options import json_option, print_json, terminal_width, url_option
from .run_history import BLOCK_COLUMNS, build_run_url, describe_history

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from progressbar_tracker._models import Item, ItemWrite, Status, StuckAfter
    from progressbar_tracker._tracking.deadline import DeadlineLike


_MEASURED_DURATIONS: Final = frozenset({"eta", "eta_low", "eta_high", "usual_gap_seconds", "usual_duration_seconds"})


def _format_lines(items: Sequence[Item], columns: int | None, offset: float) -> list[str]:
    now, clock = time.time() + offset, read_clock()
    rows = [format_item_row(item, now, clock) for item in items]
    heading, *lines = format_table(rows, columns, whole={ID_COLUMN}, optional=OPTIONAL_COLUMNS)
    return [
        click.style(heading, bold=True),
        *(
            click.style(line, fg=STATUS_COLOURS.get(format_status(item)))
            for item, line in zip(items, lines, strict=True)
        ),
    ]


@click.command("ls", epilog=list_examples("ls", "ls --status failed --status stuck", "ls --json"))
@url_option
@json_option
@click.option(
    "--status", "statuses", type=click.Choice(STATUS_FILTERS), multiple=True, help="Only such items; repeatable."
)
def list_items(url: str | None, as_json: bool, statuses: tuple[str, ...]) -> None:
    """List the items, highest weight first."""
    with connect(url) as client:
        items = client.get_all()
    offset = find_clock_offset(items, time.time())
    is_empty = not items
    if statuses:
        items = [item for item in items if any(has_status(item, status) for status in statuses)]
    if as_json:
        print_json(items)
    elif not items:
        streams.print_note("Nothing is running." if is_empty else f"No item is {' or '.join(statuses)}.")
    else:
        click.echo("\n".join(_format_lines(items, terminal_width(), offset)))


@click.command(epilog=list_examples("get nightly-import", "get nightly-import --run RUN"))
@click.argument("item_id", metavar="ID")
@url_option
@json_option
@click.option("--run", "run_id", metavar="RUN", help="Show a run of the item that has ended, and the link of its page.")
def get(item_id: str, url: str | None, as_json: bool, run_id: str | None) -> None:
    r"""Show how far an item is, how its runs usually go, and all its fields.

    Of an item that has left the list, its last run is shown; history ID lists all of them.
    """
    if run_id is None:
        item, is_listed = request(url, request_item_or_last_run(item_id))
    else:
        item, is_listed = request(url, request_run_or_item(item_id, run_id)), False
    if as_json:
        print_json(item)
        return
    statistics = request(url, request_statistics(item_id)) if run_id is None else {}
    link = "" if is_listed else build_run_url(find_server(url).url, item_id, str(item.get("run_id")))
    now, clock = time.time(), read_clock()
    now += find_clock_offset([item], now) if is_listed else 0.0
    times = describe_item(item, now, clock)
    times += describe_history(statistics, now, clock, has_blocks=streams.can_encode(BLOCK_COLUMNS))
    if link:
        times.append(("link", sanitize_line(link)))
    shown = {name: value for name, value in item.items() if value not in (None, "", {}, [])}
    for name in ("rate", "short_runs"):  # their phrases are above
        shown.pop(name, None)
    if item.get("stuck_after", 0) is None:
        shown["stuck_after"] = "off"
    width = max(len(name) for name in (*shown, *dict(times)))
    for name, phrase in times:
        click.echo(f"{name:<{width}}  {phrase}")
    if times:
        click.echo()
    for name, value in shown.items():
        click.echo(f"{name:<{width}}  {sanitize_line(_format_field(name, value))}")
    tail = request(url, request_tail(item_id, str(item.get("run_id") or "-")))
    if tail:
        from progressbar_tracker._output_tail import clean_line

        click.echo("\noutput (secrets are masked by their form, which can miss some):")
        click.echo("\n".join(clean_line(line).expandtabs() for line in tail.split("\n")))
    if not is_listed and run_id is None:
        streams.print_note("The item has left the list: this is its last run.")


def _format_field(name: str, value: object) -> str:
    """Return the value of a field: a duration that the server measured in its units, and others as they are."""
    if name in _MEASURED_DURATIONS and isinstance(value, int | float) and value >= 0:
        return format_duration(value, decimals=2)
    if isinstance(value, float):
        return f"{value:.6g}" if name in ("value", "estimated_total", "estimated_value") else str(value)
    entries = [f"{key}={entry}" for key, entry in value.items()] if isinstance(value, dict) else value
    return ", ".join(map(str, entries)) if isinstance(entries, list) else str(value)


@click.command(
    "set",
    epilog=list_examples(
        'set backup 0.4 --description "copying /home"',
        "set backup --completed 3 --total 12 --unit files",
        "set backup --status succeeded",
        'set backup --error "no space left"',
    ),
)
@click.argument("item_id", metavar="ID")
@click.argument("value", type=float, required=False)
@click.option("--title", help="Title of the item (default: its id).")
@click.option("--description", help="State of the item in words.")
@click.option("--weight", type=int, help="Position in the list: the highest weight is first.")
@click.option("--completed", metavar="N", type=float, help="The count that is done, instead of VALUE.")
@click.option("--total", metavar="N", type=float, help="The count that is the end.")
@click.option("--unit", help="What is counted: files, B for bytes.")
@click.option("--group", help="Group of the item on the page; an empty one removes it from its group.")
@click.option("--status", type=click.Choice(ITEM_STATUSES), help="End the item: succeeded, failed or stopped.")
@click.option("--error", metavar="TEXT", help="The reason of a failure; implies --status failed.")
@notify_option
@deadline_option
@stuck_after_option
@url_option
def set_item(
    item_id: str,
    value: float | None,
    title: str | None,
    description: str | None,
    weight: int | None,
    stuck_after: StuckAfter,
    notify: tuple[str, ...],
    deadline: DeadlineLike | None,
    url: str | None,
    **options: Unpack[_SetOptions],
) -> None:
    r"""Create or update an item. VALUE is from 0 to 1, and 1 ends the item as succeeded. Omitted fields stay.

    A VALUE starts a new run of an item that has ended.
    """
    fields = _collect_fields(value, stuck_after, **options)
    if notify:
        fields["notify"] = list(notify)
    if deadline is not None:
        fields["deadline"] = make_deadline(deadline).to_rfc3339(time.time())
    has_labels = any(each is not None for each in (value, title, description, weight))
    is_restarted = False
    with connect(url) as client, _print_warnings():
        try:
            before = client.get(item_id)
        except ItemNotFoundError:
            client.create(item_id, title or item_id, description or "", value or 0.0, weight or 0)
        else:
            if has_labels or not fields:
                client.update(
                    item_id,
                    before["title"] if title is None else title,
                    before["description"] if description is None else description,
                    before["value"] if value is None else value,
                    before["weight"] if weight is None else weight,
                )
                is_restarted = before.get("status", "running") != "running"
        after = client.patch(item_id, **fields) if fields else None
        if is_restarted and (after or client.get(item_id)).get("status") == "running":
            streams.print_note(f"The item had ended as {before['status']}: this is a new run.")


@contextlib.contextmanager
def _print_warnings() -> Iterator[None]:
    """Print the warnings of writes as notes, without a line of source code."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", TrackingWarning)
        yield
    for warning in caught:
        streams.print_note(f"Note: {warning.message}")


class _SetOptions(TypedDict):
    """The options of ``set`` for fields that part 1 of the protocol does not have."""

    completed: float | None
    total: float | None
    unit: str | None
    group: str | None
    status: Status | None
    error: str | None


def _collect_fields(value: float | None, stuck_after: StuckAfter, **options: Unpack[_SetOptions]) -> ItemWrite:
    """Return the fields to patch.

    Raises:
        UsageError: Two options contradict each other.
    """
    if options["error"] is not None:
        if options["status"] not in (None, "failed"):
            raise click.UsageError(f"--error and --status {options['status']} exclude each other")
        options["status"] = "failed"
    if value is not None and options["completed"] is not None:
        raise click.UsageError("VALUE and --completed exclude each other")
    if value is not None and value >= 1 and options["status"] not in (None, "succeeded"):
        raise click.UsageError(f"a VALUE of 1 and --status {options['status']} exclude each other")
    given = {name: field for name, field in options.items() if field is not None}
    for name in ("completed", "total"):
        number = given.get(name)
        if isinstance(number, float) and number.is_integer():
            given[name] = int(number)
    if given.get("group") == "":
        given["group"] = None
    if stuck_after != "auto":
        given["stuck_after"] = stuck_after
    return cast("ItemWrite", given)


@click.command("rm", epilog=list_examples("rm nightly-import", "rm part-1 part-2"))
@click.argument("item_ids", metavar="ID...", nargs=-1, required=True)
@url_option
def remove(item_ids: tuple[str, ...], url: str | None) -> None:
    """Delete items."""
    with connect(url) as client:
        missing = [item_id for item_id in item_ids if not client.delete(item_id)]
    if missing:
        raise click.ClickException(f"there is no item with the id {', '.join(missing)}")


CLI_COMMANDS: Final = (list_items, get, set_item, remove)
