"""A bar as HTML and as plain text, for the output of a notebook's cell.

Styles are inline and colors follow the text, because a notebook may be light or dark, and viewers remove style sheets
and scripts from saved output.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from progressbar_tracker._text import truncate

if TYPE_CHECKING:
    from progressbar_tracker._sender.snapshot import Snapshot

STATUS_COLORS: Final = {"running": "#3b82f6", "succeeded": "#22a355", "failed": "#dc3f3f", "stopped": "#8b8b8b"}
TITLE_LENGTH: Final = 80
ERROR_LENGTH: Final = 200
TEXT_BAR_WIDTH: Final = 20

# Not html.escape(): the import of html loads the names of 2,000 characters.
_HTML_ESCAPES: Final = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#x27;"})


class BarState(NamedTuple):
    """The texts and numbers of one bar.

    Attributes:
        snapshot: The state of the run.
        unit: The name of a unit.
        elapsed: The time since the start, as text.
        seconds_left: The estimated time left, as text; empty if unknown.
        rate: The speed, as text; empty if unknown.
        url: The page of the item, or ``None``.
    """

    snapshot: Snapshot
    unit: str
    elapsed: str
    seconds_left: str
    rate: str
    url: str | None

    @property
    def percent(self) -> int | None:
        """The percentage, or ``None`` without a total."""
        total, completed = self.snapshot.total, self.snapshot.completed
        return int(100 * completed / total) if total is not None and 0 <= completed <= total and total > 0 else None

    @property
    def label(self) -> str:
        """The title and the description."""
        snapshot = self.snapshot
        text = f"{snapshot.title}: {snapshot.description}" if snapshot.description else snapshot.title
        return truncate(" ".join(text.split()), TITLE_LENGTH)

    @property
    def details(self) -> str:
        """The count, the times, the speed and an end that is not a success."""
        snapshot = self.snapshot
        count = f"{snapshot.completed}{self.unit}"
        if snapshot.total is not None:
            count = f"{snapshot.completed}/{snapshot.total}"
        times = f"{self.elapsed}<{self.seconds_left}" if self.seconds_left else self.elapsed
        parts = [count, f"[{times}, {self.rate}]" if self.rate else f"[{times}]"]
        if snapshot.status == "failed":
            error = " ".join((snapshot.error or "").split())
            parts.append(f"failed: {truncate(error, ERROR_LENGTH)}" if error else "failed")
        elif snapshot.status == "stopped":
            parts.append("stopped")
        return " ".join(parts)


def render_text(bars: list[BarState]) -> str:
    """Return one line of plain text for each bar."""
    return "\n".join(_render_text_bar(bar) for bar in bars)


def _render_text_bar(bar: BarState) -> str:
    if bar.percent is None:
        return f"{bar.label}: {bar.details}"
    filled = TEXT_BAR_WIDTH * bar.percent // 100
    return f"{bar.label}: {bar.percent:3d}%|{'#' * filled}{' ' * (TEXT_BAR_WIDTH - filled)}| {bar.details}"


def render_html(bars: list[BarState]) -> str:
    """Return one block for each bar."""
    return "".join(_render_html_bar(bar) for bar in bars)


def _render_html_bar(bar: BarState) -> str:
    percent, color = bar.percent, STATUS_COLORS.get(bar.snapshot.status, STATUS_COLORS["running"])
    label = bar.label.translate(_HTML_ESCAPES)
    value = "" if percent is None else f' aria-valuenow="{percent}"'
    has_ended = bar.snapshot.status != "running"
    width = (100 if has_ended else 0) if percent is None else percent
    link = ""
    if bar.url is not None:
        link = (
            f' <a href="{bar.url.translate(_HTML_ESCAPES)}" target="_blank" rel="noopener noreferrer"'
            f' aria-label="Open the page of {label}">Open page</a>'
        )
    return (
        '<div style="display:flex;flex-wrap:wrap;align-items:center;gap:0 0.6em;font-family:monospace;line-height:1.6">'
        f'<span style="overflow-wrap:anywhere">{label}</span>'
        f'<div role="progressbar" aria-label="{label}" aria-valuemin="0" aria-valuemax="100"{value}'
        f' aria-valuetext="{bar.details.translate(_HTML_ESCAPES)}" style="flex:1 1 8em;max-width:24em;height:0.8em;'
        'border:1px solid currentColor;border-radius:3px;overflow:hidden">'
        f'<div style="width:{width}%;height:100%;background-color:{color}"></div></div>'
        f"<span>{'' if percent is None else f'{percent}% '}{bar.details.translate(_HTML_ESCAPES)}{link}</span></div>"
    )
