"""The page of the limits, from the list that ``/docs`` shows."""

from __future__ import annotations

from pathlib import Path

from progressbar_tracker.server.api.limits import list_limits
from progressbar_tracker.server.problems import PROBLEM_CODES
from progressbar_tracker.server.settings import Settings

from .markdown import end_sentence, render_table

HEAD_TEXT = """\
# Limits

Each resource that a client can use up has a limit. This page lists them with the response beyond each; a code links
to [its remedy](errors.md). The values are those of a server with default settings. `/docs` of a server lists its own
values, and `GET /api/key-info` returns those that a program needs.

`--max-items`, `--max-requests` and `--max-unread` of [`serve`](settings.md) change the limits of a server.

## All limits

"""


def render_page() -> str:
    rows = [
        (f"{limit.maximum:,}", end_sentence(limit.name).removesuffix("."), _describe_consequence(limit.consequence))
        for limit in list_limits(Settings(database=Path("progress.db"), max_requests=0))
    ]
    return HEAD_TEXT + render_table(("Maximum", "Limit", "Beyond it"), rows) + "\n"


def _describe_consequence(consequence: str) -> str:
    for code, (status, _) in PROBLEM_CODES.items():
        if code == consequence:
            return f"{status} [`{code}`](errors.md#{code})"
    return consequence
