"""``stop``: ask programs to stop."""

from __future__ import annotations

import time
from typing import Final

import click

from progressbar_tracker._phrases import format_stop
from progressbar_tracker._text import sanitize_line
from progressbar_tracker.cli.bars import describe_end

from . import streams
from .connection import connect
from .help import join_blocks, list_examples, list_exit_codes
from .options import json_option, print_json, url_option
from .wait import EXIT_CODES, TIMEOUT_CODE, UNKNOWN_END_CODE, Waiting, iterate_ends, read_timeout


@click.command(
    epilog=join_blocks(
        list_exit_codes(
            "without --wait only the first three",
            {
                0: "requested; with --wait: the run has stopped or succeeded",
                1: "an error, such as a run that has ended or cannot be stopped",
                2: "wrong usage",
                4: "deleted while it was running",
                5: "failed",
                TIMEOUT_CODE: "the timeout has passed",
            },
        ),
        list_examples("stop training", "stop training --run RUN", "stop training --wait --timeout 10m"),
    )
)
@click.argument("item_id", metavar="ID")
@click.option("--run", "run_id", metavar="RUN", help="Only if the item still belongs to this run.")
@click.option("--wait", "is_awaited", is_flag=True, help="Wait until the run has ended.")
@click.option(
    "--timeout", metavar="TIME", callback=read_timeout, help="Give up waiting after 90s, 1h30m; the exit code is 124."
)
@url_option
@json_option
def stop(
    item_id: str, run_id: str | None, is_awaited: bool, timeout: float | None, url: str | None, as_json: bool
) -> int:
    """Request that a program stops its run. Only runs that are stoppable accept it, and only with a write permission.

    The program ends its loop before the next item. It receives the request with the response to its next report.
    """
    if timeout is not None and not is_awaited:
        raise click.UsageError("--timeout needs --wait")
    end = None if timeout is None else time.monotonic() + timeout
    with connect(url) as client:
        item = client.request_stop(item_id, run_id)
    if not is_awaited:
        if as_json:
            print_json(item)
        else:
            click.echo(f"{sanitize_line(item_id)}  {sanitize_line(format_stop(item))}")
        return 0
    waiting = Waiting([item_id], {item_id: item["run_id"]})
    for _ in iterate_ends(waiting, url, end, appear=False):
        pass
    run = waiting.ended.get(item_id)
    if run is None:
        streams.print_error(f"not ended within {timeout:g} s: {sanitize_line(item_id)}")
        return TIMEOUT_CODE
    if as_json:
        print_json(run)
    else:
        click.echo(f"{sanitize_line(item_id)}  {describe_end(run)}")
    status = str(run.get("status"))
    return 0 if status == "stopped" else EXIT_CODES.get(status, UNKNOWN_END_CODE)


CLI_COMMANDS: Final = (stop,)
