"""The speed and the time left of one run, as a terminal bar shows them.

The estimator is imported with the first bar: a program without a bar does not need it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from progressbar_tracker._fork import importing

if TYPE_CHECKING:
    from progressbar_tracker._estimate import Progress
    from progressbar_tracker._models import Number

SUSPENSION_SECONDS: Final = 30.0  # without a frame: the program was most likely suspended, as by Ctrl-Z


class Pace:
    """Measures the progress of a run, frame by frame.

    Args:
        started_at: The start of the run, in seconds of the caller's clock.
    """

    def __init__(self, started_at: float) -> None:
        with importing:
            from progressbar_tracker import _estimate
        self._estimate = _estimate
        self._started_at = self._seen_at = started_at
        self._progress: Progress | None = None

    def update(self, position: Number, now: float) -> None:
        """Process the position of a frame, changed or not. A run that starts above 0 is measured from there."""
        if self._progress is None:
            self._progress = self._estimate.start_progress(position, now, self._started_at)
        else:
            self._progress = self._estimate.update_progress(
                self._progress, position, now, seen_at=self._seen_at, silence=SUSPENSION_SECONDS
            )
        self._seen_at = now

    def get_rate(self, now: float) -> float | None:
        """Return the current speed in units per second, or ``None`` if it is unknown."""
        return None if self._progress is None else self._estimate.current_rate(self._progress, now)

    def estimate_seconds_left(self, total: Number | None, now: float) -> float | None:
        """Return the predicted time until ``total`` is reached, or ``None`` if it is unknown."""
        if self._progress is None:
            return None
        forecast = self._estimate.forecast(self._progress, total, now, started_at=self._started_at)
        return None if forecast is None else max(forecast.finish_at - now, 0.0)
