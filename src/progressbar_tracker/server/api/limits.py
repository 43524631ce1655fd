"""The limits of all resources that clients can use up, with the consequence of exceeding each.

``/docs`` shows this list as a table, and ``/api/key-info`` reports the limits that programs need.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from progressbar_tracker._models import (
    MAX_BATCH_BYTES,
    MAX_BATCH_OPS,
    MAX_BODY_BYTES,
    MAX_DESCRIPTION_LENGTH,
    MAX_ID_LENGTH,
    MAX_META_ENTRIES,
    MAX_META_LENGTH,
    MAX_NOTIFY_ENTRIES,
    MAX_PART_LENGTH,
    MAX_TAIL_BYTES,
    MAX_TITLE_LENGTH,
)
from progressbar_tracker.server import budget, capacity, frames, hosts, hub, maintenance, pools, proxies
from progressbar_tracker.server.access import keys, ping_tokens, sessions, shares, subscriptions
from progressbar_tracker.server.access.devices import DEVICE_SECONDS
from progressbar_tracker.server.http.endpoint import SEND_TIMEOUT
from progressbar_tracker.server.http.request import MAX_TEXT_LENGTH
from progressbar_tracker.server.items import board, samples, tail_quota, transition
from progressbar_tracker.server.models import MAX_WAITING_PUSHES
from progressbar_tracker.server.notifications import dispatcher
from progressbar_tracker.server.notifications.channels import MAX_EDITS_PER_MINUTE, MAX_KEPT_RUNS
from progressbar_tracker.server.schedules import recurrence
from progressbar_tracker.server.schedules import table as schedule_table

from . import curves, history, items, ping, run_history, schedules, timeline

if TYPE_CHECKING:
    from progressbar_tracker.server.problems import ProblemCode
    from progressbar_tracker.server.settings import Settings


_QUEUE_FULL_NOTE: Final = "The response is 503 with Retry-After."
_OLDEST_OUTPUT_NOTE: Final = "The output of the oldest runs is dropped."


class Limit(NamedTuple):
    """One limit.

    Attributes:
        name: The limited resource, with its unit.
        maximum: The limit.
        consequence: The code of a problem, or a sentence.
        key: Its name in ``/api/key-info``, if programs need it.
    """

    name: str
    maximum: int
    consequence: ProblemCode | str
    key: str | None = None


def list_limits(settings: Settings) -> list[Limit]:
    """Return all limits of a server."""
    return [
        Limit("bytes of a body", MAX_BODY_BYTES, "body-too-large", "body_bytes"),
        Limit("bytes of a batch", MAX_BATCH_BYTES, "body-too-large", "batch_bytes"),
        Limit("operations of a batch", MAX_BATCH_OPS, "invalid-field", "batch_ops"),
        Limit("bytes of the headers of a request", capacity.MAX_HEAD_BYTES, "The connection is closed."),
        *(
            [Limit("requests a second of a key", settings.max_requests, "rate-limited", "requests")]
            if settings.max_requests
            else []
        ),
        Limit("items of a key", settings.max_items, "too-many-items", "items"),
        Limit("parts of a run", transition.MAX_PARTS, "invalid-field", "parts"),
        Limit("entries of meta", MAX_META_ENTRIES, "invalid-field"),
        Limit("channels that an item names", MAX_NOTIFY_ENTRIES, "invalid-field"),
        Limit(
            "characters of an id, a title, a group, a text of meta or of a search", MAX_TITLE_LENGTH, "invalid-field"
        ),
        Limit("characters of a description or an error", MAX_DESCRIPTION_LENGTH, "invalid-field"),
        Limit("characters of the name of a part", MAX_PART_LENGTH, "invalid-field"),
        Limit("former runs that an item remembers", board.MAX_PAST_RUNS, "The oldest is dropped."),
        Limit(
            "samples of a run",
            samples.MAX_SAMPLES,
            "Every other one is dropped, and the interval doubles.",
        ),
        Limit("items of a page", items.MAX_PAGE_SIZE, "invalid-field"),
        Limit("runs of a page of the history", history.MAX_HISTORY_PAGE, "invalid-field"),
        Limit("bytes of a page of the history", history.MAX_PAGE_BYTES, "The page ends, with a link to the next one."),
        Limit("ids whose recent runs are listed", run_history.MAX_RECENT_IDS, "invalid-field"),
        Limit("recent runs of an id", run_history.MAX_RECENT_RUNS, "invalid-field"),
        Limit("runs of the statistics of an id", run_history.MAX_STATISTICS_RUNS, "Older ones do not count."),
        Limit("runs of a timeline", timeline.MAX_TIMELINE_RUNS, "The earliest are omitted, and counted."),
        Limit("bytes of a timeline", timeline.MAX_TIMELINE_BYTES, "The earliest runs are omitted, and counted."),
        Limit("points of a curve", curves.MAX_CURVE_POINTS, "Every other one is dropped."),
        Limit("bytes of a tick of a stream", hub.MAX_TICK_BYTES, "Streams continue with a snapshot."),
        Limit("runs of the history", maintenance.MAX_HISTORY_RUNS, "The oldest is dropped."),
        Limit("bytes of the output of a run", MAX_TAIL_BYTES, "invalid-field"),
        Limit("stored bytes of the output of the runs of a key", tail_quota.MAX_KEY_TAIL_BYTES, _OLDEST_OUTPUT_NOTE),
        Limit("stored bytes of the output of all runs", tail_quota.MAX_TAIL_STORE_BYTES, _OLDEST_OUTPUT_NOTE),
        Limit("keys", keys.MAX_KEYS, "too-many-keys"),
        Limit("schedules", schedule_table.MAX_SCHEDULES, "too-many-schedules"),
        Limit("schedules of a page", schedules.MAX_SCHEDULE_PAGE, "invalid-field"),
        Limit("characters of a cron expression", recurrence.MAX_CRON_LENGTH, "invalid-field"),
        Limit("push subscriptions of a session or key", subscriptions.MAX_SUBSCRIPTIONS, "too-many-subscriptions"),
        Limit("push subscriptions", subscriptions.MAX_ALL_SUBSCRIPTIONS, "too-many-subscriptions"),
        Limit("characters of the endpoint of a push subscription", subscriptions.MAX_ENDPOINT_LENGTH, "invalid-field"),
        Limit("ping tokens", ping_tokens.MAX_PING_TOKENS, "too-many-ping-tokens"),
        Limit("pings a second of a token", ping_tokens.PINGS_PER_SECOND, "rate-limited"),
        Limit("bytes of the body of a ping", ping.MAX_PING_BYTES, "body-too-large"),
        Limit("shares", shares.MAX_SHARES, "too-many-shares"),
        Limit(
            "browsers signed in with one key, or as administrator", sessions.MAX_SESSIONS, "The oldest is signed out."
        ),
        Limit(
            "runs whose messages a channel edits at a time", MAX_KEPT_RUNS, "The others have a message at their end."
        ),
        Limit("requests a minute of a channel that edits messages", MAX_EDITS_PER_MINUTE, "The message waits."),
        Limit(
            "delivered and abandoned messages to channels",
            dispatcher.MAX_DONE_MESSAGES,
            "The oldest is dropped.",
        ),
        Limit("waiting messages with which push messages are added", MAX_WAITING_PUSHES, "The event is dropped."),
        Limit("one-time sign-in links", sessions.MAX_LINKS, "The oldest becomes invalid."),
        Limit(
            f"wrong attempts to sign in from an address in {sessions.ATTEMPT_WINDOW_SECONDS:g} s",
            sessions.MAX_SIGN_IN_ATTEMPTS,
            "rate-limited",
        ),
        Limit("addresses whose attempts are counted", sessions.MAX_ADDRESSES, "The oldest is dropped."),
        Limit("searches of the history at a time", pools.MAX_SEARCHES, "The search waits for its turn."),
        Limit("searches of the history that wait", pools.MAX_WAITING, _QUEUE_FULL_NOTE),
        Limit("searches of one key or address that wait", pools.MAX_WAITING_OF_HOLDER, _QUEUE_FULL_NOTE),
        Limit("other queries of the history, and pages, that wait", pools.MAX_SHORT_JOBS, _QUEUE_FULL_NOTE),
        Limit("such queries of one key or address that wait", pools.MAX_SHORT_JOBS_OF_HOLDER, _QUEUE_FULL_NOTE),
        Limit("passwords that wait to be verified", pools.MAX_WAITING_PASSWORDS, _QUEUE_FULL_NOTE),
        Limit("seconds for which a search, a query or a page waits", int(pools.MAX_WAIT_SECONDS), _QUEUE_FULL_NOTE),
        Limit(
            "days for which a browser with a password sign-in is recognized",
            DEVICE_SECONDS // 86400,
            "It is forgotten.",
        ),
        Limit("streams", hub.MAX_STREAMS, "too-many-streams", "streams"),
        Limit("streams with one key or link", hub.MAX_STREAMS // 2, "too-many-streams"),
        Limit("streams without a key from one network", hub.MAX_STREAMS // hub.ADDRESS_DIVISOR, "too-many-streams"),
        Limit("exports of the history", budget.MAX_EXPORTS, "too-many-streams"),
        Limit("exports for one key or network", budget.MAX_EXPORTS // budget.HOLDER_DIVISOR, "too-many-streams"),
        Limit("MiB of responses that clients leave unread", settings.max_unread, "too-many-bytes"),
        Limit(
            "MiB of them for one key or network",
            settings.max_unread // budget.HOLDER_DIVISOR,
            "too-many-bytes",
        ),
        Limit(
            "seconds without a read of a response by its client",
            int(budget.UNREAD_TIMEOUT),
            "The connection is closed.",
        ),
        Limit("trusted proxies in a row", proxies.MAX_HOPS, "Proxies before them are ignored."),
        Limit("refused hosts in the log", hosts.MAX_KNOWN_HOSTS, "Further hosts are not logged."),
        Limit("seconds without a read of a stream by its client", int(SEND_TIMEOUT), "The stream is closed."),
        Limit("seconds of a stream", int(hub.MAX_STREAM_AGE), "The stream ends, and the client reconnects."),
        Limit("ticks from which a stream can continue", hub.MAX_TICKS, "The stream begins with a snapshot."),
        Limit("bytes of such ticks", hub.MAX_RING_BYTES, "The stream begins with a snapshot."),
        Limit("views with a cached snapshot", hub.MAX_CACHED_SNAPSHOTS, "It is built again."),
        Limit("views with a cached frame of a tick", frames.MAX_CACHED_FRAMES, "It is built again."),
    ]


def serialize_limits(settings: Settings) -> dict[str, int]:
    """Return the limits that ``/api/key-info`` reports."""
    return {limit.key: limit.maximum for limit in list_limits(settings) if limit.key is not None}


assert MAX_ID_LENGTH == MAX_TITLE_LENGTH == MAX_META_LENGTH == MAX_TEXT_LENGTH  # they share a row
