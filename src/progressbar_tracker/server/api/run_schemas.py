"""The JSON schemas of responses about many runs: recent runs, statistics, timelines and curves."""

from __future__ import annotations

from typing import Annotated, NotRequired, TypedDict

from msgspec import Meta

from progressbar_tracker._models import Status  # noqa: TC001  # msgspec evaluates the types
from progressbar_tracker.server.models import EndStatus  # noqa: TC001

from .schemas import Group, Id, Instant, RunId  # noqa: TC001


class RecentRun(TypedDict):
    """A run of the history, without its item."""

    run_id: RunId
    status: EndStatus
    duration_seconds: Annotated[float, Meta(ge=0)]
    started_at: Instant
    ended_at: Instant


class RecentRuns(TypedDict):
    """The newest runs of each requested id, newest first."""

    items: dict[str, list[RecentRun]]


class Statistics(TypedDict):
    """The statistics of the latest runs of an id."""

    run_count: Annotated[int, Meta(ge=0, description="Without runs that were deleted while they ran.")]
    success_rate: Annotated[float, Meta(ge=0, le=1, description="The fraction of them that succeeded.")] | None
    median_duration_seconds: Annotated[float, Meta(ge=0, description="Of the succeeded runs.")] | None
    low_duration_seconds: Annotated[float, Meta(ge=0, description="10 % of the succeeded runs are shorter.")] | None
    high_duration_seconds: Annotated[float, Meta(ge=0, description="10 % of the succeeded runs are longer.")] | None
    usual_start_seconds: (
        Annotated[
            float,
            Meta(ge=0, lt=86400, description="Seconds after midnight, UTC; null if the runs start at any time."),
        ]
        | None
    )
    runs: Annotated[list[RecentRun], Meta(max_length=100, description="The latest runs, newest first.")]


class TimelineRun(TypedDict):
    """A run of a timeline."""

    id: Id
    run_id: NotRequired[RunId]
    group: NotRequired[Group | None]
    title: str
    status: EndStatus
    started_at: Instant
    ended_at: Instant
    stop_requested_by: NotRequired[
        Annotated[str, Meta(description="The name of the key or the operator that requested the stop.")] | None
    ]
    error: Annotated[str, Meta(max_length=200, description="The beginning of the first line of the error.")] | None


class Timeline(TypedDict):
    """The runs of an interval, latest end first."""

    since: Instant
    until: Instant
    omitted: Annotated[int, Meta(ge=0, description="Further runs of the interval, which ended earlier.")]
    runs: Annotated[list[TimelineRun], Meta(max_length=10_000)]


class Tail(TypedDict):
    """The last lines of the output of a run. Masking may have missed a secret."""

    id: Id
    run_id: RunId
    tail: Annotated[
        str, Meta(description="Lines of plain text, at most 64 KiB of UTF-8; empty if the program has sent none.")
    ]
    updated_at: Annotated[Instant | None, Meta(description="The latest change of the text; null if there is none.")]


class RunCurve(TypedDict):
    """A run with its curve."""

    id: Id
    run_id: RunId
    status: Status | EndStatus
    started_at: Instant
    duration_seconds: Annotated[float, Meta(ge=0, description="Null while it is running.")] | None
    unit: str
    total: Annotated[float, Meta(description="The total of `completed`; null if it is unknown.")] | None
    points: Annotated[
        list[Annotated[list[float], Meta(min_length=2, max_length=2)]],
        Meta(
            max_length=600,
            description="Seconds since the start, and the position then: `completed`, or `value` without a count.",
        ),
    ]


class Curves(TypedDict):
    """The requested run first, then former successful runs, newest first."""

    runs: list[RunCurve]
    parts: Annotated[dict[str, float], Meta(description="The count of each part of the requested run.")]
