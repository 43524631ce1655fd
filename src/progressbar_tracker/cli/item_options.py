"""The options of ``run``, ``exec`` and ``pipe`` that describe the item and its server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypedDict

import click

from progressbar_tracker._tracking.deadline import parse_deadline

if TYPE_CHECKING:
    from collections.abc import Callable

    from progressbar_tracker._tracking.deadline import DeadlineLike

PASSTHROUGH_SETTINGS: Final = {"ignore_unknown_options": False, "allow_interspersed_args": False}
"""The program gets the rest of the line, including its options."""

send_option = click.option("--url", metavar="URL", help="Server to report to instead of the configured one.")


def _read_deadline(context: click.Context, option: click.Parameter, text: str | None) -> DeadlineLike | None:
    if text is None:
        return None
    try:
        return parse_deadline(text)
    except ValueError as error:
        raise click.BadParameter(str(error), context, option) from None


class ItemOptions(TypedDict):
    """The values of the options that :func:`item_options` adds."""

    id: str | None
    title: str | None
    group: str | None
    notify: tuple[str, ...]
    deadline: DeadlineLike | None


def item_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of the item, a decorator for commands."""
    for option in (
        click.option(
            "--deadline", metavar="TIME", callback=_read_deadline, help="The item is late after 90s, 1h30m, an instant."
        ),
        click.option("--notify", metavar="CHANNEL", multiple=True, help="Notify this channel; repeatable."),
        click.option("--group", help="Group of the item on the page."),
        click.option("--title", help="Title of the item (default: the command, or the id)."),
        click.option("--id", metavar="ID", help="Id of the item; a new run with the same id takes it over."),
    ):
        command = option(command)
    return command


def check_url(url: str | None) -> None:
    """Raise a ``ConfigError`` that names ``--url`` if the URL has no meaning."""
    if url is not None:
        from progressbar_tracker._http.messages import parse_base_url

        parse_base_url(url, "--url")
