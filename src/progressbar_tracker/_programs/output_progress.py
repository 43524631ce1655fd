"""Decides which readings are the progress of the job: those of one series that rises, phase after phase.

Pure. A reading counts if the program shows it again, with the same text in front of it, and higher. After a bar has
reached its end, the next one is a new phase. A bar inside of an unfinished one is not shown, except as the share of an
epoch. A count that has fallen back twice is no progress.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from progressbar_tracker._models import Number

    from .output_readings import Reading

PHASE_END_FRACTION: Final = 0.99
"""A phase has ended, many tools stop just before 100 %."""

MAX_RUNNING_FRACTION: Final = 0.999
"""The share that is shown at most while the program runs."""

REGRESSION_CONFIRMATIONS: Final = 5
"""Consecutive lower readings before one is a new phase."""

RESTART_FRACTION: Final = 0.1
"""A count that falls below it starts again; one that falls less is no progress."""

MAX_FALLS: Final = 2
"""Falls after which a series of a general form is no progress."""

INNER_COMPLETIONS: Final = 2
"""Times that other bars are completed before the followed one is given up."""

MAX_SERIES: Final = 64

_MEASURE_UNITS: Final = re.compile(r"s|layers|epochs|passes|packages|[kKMGTP]?i?[Bb](?:ytes)?")
"""Units with fractions: the last one is not shown as missing."""

_GENERAL_FORMS: Final = frozenset({"percent", "number", "count", "sizes", "brackets"})
_FORMS_BY_TOTAL: Final = frozenset({"count", "tqdm", "step", "levels", "zstd"})
_FORMS_BY_FILE: Final = frozenset({"zstd"})
"""Forms of programs that work on one file after the other: another total is another phase."""


class Shown(NamedTuple):
    """The state that the bar shows.

    Attributes:
        phase: Number of the phase, from 1; 0 if the progress is unknown again.
        completed: Units done.
        total: Units to do, above ``completed``; ``None`` if the program counts up.
        unit: Name of a unit.
        title: The program's name for the phase or the step.
    """

    phase: int
    completed: Number
    total: Number | None
    unit: str
    title: str

    @property
    def description(self) -> str:
        """The text beside the bar: the phase, unless it is the only one and has no name."""
        return self.title or (f"phase {self.phase}" if self.phase > 1 else "")

    @property
    def fraction(self) -> float:
        """Completed share, 0 to 1; 0 without a total."""
        return 0.0 if self.total is None else self.completed / self.total


class _Series:
    """The readings with the same key."""

    __slots__ = ("falls", "is_accepted", "is_refused", "last", "rises")

    def __init__(self, reading: Reading) -> None:
        self.last = reading
        self.rises = 0
        self.falls = 0
        self.is_accepted = False
        self.is_refused = False

    def add(self, reading: Reading, *, is_redrawn: bool) -> bool:
        """Add a reading. Return whether the series is progress."""
        last, self.last = self.last, reading
        if reading.completed > last.completed:
            self.rises += 1
        elif reading.completed < last.completed:
            is_restart = last.fraction >= PHASE_END_FRACTION or reading.fraction <= RESTART_FRACTION
            self.falls += not is_restart
            if not self.is_accepted:
                self.rises = 0
            if reading.completed < 0 or (reading.form in _GENERAL_FORMS and self.falls >= MAX_FALLS):
                self.is_refused, self.is_accepted = True, False
        if not self.is_refused and self.rises + 1 >= min(reading.evidence, 2 if is_redrawn else 9):
            self.is_accepted = True
        return self.is_accepted


class ProgressJudge:
    """Selects the readings that the bar shows.

    Attributes:
        shown: The latest state; ``None`` before the first one.
    """

    def __init__(self) -> None:
        self.shown: Shown | None = None
        self._phase = 0
        self._current: Reading | None = None
        self._series: dict[tuple[object, ...], _Series] = {}
        self._rejected = 0  # consecutive lower readings of the current series
        self._completions = 0  # of other series, since the current one moved

    def add(self, reading: Reading, *, is_redrawn: bool = False) -> Shown | None:
        """Return the new state of the bar, or ``None`` if the reading does not change it."""
        key = _make_key(reading)
        series = self._series.get(key)
        if series is None:
            if len(self._series) >= MAX_SERIES:
                del self._series[next(name for name in self._series if name != self._current_key)]
            series = self._series[key] = _Series(reading)
        was_accepted, was_complete = series.is_accepted, series.last.fraction >= PHASE_END_FRACTION
        if not series.add(reading, is_redrawn=is_redrawn):
            return self._withdraw() if was_accepted and key == self._current_key else None
        current = self._current
        if current is None:
            return self._follow(reading)
        if key == self._current_key:
            return self._continue(current, reading)
        if current.is_step and not reading.is_step and reading.total is not None:
            return self._refine(current, reading)
        is_done = current.total is None or current.fraction >= PHASE_END_FRACTION
        if reading.fraction >= PHASE_END_FRACTION and not was_complete:
            self._completions += 1
        if is_done and reading.fraction >= PHASE_END_FRACTION and current.total is not None:
            return None  # a summary at the end
        if is_done or _is_next_phase(current, reading) or self._completions >= INNER_COMPLETIONS:
            return self._follow(reading)
        return None

    def preview(self, reading: Reading) -> Shown | None:
        """Return the state if an unfinished line ended here: a step forwards of the followed series, or the first one.

        A program that draws a bar and then works for minutes does not end the line before the next drawing.
        """
        current = self._current
        if current is None:
            is_known = reading.evidence == 1 and self._phase == 0
        else:
            is_known = _make_key(reading) == self._current_key and reading.completed > current.completed
        return self._show(self._make_shown(reading)) if is_known else None

    @property
    def _current_key(self) -> tuple[object, ...] | None:
        return None if self._current is None else _make_key(self._current)

    def _withdraw(self) -> Shown | None:
        self._current = self.shown = None
        return Shown(0, 0, None, "", "")

    def _follow(self, reading: Reading) -> Shown | None:
        if self._phase == 0 and self.shown is not None and reading.fraction < self.shown.fraction:
            self._phase = 1  # was the preview of an unfinished line
        self._phase += 1
        self.shown = None
        return self._accept(reading)

    def _continue(self, current: Reading, reading: Reading) -> Shown | None:
        self._completions = 0
        if reading.completed >= current.completed:
            return self._accept(reading)
        self._rejected += 1
        if current.fraction >= PHASE_END_FRACTION or self._rejected >= REGRESSION_CONFIRMATIONS:
            return self._follow(reading)
        return None

    def _refine(self, current: Reading, inner: Reading) -> Shown | None:
        """Show the share of the current epoch that a bar inside of it has."""
        number = math.floor(current.completed)
        title = (
            f"{current.title}, {inner.completed}/{inner.total}".removesuffix("/100")
            if inner.unit != "%"
            else current.title
        )
        done = number + min(inner.fraction, MAX_RUNNING_FRACTION)
        refined = current._replace(completed=round(done, 4), title=current.title)
        if refined.completed <= current.completed:
            return None
        self._current = refined
        return self._show(self._make_shown(refined._replace(title=title)))

    def _accept(self, reading: Reading) -> Shown | None:
        self._rejected = self._completions = 0
        self._current = reading
        return self._show(self._make_shown(reading))

    def _show(self, shown: Shown | None) -> Shown | None:
        if shown is None or shown == self.shown:
            return None
        self.shown = shown
        return shown

    def _make_shown(self, reading: Reading) -> Shown | None:
        """Return the state for a reading, or ``None`` if its share is lower than the one that is shown."""
        shown = Shown(max(self._phase, 1), _cap(reading), reading.total, reading.unit, reading.title)
        before = self.shown
        if before is not None and (
            shown.fraction < before.fraction or (shown.total is None) is not (before.total is None)
        ):
            return None
        return shown


def _make_key(reading: Reading) -> tuple[object, ...]:
    form = "step" if reading.form == "levels" else reading.form
    return (form, reading.label, reading.total if form in _FORMS_BY_TOTAL else None)


def _is_next_phase(current: Reading, reading: Reading) -> bool:
    """Return whether the program itself names another phase, or has begun its last step before."""
    if current.form != reading.form or _make_key(current) == _make_key(reading):
        return False
    if current.form == "step":
        return current.total is not None and current.completed >= current.total - 1
    return bool(current.title and reading.title) or reading.form in _FORMS_BY_FILE


def _cap(reading: Reading) -> Number:
    """Return the completed units, below the total while the program runs."""
    completed, total = reading.completed, reading.total
    if total is None or completed < total * MAX_RUNNING_FRACTION:
        return completed
    if isinstance(total, int) and isinstance(completed, int) and not _MEASURE_UNITS.fullmatch(reading.unit):
        return min(completed, total - 1)
    return round(total * MAX_RUNNING_FRACTION, 3)
