"""``ls``, ``get``, ``set``, ``rm``, ``watch``: items, through the client."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from typing import TYPE_CHECKING, Final, NoReturn, cast

import click

from progressbar_tracker import _config
from progressbar_tracker._client import ProgressBar
from progressbar_tracker._errors import ConfigError, ItemNotFoundError, ProgressBarError
from progressbar_tracker._table import plain, row, state, table

from .shared import NAME, json_option, print_json, url_option, width

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from progressbar_tracker._models import Item

COLOURS: Final = {"succeeded": "green", "failed": "red", "stopped": "yellow", "stalled": "magenta"}


@contextlib.contextmanager
def _client(url: str | None) -> Iterator[ProgressBar]:
    """Connect to the server that is named or configured."""
    found = _config.discover(os.environ, url=url)
    if found is None:
        raise click.ClickException(
            f"no server is configured: set {_config.URL} and {_config.API_KEY}, or run: {NAME} login URL"
        )
    try:
        client = ProgressBar(found.url, found.api_key, auto_detect=False)
    except ConfigError as error:
        raise _config.told_where(found, error) from error
    with client:
        yield client


def _lines(items: Sequence[Item], columns: int | None) -> list[str]:
    heading, *lines = table([row(item) for item in items], columns)
    return [
        click.style(heading, bold=True),
        *(click.style(line, fg=COLOURS.get(state(item))) for item, line in zip(items, lines, strict=True)),
    ]


@click.command("ls")
@url_option
@json_option
def list_items(url: str | None, as_json: bool) -> None:
    """List the items, highest weight first."""
    with _client(url) as client:
        items = client.get_all()
    if as_json:
        print_json(items)
    elif not items:
        click.echo("Nothing is running.", err=True)
    else:
        click.echo("\n".join(_lines(items, width())))


@click.command()
@click.argument("item_id", metavar="ID")
@url_option
@json_option
def get(item_id: str, url: str | None, as_json: bool) -> None:
    """Show one item in full."""
    with _client(url) as client:
        item = client.get(item_id)
    if as_json:
        print_json(item)
        return
    shown = {name: value for name, value in item.items() if value not in (None, "", {})}
    wide = max(len(name) for name in shown)
    for name, value in shown.items():
        pairs = cast("dict[str, str]", value).items() if isinstance(value, dict) else ()
        text = ", ".join(f"{key}={entry}" for key, entry in pairs) if isinstance(value, dict) else str(value)
        click.echo(f"{name:<{wide}}  {plain(text)}")


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
    with _client(url) as client:
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
    with _client(url) as client:
        missing = [item_id for item_id in item_ids if not client.delete(item_id)]
    if missing:
        raise click.ClickException(f"there is no item with the id {', '.join(missing)}")


@click.command()
@click.option("--interval", type=click.FloatRange(0.2, 3600), default=1.0, help="Seconds between two looks (1).")
@url_option
def watch(interval: float, url: str | None) -> None:
    """Watch the items until Ctrl-C: live in a terminal, through a pipe a line for each change."""
    with _client(url) as client, contextlib.suppress(KeyboardInterrupt):
        if sys.stdout.isatty():
            _watch_screen(client, interval)
        else:
            _watch_lines(client, interval)


def _watch_screen(client: ProgressBar, interval: float) -> NoReturn:
    import shutil

    items: Sequence[Item] = client.get_all()  # a first failure is an error, a later one is shown
    answered = time.monotonic()
    trouble = ""
    click.echo("\x1b[?1049h\x1b[?25l", nl=False)  # a screen of its own, and no cursor
    try:
        while True:
            size = shutil.get_terminal_size()
            lines = _lines(items, size.columns) if items else ["Nothing is running."]
            if trouble:
                silent = int(time.monotonic() - answered)
                lines.insert(0, click.style(f"No answer for {silent} s: {trouble}"[: size.columns], fg="red"))
            # Each line is cleared behind its text, and the rest of the screen below: nothing flickers.
            frame = "".join(f"{line}\x1b[K\n" for line in lines[: size.lines - 1])
            click.echo(f"\x1b[H{frame}\x1b[J", nl=False)
            time.sleep(interval)
            try:
                items, answered, trouble = client.get_all(), time.monotonic(), ""
            except ProgressBarError as error:
                trouble = plain(error)
    finally:
        click.echo("\x1b[?25h\x1b[?1049l", nl=False)


def _watch_lines(client: ProgressBar, interval: float) -> NoReturn:
    before: dict[str, tuple[str, ...]] = {}
    while True:
        now = {item["id"]: row(item) for item in client.get_all()}
        for item_id, cells in now.items():
            if before.get(item_id) != cells:
                click.echo("  ".join(cell for cell in cells if cell))
        for item_id in before.keys() - now.keys():
            click.echo(f"- gone  {plain(item_id)}")
        sys.stdout.flush()
        before = now
        time.sleep(interval)


COMMANDS: Final = (list_items, get, set_item, remove, watch)
