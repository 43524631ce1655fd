"""Keep one message for each run in a chat service, and edit it.

The leader sends. Its event loop offers the states of running items; the thread of the dispatcher sends them, each at
most once in the interval of the channel, and all within the channel's budget. An offered state is replaced by the next
one. The end of a run is a message of the outbox: it is retried, and it may use the part of the budget that states may
not.

The store has the id of each message, so that any server continues with it. The id is stored after the message was
sent. If a server dies in between, or does not learn the outcome, ntfy replaces the message, and the other services show
a second one: their APIs have no idempotency key.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import OrderedDict, deque
from typing import TYPE_CHECKING, Final, TypeAlias

from msgspec.structs import replace

from progressbar_tracker.server.clock import is_superseded
from progressbar_tracker.server.mutations import KeepMessage, KeptMessage
from progressbar_tracker.server.stores.base import StoreError

from . import chat_services
from .channels import END_EVENTS
from .chat_services import MessageGoneError, MessageRef
from .events import MISSED_EVENT
from .messages import LOST_EVENT, PROGRESS_EVENT, TEST_EVENT, render_chat
from .webhooks import DeliveryError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from progressbar_tracker.server.models import Notice
    from progressbar_tracker.server.stores.base import Store

    from .channels import Channel, Channels
    from .chat_services import ChatText
    from .webhooks import Webhooks

    MessageKey: TypeAlias = tuple[str, str, str]

logger = logging.getLogger("progressbar_tracker.server.notifications.dispatcher")

BUDGET_SECONDS: Final = 60.0

MAX_REMEMBERED_MESSAGES: Final = 10_000
"""The most messages whose latest edit, or whose id that could not be stored, is remembered."""

TOUCH_SECONDS: Final = 86400.0
"""Age from which the record of an edited message is stored again, so that it is not trimmed."""


class RequestBudget:
    """Limits the requests to a channel in any minute. Pure: the clock is an argument.

    >>> budget = RequestBudget(4)
    >>> [budget.find_wait(float(now), is_state=True) or budget.take(float(now)) for now in range(4)]
    [None, None, None, 57.0]
    >>> budget.find_wait(3.0), budget.take(3.0), budget.find_wait(4.0)
    (0.0, None, 56.0)
    """

    def __init__(self, requests_per_minute: int) -> None:
        self._limit = requests_per_minute
        self._taken: deque[float] = deque()

    def find_wait(self, now: float, *, is_state: bool = False) -> float:
        """Return the seconds until a request is permitted. States of running items use three quarters."""
        while self._taken and self._taken[0] <= now - BUDGET_SECONDS:
            self._taken.popleft()
        limit = max(self._limit * 3 // 4, 1) if is_state else self._limit
        surplus = len(self._taken) - limit
        return self._taken[surplus] + BUDGET_SECONDS - now if surplus >= 0 else 0.0

    def take(self, now: float) -> None:
        """Count a request."""
        self._taken.append(now)


class KeptMessages:
    """Sends and edits the messages of the channels that keep them. Offers come from any thread.

    Args:
        store: Has the ids of the messages.
        webhooks: Sends the requests, with its checks of addresses.
        read_tail: Returns the output tail of a notice's run.
        public_url: Base URL for links; ``""`` if unknown.
        clock: Seconds since the epoch.
        monotonic: The monotonic clock.
    """

    def __init__(
        self,
        store: Store,
        webhooks: Webhooks,
        read_tail: Callable[[Notice], str],
        *,
        public_url: str,
        clock: Callable[[], float],
        monotonic: Callable[[], float],
    ) -> None:
        self._store = store
        self._webhooks = webhooks
        self._read_tail = read_tail
        self._public_url = public_url
        self._clock = clock
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._offers: dict[str, dict[MessageKey, Notice]] = {}
        self._budgets: dict[str, tuple[Channel, RequestBudget]] = {}
        self._sent: OrderedDict[MessageKey, tuple[float, float, ChatText]] = OrderedDict()
        self._unsaved: dict[MessageKey, KeptMessage] = {}
        self._without_edits: set[str] = set()

    def offer(self, channel: str, states: Collection[Notice]) -> None:
        """Replace the states of running items that wait to be sent to a channel."""
        with self._lock:
            self._offers[channel] = {_get_key(state): state for state in states}

    def clear_offers(self) -> None:
        """Discard all offers: another server sends."""
        with self._lock:
            self._offers.clear()

    def is_due(self, channel: Channel, item_id: str, run_id: str) -> bool:
        """Return whether the interval of a message has passed."""
        return self._find_interval_wait(channel, (channel.name, item_id, run_id)) <= 0.0

    def find_ready(self, channels: Channels) -> list[Channel]:
        """Return the channels to which a state can be sent now."""
        with self._lock:
            names = [name for name, offers in self._offers.items() if offers]
        found = [channel for name in names if (channel := channels.get(name)) is not None and channel.keeps_messages]
        return [channel for channel in found if not self.find_wait(channel, is_state=True)]

    def find_wait(self, channel: Channel, *, is_state: bool = False) -> float:
        """Return the seconds until the budget of a channel permits a request."""
        with self._lock:  # a test message comes from another thread
            return self._get_budget(channel).find_wait(self._monotonic(), is_state=is_state)

    def find_delay(self, channel: Channel, notice: Notice) -> float:
        """Return the seconds by which an event of a running item waits for the interval. An end does not wait."""
        if notice.event in END_EVENTS or not notice.run_id or notice.event == TEST_EVENT:
            return 0.0
        return max(self._find_interval_wait(channel, _get_key(notice)), 0.0)

    async def send_state(self, channel: Channel) -> bool:
        """Send the state that has waited longest for its edit; return whether there was a request.

        Raises:
            DeliveryError: It was refused, or its outcome is unknown. The next sweep offers a newer one.
        """
        with self._lock:
            offers = self._offers.get(channel.name, {})
            if not offers:
                return False
            key = min(offers, key=lambda each: self._sent[each][0] if each in self._sent else float("-inf"))
            state = offers.pop(key)
        return self.is_due(channel, state.item_id, state.run_id) and await self.send(channel, state)

    async def send(self, channel: Channel, notice: Notice) -> bool:
        """Send a message, or edit the one of its run; return whether there was a request.

        Raises:
            DeliveryError: It was refused, or its outcome is unknown.
        """
        text = render_chat(notice, self._public_url, self._read_tail(notice) if channel.tail else "")
        if notice.event in (TEST_EVENT, MISSED_EVENT):
            await self._request(channel, chat_services.make_message_key(channel.name, notice.notice_id, ""), text)
            return True
        key, place, event = _get_key(notice), chat_services.hash_place(channel), notice.event
        if event == PROGRESS_EVENT and self._shows(key, text):
            return False  # the next change need not wait
        record = self._read_record(key)
        if record is not None and self._is_outdated(notice, record):
            return False
        is_final = event in END_EVENTS or event == LOST_EVENT
        has_message = record is not None and record.place == place
        message_id = record.message_id if record is not None and has_message else ""
        # A service that cannot edit gets the subscribed events, each as a message.
        is_sent = bool(message_id) or (event == PROGRESS_EVENT and not has_message) or channel.subscribes(event)
        started = self._monotonic()
        if is_sent:
            message_id = await self._send_or_edit(channel, key, text, message_id)
            self._warn_without_edits(channel, message_id)
        self._remember(key, started, notice.at, text)
        if not (is_sent or is_final):
            return False
        now = self._clock()
        stored = KeptMessage(*key, place, message_id, now, is_final or (record is not None and record.is_final))
        if record is None or replace(record, at=now) != stored or now - record.at > TOUCH_SECONDS:
            await self._save({key: stored})
        return is_sent

    async def save_pending(self) -> None:
        """Store the ids that could not be stored."""
        if self._unsaved:
            await self._save(self._unsaved.copy())

    def _read_record(self, key: MessageKey) -> KeptMessage | None:
        try:
            return self._unsaved.get(key) or self._store.read_kept_message(*key)
        except StoreError:
            raise DeliveryError("the database does not answer: whether there is a message is not known") from None

    def _shows(self, key: MessageKey, text: ChatText) -> bool:
        sent = self._sent.get(key)
        return sent is not None and sent[2] == text

    def _warn_without_edits(self, channel: Channel, message_id: str) -> None:
        if not message_id and channel.name not in self._without_edits:
            self._without_edits.add(channel.name)
            logger.warning(
                "the channel %s cannot edit its messages, and gets events only: ntfy needs version 2.16", channel.name
            )

    def _is_outdated(self, notice: Notice, record: KeptMessage) -> bool:
        """Return whether a message shows something newer than a notice. The end of its run is always shown."""
        if notice.event in END_EVENTS:
            return False
        sent = self._sent.get(_get_key(notice))
        return record.is_final or (sent is not None and is_superseded(notice.at, sent[1], self._clock()))

    def _find_interval_wait(self, channel: Channel, key: MessageKey) -> float:
        with self._lock:
            sent = self._sent.get(key)
        return 0.0 if sent is None else sent[0] + channel.edit_seconds - self._monotonic()

    def _get_budget(self, channel: Channel) -> RequestBudget:
        known = self._budgets.get(channel.name)
        if known is None or known[0].edits_per_minute != channel.edits_per_minute:
            known = self._budgets[channel.name] = channel, RequestBudget(channel.edits_per_minute)
        return known[1]

    def _remember(self, key: MessageKey, started: float, at: float, text: ChatText) -> None:
        with self._lock:
            self._sent[key] = started, at, text
            self._sent.move_to_end(key)
            while len(self._sent) > MAX_REMEMBERED_MESSAGES:
                self._sent.popitem(last=False)

    async def _send_or_edit(self, channel: Channel, key: MessageKey, text: ChatText, message_id: str) -> str:
        message_key = chat_services.make_message_key(*key)
        try:
            return await self._request(channel, message_key, text, message_id)
        except MessageGoneError:
            return await self._request(channel, message_key, text)

    async def _request(self, channel: Channel, key: str, text: ChatText, message_id: str = "") -> str:
        ref = MessageRef(key, message_id)
        request = chat_services.build_request(channel, ref, text)
        with self._lock:
            self._get_budget(channel).take(self._monotonic())
        response = await self._webhooks.exchange(
            request.method, request.url, request.headers, request.body, allow_private=channel.allow_private
        )
        return chat_services.read_response(channel, ref, response)

    async def _save(self, records: Mapping[MessageKey, KeptMessage]) -> None:
        """Store the ids of messages. If that fails, they are stored later, see :meth:`save_pending`."""
        self._unsaved |= records
        while len(self._unsaved) > MAX_REMEMBERED_MESSAGES:
            del self._unsaved[next(iter(self._unsaved))]
        try:
            await asyncio.wrap_future(self._store.commit([*map(KeepMessage, records.values())]))
        except StoreError:
            return
        for key, record in records.items():
            if self._unsaved.get(key) is record:
                del self._unsaved[key]


def _get_key(notice: Notice) -> MessageKey:
    return notice.channel, notice.item_id, notice.run_id
