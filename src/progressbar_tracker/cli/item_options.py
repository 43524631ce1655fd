"""The options of ``run``, ``exec`` and ``pipe`` that describe the item and its server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypedDict

import click

from progressbar_tracker._tracking.deadline import parse_deadline
from progressbar_tracker._tracking.stuck_after import parse_stuck_after

from .options import refuse_value

if TYPE_CHECKING:
    from collections.abc import Callable

    from progressbar_tracker._models import StuckAfter
    from progressbar_tracker._tracking.deadline import DeadlineLike

PASSTHROUGH_SETTINGS: Final = {"ignore_unknown_options": False, "allow_interspersed_args": False}
"""The program gets the rest of the line, including its options."""

EMPTY_URL: Final = " "
"""Stands for an empty ``--url``: an empty variable would select the server of the config file."""

send_option = click.option(
    "--url",
    metavar="URL",
    callback=lambda _context, _option, text: EMPTY_URL if text == "" else text,
    help="Server to report to instead of the configured one.",
)


def _read_deadline(context: click.Context, option: click.Parameter, text: str | None) -> DeadlineLike | None:
    if text is None:
        return None
    with refuse_value(context, option):
        return parse_deadline(text)


def read_stuck_after(context: click.Context, option: click.Parameter, text: str | None) -> StuckAfter:
    """Parse the value of ``--stuck-after``, a callback of click."""
    if text is None:
        return "auto"
    with refuse_value(context, option):
        return parse_stuck_after(text)


stuck_after_option = click.option(
    "--stuck-after",
    metavar="TIME",
    callback=read_stuck_after,
    help="The item is stuck after 10m without progress; or off.",
)


deadline_option = click.option(
    "--deadline", metavar="TIME", callback=_read_deadline, help="The item is late after 90s, 1h30m, an instant."
)
notify_option = click.option("--notify", metavar="CHANNEL", multiple=True, help="Notify this channel; repeatable.")


class ItemOptions(TypedDict):
    """The values of the options that :func:`item_options` adds."""

    id: str | None
    title: str | None
    group: str | None
    notify: tuple[str, ...]
    deadline: DeadlineLike | None
    stuck_after: StuckAfter


def item_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of the item, a decorator for commands."""
    for option in (
        stuck_after_option,
        deadline_option,
        notify_option,
        click.option("--group", help="Group of the item on the page."),
        click.option("--title", help="Title of the item (default: the command line; of pipe, the id)."),
        click.option("--id", metavar="ID", help="Id of the item; a new run with the same id takes it over."),
    ):
        command = option(command)
    return command
