"""PBS: the variables of a job of OpenPBS, PBS Professional and Torque, as the manual page of qsub names them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .numbers import parse_positive

if TYPE_CHECKING:
    from collections.abc import Mapping


def read_meta(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the entries for ``meta``; an empty text is unknown."""
    if "PBS_JOBID" not in environ:
        return {}
    return {"pbs_job": environ["PBS_JOBID"], "pbs_name": environ.get("PBS_JOBNAME", "")}


def find_job(environ: Mapping[str, str]) -> str | None:
    """Return a name that the job keeps when it is requeued. The id of a subjob has its index.

    >>> find_job({"PBS_JOBID": "17[3].server"})
    'pbs-17[3].server'
    """
    return f"pbs-{environ['PBS_JOBID']}" if environ.get("PBS_JOBID") else None


def find_duration(environ: Mapping[str, str]) -> float | None:
    """Return the seconds that the job may run. Torque sets this variable, and PBS Professional with a hook."""
    return parse_positive(environ.get("PBS_WALLTIME", "")) if "PBS_JOBID" in environ else None
