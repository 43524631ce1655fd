"""The limits of everything that a client can make grow, with what is answered beyond each.

One list, from which ``/docs`` has its table and ``/api/key-info`` what programs need to know.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from progressbar_tracker._models import (
    BATCH_BYTES,
    BATCH_OPS,
    BODY_BYTES,
    DESCRIPTION_LENGTH,
    ID_LENGTH,
    META_ENTRIES,
    META_LENGTH,
    NOTIFY_ENTRIES,
    PART_LENGTH,
    TITLE_LENGTH,
)
from progressbar_tracker.server import budget, capacity, frames, hosts, hub, maintenance, pools, proxies
from progressbar_tracker.server.access import keys, sessions, shares
from progressbar_tracker.server.access.devices import DEVICE_SECONDS
from progressbar_tracker.server.http.endpoint import SEND_TIMEOUT
from progressbar_tracker.server.http.request import MAX_TEXT_LENGTH
from progressbar_tracker.server.items import board, samples, transition
from progressbar_tracker.server.notifications import dispatcher

from . import history, items

if TYPE_CHECKING:
    from progressbar_tracker.server.problems import ProblemCode
    from progressbar_tracker.server.settings import Settings


_QUEUE_FULL_NOTE: Final = "It is answered 503 with Retry-After."


class Limit(NamedTuple):
    """One limit.

    Attributes:
        name: What it is of.
        maximum: How much there may be.
        consequence: What becomes of one more: the code of a problem, or a sentence.
        key: Its name in ``/api/key-info``, where programs are told of it.
    """

    name: str
    maximum: int
    consequence: ProblemCode | str
    key: str | None = None


def list_limits(settings: Settings) -> list[Limit]:
    """Return all limits of a server."""
    return [
        Limit("bytes of a body", BODY_BYTES, "body-too-large", "body_bytes"),
        Limit("bytes of a batch", BATCH_BYTES, "body-too-large", "batch_bytes"),
        Limit("operations of a batch", BATCH_OPS, "invalid-field", "batch_ops"),
        Limit("bytes of the headers of a request", capacity.MAX_HEAD_BYTES, "The connection is closed."),
        *(
            [Limit("requests a second of a key", settings.max_requests, "rate-limited", "requests")]
            if settings.max_requests
            else []
        ),
        Limit("items of a key", settings.max_items, "too-many-items", "items"),
        Limit("parts of a run", transition.MAX_PARTS, "invalid-field", "parts"),
        Limit("entries of meta", META_ENTRIES, "invalid-field"),
        Limit("channels that an item names", NOTIFY_ENTRIES, "invalid-field"),
        Limit("characters of an id, a title, a group, a text of meta or of a search", TITLE_LENGTH, "invalid-field"),
        Limit("characters of a description or an error", DESCRIPTION_LENGTH, "invalid-field"),
        Limit("characters of the name of a part", PART_LENGTH, "invalid-field"),
        Limit("former runs that an item remembers", board.MAX_PAST_RUNS, "The oldest is forgotten."),
        Limit(
            "samples of a run",
            samples.MAX_SAMPLES,
            "Every other one is forgotten, and the next are taken half as often.",
        ),
        Limit("items of a page", items.MAX_PAGE_SIZE, "invalid-field"),
        Limit("runs of a page of the history", history.MAX_HISTORY_PAGE, "invalid-field"),
        Limit("bytes of a page of the history", history.MAX_PAGE_BYTES, "There is a link to the next page."),
        Limit("bytes of a tick of a stream", hub.MAX_TICK_BYTES, "Streams go on with a snapshot."),
        Limit("runs of the history", maintenance.MAX_HISTORY_RUNS, "The oldest is forgotten."),
        Limit("keys", keys.MAX_KEYS, "too-many-keys"),
        Limit("shares", shares.MAX_SHARES, "too-many-shares"),
        Limit(
            "browsers signed in with one key, or as administrator", sessions.MAX_SESSIONS, "The oldest is signed out."
        ),
        Limit(
            "messages to channels that are remembered once they are done with",
            dispatcher.MAX_DONE_MESSAGES,
            "The oldest is forgotten.",
        ),
        Limit("one-time sign-in links", sessions.MAX_LINKS, "The oldest is worth nothing."),
        Limit(
            f"wrong attempts to sign in from an address in {sessions.ATTEMPT_WINDOW_SECONDS:g} s",
            sessions.MAX_SIGN_IN_ATTEMPTS,
            "rate-limited",
        ),
        Limit("addresses whose attempts are counted", sessions.MAX_ADDRESSES, "The oldest is forgotten."),
        Limit("searches of the history at a time", pools.MAX_SEARCHES, "It waits for its turn."),
        Limit("searches of the history that wait", pools.MAX_WAITING, _QUEUE_FULL_NOTE),
        Limit("searches of one key or address that wait", pools.MAX_WAITING_OF_HOLDER, _QUEUE_FULL_NOTE),
        Limit("other looks at the history, and pages, that wait", pools.MAX_SHORT_JOBS, _QUEUE_FULL_NOTE),
        Limit("of them, those of one key or address", pools.MAX_SHORT_JOBS_OF_HOLDER, _QUEUE_FULL_NOTE),
        Limit("passwords that wait to be verified", pools.MAX_WAITING_PASSWORDS, _QUEUE_FULL_NOTE),
        Limit("seconds for which a search, a look or a page waits", int(pools.MAX_WAIT_SECONDS), _QUEUE_FULL_NOTE),
        Limit(
            "days for which a browser that signed in by password is known", DEVICE_SECONDS // 86400, "It is forgotten."
        ),
        Limit("streams", hub.MAX_STREAMS, "too-many-streams", "streams"),
        Limit("streams with one key or link", hub.MAX_STREAMS // 2, "too-many-streams"),
        Limit("streams without a key from one network", hub.MAX_STREAMS // hub.ADDRESS_FRACTION, "too-many-streams"),
        Limit("exports of the history", budget.MAX_EXPORTS, "too-many-streams"),
        Limit("exports for one key or network", budget.MAX_EXPORTS // budget.HOLDER_FRACTION, "too-many-streams"),
        Limit("MiB of responses that clients leave unread", settings.max_unread, "too-many-bytes"),
        Limit("MiB of them for one key or network", settings.max_unread // budget.HOLDER_FRACTION, "too-many-bytes"),
        Limit(
            "seconds in which a client reads something of a response that is unread",
            int(budget.UNREAD_TIMEOUT),
            "The connection is closed.",
        ),
        Limit("proxies in a row that are believed", proxies.MAX_HOPS, "Those before them are not looked at."),
        Limit("refused hosts that are logged", hosts.MAX_KNOWN_HOSTS, "It is not logged."),
        Limit("seconds in which a stream's reader takes what it is sent", int(SEND_TIMEOUT), "The stream is closed."),
        Limit("seconds of a stream", int(hub.MAX_STREAM_AGE), "It ends, and its reader comes back."),
        Limit("ticks that a stream can go on from", hub.MAX_TICKS, "It begins with a snapshot."),
        Limit("bytes of ticks that a stream can go on from", hub.MAX_RING_BYTES, "It begins with a snapshot."),
        Limit("views of which a snapshot is kept", hub.MAX_CACHED_SNAPSHOTS, "It is made anew."),
        Limit("views of which the frame of a tick is kept", frames.MAX_CACHED_FRAMES, "It is made anew."),
    ]


def serialize_limits(settings: Settings) -> dict[str, int]:
    """Return what ``/api/key-info`` tells of them."""
    return {limit.key: limit.maximum for limit in list_limits(settings) if limit.key is not None}


assert ID_LENGTH == TITLE_LENGTH == META_LENGTH == MAX_TEXT_LENGTH  # one row tells them all
