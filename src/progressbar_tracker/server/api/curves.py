"""The curves of a run and of its former runs: the position at each time since the start."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias

from progressbar_tracker.server.http.blocking import run_while_connected
from progressbar_tracker.server.http.request import Request, get_query_text, validate_id
from progressbar_tracker.server.http.response import Response, encode_json
from progressbar_tracker.server.items.former_runs import (
    MAX_FORMER_RUNS,
    MIN_EXACT_RUNS,
    FormerRunRow,
    select_former_runs,
    select_runs,
)
from progressbar_tracker.server.items.patterns import find_pattern
from progressbar_tracker.server.models import rfc3339
from progressbar_tracker.server.problems import ProblemError
from progressbar_tracker.server.stores.base import HistoryFilter

from .history_query import FoundRun, InterruptibleReader, find_run, report_unreadable
from .items import parse_number

if TYPE_CHECKING:
    from collections.abc import Iterable

    from progressbar_tracker.server.items.curves import Curve
    from progressbar_tracker.server.models import Item, Sample
    from progressbar_tracker.server.pools import Cancellation
    from progressbar_tracker.server.stores.base import Store

DEFAULT_FORMER_CURVES: Final = 8

MAX_CURVE_POINTS: Final = 600
"""Maximum points of a run."""

POSITION_DIGITS: Final = 7
"""Significant digits of the positions of stored curves, which are 32-bit floats."""

Point: TypeAlias = tuple[float, float]


async def get_curves(request: Request) -> Response:
    """``GET /api/v1/curves?id=&run_id=&former=``: a run with its parts, and the curves of its former runs."""
    query = request.parse_query()
    item_id, run_id = validate_id(query.get("id")), get_query_text(query, "run_id")
    count = parse_number(query, "former", DEFAULT_FORMER_CURVES, 0, MAX_FORMER_RUNS)
    services = request.services
    run = await find_run(request, item_id, run_id)
    if run is None:
        raise ProblemError("item-not-found", "there is no such run")
    recorded = services.curves.get_curve(item_id, run.item.run_id)
    ended = services.former_runs.list_ended(find_pattern(item_id))

    def read(cancellation: Cancellation) -> bytes:
        store = services.store
        former = _read_former_runs(store, run, ended, count, cancellation) if count else []
        curves = store.read_curves([(item_id, run.item.run_id)], cancellation=cancellation)
        curve = _choose_longer(recorded, curves.get((item_id, run.item.run_id)))
        runs = [_serialize_run(store, run.item, run.status, run.ended_at, curve, cancellation)]
        runs += [_serialize_run(store, row.item, "succeeded", row.ended_at, row.curve, cancellation) for row in former]
        return encode_json({"runs": runs, "parts": {name: part.completed for name, part in run.item.parts.items()}})

    with report_unreadable():
        return Response(200, await run_while_connected(request, services.pools.history, read))


def _read_former_runs(
    store: Store, run: FoundRun, ended: list[Item], count: int, cancellation: Cancellation
) -> list[FormerRunRow]:
    """Return the successful runs before a run, newest first: those of its id, or with too few, of its pattern."""
    item = run.item
    if run.n is None:
        return select_former_runs(InterruptibleReader(store, cancellation), item.id, item, ended)[:count]
    rows = store.read_history(
        HistoryFilter(id=item.id, status="succeeded"), after=run.n, limit=count, cancellation=cancellation
    )
    curves = store.read_curves([(row.item.id, row.item.run_id) for row in rows], cancellation=cancellation)
    excluded = item.id, item.run_id
    exact = select_runs(
        (FormerRunRow(row.item, row.ended_at, curves.get((row.item.id, row.item.run_id))) for row in rows),
        item.unit,
        excluded=excluded,
    )
    pattern = find_pattern(item.id)
    if len(exact) >= MIN_EXACT_RUNS or pattern == item.id:
        return exact[:count]
    latest = item.started_at if run.ended_at is None else run.ended_at
    found = store.read_former_runs([pattern], by="pattern", cancellation=cancellation).get(pattern, [])
    shared = select_runs((row for row in found if row.ended_at <= latest), item.unit, excluded=excluded)
    return (shared if len(shared) > len(exact) else exact)[:count]


def _choose_longer(recorded: Curve | None, stored: Curve | None) -> Curve | None:
    """Return the curve that covers more time: the recorder of another server may have the newest points."""
    curves = [curve for curve in (recorded, stored) if curve is not None]
    return max(curves, key=lambda curve: curve.step * (len(curve.positions) - 1), default=None)


def _serialize_run(
    store: Store, item: Item, status: str, ended_at: float | None, curve: Curve | None, cancellation: Cancellation
) -> dict[str, object]:
    is_count = item.completed is not None
    if curve is None:  # a run of an earlier version, or one without progress yet
        samples = store.read_samples(item.id, item.run_id, cancellation=cancellation)
        points = list_sample_points(samples, item.started_at, is_count=is_count)
    else:
        points = [
            (n * curve.step, float(f"{position:.{POSITION_DIGITS}g}")) for n, position in enumerate(curve.positions)
        ]
    end = item.progressed_at if ended_at is None else ended_at
    points = complete_points(points, end - item.started_at, item.value if item.completed is None else item.completed)
    total = item.total if item.total is not None and item.total > 0 else None
    return {
        "id": item.id,
        "run_id": item.run_id,
        "status": status,
        "started_at": rfc3339(item.started_at),
        "duration_seconds": None if ended_at is None else round(max(ended_at - item.started_at, 0.0), 3),
        "unit": item.unit,
        "total": total if is_count else None,
        "points": [(round(at, 3), position) for at, position in points],
    }


def list_sample_points(samples: Iterable[Sample], started_at: float, *, is_count: bool) -> list[Point]:
    """Return samples as points; those of the other kind are left out."""
    return [
        (max(sample.at - started_at, 0.0), sample.value if sample.completed is None else sample.completed)
        for sample in samples
        if (sample.completed is not None) is is_count
    ]


def complete_points(points: Iterable[Point], duration: float, position: float) -> list[Point]:
    """Return points from the start to a last position, at most :data:`MAX_CURVE_POINTS`.

    Args:
        points: In the order of time; those after the duration are dropped.
        duration: Seconds from the start to the end, or to the latest progress.
        position: The position then.

    >>> complete_points([(1.0, 2.0), (9.0, 9.0)], 4.0, 5.0)
    [(0.0, 0.0), (1.0, 2.0), (4.0, 5.0)]
    """
    duration = max(duration, 0.0)
    kept = [(at, value) for at, value in points if at < duration]
    if not kept or kept[0][0] > 0:
        kept.insert(0, (0.0, 0.0))
    while len(kept) >= MAX_CURVE_POINTS:
        kept = kept[::2]
    return [*kept, (duration, position)]
