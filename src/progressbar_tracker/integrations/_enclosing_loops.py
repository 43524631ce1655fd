"""Find the bar around a bar that the program updates itself: no block and no loop of the library shows it.

    outer = manager.counter(total=3)
    for folder in folders:  # the loop begins after the outer bar, and has the creation of the inner one
        inner = manager.counter(total=10)

The bytecode of the function shows such a loop. Without such a loop, ``PlacedMirror`` decides by how the bars move.
"""

from __future__ import annotations

import dis
import functools
import threading
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from types import CodeType, FrameType

    from progressbar_tracker._tracking.mirror import Mirror


MAX_OPEN_BARS: Final = 50  # a program may have thousands, which are searched for each new one


class _OpenBar(NamedTuple):
    """A bar without a loop or block of its own, and the instruction that created it."""

    run: Mirror
    code: CodeType
    offset: int
    thread: int


_open_bars: list[_OpenBar] = []  # oldest first


def add_open_bar(run: Mirror, frame: FrameType) -> None:
    """Remember a bar that the code of ``frame`` creates now, until its run ends."""
    _open_bars[:] = [bar for bar in _open_bars if bar.run.status == "running"][-MAX_OPEN_BARS:]
    _open_bars.append(_OpenBar(run, frame.f_code, frame.f_lasti, threading.get_ident()))


def find_enclosing_bar(frame: FrameType) -> Mirror | None:
    """Return the newest open bar of this thread whose function is in a loop that began after the bar.

    A complete bar is not one, because programs leave complete bars open.

    Args:
        frame: The frame that creates another bar.
    """
    thread = threading.get_ident()
    bars = [bar for bar in _open_bars if bar.thread == thread and bar.run.status == "running"]
    offsets: dict[CodeType, int] = {}
    step: FrameType | None = frame if bars else None
    while step is not None:
        offsets.setdefault(step.f_code, step.f_lasti)
        step = step.f_back
    for bar in reversed(bars):
        offset = offsets.get(bar.code)
        if offset is not None and any(bar.offset < first <= offset <= last for first, last in _list_loops(bar.code)):
            bar.run.poll()
            if not bar.run.is_done:
                return bar.run
    return None


@functools.lru_cache(maxsize=64)
def _list_loops(code: CodeType) -> list[tuple[int, int]]:
    """Return the first and the last instruction of each loop: a loop ends with a jump back."""
    return [
        (instruction.argval, instruction.offset)
        for instruction in dis.get_instructions(code)
        if instruction.opcode in dis.hasjrel and instruction.argval < instruction.offset
    ]
