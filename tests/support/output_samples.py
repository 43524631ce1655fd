"""Samples of program output, and the curves that a bar shows for them.

``tests/cli/recorded/samples.toml`` declares each sample. A curve is a list of phases: ``TITLE of TOTAL UNIT: COUNTS``.
``of ?`` is a program that counts up, ``withdrawn`` is a bar without progress again, and ``3-9`` stands for each whole
number from 3 to 9.
"""

from __future__ import annotations

import itertools
import re
import tomllib
from pathlib import Path
from typing import NamedTuple

from progressbar_tracker._programs.output_parser import Parser
from progressbar_tracker._programs.output_progress import ProgressJudge, Shown

SAMPLE_FOLDER = Path(__file__).parents[1] / "cli" / "recorded"


class Sample(NamedTuple):
    """The output of a program.

    Attributes:
        name: The name of its file, without the suffix.
        origin: ``recorded`` from the real program, or ``constructed`` from its source or documentation.
        on: The program's output is a ``terminal`` or a ``pipe``.
        tool: The program with its version; for a constructed sample the source of the form.
        command: The command, or the part of the program that prints it.
        curve: The states of the bar, in the form of :func:`format_curve`.
    """

    name: str
    origin: str
    on: str
    tool: str
    command: str
    curve: list[str]

    @property
    def data(self) -> bytes:
        """The bytes that the program wrote."""
        return (SAMPLE_FOLDER / f"{self.name}.txt").read_bytes()


def read_samples() -> list[Sample]:
    """Return all samples."""
    entries = tomllib.loads((SAMPLE_FOLDER / "samples.toml").read_text("utf-8"))
    return [Sample(name, **entry) for name, entry in entries.items()]


def read_curve(chunks: list[bytes]) -> list[Shown]:
    """Return the states that a bar shows for the output of one stream."""
    parser, judge, states = Parser(), ProgressJudge(), []
    frames = [*itertools.chain.from_iterable(parser.feed(chunk) for chunk in chunks), *parser.finish()]
    for frame in frames:
        shown = judge.add(frame.reading, is_redrawn=frame.is_redrawn)
        if shown is not None:
            states.append(shown)
    return states


def format_curve(states: list[Shown]) -> list[str]:
    """Return states as text, one line for each phase and total."""
    lines = []
    for (_, total, unit), group in itertools.groupby(states, lambda state: (state.phase, state.total, state.unit)):
        phase = list(group)
        if phase[0].phase == 0:
            lines.append("withdrawn")
            continue
        title = f"{phase[0].title} " if phase[0].title else ""
        size = "?" if total is None else total
        lines.append(
            f"{title}of {size}{f' {unit}' if unit else ''}: {_format_counts([state.completed for state in phase])}"
        )
    return lines


def _format_counts(counts: list[float]) -> str:
    texts: list[str] = []
    start = 0
    while start < len(counts):
        end = start
        while end + 1 < len(counts) and isinstance(counts[end], int) and counts[end + 1] == counts[end] + 1:
            end += 1
        if end - start >= 2:
            texts.append(f"{counts[start]}-{counts[end]}")
        else:
            texts += [re.sub(r"\.0$", "", str(count)) for count in counts[start : end + 1]]
        start = end + 1
    return " ".join(texts)
