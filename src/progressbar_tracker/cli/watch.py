"""``watch``: the items of a server as they change, as bars on a screen or as lines in a pipe."""

from __future__ import annotations

import contextlib
import sys
import time
from collections import deque
from typing import TYPE_CHECKING, Final

import click

from progressbar_tracker._errors import ItemNotFoundError, ProgressBarError
from progressbar_tracker._models import Change
from progressbar_tracker._text import display_width, sanitize_line, truncate
from progressbar_tracker.cli import streams
from progressbar_tracker.cli.bars import (
    ASCII_GLYPHS,
    MAX_ENDED,
    UNICODE_GLYPHS,
    Line,
    count_rows,
    describe_end,
    fit_rows,
    format_frame,
)
from progressbar_tracker.cli.table import (
    STATUS_COLOURS,
    STATUS_MARKS,
    TIME_COLUMNS,
    find_clock_offset,
    format_item_row,
    is_inner_run,
)

from .connection import connect, read_clock
from .help import list_examples
from .options import url_option

if TYPE_CHECKING:
    from collections.abc import Iterator

    from progressbar_tracker._client import ProgressBar
    from progressbar_tracker._models import Item


@click.command(epilog=list_examples("watch", "$progressbar-tracker watch | grep --line-buffered failed"))
@click.option(
    "--interval", type=click.FloatRange(0.2, 3600), default=1.0, help="Seconds between two updates of the screen (1)."
)
@url_option
def watch(interval: float, url: str | None) -> None:
    r"""Follow the items until Ctrl-C: bars in a terminal, or a line for each change in a pipe.

    Runs that leave the list are shown with their end: succeeded, failed, stopped or deleted.
    """
    with connect(url) as client, contextlib.suppress(KeyboardInterrupt):
        if sys.stdout.isatty() and not streams.is_dumb_terminal():
            _watch_screen(client, interval)
        else:
            _watch_lines(client, interval)


class ItemList:
    """The items after each change of a stream, in the order of ``ls``, and the runs that have ended."""

    def __init__(self) -> None:
        self._items: dict[str, Item] = {}
        self.ended: deque[Item] = deque(maxlen=MAX_ENDED)  # the latest first
        self.outage: tuple[float, str] | None = None  # its start (monotonic) and its reason
        self.clock_offset = 0.0  # see find_clock_offset()

    def apply(self, change: Change) -> list[Item]:
        """Apply a change and return the items."""
        if change.snapshot:
            self._items.clear()
        self._items.update((item["id"], item) for item in change.items)
        for item_id in change.gone:
            self._items.pop(item_id, None)
        self.ended.extendleft(run for run in change.ended if not is_inner_run(run))
        self.outage = None
        if change.items:
            self.clock_offset = find_clock_offset(change.items, time.time())
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

    items, clock = ItemList(), read_clock()
    glyphs = UNICODE_GLYPHS if streams.can_encode("".join(UNICODE_GLYPHS)) else ASCII_GLYPHS
    changed, errors = threading.Event(), list[Exception]()

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
            columns, rows = shutil.get_terminal_size()
            now = time.time() + items.clock_offset
            lines = format_frame(items.current, list(items.ended), now, clock, columns, glyphs)
            if not items.current:
                lines.insert(0, Line("Nothing is running."))
            if items.outage is not None:
                since, reason = items.outage
                silent = int(time.monotonic() - since)
                lines.insert(0, Line(truncate(f"No answer for {silent} s: {reason}", columns), "failed"))
            _draw(fit_rows(lines, columns, rows - 1), columns)
            changed.wait(interval)
    finally:
        click.echo("\x1b[?25h\x1b[?1049l", nl=False)
    raise errors[0]


def _draw(lines: list[Line], columns: int) -> None:
    """Write a frame. Clearing only the rest of each line and of the screen avoids flicker."""
    parts = ["\x1b[H"]
    for text, status, is_heading in lines:
        styled = click.style(text, bold=True) if is_heading else click.style(text, fg=STATUS_COLOURS.get(status))
        # After a full row the cursor is still on its last character, which would be cleared.
        is_full = bool(text) and display_width(text) >= columns * count_rows(text, columns)
        parts.append(f"{styled}\n" if is_full else f"{styled}\x1b[K\n")
    click.echo("".join(parts) + "\x1b[J", nl=False)


def _watch_lines(client: ProgressBar, interval: float) -> None:
    items, printed_rows, clock = ItemList(), dict[str, tuple[str, ...]](), read_clock()
    statuses = dict[str, str]()
    for change in items.watch_changes(client, interval):
        current = items.apply(change)
        ended = {str(run.get("id")) for run in change.ended}
        for run in change.ended:
            # The end of an item that was listed until now has its line already.
            if statuses.get(str(run.get("id"))) != f"{run.get('run_id')} {run.get('status')}":
                click.echo(_format_end(run))
            else:
                ended.discard(str(run.get("id")))
        now, rows = time.time() + items.clock_offset, dict[str, tuple[str, ...]]()
        for item in current:
            item_id, cells = item["id"], format_item_row(item, now, clock)
            statuses[item_id] = f"{item.get('run_id')} {item.get('status')}"
            # Time that passes is no change.
            rows[item_id] = tuple(cell for column, cell in enumerate(cells) if column not in TIME_COLUMNS)
            if printed_rows.get(item_id) != rows[item_id]:
                click.echo("  ".join(cell for cell in cells if cell))
        for item_id in printed_rows.keys() - rows.keys():
            statuses.pop(item_id, None)
            if item_id not in ended:
                click.echo(f"- gone  {sanitize_line(item_id)}")
        sys.stdout.flush()
        printed_rows = rows


def _format_end(run: Item) -> str:
    mark = STATUS_MARKS.get(str(run.get("status")), " ")
    return "  ".join(
        filter(None, (f"{mark} {describe_end(run)}", sanitize_line(run.get("title")), sanitize_line(run.get("id"))))
    )


CLI_COMMANDS: Final = (watch,)
