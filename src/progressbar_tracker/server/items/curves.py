"""The curve of a run: its position at regular times since its start, from which later runs are estimated.

The recorder polls the changed items twice a second, so an update costs nothing extra. Between two steps of progress the
position is interpolated linearly. When a curve is full, every other point is dropped and the step doubles: a run of
milliseconds has as many points as one of days.
"""

from __future__ import annotations

import struct
import sys
from array import array
from itertools import islice
from math import isfinite
from typing import TYPE_CHECKING, Final, NamedTuple

from progressbar_tracker.server.mutations import SaveCurve

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from progressbar_tracker.server.models import Item

MAX_POINTS: Final = 128
"""Maximum points of a curve: then every other one is dropped."""

MIN_STEP_SECONDS: Final = 2.0**-10
"""Seconds between the first points of a run. A power of two, so that doubled steps and their sums are exact."""

MIN_SAVED_SECONDS: Final = 30.0
"""Seconds of progress until the curve of a running run is saved for the first time."""

SAVED_GROWTH: Final = 0.25
"""Fraction of a curve that is new when it is saved again: a run of an hour is saved less than twenty times."""

MAX_SAVES_PER_POLL: Final = 500
"""Maximum running runs saved in one poll: small writes to the store do not delay other commits."""

MAX_MISSED_SECONDS: Final = 2.0
"""Maximum duration of a run that starts and ends between two polls."""

START_TOLERANCE_SECONDS: Final = 0.05
"""Seconds by which the start of a run may move without an effect on its curve."""

MAX_FLOAT32: Final = 3.4e38
"""Maximum position; greater ones are limited to it."""

_HEADER_FORMAT: Final = struct.Struct("<Bd")
_FORMAT_VERSION: Final = 1


class Curve(NamedTuple):
    """The positions of a run over time.

    Attributes:
        step: Seconds between two points.
        positions: The position at ``0``, ``step``, ``2 * step``, ... seconds since the start of the run: ``completed``,
            or ``value`` for a run without a count. At most :data:`MAX_POINTS`.
    """

    step: float
    positions: Sequence[float]


class StoredCurve(NamedTuple):
    """The curve of a run in the store."""

    id: str
    run_id: str
    curve: Curve


def encode_curve(curve: Curve) -> bytes:
    """Return a curve as bytes: a version, the step, and the positions as 32-bit floats; 521 bytes at most."""
    positions = array("f", map(limit_position, islice(curve.positions, MAX_POINTS)))
    if sys.byteorder == "big":
        positions.byteswap()
    return _HEADER_FORMAT.pack(_FORMAT_VERSION, curve.step) + positions.tobytes()


def decode_curve(data: bytes) -> Curve:
    """Return the curve of its bytes.

    Raises:
        ValueError: They are damaged, or of a newer version.
    """
    points, rest = divmod(len(data) - _HEADER_FORMAT.size, 4)
    if not (0 < points <= MAX_POINTS and rest == 0):
        raise ValueError("the length of a curve is invalid")
    version, step = _HEADER_FORMAT.unpack_from(data)
    positions = array("f", data[_HEADER_FORMAT.size :])
    if sys.byteorder == "big":
        positions.byteswap()
    if version != _FORMAT_VERSION or not (isfinite(step) and step > 0) or not all(map(isfinite, positions)):
        raise ValueError("a curve is of another version, or has a number that is not finite")
    return Curve(step, positions)


def limit_position(position: float) -> float:
    """Return a position that a 32-bit float can hold."""
    return min(max(position, -MAX_FLOAT32), MAX_FLOAT32)


class _RunState:
    """The curve of a run so far.

    Attributes:
        started_at: The start of the run as last seen; ``None`` for a curve from the store.
        positions: Allocated with the first progress: many items never have any.
        elapsed: Seconds from the start to the latest progress.
        position: The position since then.
        is_count: Positions are those of ``completed``, not of ``value``.
        saved_elapsed: The value of ``elapsed`` in the store.
    """

    __slots__ = ("elapsed", "is_count", "position", "positions", "run_id", "saved_elapsed", "started_at", "step")

    def __init__(self, run_id: str, started_at: float | None, *, is_count: bool) -> None:
        self.run_id = run_id
        self.started_at = started_at
        self.step = MIN_STEP_SECONDS
        self.positions: array[float] | None = None
        self.elapsed = self.position = self.saved_elapsed = 0.0
        self.is_count = is_count

    @classmethod
    def restore(cls, run_id: str, curve: Curve, *, is_count: bool) -> _RunState:
        """Return the state of a stored curve; the time since then is interpolated."""
        run = cls(run_id, None, is_count=is_count)
        run.step, run.positions = curve.step, array("f", curve.positions)
        run.elapsed = run.saved_elapsed = (len(curve.positions) - 1) * curve.step
        run.position = curve.positions[-1]
        return run

    def add(self, elapsed: float, position: float) -> None:
        """Add a position, and the points up to it."""
        if elapsed > self.elapsed:
            positions = self.positions
            if positions is None:
                positions = array("f", (self.position,))
            step = self.step
            while elapsed >= MAX_POINTS * step:
                positions = positions[::2]
                step *= 2
            first, slope = len(positions), (position - self.position) / (elapsed - self.elapsed)
            last, last_at = self.position, self.elapsed
            positions.extend([last + (n * step - last_at) * slope for n in range(first, int(elapsed / step) + 1)])
            self.positions, self.step, self.elapsed = positions, step, elapsed
        # Otherwise the run continues an earlier one, or the clock was set back.
        self.position = position

    def move_start(self, seconds: float) -> None:
        """Let the run start earlier: its first report was late."""
        if self.positions is None:
            return
        points, step, elapsed, position = self.positions, self.step, self.elapsed, self.position
        self.positions, self.step, self.elapsed, self.position = None, MIN_STEP_SECONDS, 0.0, 0.0
        for n, point in enumerate(points):
            self.add(n * step + seconds, point)
        self.add(elapsed + seconds, position)

    def change_unit(self, factor: float, *, is_count: bool) -> None:
        """Convert positions between ``value`` and ``completed``."""
        self.is_count = is_count
        self.position = limit_position(self.position * factor)
        if self.positions is not None:
            self.positions = array("f", (limit_position(point * factor) for point in self.positions))

    def get_curve(self) -> Curve | None:
        """Return the curve, if there is any."""
        return None if self.positions is None else Curve(self.step, self.positions)


