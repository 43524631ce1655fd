"""Deliver due messages from the outbox, and retry each for a day.

Only the leader delivers. Its thread has a separate event loop, so that a hanging service does not delay requests.
Messages of one channel are sent in sequence. A failed message pauses its channel for a random, growing time. A message
is marked after it was sent: if its server dies or loses the database in between, it is sent again, with the same id.
Without a mark, and without the leadership, a channel sends no further message, so a failover repeats one message of a
channel at most.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import threading
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from progressbar_tracker.server.clock import ClockJumpDetector, get_monotonic
from progressbar_tracker.server.logs import log_event
from progressbar_tracker.server.models import MAX_RETRY_SECONDS, MAX_WAITING_NOTICES, PUSH_CHANNEL_PREFIX, Notice
from progressbar_tracker.server.mutations import MarkNotice, TrimNotices
from progressbar_tracker.server.stores.base import StoreError

from . import messages
from .apprise_messages import send_with_apprise
from .kept_messages import KeptMessages
from .web_push import EndpointGoneError
from .webhooks import DeliveryError, Webhooks

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Sequence

    from progressbar_tracker.server.stores.base import Store

    from .channels import Channel, Channels
    from .web_push import WebPush

logger = logging.getLogger("progressbar_tracker.server.notifications.dispatcher")

POLL_INTERVAL: Final = 1.0
"""Seconds between two reads of the outbox without a wake-up: other servers add messages, too."""

BATCH_SIZE: Final = 50

_system_random: Final = random.SystemRandom()

MIN_BACKOFF_SECONDS: Final = 5.0
MAX_BACKOFF_SECONDS: Final = MAX_RETRY_SECONDS
"""Upper bounds of the first and of the longest pause. The bound doubles with each attempt; the pause is random."""

MAX_MESSAGE_AGE: Final = 86400.0
"""Seconds for which a message is retried."""

OUTBOX_RETENTION: Final = 7 * 86400.0
MAX_DONE_MESSAGES: Final = 100_000
"""Seconds, and number, of done messages to keep: a repeated event finds its own id and sends nothing."""

TRIM_INTERVAL: Final = 60.0
"""Seconds between two trims of the outbox."""

CLOSE_GRACE_SECONDS: Final = 1.0
"""Seconds for in-flight messages when the server closes."""

PUSH_LABEL: Final = "web push"
"""Counts the messages to all push subscriptions; no channel has a space in its name."""


class DeliveryCounts:
    """Delivery counters of one channel since the start of the server.

    Attributes:
        delivered: Messages.
        failed: Attempts.
        given_up: Messages that are not retried.
        edited: States of running items.
    """

    __slots__ = ("delivered", "edited", "failed", "given_up")

    def __init__(self) -> None:
        self.delivered = self.failed = self.given_up = self.edited = 0


class OutboxDispatcher:
    """Delivers the messages of the outbox.

    Args:
        store: The store with the outbox.
        channels: The destinations.
        is_leader: Whether this server delivers.
        clock: Seconds since the epoch.
        public_url: Base URL for links; ``""`` if unknown.
        uniform: Returns a random number between two bounds.
        webhooks: Sends webhooks.
        send_message: Sends any other message, or raises :class:`~.webhooks.DeliveryError`.
        web_push: Returns the sender of messages to push subscriptions, given a sender of requests.

    Attributes:
        kept: The messages that are edited.
        counts: Delivery counters by channel name.
        waiting_count: Messages in the outbox that wait, counted once a minute; 0 unless this server is the leader.
    """

    def __init__(
        self,
        store: Store,
        channels: Channels,
        *,
        is_leader: Callable[[], bool],
        clock: Callable[[], float],
        public_url: str = "",
        uniform: Callable[[float, float], float] = _system_random.uniform,
        webhooks: Webhooks | None = None,
        send_message: Callable[[Channel, messages.Message], Awaitable[None]] | None = None,
        web_push: Callable[[Webhooks], WebPush] | None = None,
    ) -> None:
        self.counts: dict[str, DeliveryCounts] = {}
        self.waiting_count = 0
        self._store = store
        self._channels = channels
        self._is_leader = is_leader
        self._clock = clock
        self._monotonic = get_monotonic(clock)
        self._jumps = ClockJumpDetector(clock)
        self._public_url = public_url
        self._uniform = uniform
        self._webhooks = webhooks or Webhooks()
        self._send_message = send_message or send_with_apprise
        self._web_push = None if web_push is None else web_push(self._webhooks)
        self.kept = KeptMessages(
            store, self._webhooks, self._read_tail, public_url=public_url, clock=clock, monotonic=self._monotonic
        )
        self._disabled: dict[str, Channel] = {}
        self._backoff_until: dict[str, float] = {}
        self._failures: dict[str, int] = {}
        self._unrecorded: dict[str, MarkNotice | None] = {}  # None while the commit runs
        self._busy: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._trimmed_at = float("-inf")
        self._is_full = self._is_failing = False
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._wake: asyncio.Event | None = None
        self._closing = self._is_started = False
        self._lock = threading.Lock()

    def start(self) -> None:
        """Start the thread if there are channels or push subscriptions. Idempotent."""
        if self._is_started or not (self._channels.has_channels or self._has_subscriptions):
            return
        with self._lock:
            if not self._closing and not self._is_started:
                self._is_started = True
                ready = threading.Event()
                self._thread = threading.Thread(
                    target=self._run, args=(ready,), name="progressbar-dispatcher", daemon=True
                )
                self._thread.start()
                ready.wait(5.0)

    def wake(self) -> None:
        """Read the outbox soon: a message was added."""
        self._call_soon(lambda: None if self._wake is None else self._wake.set())

    def close(self, timeout: float = 2.0) -> None:
        """Stop. In-flight messages are resent after the next start. Idempotent."""
        with self._lock:
            self._closing = True
            thread = self._thread
        self.wake()
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout)

    @property
    def _has_subscriptions(self) -> bool:
        return self._web_push is not None and len(self._web_push.subscriptions) > 0

    def is_disabled(self, name: str) -> bool:
        """Return whether the receiver unsubscribed. A changed entry enables the channel again."""
        channel = self._channels.get(name)
        return channel is not None and self._disabled.get(name) == channel

    async def send_test(self, channel: Channel, notice_id: str) -> str | None:
        """Send a test message now.

        Returns:
            The reason of a failure, or ``None`` if it was delivered.
        """
        now = self._clock()
        sample = (
            '{"id": "test", "title": "A test", "description": "A test of this channel.", "value": 0.5, '
            '"status": "running"}'
        )
        notice = Notice(
            notice_id=notice_id, channel=channel.name, item_id="test", run_id="test", event=messages.TEST_EVENT, at=now,
            body=sample, next_at=now,
        )  # fmt: skip
        try:
            await self._send(channel, notice)
        except DeliveryError as error:
            return str(error)
        self._disabled.pop(channel.name, None)
        return None

    # In its own thread.

    def _call_soon(self, function: Callable[[], object]) -> None:
        loop = self._loop
        if loop is not None:
            with contextlib.suppress(RuntimeError):  # it is closed
                loop.call_soon_threadsafe(function)

    def _run(self, ready: threading.Event) -> None:
        try:
            asyncio.run(self._run_loop(ready))
        except BaseException:  # an error that ends the thread has no other reporter
            logger.exception("the dispatcher stopped")
        finally:
            ready.set()

    async def _run_loop(self, ready: threading.Event) -> None:
        self._loop = asyncio.get_running_loop()
        self._wake = asyncio.Event()
        ready.set()
        while not self._closing:
            self._wake.clear()
            try:
                if self._is_leader():
                    has_more = await self._dispatch_due()
                    self._is_failing = False
                else:
                    has_more = False
                    self.waiting_count = 0
            except StoreError as error:
                has_more = False
                if not self._is_failing:
                    logger.warning("the outbox cannot be read: %s", error)
                self._is_failing = True
            except Exception:
                has_more = False
                logger.exception("messages of the outbox could not be sent")
            if not has_more:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(POLL_INTERVAL):
                        await self._wake.wait()
        if self._tasks:
            # A message that finishes now is marked, and is not sent again.
            await asyncio.wait(self._tasks, timeout=CLOSE_GRACE_SECONDS)
        for task in self._tasks:
            task.cancel()

    async def _dispatch_due(self) -> bool:
        """Send a batch of due messages; return whether more are due now."""
        now = self._clock()
        for mark in list(self._unrecorded.values()):
            if mark is not None and not await self._record_result(mark):
                return False
        await self.kept.save_pending()
        self._jumps.poll()
        self._trim(now)
        self._backoff_until = {name: until for name, until in self._backoff_until.items() if until > self._monotonic()}
        due = self._store.read_due_notices(now, BATCH_SIZE, excluded_channels=[*self._busy, *self._backoff_until])
        by_channel: dict[str, list[Notice]] = {}
        for notice in due:
            if notice.notice_id not in self._unrecorded:
                by_channel.setdefault(notice.channel, []).append(notice)
        for name, notices in by_channel.items():
            self._start_task(name, self._deliver(notices))
        for channel in self.kept.find_ready(self._channels):
            # After the messages of the outbox, which may be ends.
            name = channel.name
            if name not in self._busy and name not in self._backoff_until and not self.is_disabled(name):
                self._start_task(name, self._send_state(channel))
        return len(due) == BATCH_SIZE and bool(by_channel)

    def _start_task(self, name: str, work: Coroutine[None, None, None]) -> None:
        self._busy.add(name)
        task = asyncio.create_task(self._run_task(name, work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run_task(self, name: str, work: Coroutine[None, None, None]) -> None:
        try:
            await work
        except Exception:
            logger.exception("the messages to %s could not be sent", name)
            self._backoff_until[name] = self._monotonic() + MAX_BACKOFF_SECONDS / 60
        finally:
            self._busy.discard(name)
            assert self._wake is not None
            self._wake.set()

    async def _send_state(self, channel: Channel) -> None:
        """Send one state of a running item. A failed one is replaced by a newer one, and is not retried."""
        name = channel.name
        counts = self.counts.setdefault(name, DeliveryCounts())
        try:
            if await self.kept.send_state(channel):
                counts.edited += 1
        except DeliveryError as error:
            counts.failed += 1
            self._disable(name, error)
            self._pause_channel(name, error)
        else:
            self._failures.pop(name, None)

    async def _deliver(self, notices: Sequence[Notice]) -> None:
        for notice in notices:
            if self._closing or not self._is_leader() or not await self._attempt(notice):
                break

    async def _attempt(self, notice: Notice) -> bool:
        """Make one attempt; return whether the channel may send its next message now."""
        name = notice.channel
        counts = self.counts.setdefault(PUSH_LABEL if _is_push(notice) else name, DeliveryCounts())
        reason = self._find_refusal(notice)
        if reason is not None:
            await self._give_up(notice, reason, counts)
            return True
        if name in self._failures and self._is_too_old(notice):
            # The failure of another message counts as an attempt for this one.
            await self._give_up(notice, "nothing for this channel could be delivered for a day", counts)
            return True
        if await self._postpone(notice):
            return name not in self._backoff_until
        try:
            await self._send_notice(notice)
        except DeliveryError as error:
            return await self._handle_failure(notice, error, counts)
        except Exception:
            # Without a mark, the message would be retried without end, and those after it would wait.
            logger.exception("a message to %s failed: %s of %r", name, notice.event, notice.item_id)
            return await self._handle_failure(notice, DeliveryError("an error of this server, see its log"), counts)
        counts.delivered += 1
        self._failures.pop(name, None)
        log_event("message delivered", channel=name, event=notice.event, item=notice.item_id)
        return await self._record_result(MarkNotice(notice.notice_id, notice.attempts, delivered_at=self._clock()))

    async def _postpone(self, notice: Notice) -> bool:
        """Let a message wait for the limits of its channel; return whether it waits."""
        channel = self._channels.get(notice.channel)
        if channel is None or not channel.keeps_messages:
            return False
        wait = self.kept.find_wait(channel)
        if wait > 0:
            self._backoff_until[notice.channel] = self._monotonic() + wait
            return True
        delay = self.kept.find_delay(channel, notice)
        if delay > 0:
            next_at = self._clock() + min(delay, MAX_RETRY_SECONDS)
            await self._record_result(MarkNotice(notice.notice_id, notice.attempts, next_at=next_at))
        return delay > 0

    def _find_refusal(self, notice: Notice) -> str | None:
        """Return why a message is given up without an attempt, or ``None``."""
        if _is_push(notice):
            return "this server sends no web push" if self._web_push is None else self._web_push.find_refusal(notice)
        if self._channels.get(notice.channel) is None:
            return "there is no such channel any more"
        return "the channel wants no more (410)" if self.is_disabled(notice.channel) else None

    async def _send_notice(self, notice: Notice) -> None:
        if _is_push(notice):
            assert self._web_push is not None
            await self._web_push.send(notice)
            return
        channel = self._channels.get(notice.channel)
        if channel is None:
            raise DeliveryError("there is no such channel any more")
        await self._send(channel, notice)

    async def _handle_failure(self, notice: Notice, error: DeliveryError, counts: DeliveryCounts) -> bool:
        name, now, attempts = notice.channel, self._clock(), notice.attempts + 1
        counts.failed += 1
        if isinstance(error, EndpointGoneError):
            assert self._web_push is not None
            counts.given_up += 1
            # The message ends with its subscription. If the browser has got another endpoint meanwhile, it goes there.
            mark = MarkNotice(notice.notice_id, attempts, next_at=now + MIN_BACKOFF_SECONDS, error=str(error))
            await self._record_result(mark)
            logger.warning("%s ends, with its message: %s", name, error)
            self._web_push.end(name, error)
            return True
        if error.is_gone:
            self._disable(name, error)
            await self._give_up(notice, str(error), counts)
            return True
        pause = error.retry_after
        if pause is None:
            pause = self._uniform(0.0, min(MAX_BACKOFF_SECONDS, MIN_BACKOFF_SECONDS * 2.0 ** min(notice.attempts, 20)))
        self._pause_channel(name, error)
        if self._is_too_old(notice):
            await self._give_up(replace(notice, attempts=attempts), str(error), counts)
        else:
            await self._record_result(MarkNotice(notice.notice_id, attempts, next_at=now + pause, error=str(error)))
        return False

    def _disable(self, name: str, error: DeliveryError) -> None:
        """Disable a channel of the operator whose receiver unsubscribed."""
        channel = self._channels.get(name)
        if error.is_gone and channel is not None:
            self._disabled[name] = channel
            logger.warning("the channel %s is off until its entry changes or the server is started: %s", name, error)

    def _pause_channel(self, name: str, error: DeliveryError) -> None:
        """Pause a channel: its other messages would probably fail, too.

        The pause is short, because the failure may concern only this message, unless the receiver names its length.
        """
        failures = self._failures[name] = self._failures.get(name, 0) + 1
        pause = error.retry_after
        if pause is None:
            longest = min(MAX_BACKOFF_SECONDS / 60, MIN_BACKOFF_SECONDS * 2.0 ** min(failures - 1, 20))
            pause = self._uniform(0.0, longest)
        self._backoff_until[name] = self._monotonic() + pause
        if failures == 1:
            logger.warning("a message to %s was not delivered and is retried: %s", name, error)

    def _is_too_old(self, notice: Notice) -> bool:
        return self._clock() - notice.at >= MAX_MESSAGE_AGE and self._jumps.is_settled(MAX_MESSAGE_AGE)

    async def _give_up(self, notice: Notice, reason: str, counts: DeliveryCounts) -> None:
        counts.given_up += 1
        logger.warning(
            "a message to %s is given up: %s of %r; %s", notice.channel, notice.event, notice.item_id, reason
        )
        await self._record_result(MarkNotice(notice.notice_id, notice.attempts, error=reason))

    async def _record_result(self, mark: MarkNotice) -> bool:
        """Persist the result of a message; return whether it was. If not, retry it before any message is sent."""
        self._unrecorded[mark.notice_id] = None
        try:
            await asyncio.wrap_future(self._store.commit([mark]))
        except StoreError:
            self._unrecorded[mark.notice_id] = mark
            return False
        del self._unrecorded[mark.notice_id]
        return True

    async def _send(self, channel: Channel, notice: Notice) -> None:
        if channel.keeps_messages:
            await self.kept.send(channel, notice)
            return
        tail = self._read_tail(notice) if channel.tail else ""
        if channel.kind == "webhook":
            await self._webhooks.send(
                channel, notice.notice_id, int(self._clock()), messages.render_webhook(notice, self._public_url, tail)
            )
        else:
            await self._send_message(channel, messages.render_message(notice, self._public_url, tail))

    def _read_tail(self, notice: Notice) -> str:
        """Return the last lines of the run's output. A message is more important than they are."""
        try:
            tail = self._store.read_tail(notice.item_id, notice.run_id)
        except StoreError:
            return ""
        return "" if tail is None else tail.text

    def _trim(self, now: float) -> None:
        if self._monotonic() - self._trimmed_at < TRIM_INTERVAL:
            return
        self._trimmed_at = self._monotonic()
        if self._jumps.is_settled(OUTBOX_RETENTION):
            self._store.enqueue([TrimNotices(now - OUTBOX_RETENTION, MAX_DONE_MESSAGES)])
        self.waiting_count = sum(outcome.waiting for outcome in self._store.read_delivery_stats())
        full = self.waiting_count >= MAX_WAITING_NOTICES
        if full and not self._is_full:
            logger.warning("the outbox is full: %d messages wait, and new events are dropped", MAX_WAITING_NOTICES)
        self._is_full = full


def _is_push(notice: Notice) -> bool:
    return notice.channel.startswith(PUSH_CHANNEL_PREFIX)
