"""The JSON schemas of schedules."""

from __future__ import annotations

from typing import Annotated, NotRequired, TypedDict

from msgspec import Meta

from progressbar_tracker._models import MAX_GROUP_LENGTH, MAX_NOTIFY_ENTRIES, MAX_NOTIFY_LENGTH
from progressbar_tracker.server.schedules import recurrence

from .schemas import LINE_PATTERN, Id, Instant

_Cron = Annotated[
    str,
    Meta(
        min_length=1, max_length=recurrence.MAX_CRON_LENGTH, pattern=LINE_PATTERN, examples=["0 3 * * *"],
        description="Minute, hour, day of month, month, day of week, as cron reads them.",
    ),
]  # fmt: skip
_Every = Annotated[
    float,
    Meta(
        ge=recurrence.MIN_EVERY_SECONDS, le=recurrence.MAX_EVERY_SECONDS, examples=[3600],
        description="Whole seconds from one start to the next.", extra_json_schema={"multipleOf": 1},
    ),
]  # fmt: skip
_Timezone = Annotated[
    str,
    Meta(
        min_length=1, max_length=recurrence.MAX_TIMEZONE_LENGTH, pattern=LINE_PATTERN, examples=["Europe/Paris"],
        description="The time zone of `cron`, by its name in the IANA database.",
    ),
]  # fmt: skip
_Grace = Annotated[
    float,
    Meta(
        ge=recurrence.MIN_GRACE_SECONDS, le=recurrence.MAX_GRACE_SECONDS, examples=[300],
        description="Whole seconds after an expected start until it is missed.", extra_json_schema={"multipleOf": 1},
    ),
]  # fmt: skip
_Group = Annotated[
    str,
    Meta(
        min_length=1, max_length=MAX_GROUP_LENGTH, pattern=LINE_PATTERN, examples=["nightly"],
        description="The group whose ping tokens may ping the id; its channels are notified.",
    ),
]  # fmt: skip
_Notify = Annotated[
    list[Annotated[str, Meta(min_length=1, max_length=MAX_NOTIFY_LENGTH, pattern=LINE_PATTERN)]],
    Meta(max_length=MAX_NOTIFY_ENTRIES, description="Channels to notify, in addition to those of the item."),
]


class ScheduleFields(TypedDict, total=False):
    """A schedule to set, with either `cron` or `every`."""

    cron: _Cron | None
    every: _Every | None
    timezone: _Timezone | None
    grace: _Grace | None
    group: _Group | None
    notify: _Notify | None


ScheduleWrite = Annotated[
    ScheduleFields,
    Meta(
        extra_json_schema={
            "oneOf": [
                {"required": ["cron"], "properties": {"cron": {"type": "string"}, "every": {"type": "null"}}},
                {
                    "required": ["every"],
                    "properties": {"every": {"type": "number"}, "cron": {"type": "null"}, "timezone": {"type": "null"}},
                },
            ]
        }
    ),
]


class Schedule(TypedDict):
    """When the item of an id is expected to start."""

    id: Id
    cron: str | None
    every: float | None
    timezone: Annotated[str, Meta(description="`UTC` for `every`.")]
    grace: float
    group: str | None
    notify: list[str]
    owner: Annotated[str, Meta(description="The name of the key that set it.")]
    created_at: Instant
    updated_at: Instant
    next_at: Annotated[
        Instant | None, Meta(description="The next expected start, or one whose grace has not passed yet.")
    ]
    started_at: Annotated[Instant | None, Meta(description="The latest start of the item.")]
    missed_at: Annotated[Instant | None, Meta(description="The expected start that was missed last.")]
    missed: Annotated[bool, Meta(description="Whether no run has started since a missed start.")]


class Schedules(TypedDict):
    """A page of schedules, by id."""

    schedules: list[Schedule]


class PingTokenWrite(TypedDict):
    """A ping token to create."""

    name: Annotated[str, Meta(min_length=1, max_length=100, pattern=LINE_PATTERN, examples=["cron of box-7"])]
    group: _Group
    expires_at: NotRequired[Annotated[Instant | None, Meta(description="In the future, RFC 3339.")]]


class PingToken(TypedDict):
    """A ping token, without its secret."""

    token_id: str
    name: str
    group: str
    created_at: Instant
    expires_at: Instant | None


class MadePingToken(PingToken):
    """A ping token with its secret, which only this response contains."""

    token: str
    path: Annotated[str, Meta(description="The URL of pings without the slug, relative.", examples=["ping/..."])]
    url: Annotated[str | None, Meta(description="That URL, if the server has a public URL.")]


class PingTokens(TypedDict):
    """All ping tokens, oldest first."""

    ping_tokens: list[PingToken]
