"""Write the reference pages of the handbook: ``python -m tests.documentation.reference``.

Each page is generated from one source: docstrings, click's commands, the settings, the OpenAPI document or a table of
the server. The pages are committed, so that they can be read on a code host; a test compares them with their sources.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from . import commands, configuration, errors, http, libraries, limits, metrics, programs, python, settings

if TYPE_CHECKING:
    from collections.abc import Callable

REFERENCE_FOLDER: Final = Path(__file__).parents[3] / "src" / "progressbar_tracker" / "handbook" / "reference"

PAGE_RENDERERS: Final[dict[str, Callable[[], str]]] = {
    "python": python.render_core_page,
    "integrations": python.render_extra_page,
    "libraries": libraries.render_page,
    "programs": programs.render_page,
    "commands": commands.render_page,
    "configuration": configuration.render_page,
    "settings": settings.render_page,
    "http": http.render_page,
    "errors": errors.render_page,
    "metrics": metrics.render_page,
    "limits": limits.render_page,
}
"""The function that returns the Markdown of a page, by the name of the page."""
