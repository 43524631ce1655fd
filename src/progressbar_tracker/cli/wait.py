"""``wait``: block until runs have ended, and exit with how they ended."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, Final

import click

from progressbar_tracker._errors import (
    ItemNotFoundError,
    ProgressBarError,
    RateLimitedError,
    ServerError,
    TransportError,
)
from progressbar_tracker._http.exchanges import request_last_run, request_run
from progressbar_tracker._models import check_id, format_value
from progressbar_tracker._text import parse_duration, sanitize_line
from progressbar_tracker.cli.bars import describe_end

from . import streams
from .connection import connect, request
from .help import join_blocks, list_examples, list_exit_codes
from .options import json_option, print_json, refuse_value, url_option

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from progressbar_tracker._http.exchanges import Exchange
    from progressbar_tracker._models import Change

EXIT_CODES: Final = {"succeeded": 0, "stopped": 3, "deleted": 4, "failed": 5}
TIMEOUT_CODE: Final = 124
"""As timeout(1)."""

UNKNOWN_END_CODE: Final = 1
LOOKUP_RETRY_SECONDS: Final = 1.0
"""Seconds until a failed request to the history is repeated."""

MAX_LOOKUPS: Final = 10
"""Requests for the end of a run that has left the list, before it counts as unknown."""

NO_STREAM_MESSAGE: Final = "this server has no event stream, which a wait needs: it is of version 1"

TRANSIENT_ERRORS: Final = (TransportError, ServerError, RateLimitedError)
"""Failures of a request to the history after which it is repeated."""


class UnknownEndError(ProgressBarError):
    """Neither the list nor the history has the run that is awaited. ``was_running`` says whether it was listed."""

    def __init__(self, message: str, *, was_running: bool) -> None:
        super().__init__(message)
        self.was_running = was_running


class Waiting:
    """The runs that a command waits for. Pure: changes of the board in, ends and open questions out.

    Args:
        ids: The items.
        run_ids: The run to wait for by item, if it is known.

    Attributes:
        ended: The ended runs by the id of their item.
        missing: The ids whose run may be in the history: it has to be asked.
    """

    def __init__(self, ids: Iterable[str], run_ids: Mapping[str, str] | None = None) -> None:
        self.ids: Final = tuple(dict.fromkeys(ids))
        self.ended: dict[str, Mapping[str, object]] = {}
        self.missing: set[str] = set()
        self._run_ids: dict[str, object] = dict(run_ids or {})  # of the runs that were seen running
        self._absent: set[str] = set()  # ids that have neither an item nor a run
        self._lookups: Counter[str] = Counter()  # answers of the history without the awaited run

    @property
    def is_over(self) -> bool:
        """Whether all runs have ended."""
        return len(self.ended) == len(self.ids)

    def get_run_id(self, item_id: str) -> str | None:
        """Return the id of the run that was seen running; ``None`` if none was."""
        run_id = self._run_ids.get(item_id)
        return None if run_id is None else str(run_id)

    def apply(self, change: Change) -> list[str]:
        """Apply a change of the board, and return the ids whose run has ended with it."""
        before = set(self.ended)
        for run in change.ended:
            item_id = str(run.get("id"))
            if self._is_awaited(item_id) and self._run_ids.get(item_id) in (None, run.get("run_id")):
                self.ended[item_id] = run
        listed = set[str]()
        for item in change.items:
            item_id, run_id = item["id"], item.get("run_id")
            listed.add(item_id)
            if not self._is_awaited(item_id):
                continue
            if self._run_ids.get(item_id) not in (None, run_id):
                self.missing.add(item_id)  # another run has begun: the awaited one is in the history
            elif item.get("status", "running") == "running":
                self._run_ids[item_id] = run_id
                self._absent.discard(item_id)
            else:
                self.ended[item_id] = item
        gone = (set(self.ids) - listed) - self._absent if change.snapshot else set(change.gone)
        self.missing.update(filter(self._is_awaited, gone))
        self.missing -= self.ended.keys()
        return [item_id for item_id in self.ids if item_id in self.ended and item_id not in before]

    def request_end(self, item_id: str) -> Exchange[dict[str, object] | None]:
        """Request the run of a missing id from the history; ``TRANSIENT_ERRORS`` leave it missing."""
        run_id = self.get_run_id(item_id)
        return request_last_run(item_id) if run_id is None else request_run(item_id, run_id)

    def resolve(self, item_id: str, run: Mapping[str, object] | None, *, appear: bool) -> bool:
        """Record the run that the history has of a missing id; return whether there is one.

        Args:
            item_id: The missing id.
            run: The run, or ``None``.
            appear: Wait for an id that has neither an item nor a run.

        Raises:
            UnknownEndError: There is none, and ``appear`` is false or the run was seen before and asked for repeatedly.
        """
        if run is None and self.get_run_id(item_id) is not None and self._lookups[item_id] < MAX_LOOKUPS:
            # A run leaves the list a moment before its end is committed to the history.
            self._lookups[item_id] += 1
            return False
        self.missing.discard(item_id)
        if run is not None:
            self.ended[item_id] = run
            return True
        if self.get_run_id(item_id) is not None:
            raise UnknownEndError(
                f"item {format_value(item_id)} has left the list, and the history does not have its end",
                was_running=True,
            )
        if not appear:
            raise UnknownEndError(f"there is no item with the id {format_value(item_id)}", was_running=False)
        self._absent.add(item_id)
        return False

    def _is_awaited(self, item_id: str) -> bool:
        return item_id in self.ids and item_id not in self.ended


def read_timeout(context: click.Context, option: click.Parameter, text: str | None) -> float | None:
    """Return the value of ``--timeout`` in seconds."""
    if text is None:
        return None
    with refuse_value(context, option):
        return parse_duration(text, default_unit="s")


@click.command(
    epilog=join_blocks(
        list_exit_codes(
            "of several items the highest",
            {
                0: "succeeded",
                1: "an error, such as an unknown item or an unreachable server",
                2: "wrong usage",
                3: "stopped",
                4: "deleted while it was running",
                5: "failed",
                TIMEOUT_CODE: "the timeout has passed",
            },
        ),
        list_examples(
            "$progressbar-tracker wait nightly-import && ./report.sh",
            "wait part-1 part-2 --timeout 2h",
            "wait deploy --appear --timeout 10m",
        ),
    )
)
@click.argument("item_ids", metavar="ID...", nargs=-1, required=True)
@click.option(
    "--timeout", metavar="TIME", callback=read_timeout, help="Give up after 90s, 1h30m; the exit code is 124."
)
@click.option("--appear", is_flag=True, help="Also wait for items that do not exist yet, instead of an error.")
@url_option
@json_option
def wait(item_ids: tuple[str, ...], timeout: float | None, appear: bool, url: str | None, as_json: bool) -> int:
    """Wait until items have ended, and print how each of them ended.

    Of an item that has already ended, the last run counts, also if it is in the history only. An unknown item is an
    error, because its ID may be mistyped; --appear waits until it begins. The command survives a restart of the server.
    """
    end = None if timeout is None else time.monotonic() + timeout
    for item_id in item_ids:
        check_id(item_id, "ID")
    waiting = Waiting(item_ids)
    for item_id in iterate_ends(waiting, url, end, appear=appear):
        if not as_json:
            click.echo(f"{sanitize_line(item_id)}  {describe_end(waiting.ended[item_id])}")
    if as_json:
        print_json([waiting.ended[item_id] for item_id in waiting.ids if item_id in waiting.ended])
    if not waiting.is_over:
        running = [item_id for item_id in waiting.ids if item_id not in waiting.ended]
        streams.print_error(f"not ended within {timeout:g} s: {', '.join(running)}")
        return TIMEOUT_CODE
    return max(EXIT_CODES.get(str(run.get("status")), UNKNOWN_END_CODE) for run in waiting.ended.values())


def iterate_ends(waiting: Waiting, url: str | None, end: float | None, *, appear: bool) -> Iterator[str]:
    """Yield the ids as their runs end, until all have ended or the instant ``end`` of the monotonic clock."""
    with _follow_board(url, waiting.ids) as changes:
        while not waiting.is_over:
            left = None if end is None else max(end - time.monotonic(), 0.0)
            if waiting.missing:
                left = LOOKUP_RETRY_SECONDS if left is None else min(left, LOOKUP_RETRY_SECONDS)
            try:
                change = changes.get(timeout=left)
            except queue.Empty:
                if end is not None and time.monotonic() >= end:
                    return
            else:
                if isinstance(change, Exception):
                    raise change
                yield from waiting.apply(change)
            for item_id in sorted(waiting.missing):
                if _ask_history(waiting, item_id, url, appear=appear):
                    yield item_id


@contextlib.contextmanager
def _follow_board(url: str | None, ids: Sequence[str]) -> Iterator[queue.SimpleQueue[Change | Exception]]:
    """Return a queue that a thread fills with the changes of the board, and with the error that ends them."""
    changes: queue.SimpleQueue[Change | Exception] = queue.SimpleQueue()
    outages = _Outages()

    def follow() -> None:
        try:
            for change in client.watch(item_id=ids[0] if len(ids) == 1 else None, on_lost=outages.record):
                changes.put(change)
        except ItemNotFoundError:
            changes.put(click.ClickException(NO_STREAM_MESSAGE))
        except (ProgressBarError, RuntimeError) as error:  # RuntimeError: the client is closed
            changes.put(error)

    with connect(url) as client:
        threading.Thread(target=follow, daemon=True).start()
        try:
            yield changes
        finally:
            outages.is_over = True


class _Outages:
    """Writes one line to stderr when the connection is lost for the first time.

    Attributes:
        is_over: The command has ended: the next outage ends the stream.
    """

    def __init__(self) -> None:
        self.is_over = False
        self._is_written = False

    def record(self, error: ProgressBarError | None) -> None:
        """Write the line.

        Raises:
            RuntimeError: The command has ended.
        """
        if self.is_over:
            raise RuntimeError("the command has ended")
        if not self._is_written and error is not None:
            self._is_written = True
            streams.print_note(f"The connection is lost, and is tried again: {error}")


def _ask_history(waiting: Waiting, item_id: str, url: str | None, *, appear: bool) -> bool:
    """Look for the end of a run in the history; return whether it is known now.

    Raises:
        ClickException: There is neither an item nor a run with the id.
    """
    try:
        run = request(url, waiting.request_end(item_id))
    except TRANSIENT_ERRORS:
        return False  # it is still missing, and asked for again
    try:
        return waiting.resolve(item_id, run, appear=appear)
    except UnknownEndError as error:
        hint = "" if error.was_running else " (--appear waits for it)"
        raise click.ClickException(f"{error}{hint}") from None


CLI_COMMANDS: Final = (wait,)
