"""The libraries whose bars ``run`` and ``integrations.install()`` show.

A new library is one entry of ``BAR_LIBRARIES``, with its program in ``programs/``. The tests of this folder run it.
"""

from __future__ import annotations

from typing import Final, NamedTuple


class Library(NamedTuple):
    """A library with progress bars.

    Attributes:
        package: The name of the distribution.
        program: The module in ``programs/`` that draws a bar with it.
        integration: The module of the integration, below ``integrations`` or with its full name.
        has_block: Whether the program's bar is a block, which receives the exception of its loop.
        can_nest: Whether the library draws a bar in the loop of another one.
        has_draw_thread: Whether a thread draws the bar on a terminal: two runs draw different frames.
    """

    package: str
    program: str
    integration: str
    has_block: bool = False
    can_nest: bool = True
    has_draw_thread: bool = False

    @property
    def test_id(self) -> str:
        """The name in the tests: a library may have several programs."""
        return self.program.removeprefix("use_")

    @property
    def integration_name(self) -> str:
        """The full name of the integration."""
        return self.integration if "." in self.integration else f"progressbar_tracker.integrations.{self.integration}"


BAR_LIBRARIES: Final = (
    Library(
        "alive-progress", "use_alive_progress", "alive_progress", has_block=True, can_nest=False, has_draw_thread=True
    ),
    Library("atpbar", "use_atpbar", "atpbar", has_draw_thread=True),
    Library("click", "use_click", "click", has_block=True),
    Library("enlighten", "use_enlighten", "enlighten", has_block=True),
    Library("fastprogress", "use_fastprogress", "fastprogress"),
    Library("progressbar2", "use_progressbar2", "progressbar2"),
    Library("rich", "use_rich", "rich", has_block=True, has_draw_thread=True),
    Library("rich", "use_rich_track", "rich", has_draw_thread=True),
    Library("tqdm", "use_tqdm", "progressbar_tracker.tqdm"),
    Library("tqdm", "use_tqdm_block", "progressbar_tracker.tqdm", has_block=True),
    Library("typer", "use_typer", "_typer", has_block=True),
)
