"""The run of a program whose output shows its progress: the count, total and unit are known later than the start."""

from __future__ import annotations

from typing import TYPE_CHECKING

from progressbar_tracker._models import MAX_DESCRIPTION_LENGTH, MAX_UNIT_LENGTH
from progressbar_tracker._text import clean_text
from progressbar_tracker._tracking.run import Run

if TYPE_CHECKING:
    from collections.abc import Callable

    from progressbar_tracker._sender.sender import Sender
    from progressbar_tracker._sender.snapshot import Snapshot
    from progressbar_tracker._tracking.run_options import RunOptions

    from .output_progress import Shown


class ProgramRun(Run):
    """A run whose progress is replaced as a whole, so that no sample mixes two states.

    Attributes:
        progress: The progress that the program shows; ``None`` while it is unknown.
        mask: Masks the secrets in a description, which comes from the output.
    """

    __slots__ = ("_masked", "_sampled_phase", "mask", "progress")

    def __init__(self, id: str | None, options: RunOptions, sender: Sender | None) -> None:
        super().__init__(id, options, sender)
        self.progress: Shown | None = None
        self._sampled_phase = 0
        from progressbar_tracker._masking import SecretMasker  # its patterns are compiled at the import

        self.mask: Callable[[str], str] = SecretMasker().mask_text
        self._masked = ("", "")  # the latest description, and what is shown of it

    def complete(self) -> None:
        """Set the count to the total, because the program has succeeded."""
        progress = self.progress
        if progress is not None and progress.total is not None:
            self.progress = progress._replace(completed=progress.total)

    def sample(self, before: Snapshot | None = None) -> Snapshot:
        """Return the state now, or ``before`` itself if it is unchanged."""
        snapshot = super().sample()
        progress = self.progress
        if progress is None:
            snapshot = snapshot._replace(is_counted=False)
        elif before is not None and snapshot.status == "running" and self._is_faster_phase(progress, before):
            # A gap between two phases, or their counts would be taken for one, and the speed be wrong.
            snapshot = snapshot._replace(is_counted=False)
        else:
            self._sampled_phase = progress.phase
            description = progress.description if snapshot.status == "running" else snapshot.description
            snapshot = snapshot._replace(
                description=clean_text(self._mask_description(description), MAX_DESCRIPTION_LENGTH),
                completed=progress.completed,
                total=progress.total,
                unit=clean_text(progress.unit, MAX_UNIT_LENGTH),
            )
        return before if snapshot == before and before is not None else snapshot

    def _mask_description(self, text: str) -> str:
        if text != self._masked[0]:
            self._masked = (text, self.mask(text))
        return self._masked[1]

    def _is_faster_phase(self, progress: Shown, before: Snapshot) -> bool:
        """Return whether a phase is new, and its count already beyond that of the phase before."""
        return progress.phase != self._sampled_phase and before.is_counted and progress.completed > before.completed
