"""The state of a tqdm bar, for the sender."""

from __future__ import annotations

import re
import weakref
from collections.abc import Mapping
from typing import Any, Final

from progressbar_tracker._text import clean_label

from .mirror import Reading


class HiddenMarker:
    """Marks the classes of bars that tqdm has disabled, and that count for the server only."""

    __slots__ = ()


class BarReader:
    """Reads a tqdm bar, held weakly. Unchanged texts stay the same objects, so that comparing them is cheap."""

    __slots__ = ("_bar", "_desc", "_has_own_title", "_postfix", "_text", "_title")

    def __init__(self, bar: object, *, has_own_title: bool) -> None:
        self._bar = weakref.ref(bar)
        self._has_own_title = has_own_title
        self._desc: object = None
        self._postfix: object = None
        self._title: str | None = None
        self._text = ""

    def __call__(self) -> Reading | None:
        bar: Any = self._bar()
        if bar is None:
            return None
        n, total = bar.n, bar.total
        scale = bar.unit_scale
        if scale is not False and scale is not True and isinstance(scale, int | float):
            n, total = n * scale, total and total * scale  # as in the terminal
        # A program can change a list or a dictionary in place.
        if bar.desc is not self._desc or bar.postfix is not self._postfix or type(self._postfix) in (list, dict):
            self._desc, self._postfix = bar.desc, bar.postfix
            desc = clean_label(self._desc).removesuffix(":").rstrip() if self._desc else ""
            postfix = format_postfix(self._postfix)
            self._title = desc or None
            self._text = " \N{MIDDLE DOT} ".join(filter(None, (desc, postfix))) if self._has_own_title else postfix
        has_ended = bool(bar.disable) and not isinstance(bar, HiddenMarker)
        return Reading(n, total, self._title, self._text, str(bar.unit).strip(), has_ended)


def format_postfix(postfix: object) -> str:
    """Return the postfix of a bar without its empty values.

    >>> format_postfix("loss=0.5, info="), format_postfix({"info": ""}), format_postfix(["Batch", {"n": 7}])
    ('loss=0.5', '', 'Batch n=7')
    """
    if postfix is None:
        return ""
    if isinstance(postfix, Mapping):
        values = ((name, format_postfix(value)) for name, value in postfix.items())
        return ", ".join(f"{clean_label(name)}={text}" for name, text in values if text)
    if isinstance(postfix, list | tuple):
        return " ".join(filter(None, map(format_postfix, postfix)))
    parts = clean_label(postfix).split(", ")
    return ", ".join(part for part in parts if not _EMPTY_PAIR.fullmatch(part))


_EMPTY_PAIR: Final = re.compile(r"[^=]+= ?")
