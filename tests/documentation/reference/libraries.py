"""The page of the libraries, from the table beside their tests."""

from __future__ import annotations

from tests.integrations.library_table import LIBRARY_ROWS

from .markdown import render_table

HEAD_TEXT = """\
# Libraries

This page lists the libraries whose progress is shown, with the newest version that the tests of each line ran with. A
name links to its guide.

- [`progressbar-tracker run`](../how-to/programs.md) shows the second column of an unchanged program, and so does
  `progressbar_tracker.integrations.install()`.
- [An integration](integrations.md) shows the third column: one line in the program.

"""


def render_page() -> str:
    rows = [
        (f"[{row.package}](../how-to/{row.find_page()}.md)", row.version, row.under_run, row.integration)
        for row in LIBRARY_ROWS
    ]
    return HEAD_TEXT + render_table(("Library", "Version tried", "Under `run`", "By an integration"), rows) + "\n"
