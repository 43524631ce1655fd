"""The place of a program: its job, the end of the job, and entries for the ``meta`` field."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from progressbar_tracker._config import ENVIRONMENT_VARIABLE, is_turned_off

from . import ci, kubernetes, pbs, slurm

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class Place(NamedTuple):
    """The place of a program, as its environment describes it.

    Attributes:
        meta: Entries for the ``meta`` field of its items.
        job: The name of the batch job. A requeued job keeps its name.
        ends_at: Seconds since the epoch at which the batch system ends the job.
        seconds_left: Seconds that the job may run from its start, if its end is not known.
    """

    meta: Mapping[str, str]
    job: str | None = None
    ends_at: float | None = None
    seconds_left: float | None = None


_META_READERS: Final[tuple[Callable[[Mapping[str, str]], dict[str, str]], ...]] = (
    slurm.read_meta, pbs.read_meta, kubernetes.read_meta, ci.read_meta,
)  # fmt: skip


def describe_place(environ: Mapping[str, str]) -> Place:
    """Return what the environment says of the place of a program. Nothing invalid is used, and nothing raises.

    >>> describe_place({"SLURM_JOB_ID": "7", "SLURM_JOB_END_TIME": "90"})
    Place(meta={'slurm_job': '7'}, job='slurm-7', ends_at=90.0, seconds_left=None)
    """
    if is_turned_off(environ, ENVIRONMENT_VARIABLE):
        return Place({})
    meta = dict[str, str]()
    for read_meta in _META_READERS:
        meta |= {name: text for name, text in read_meta(environ).items() if text}
    return Place(
        meta,
        slurm.find_job(environ) or pbs.find_job(environ),
        slurm.find_end(environ),
        pbs.find_duration(environ),
    )
