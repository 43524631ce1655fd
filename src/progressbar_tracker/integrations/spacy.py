"""spaCy: a logger that reports the steps of ``spacy train``.

In the configuration of the training:

    [training.logger]
    @loggers = "progressbar_tracker.TrackLogger.v1"
    id = "ner"

The lines in the console stay those of spaCy. The item counts steps up to ``training.max_steps``, and shows the latest
score and losses. A training that ends by its patience or its epochs has succeeded, and an exception fails the item with
its text. Programs that call ``spacy.training.loop.train()`` use the same configuration:

    from progressbar_tracker.integrations.spacy import TrackLogger

    spacy.registry.loggers("my_logger.v1")(lambda: TrackLogger(id="ner", notify="phone"))
"""

from __future__ import annotations

import sys
from typing import IO, TYPE_CHECKING, Any

from ._packages import require_package

with require_package("spacy"):
    import spacy

from ._training import Fit, log_errors

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Unpack

    from ._training import FitOptions

    LogStep = Callable[[dict[str, Any] | None], None]

__all__ = ["TrackLogger", "make_logger"]


class TrackLogger:
    """Reports each training that has it as its logger.

    Args:
        console: Write the lines of ``spacy.ConsoleLogger.v3``, too.
        **options: ``id``, ``title``, ``group``, ``weight``, ``keep``, ``notify``, ``deadline``,
            ``stuck_after``, ``interval``, ``client`` and ``display`` of ``track()``. A terminal bar is drawn only if
            ``display`` is true.

    Raises:
        TypeError, ValueError: As in ``track()``.

    Example:
        >>> nlp = spacy.blank("en")
        >>> nlp.config["training"]["max_steps"] = 2
        >>> log_step, finalize = TrackLogger(console=False)(nlp)
        >>> log_step(None)
        >>> finalize()
    """

    def __init__(self, *, console: bool = True, **options: Unpack[FitOptions]) -> None:
        self._console = console
        self._bars = Fit(options)
        self._step_count = 0
        self._outer_error: BaseException | None = None

    def __call__(
        self, nlp: Any, stdout: IO[str] = sys.stdout, stderr: IO[str] = sys.stderr
    ) -> tuple[LogStep, Callable[[], None]]:
        """Start the item; spaCy calls this, and then the two returned functions."""
        log_line: LogStep | None = None
        finalize_lines: Callable[[], None] | None = None
        if self._console:
            log_line, finalize_lines = spacy.registry.loggers.get("spacy.ConsoleLogger.v3")()(nlp, stdout, stderr)
        self._outer_error = sys.exception()  # the program handles it around the training
        self._start(nlp)

        def log_step(info: dict[str, Any] | None) -> None:
            if log_line is not None:
                log_line(info)
            self._count_step(info)

        def finalize() -> None:
            self._end(sys.exception())
            if finalize_lines is not None:
                finalize_lines()

        return log_step, finalize

    @log_errors
    def _start(self, nlp: Any) -> None:
        self._step_count = 0
        max_steps = nlp.config["training"]["max_steps"]
        total = max_steps + 1 if max_steps else None  # the steps 0 to max_steps
        self._bars.start(f"Training of {', '.join(nlp.pipe_names) or 'spaCy'}", total, unit="steps")

    @log_errors
    def _count_step(self, info: Mapping[str, Any] | None) -> None:
        self._step_count += 1
        self._bars.set_position(self._step_count)
        if info is not None:  # an evaluation
            losses = {f"{name} loss": loss for name, loss in info["losses"].items()}
            self._bars.update_metrics({"score": info["score"], **losses})

    @log_errors
    def _end(self, error: BaseException | None) -> None:
        if error is None or error is self._outer_error:
            self._bars.end(early=not self._bars.is_complete)
        else:
            self._bars.fail(error)


def make_logger(
    *,
    id: str | None = None,
    title: str | None = None,
    group: str | None = None,
    weight: int = 0,
    keep: bool = False,
    notify: str | Sequence[str] | None = None,
    console: bool = True,
) -> TrackLogger:
    """Return a logger with the settings of the configuration, ``progressbar_tracker.TrackLogger.v1``.

    Args:
        id: The item's id; see ``track()`` for this and the following arguments.
        title: By default the names of the components.
        group: Heading on the dashboard.
        weight: Items with a higher weight are shown first.
        keep: Keep the item on the board after it has succeeded or stopped.
        notify: Names of the channels to notify.
        console: Write the lines of ``spacy.ConsoleLogger.v3``, too.

    Raises:
        TypeError, ValueError: As in ``track()``.

    Example:
        >>> logger = make_logger(id="ner", console=False)
    """
    return TrackLogger(
        console=console, id=id, title=title, group=group, weight=weight, keep=keep, notify=notify
    )  # fmt: skip
