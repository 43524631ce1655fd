"""What an accepted operation comes back with: notes of the server, and a request to stop the run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from progressbar_tracker._text import clean_detail

if TYPE_CHECKING:
    from progressbar_tracker._models import OpResult

    from .schedule import Record


def list_notes(result: OpResult) -> list[str]:
    """Return what the server has accepted with a reservation, such as the name of an unknown channel."""
    notes: object = result.get("warnings")
    details = (note.get("detail") for note in (notes if isinstance(notes, list) else ()) if isinstance(note, dict))
    return [text for detail in details if (text := clean_detail(detail))]


def pass_stop(record: Record, result: OpResult) -> None:
    """Pass a stop request in a result on to its run. A request for another run of the id is ignored."""
    request: object = result.get("stop_request")
    if isinstance(request, dict) and request.get("run_id") == record.source.run_id:
        record.source.receive_stop(clean_detail(request.get("requested_by")) or "unknown")
