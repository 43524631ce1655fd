"""Lookups of items and runs that commands and the tools of ``mcp`` share, as exchanges. No I/O."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, cast

from progressbar_tracker._errors import ItemNotFoundError
from progressbar_tracker._http.exchanges import ServerProtocol, request_last_run, request_run
from progressbar_tracker._models import format_value

if TYPE_CHECKING:
    from progressbar_tracker._http.exchanges import Exchange
    from progressbar_tracker._models import Item


def request_item_or_last_run(item_id: str) -> Exchange[tuple[Item, bool]]:
    """Return an item and true, or its last run of the history and false.

    Raises:
        ItemNotFoundError: There is neither.
    """
    try:
        return (yield from ServerProtocol(auto_detect=False).get(item_id)), True
    except ItemNotFoundError as missing:
        try:
            run = yield from request_last_run(item_id)
        except ItemNotFoundError:  # the server has only part 1 of the protocol
            run = None
        if run is None:
            raise missing from None
        return cast("Item", run), False


def request_run_or_item(item_id: str, run_id: str) -> Exchange[Item]:
    """Return a run of the history, or the current one.

    Raises:
        ItemNotFoundError: There is no such run.
    """
    run = yield from request_run(item_id, run_id)
    if run is not None:
        return cast("Item", run)
    with contextlib.suppress(ItemNotFoundError):
        item = yield from ServerProtocol(auto_detect=False).get(item_id)
        if item["run_id"] == run_id:
            return item
    raise ItemNotFoundError(
        f"{format_value(item_id)} has no run {format_value(run_id)}", status_code=404, code="item-not-found"
    )
