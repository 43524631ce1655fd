"""The id of the item of a program in a job of a batch system: a job that is requeued continues its item."""

from __future__ import annotations

import zlib
from typing import Final

from progressbar_tracker._claims import claim_name
from progressbar_tracker._tracking.run_names import make_unique_name

MAX_NAME_LENGTH: Final = 60
MAX_TWINS: Final = 1000
"""Programs of one job that run at the same time with the same command line and have an id of the job."""


def make_job_id(name: str, line: str, job: str | None) -> str:
    """Return an id for a program.

    In a job, the program gets the same id after the job was requeued. Programs with the same command line that run at
    the same time are numbered in the order of their starts.

    Args:
        name: The name of the program.
        line: Its command line.
        job: The name of the job; without one, the id is unique.
    """
    prefix = name[:MAX_NAME_LENGTH] or "program"
    if job is not None:
        base = f"{prefix}-{job[:MAX_NAME_LENGTH]}-{zlib.crc32(line.encode('utf-8', 'replace')):08x}"
        for number in range(1, MAX_TWINS):
            item_id = base if number == 1 else f"{base}-{number}"
            if claim_name(f"id {item_id}"):
                return item_id
    return f"{prefix}-{make_unique_name()}"
