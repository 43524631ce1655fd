"""The page of the programs whose output ``exec --parse`` reads, from the table of the parser."""

from __future__ import annotations

from progressbar_tracker._programs.output_general import DENIED_TEXTS
from progressbar_tracker._programs.output_patterns import list_known_tools

from .markdown import render_table

HEAD_TEXT = """\
# Programs

This page lists the programs whose progress [`exec --parse`](../how-to/exec-tools.md) reads.

"""

GENERAL_TEXT = """\
## Any other program

A program that is not in the table is read if it prints one of these forms, again and again, and higher each time.

"""

DENIED_TEXT = """\
## Not progress

These texts have a percentage or a count, and are ignored:

"""

GENERAL_ROWS = [
    ("`[ 45%]`", "percent, from the second one on", "CMake with make, pytest, axel"),
    (
        "`Copying: 45 %`",
        "percent, from the second one on if the line is redrawn, else from the third",
        "7-Zip, scp, Gradle",
    ),
    ("`10%...20%`", "percent, as above", "programs that extend a line"),
    ("`45`", "percent, from the fourth one on, alone in its line", "`pv -n`"),
    ("`[12/345]`, `45 of 120`, `12 out of 45`", "the count, from the second one on", "ninja, CTest, cargo, kubectl"),
    ("`12.3/45.6 MB`, `12.3 MiB / 45.6 MiB`, `12.1MB of 45.6MB`", "the size, from the second one on", "rich"),
    ("`Step 3/12`, `Stage`, `Pass`, `Round`, `Trial`, ...", "the steps before it, from the second one on", "scripts"),
    ("`Epoch 3/12`", "the epochs before it, with the share of a bar inside", "Keras"),
]


def render_page() -> str:
    rows = [(tools, counts, f"`{' '.join(example.split())}`") for tools, counts, example in list_known_tools()]
    denied = "".join(f"- {name}\n" for name, _ in DENIED_TEXTS)
    return (
        f"{HEAD_TEXT}{render_table(('Program', 'The bar counts', 'Example'), rows)}\n\n"
        f"{GENERAL_TEXT}{render_table(('Form', 'The bar counts', 'Printed by'), GENERAL_ROWS)}\n\n"
        f"{DENIED_TEXT}{denied}"
    )
