"""The former runs of an item, from which a run is estimated: their selection and their statistics.

They are the newest successful runs of its id. With fewer than three, they are those of its pattern, see
:func:`~.patterns.find_pattern`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, NamedTuple, Protocol

from progressbar_tracker._former_runs import FormerRun, FormerRuns

from .patterns import find_pattern

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from progressbar_tracker.server.models import Item

    from .curves import Curve

MAX_FORMER_RUNS: Final = 16
"""Maximum former runs from which a run is estimated."""

MIN_EXACT_RUNS: Final = 3
"""Former runs of an id from which those of its pattern are not needed."""

POSITION_COUNT: Final = 65
"""Positions of a former run in equal distances of time, from its start to its end."""


class FormerRunRow(NamedTuple):
    """A successful former run.

    Attributes:
        item: The last state of the item.
        ended_at: The end of the run.
        curve: The curve; ``None`` for a run of an earlier version.
    """

    item: Item
    ended_at: float
    curve: Curve | None

    @property
    def duration(self) -> float:
        """The seconds from the start to the end."""
        return self.ended_at - self.item.started_at


class FormerRunReader(Protocol):
    """The reads of a store that former runs need."""

    def read_former_runs(self, keys: Collection[str], *, by: Literal["id", "pattern"]) -> dict[str, list[FormerRunRow]]:
        """Return the successful runs of ids or patterns, newest first."""

    def read_curves(self, runs: Collection[tuple[str, str]]) -> dict[tuple[str, str], Curve]:
        """Return the stored curves of runs, by id and run id."""


def select_runs(
    rows: Iterable[FormerRunRow], unit: str | None, *, excluded: tuple[str, str] | None = None
) -> list[FormerRunRow]:
    """Return the newest usable runs, newest first and each once.

    Args:
        rows: The runs.
        unit: The unit of the estimated run; ``None`` for any.
        excluded: The id and the run id of a run that is left out.
    """
    found = {
        (row.item.id, row.item.run_id): row
        for row in rows
        if row.duration > 0 and unit in (None, row.item.unit) and (row.item.id, row.item.run_id) != excluded
    }
    return sorted(found.values(), key=lambda row: row.ended_at, reverse=True)[:MAX_FORMER_RUNS]


def choose_unit(unit: str, *, is_count: bool) -> str | None:
    """Return the unit of the former runs of a run; ``None`` for any, while it has neither a count nor a unit."""
    return unit if is_count or unit else None


def select_former_runs(
    store: FormerRunReader, item_id: str, item: Item | None, ended: Collection[Item] = ()
) -> list[FormerRunRow]:
    """Return the runs from which an item is estimated, newest first. May block: use a thread.

    Args:
        store: The store.
        item_id: The id of the item.
        item: The item; ``None`` if it is not on the board.
        ended: The items of its pattern that have succeeded, and are not yet in the history.
    """
    unit, excluded = None, None
    if item is not None:
        unit, excluded = choose_unit(item.unit, is_count=item.completed is not None), (item_id, item.run_id)
    exact = select_runs(store.read_former_runs([item_id], by="id").get(item_id, ()), unit, excluded=excluded)
    pattern = find_pattern(item_id)
    if len(exact) >= MIN_EXACT_RUNS or pattern == item_id:
        return exact
    rows = store.read_former_runs([pattern], by="pattern").get(pattern, [])
    shared = select_runs([*rows, *read_ended_runs(store, ended)], unit, excluded=excluded)
    return shared if len(shared) > len(exact) else exact


def read_ended_runs(store: FormerRunReader, ended: Collection[Item]) -> list[FormerRunRow]:
    """Return the runs of items that have succeeded and are still on the board."""
    curves = store.read_curves([(item.id, item.run_id) for item in ended]) if ended else {}
    return [
        FormerRunRow(item, item.ended_at, curves.get((item.id, item.run_id)))
        for item in ended
        if item.ended_at is not None
    ]


def build_former_runs(rows: Iterable[FormerRunRow], *, is_count: bool) -> FormerRuns | None:
    """Return the statistics of runs.

    Args:
        rows: The runs.
        is_count: Whether the estimated run has a count. Positions of the other kind cannot be compared with its own.
    """
    return FormerRuns.build(
        FormerRun(
            row.duration,
            total if has_kind and (total := _get_end_position(row.item)) > 0 else None,
            resample(row.curve, row.duration, total) if has_kind and row.curve is not None else (),
            row.item.progress.longest_gap,
        )
        for row in rows
        for has_kind in ((row.item.completed is not None) is is_count,)
    )


def resample(curve: Curve, duration: float, end_position: float) -> list[float]:
    """Return the positions of a run at equal distances in time, from its start to its end.

    Args:
        curve: The curve, which may end before the run.
        duration: Seconds from the start to the end.
        end_position: The position at the end.
    """
    step, points = curve
    positions = []
    last_index = len(points) - 1
    last_at = last_index * step
    for n in range(POSITION_COUNT - 1):
        at = duration * n / (POSITION_COUNT - 1)
        if at >= last_at:
            rest = (at - last_at) / (duration - last_at)
            positions.append(points[last_index] + (end_position - points[last_index]) * rest)
        else:
            index, rest = divmod(at / step, 1.0)
            low, high = points[int(index)], points[int(index) + 1]
            positions.append(low + (high - low) * rest)
    return [*positions, end_position]


def _get_end_position(item: Item) -> float:
    return item.value if item.completed is None else item.completed
