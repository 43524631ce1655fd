"""Slurm: the variables of a job, as the manual page of sbatch names them in "OUTPUT ENVIRONMENT VARIABLES"."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .numbers import parse_positive

if TYPE_CHECKING:
    from collections.abc import Mapping


def read_meta(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the entries for ``meta``; an empty text is unknown."""
    if "SLURM_JOB_ID" not in environ:
        return {}
    return {
        "slurm_job": _find_id(environ),
        "slurm_name": environ.get("SLURM_JOB_NAME", ""),
        "slurm_task": environ.get("SLURM_PROCID", "") if _has_many_tasks(environ) else "",
        "slurm_restarts": environ.get("SLURM_RESTART_COUNT", "").removeprefix("0"),
    }


def find_job(environ: Mapping[str, str]) -> str | None:
    """Return a name that the job and its task keep when they are requeued.

    >>> find_job({"SLURM_JOB_ID": "8", "SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "3"})
    'slurm-7_3'
    """
    if not environ.get("SLURM_JOB_ID"):
        return None
    task = f"-{environ['SLURM_PROCID']}" if _has_many_tasks(environ) else ""
    return f"slurm-{_find_id(environ)}{task}"


def find_end(environ: Mapping[str, str]) -> float | None:
    """Return the end of the job, in seconds since the epoch. Slurm has named it since version 22.05."""
    return parse_positive(environ.get("SLURM_JOB_END_TIME", "")) if "SLURM_JOB_ID" in environ else None


def _find_id(environ: Mapping[str, str]) -> str:
    array, task = environ.get("SLURM_ARRAY_JOB_ID"), environ.get("SLURM_ARRAY_TASK_ID")
    return f"{array}_{task}" if array and task else environ["SLURM_JOB_ID"]


def _has_many_tasks(environ: Mapping[str, str]) -> bool:
    return bool(environ.get("SLURM_PROCID")) and environ.get("SLURM_NTASKS", "1") != "1"
