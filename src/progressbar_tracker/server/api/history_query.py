"""Queries of the history: parse their criteria, and read runs in the pool for their purpose."""

from __future__ import annotations

from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, get_args

from progressbar_tracker._models import FieldError
from progressbar_tracker.server.http.blocking import run_in_pool, run_while_connected
from progressbar_tracker.server.http.request import Request, get_query_text
from progressbar_tracker.server.items.former_runs import select_former_runs
from progressbar_tracker.server.items.patterns import find_pattern
from progressbar_tracker.server.items.validation import parse_instant
from progressbar_tracker.server.models import EndStatus
from progressbar_tracker.server.problems import ProblemError, field_problem
from progressbar_tracker.server.stores.base import HistoryFilter, StoreError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from progressbar_tracker.server.items.curves import Curve
    from progressbar_tracker.server.items.former_runs import FormerRunRow
    from progressbar_tracker.server.models import Item
    from progressbar_tracker.server.pools import Cancellation
    from progressbar_tracker.server.stores.base import HistoryRow, Store

END_STATUSES: Final[tuple[EndStatus, ...]] = get_args(EndStatus)


class FoundRun(NamedTuple):
    """A run of the board or of the history.

    Attributes:
        ended_at: ``None`` while it is running.
        n: Its row of the history; ``None`` on the board.
    """

    item: Item
    status: str
    ended_at: float | None
    n: int | None = None


def parse_filter(query: dict[str, str], *, allow_empty: bool = True) -> HistoryFilter:
    """Return the filter of a query.

    Args:
        query: Names to values.
        allow_empty: Whether an empty value is a criterion. A form sends all its fields.

    Raises:
        ProblemError: ``invalid-field``.
    """
    given = {name: value for name, value in query.items() if value or allow_empty}
    status = next((end for end in END_STATUSES if end == given.get("status")), None)
    if "status" in given and status is None:
        raise ProblemError("invalid-field", f"status must be one of {', '.join(END_STATUSES)}", field="status")
    if given.get("inner", "true") not in ("true", "false"):
        raise ProblemError("invalid-field", "inner must be true or false", field="inner")
    return HistoryFilter(
        get_query_text(given, "group"),
        status,
        get_query_text(given, "id"),
        get_query_text(given, "q") or None,
        get_query_text(given, "run_id"),
        get_query_text(given, "parent"),
        given.get("inner") != "false",
        parse_query_instant(given, "since"),
        parse_query_instant(given, "until"),
    )


def parse_query_instant(query: dict[str, str], name: str) -> float | None:
    """Return an instant of a query; ``None`` if it is missing.

    Raises:
        ProblemError: ``invalid-field``.
    """
    if name not in query:
        return None
    try:
        return parse_instant(name, query[name])
    except FieldError as error:
        raise field_problem(error) from None


def parse_cursor(query: dict[str, str]) -> int | None:
    """Return the row after which a query begins, or ``None``.

    Raises:
        ProblemError: ``invalid-field``.
    """
    after = query.get("after")
    if after is None:
        return None
    if not (after.isascii() and after.isdigit() and len(after) <= 18):
        raise ProblemError("invalid-field", "after is not a cursor of this list", field="after")
    return int(after)


async def read_history(
    request: Request, criteria: HistoryFilter, after: int | None, limit: int, *, watch_client: bool = True
) -> list[HistoryRow]:
    """Return rows of the history, newest first.

    Args:
        request: The request.
        criteria: The filter.
        after: Begin after this row.
        limit: The maximum number of rows.
        watch_client: Cancel the search if the client disconnects; a stream detects that on its own.

    Raises:
        ProblemError: ``unavailable``.
    """
    services = request.services
    run = run_while_connected if watch_client else run_in_pool
    with report_unreadable():
        return await run(
            request,
            services.pools.history if criteria.text is None else services.pools.search,
            lambda cancellation: services.store.read_history(
                criteria, after=after, limit=limit, cancellation=cancellation
            ),
        )


async def find_run(request: Request, item_id: str, run_id: str | None) -> FoundRun | None:
    """Return a run of the board or of the history; the current or the latest one without a run id.

    ``None`` if neither has it.

    Raises:
        ProblemError: ``unavailable``.
    """
    services = request.services
    await services.fetch_item(item_id)
    item = services.read_board.get(item_id) or services.board.get(item_id)
    if item is not None and run_id in (None, item.run_id):
        return FoundRun(item, item.status, None if item.status == "running" else item.ended_at)
    criteria = HistoryFilter(id=item_id, run_id=run_id)
    rows = await read_history(request, criteria, None, 1)
    if not rows:
        # A run that has just left the board is in the history after the pending commit.
        with suppress(ProblemError):
            await services.unit_of_work.commit([])
        rows = await read_history(request, criteria, None, 1)
    return FoundRun(rows[0].item, rows[0].status, rows[0].ended_at, rows[0].n) if rows else None


async def read_former_runs(request: Request, item_id: str) -> list[FormerRunRow]:
    """Return the runs from which an item is estimated, newest first.

    Args:
        request: The request.
        item_id: The id; the item may have left the board.

    Raises:
        ProblemError: ``unavailable``.
    """
    services = request.services
    await services.fetch_item(item_id)
    item, ended = services.board.get(item_id), services.former_runs.list_ended(find_pattern(item_id))
    with report_unreadable():
        return await run_while_connected(
            request,
            services.pools.history,
            lambda cancellation: select_former_runs(
                InterruptibleReader(services.store, cancellation), item_id, item, ended
            ),
        )


class InterruptibleReader:
    """Reads former runs and curves from a store, until the client disconnects."""

    def __init__(self, store: Store, cancellation: Cancellation) -> None:
        self._store = store
        self._cancellation = cancellation

    def read_former_runs(self, keys: Collection[str], *, by: Literal["id", "pattern"]) -> dict[str, list[FormerRunRow]]:
        """Return the successful runs of ids or patterns, newest first."""
        return self._store.read_former_runs(keys, by=by, cancellation=self._cancellation)

    def read_curves(self, runs: Collection[tuple[str, str]]) -> dict[tuple[str, str], Curve]:
        """Return the stored curves of runs, by id and run id."""
        return self._store.read_curves(runs, cancellation=self._cancellation)


@contextmanager
def report_unreadable() -> Iterator[None]:
    """Turn an error of the store into a problem.

    Raises:
        ProblemError: ``unavailable``.
    """
    try:
        yield
    except StoreError as error:
        raise ProblemError("unavailable", "the history cannot be read at the moment", retry_after=5) from error
