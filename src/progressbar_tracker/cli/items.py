"""``ls``, ``get``, ``set``, ``rm``, ``watch``: items, through the client."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from typing import TYPE_CHECKING, Final

import click

from progressbar_tracker import _config
from progressbar_tracker._client import ProgressBar
from progressbar_tracker._errors import ConfigError, ItemNotFoundError, ProgressBarError
from progressbar_tracker._models import Change
from progressbar_tracker._text import sanitize_line
from progressbar_tracker.cli.table import format_item_row, format_status, format_table

from . import streams
from .options import json_option, print_json, terminal_width, url_option
from .streams import PROGRAM_NAME

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from progressbar_tracker._models import Item

STATUS_COLOURS: Final = {"succeeded": "green", "failed": "red", "stopped": "yellow", "stalled": "magenta"}


@contextlib.contextmanager
def _connect(url: str | None) -> Iterator[ProgressBar]:
    """Open a client for the server of ``--url`` or of the configuration."""
    found = _config.discover(os.environ, url=url)
    if found is None:
        raise click.ClickException(
            f"no server is configured: set {_config.URL_VARIABLE} and {_config.API_KEY_VARIABLE}, or run: "
            f"{PROGRAM_NAME} login URL"
        )
    try:
        client = ProgressBar(found.url, found.api_key, auto_detect=False)
    except ConfigError as error:
        raise _config.add_error_source(found, error) from error
    with client:
        yield client


def _format_lines(items: Sequence[Item], columns: int | None) -> list[str]:
    heading, *lines = format_table([format_item_row(item) for item in items], columns)
    return [
        click.style(heading, bold=True),
        *(
            click.style(line, fg=STATUS_COLOURS.get(format_status(item)))
            for item, line in zip(items, lines, strict=True)
        ),
    ]


@click.command("ls")
@url_option
@json_option
def list_items(url: str | None, as_json: bool) -> None:
    """List the items, highest weight first."""
    with _connect(url) as client:
        items = client.get_all()
    if as_json:
        print_json(items)
    elif not items:
        streams.print_note("Nothing is running.")
    else:
        click.echo("\n".join(_format_lines(items, terminal_width())))


@click.command()
@click.argument("item_id", metavar="ID")
@url_option
@json_option
def get(item_id: str, url: str | None, as_json: bool) -> None:
    """Show all fields of an item."""
    with _connect(url) as client:
        item = client.get(item_id)
    if as_json:
        print_json(item)
        return
    shown = {name: value for name, value in item.items() if value not in (None, "", {}, [])}
    width = max(len(name) for name in shown)
    for name, value in shown.items():
        entries = [f"{key}={entry}" for key, entry in value.items()] if isinstance(value, dict) else value
        text = ", ".join(map(str, entries)) if isinstance(entries, list) else str(value)
        click.echo(f"{name:<{width}}  {sanitize_line(text)}")


@click.command("set")
@click.argument("item_id", metavar="ID")
@click.argument("value", type=float, required=False)
@click.option("--title", help="Title of the item (default: its id).")
@click.option("--description", help="State of the item in words.")
@click.option("--weight", type=int, help="Position in the list: the highest weight is first.")
@url_option
def set_item(
    item_id: str,
    value: float | None,
    title: str | None,
    description: str | None,
    weight: int | None,
    url: str | None,
) -> None:
    """Create or update an item. VALUE is from 0 to 1, and 1 ends the item as succeeded. Omitted fields stay."""
    with _connect(url) as client:
        try:
            before = client.get(item_id)
        except ItemNotFoundError:
            client.create(item_id, title or item_id, description or "", value or 0.0, weight or 0)
            return
        client.update(
            item_id,
            before["title"] if title is None else title,
            before["description"] if description is None else description,
            before["value"] if value is None else value,
            before["weight"] if weight is None else weight,
        )


@click.command("rm")
@click.argument("item_ids", metavar="ID...", nargs=-1, required=True)
@url_option
def remove(item_ids: tuple[str, ...], url: str | None) -> None:
    """Delete items."""
    with _connect(url) as client:
        missing = [item_id for item_id in item_ids if not client.delete(item_id)]
    if missing:
        raise click.ClickException(f"there is no item with the id {', '.join(missing)}")


@click.command()
@click.option(
    "--interval", type=click.FloatRange(0.2, 3600), default=1.0, help="Seconds between two updates of the screen (1)."
)
@url_option
def watch(interval: float, url: str | None) -> None:
    """Follow the items until Ctrl-C: a live table in a terminal, or a line for each change in a pipe."""
    with _connect(url) as client, contextlib.suppress(KeyboardInterrupt):
        if sys.stdout.isatty() and not streams.is_dumb_terminal():
            _watch_screen(client, interval)
        else:
            _watch_lines(client, interval)


class _ItemList:
    """The items after each change of a stream, in the order of ``ls``."""

    def __init__(self) -> None:
        self._items: dict[str, Item] = {}
        self.outage: tuple[float, str] | None = None  # its start (monotonic) and its reason

    def apply(self, change: Change) -> list[Item]:
        """Apply a change and return the items."""
        if change.snapshot:
            self._items.clear()
        self._items.update((item["id"], item) for item in change.items)
        for item_id in change.gone:
            self._items.pop(item_id, None)
        self.outage = None
        return self.current

    @property
    def current(self) -> list[Item]:
        """A copy, because another thread may apply a change."""
        return sorted(self._items.copy().values(), key=lambda item: (-item["weight"], item.get("created_at", "")))

    def record_outage(self, error: ProgressBarError | None) -> None:
        """Keep the start and the reason of a lost connection."""
        since = time.monotonic() if self.outage is None else self.outage[0]
        self.outage = since, "the server ended the connection" if error is None else sanitize_line(str(error))

    def watch_changes(self, client: ProgressBar, interval: float) -> Iterator[Change]:
        """Yield changes of the stream; poll the list if the server has only part 1 of the protocol.

        Args:
            client: Connected to the server.
            interval: Seconds between two polls.
        """
        try:
            yield from client.watch(on_lost=self.record_outage)
        except ItemNotFoundError:
            while True:
                try:
                    yield Change(True, client.get_all(), [], [], 0)
                except ProgressBarError as error:
                    self.record_outage(error)
                time.sleep(interval)


def _watch_screen(client: ProgressBar, interval: float) -> None:
    import shutil
    import threading

    items = _ItemList()
    changed, errors = threading.Event(), []

    def follow() -> None:
        try:
            for change in items.watch_changes(client, interval):
                items.apply(change)
                changed.set()
        except (ProgressBarError, RuntimeError) as error:  # RuntimeError: the client is closed
            errors.append(error)
            changed.set()

    threading.Thread(target=follow, daemon=True).start()
    changed.wait()
    click.echo("\x1b[?1049h\x1b[?25l", nl=False)  # the alternate screen, without a cursor
    try:
        while not errors:
            changed.clear()
            size = shutil.get_terminal_size()
            lines = _format_lines(current, size.columns) if (current := items.current) else ["Nothing is running."]
            if items.outage is not None:
                since, reason = items.outage
                silent = int(time.monotonic() - since)
                lines.insert(0, click.style(f"No answer for {silent} s: {reason}"[: size.columns], fg="red"))
            # Clearing only the rest of each line and of the screen avoids flicker.
            frame = "".join(f"{line}\x1b[K\n" for line in lines[: size.lines - 1])
            click.echo(f"\x1b[H{frame}\x1b[J", nl=False)
            changed.wait(interval)
    finally:
        click.echo("\x1b[?25h\x1b[?1049l", nl=False)
    raise errors[0]


def _watch_lines(client: ProgressBar, interval: float) -> None:
    items, printed_rows = _ItemList(), dict[str, tuple[str, ...]]()
    for change in items.watch_changes(client, interval):
        rows = {item["id"]: format_item_row(item) for item in items.apply(change)}
        for item_id, cells in rows.items():
            if printed_rows.get(item_id) != cells:
                click.echo("  ".join(cell for cell in cells if cell))
        for item_id in printed_rows.keys() - rows.keys():
            click.echo(f"- gone  {sanitize_line(item_id)}")
        sys.stdout.flush()
        printed_rows = rows


CLI_COMMANDS: Final = (list_items, get, set_item, remove, watch)
