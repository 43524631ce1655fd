"""GitHub Actions: a line in the summary of a step, in the file that ``GITHUB_STEP_SUMMARY`` names."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

from progressbar_tracker._config import ENVIRONMENT_VARIABLE, is_turned_off
from progressbar_tracker._text import format_duration, sanitize_line, truncate

if TYPE_CHECKING:
    from collections.abc import Mapping

SUMMARY_VARIABLE: Final = "GITHUB_STEP_SUMMARY"
MAX_TITLE_LENGTH: Final = 200
MAX_ERROR_LENGTH: Final = 500
_MARKDOWN_SIGNS: Final = re.compile(r"([\\`*_{}\[\]<>()#+!|~&])")


def format_summary(title: str, error: str | None, seconds: float, url: str | None) -> str:
    r"""Return the line, in Markdown.

    Args:
        title: The title of the item.
        error: The reason of a failure; ``None`` for a success.
        seconds: The duration.
        url: The page of the item.

    >>> format_summary("make all", None, 63.0, "http://server/items/x")
    '- [make all](http://server/items/x): succeeded after 1 min 3 s\n'
    """
    text = _escape(truncate(sanitize_line(title), MAX_TITLE_LENGTH))
    if url is not None:
        text = f"[{text}]({url})"
    end = "succeeded" if error is None else "**failed**"
    reason = "" if error is None else f": {_escape(truncate(sanitize_line(error), MAX_ERROR_LENGTH))}"
    return f"- {text}: {end} after {format_duration(seconds)}{reason}\n"


def _escape(text: str) -> str:
    return _MARKDOWN_SIGNS.sub(r"\\\1", text)


def append_summary(environ: Mapping[str, str], line: str) -> None:
    """Append a line to the summary of the current step, if there is one. A file that cannot be written is ignored."""
    path = environ.get(SUMMARY_VARIABLE)
    if path and not is_turned_off(environ, ENVIRONMENT_VARIABLE):
        with contextlib.suppress(OSError, ValueError), Path(path).open("a", encoding="utf-8") as file:
            file.write(line)
