"""Traces of real jobs: read, packed, scaled and split into kinds for tuning and kinds held out."""

from __future__ import annotations

import json
import lzma
import math
from itertools import accumulate, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

PACKED_PATH = Path(__file__).with_name("traces.xz")
TICKS_PER_SECOND = 10_000
"""Resolution of a packed trace."""


class Trace(NamedTuple):
    """One run of a job: the seconds since its start at which each item ended."""

    job: str
    run: int
    ends: tuple[float, ...]

    @property
    def total(self) -> int:
        return len(self.ends)

    @property
    def duration(self) -> float:
        return self.ends[-1]


class TraceError(ValueError):
    """A line that is no trace."""


def parse_trace(line: str) -> Trace:
    """Return the trace of a line of JSON; raise ``TraceError`` with the reason if it is none."""
    try:
        found = json.loads(line)
    except ValueError as error:
        raise TraceError(f"no JSON: {error}") from None
    if not isinstance(found, dict) or not {"job", "run", "n", "t"} <= found.keys():
        raise TraceError('expected an object with "job", "run", "n" and "t"')
    job, run, total, ends = found["job"], found["run"], found["n"], found["t"]
    if not isinstance(job, str) or not job:
        raise TraceError('"job" must be a text that is not empty')
    if type(run) is not int or type(total) is not int:
        raise TraceError('"run" and "n" must be whole numbers')
    if not isinstance(ends, list) or not all(type(end) in (int, float) and math.isfinite(end) for end in ends):
        raise TraceError('"t" must be a list of finite numbers')
    if not ends or len(ends) != total:
        raise TraceError(f'"n" is {total}, but "t" has {len(ends)} items; they must agree, and be at least 1')
    if ends[0] < 0 or ends[-1] <= 0 or any(late < early for early, late in pairwise(ends)):
        raise TraceError('"t" must not be negative, must not decrease, and must end above 0')
    return Trace(job, run, tuple(map(float, ends)))


def read_traces(lines: Iterable[str]) -> dict[str, list[Trace]]:
    """Return the runs of each job in order; raise ``TraceError`` that names a line if one is no trace, or repeated."""
    jobs: dict[str, dict[int, Trace]] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            trace = parse_trace(line)
        except TraceError as error:
            raise TraceError(f"line {number}: {error}") from None
        if trace.run in jobs.setdefault(trace.job, {}):
            raise TraceError(f"line {number}: run {trace.run} of {trace.job!r} is there already")
        jobs[trace.job][trace.run] = trace
    if not jobs:
        raise TraceError("the file has no traces")
    return {job: [runs[run] for run in sorted(runs)] for job, runs in sorted(jobs.items())}


def pack_traces(traces: Iterable[Trace]) -> bytes:
    """Return traces as compressed differences of whole ticks."""
    lines = []
    for trace in traces:
        ticks = [round(end * TICKS_PER_SECOND) for end in trace.ends]
        gaps = [late - early for early, late in pairwise([0, *ticks])]
        lines.append(json.dumps([trace.job, trace.run, gaps], separators=(",", ":")) + "\n")
    return lzma.compress("".join(lines).encode(), preset=9 | lzma.PRESET_EXTREME)


def unpack_traces(body: bytes) -> dict[str, list[Trace]]:
    """Return what ``pack_traces`` packed: the runs of each job, in order."""
    jobs: dict[str, list[Trace]] = {}
    for line in lzma.decompress(body).decode().splitlines():
        job, run, gaps = json.loads(line)
        ends = tuple(ticks / TICKS_PER_SECOND for ticks in accumulate(gaps))
        jobs.setdefault(job, []).append(Trace(job, run, ends))
    return {job: sorted(runs, key=lambda trace: trace.run) for job, runs in sorted(jobs.items())}


def scale_runs(runs: Sequence[Trace], mean_seconds: float) -> list[Trace]:
    """Stretch the runs of a job by one factor, so that they last ``mean_seconds`` on average."""
    factor = mean_seconds * len(runs) / sum(run.duration for run in runs)
    return [Trace(run.job, run.run, tuple(end * factor for end in run.ends)) for run in runs]


def split_kinds(jobs: Mapping[str, list[Trace]]) -> tuple[list[str], list[str]]:
    """Return the kinds for tuning and the kinds held out: alternately, in the order of their names."""
    names = sorted(jobs)
    return names[::2], names[1::2]