class CurveRecorder:
    """Records the curves of running items. Pure, and not thread-safe.

    Args:
        stored: The stored curves of runs that still run.
        get: Returns an item by its id.
    """

    def __init__(self, stored: Iterable[StoredCurve], get: Callable[[str], Item | None]) -> None:
        self._get = get
        self.replace_all(stored)

    def replace_all(self, stored: Iterable[StoredCurve]) -> None:
        """Adopt the stored curves of running items, as a server does that becomes the leader."""
        self._runs = {
            one.id: _RunState.restore(one.run_id, one.curve, is_count=item.completed is not None)
            for one in stored
            if (item := self._get(one.id)) is not None and item.run_id == one.run_id and item.status == "running"
        }

    def __len__(self) -> int:
        return len(self._runs)

    def poll(self, changed: Iterable[str], now: float) -> list[SaveCurve]:
        """Record the progress of items, and return the curves to save.

        Args:
            changed: The ids of the items that came, changed or left since the last poll.
            now: The instant.
        """
        finished, grown = list[SaveCurve](), list[SaveCurve]()
        for item_id in changed:
            item, run = self._get(item_id), self._runs.get(item_id)
            if run is not None and (item is None or item.run_id != run.run_id):
                # The run left the board since the last poll.
                del self._runs[item_id]
                finished += _save(item_id, run)
                run = None
            if item is None:
                continue
            if item.status != "running":
                finished += self._finish(item, run, now)
                continue
            if run is None:
                run = self._runs[item_id] = _RunState(item.run_id, item.started_at, is_count=item.completed is not None)
            _record(run, item, item.progressed_at)
            if (
                run.elapsed >= MIN_SAVED_SECONDS
                and run.elapsed - run.saved_elapsed >= run.elapsed * SAVED_GROWTH
                and len(grown) < MAX_SAVES_PER_POLL
            ):
                grown += _save(item_id, run)
        return finished + grown

    def get_curve(self, item_id: str, run_id: str) -> Curve | None:
        """Return the curve of a running run so far; ``None`` if it has none here."""
        run = self._runs.get(item_id)
        curve = None if run is None or run.run_id != run_id else run.get_curve()
        return None if curve is None else Curve(curve.step, list(curve.positions))

    def set_clock(self) -> None:
        """Adopt the starts of the items again: the wall clock was set, and their instants with it."""
        for run in self._runs.values():
            run.started_at = None

    def _finish(self, item: Item, run: _RunState | None, now: float) -> list[SaveCurve]:
        ended_at = item.updated_at if item.ended_at is None else item.ended_at
        if run is None:
            # An ended item may change again. Its curve is saved already, if it has not ended since the last poll.
            if not (now - ended_at < MAX_MISSED_SECONDS and ended_at - item.started_at < MAX_MISSED_SECONDS):
                return []
            run = _RunState(item.run_id, item.started_at, is_count=item.completed is not None)
        else:
            del self._runs[item.id]
        _record(run, item, min(item.progressed_at, ended_at))  # the end may have waited for the server
        _record(run, item, ended_at, is_end=True)
        return _save(item.id, run)


def _record(run: _RunState, item: Item, at: float, *, is_end: bool = False) -> None:
    """Add the position of an item at an instant to its curve."""
    is_count = item.completed is not None
    if is_count is not run.is_count:
        total = item.total or 0.0
        run.change_unit(total if is_count else 1 / total if total else 0.0, is_count=is_count)
    if run.started_at is None:
        run.started_at = item.started_at
    elif run.started_at - item.started_at > START_TOLERANCE_SECONDS:
        run.move_start(run.started_at - item.started_at)
        run.started_at = item.started_at
    position = limit_position(item.value if item.completed is None else item.completed)
    if position != run.position or is_end:
        run.add(at - item.started_at, position)


def _save(item_id: str, run: _RunState) -> list[SaveCurve]:
    """Return the write of a curve, if it has points."""
    curve = run.get_curve()
    run.saved_elapsed = run.elapsed
    return [] if curve is None else [SaveCurve(item_id, run.run_id, encode_curve(curve))]
