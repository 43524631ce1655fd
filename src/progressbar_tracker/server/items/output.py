"""The texts of a write that come from the output of a program: their secrets are masked before they are stored."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from progressbar_tracker._masking import SecretMasker
from progressbar_tracker._models import MAX_ERROR_LENGTH
from progressbar_tracker._output_tail import clean_tail

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .validation import WriteFields

MAX_INLINE_LENGTH: Final = 2048
"""Characters that are masked on the event loop: a millisecond. More of them are masked in a thread."""


def measure_output(writes: Iterable[WriteFields]) -> int:
    """Return the characters that :func:`clean_output` has to read."""
    return sum(len(fields.get("tail") or "") + len(fields.get("error") or "") for fields in writes)


def clean_output(writes: Iterable[WriteFields]) -> None:
    """Mask the secrets in the ``tail`` and the ``error`` of each write, and keep the last lines of a tail."""
    for fields in writes:
        if tail := fields.get("tail"):
            fields["tail"] = clean_tail(tail)
        if error := fields.get("error"):
            fields["error"] = SecretMasker().mask_text(error)[:MAX_ERROR_LENGTH]
