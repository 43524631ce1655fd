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
from progressbar_tracker.cli.table import display_status, format_table, item_row

from . import streams
from .options import json_option, print_json, terminal_width, url_option
from .streams import PROGRAM_NAME

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from progressbar_tracker._models import Item

STATUS_COLOURS: Final = {"succeeded": "green", "failed": "red", "stopped": "yellow", "stalled": "magenta"}


@contextlib.contextmanager
def _connect(url: str | None) -> Iterator[ProgressBar]:
    """Connect to the server that is named or configured."""
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
    heading, *lines = format_table([item_row(item) for item in items], columns)
    return [
        click.style(heading, bold=True),
        *(
            click.style(line, fg=STATUS_COLOURS.get(display_status(item)))
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
    """Show one item in full."""
    with _connect(url) as client:
        item = client.get(item_id)
    if as_json:
        print_json(item)
        return
    shown = {name: value for name, value in item.items() if value not in (None, "", {}, [])}
    wide = max(len(name) for name in shown)
    for name, value in shown.items():
        several = [f"{key}={entry}" for key, entry in value.items()] if isinstance(value, dict) else value
        text = ", ".join(map(str, several)) if isinstance(several, list) else str(value)
        click.echo(f"{name:<{wide}}  {sanitize_line(text)}")


@click.command("set")
@click.argument("item_id", metavar="ID")
@click.argument("value", type=float, required=False)
@click.option("--title", help="What to call it; by default the id.")
@click.option("--description", help="Its state in words.")
@click.option("--weight", type=int, help="Higher is shown first.")
@url_option
def set_item(
    item_id: str,
    value: float | None,
    title: str | None,
    description: str | None,
    weight: int | None,
    url: str | None,
) -> None:
    """Create or update an item: VALUE from 0 to 1, where 1 ends it as succeeded. What is left out stays."""
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
@click.option("--interval", type=click.FloatRange(0.2, 3600), default=1.0, help="Seconds between two drawings (1).")
@url_option
def watch(interval: float, url: str | None) -> None:
    """Watch the items until Ctrl-C: live in a terminal, through a pipe a line for each change."""
    with _connect(url) as client, contextlib.suppress(KeyboardInterrupt):
        if sys.stdout.isatty() and not streams.is_dumb_terminal():
            _watch_screen(client, interval)
        else:
            _watch_lines(client, interval)


class _ItemList:
    """The items as a stream of changes leaves them, in the order of ``ls``."""

    def __init__(self) -> None:
        self._items: dict[str, Item] = {}
        self.outage: tuple[float, str] | None = None  # since when, and why

    def apply(self, change: Change) -> list[Item]:
        """Take a change in, and return what is there now."""
        if change.snapshot:
            self._items.clear()
        self._items.update((item["id"], item) for item in change.items)
        for item_id in change.gone:
            self._items.pop(item_id, None)
        self.outage = None
        return self.items

    @property
    def items(self) -> list[Item]:
        """What is there."""
        now = self._items.copy()  # another thread may take a change in
        return sorted(now.values(), key=lambda item: (-item["weight"], item.get("created_at", "")))

    def record_outage(self, error: ProgressBarError | None) -> None:
        """Note that the connection was lost."""
        since = time.monotonic() if self.outage is None else self.outage[0]
        self.outage = since, "the server ended the connection" if error is None else sanitize_line(str(error))

    def watch_changes(self, client: ProgressBar, interval: float) -> Iterator[Change]:
        """Yield changes; a server that speaks only part 1 of the protocol is asked for its list again and again."""
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

    listed = _ItemList()
    changed, ended = threading.Event(), []

    def follow() -> None:
        try:
            for change in listed.watch_changes(client, interval):
                listed.apply(change)
                changed.set()
        except (ProgressBarError, RuntimeError) as error:  # the latter at the end, when the client is closed
            ended.append(error)
            changed.set()

    threading.Thread(target=follow, daemon=True).start()
    changed.wait()
    click.echo("\x1b[?1049h\x1b[?25l", nl=False)  # a screen of its own, and no cursor
    try:
        while not ended:
            changed.clear()
            size = shutil.get_terminal_size()
            lines = _format_lines(items, size.columns) if (items := listed.items) else ["Nothing is running."]
            if listed.outage is not None:
                since, reason = listed.outage
                silent = int(time.monotonic() - since)
                lines.insert(0, click.style(f"No answer for {silent} s: {reason}"[: size.columns], fg="red"))
            # Each line is cleared behind its text, and the rest of the screen below: nothing flickers.
            frame = "".join(f"{line}\x1b[K\n" for line in lines[: size.lines - 1])
            click.echo(f"\x1b[H{frame}\x1b[J", nl=False)
            changed.wait(interval)
    finally:
        click.echo("\x1b[?25h\x1b[?1049l", nl=False)
    raise ended[0]


def _watch_lines(client: ProgressBar, interval: float) -> None:
    listed, before = _ItemList(), dict[str, tuple[str, ...]]()
    for change in listed.watch_changes(client, interval):
        now = {item["id"]: item_row(item) for item in listed.apply(change)}
        for item_id, cells in now.items():
            if before.get(item_id) != cells:
                click.echo("  ".join(cell for cell in cells if cell))
        for item_id in before.keys() - now.keys():
            click.echo(f"- gone  {sanitize_line(item_id)}")
        sys.stdout.flush()
        before = now


CLI_COMMANDS: Final = (list_items, get, set_item, remove, watch)
