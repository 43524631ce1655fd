"""The progress in a terminal's tab or in the taskbar, by the sequence OSC 9;4.

A terminal that does not know the sequence may show it as a notification, so a list names the terminals that know it. A
multiplexer such as tmux does not pass it on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from progressbar_tracker._config import TASKBAR_VARIABLE, is_turned_off

if TYPE_CHECKING:
    from collections.abc import Mapping

    from progressbar_tracker._sender.snapshot import Snapshot

CLEAR_SEQUENCE: Final = "\x1b]9;4;0;0\x1b\\"
MIN_GHOSTTY_VERSION: Final = (1, 2, 0)
MIN_ITERM_VERSION: Final = (3, 6, 6)
MIN_VTE_VERSION: Final = 8000  # 0.80: GNOME Console, Ptyxis and others


def supports_taskbar(environ: Mapping[str, str]) -> bool:
    """Return whether the environment is that of a terminal that shows progress, and the variable does not forbid it.

    >>> supports_taskbar({"WT_SESSION": "1"}), supports_taskbar({"WT_SESSION": "1", "TMUX": "/tmp/tmux"})
    (True, False)
    """
    if is_turned_off(environ, TASKBAR_VARIABLE):
        return False
    if environ.get("TMUX") or environ.get("STY") or environ.get("TERM", "").startswith(("tmux", "screen")):
        return False
    if environ.get("WT_SESSION") or environ.get("ConEmuANSI") == "ON":
        return True
    program, version = environ.get("TERM_PROGRAM"), _parse_version(environ.get("TERM_PROGRAM_VERSION", ""))
    if program == "WezTerm":
        return True
    if program == "ghostty":
        return version >= MIN_GHOSTTY_VERSION
    if program == "iTerm.app":
        return version >= MIN_ITERM_VERSION
    vte = environ.get("VTE_VERSION", "")
    return vte.isascii() and vte.isdecimal() and int(vte[:9]) >= MIN_VTE_VERSION


def _parse_version(text: str) -> tuple[int, ...]:
    numbers = text.partition("-")[0].split(".")
    return tuple(int(number[:9]) if number.isascii() and number.isdecimal() else 0 for number in numbers)


def render_taskbar(snapshot: Snapshot) -> str:
    r"""Return the sequence that shows a run: its percentage, an error, or activity if there is no total."""
    total = snapshot.total
    percent = None
    if total is not None and total > 0 and 0 <= snapshot.completed <= total:
        percent = int(100 * snapshot.completed / total)
    if snapshot.status == "failed":
        return f"\x1b]9;4;2;{100 if percent is None else percent}\x1b\\"
    return "\x1b]9;4;3;0\x1b\\" if percent is None else f"\x1b]9;4;1;{percent}\x1b\\"
