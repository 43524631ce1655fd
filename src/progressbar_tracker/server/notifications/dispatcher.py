"""The courier: takes what is due from the outbox, and sends it until it is delivered or a day is over.

One of several servers does so, the one that leads; in a thread with an event loop of its own, so that no service that
hangs holds up a request. Each channel has its messages one after the other, and one that fails rests, with all that
waits for it, for a random time that grows. What was sent is marked afterwards: a server that dies in between sends it
again, by the same id.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import threading
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from progressbar_tracker.server.clock import ClockJumpDetector, monotonic_of
from progressbar_tracker.server.logs import log_event
from progressbar_tracker.server.models import MAX_RETRY_SECONDS, MAX_WAITING_NOTICES, Notice
from progressbar_tracker.server.mutations import MarkNotice, TrimNotices
from progressbar_tracker.server.stores.base import StoreError
from progressbar_tracker.server.threads import run_in_daemon_thread

from . import messages
from .webhooks import DeliveryError, Webhooks

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from progressbar_tracker.server.stores.base import Store

    from .channels import Channel, Channels

logger = logging.getLogger("progressbar_tracker.server.notifications.dispatcher")

POLL_INTERVAL: Final = 1.0
"""Seconds until the outbox is looked at again without a word: other servers put something in, too."""

BATCH_SIZE: Final = 50
"""How many messages are taken at a time."""

MIN_BACKOFF_SECONDS: Final = 5.0
MAX_BACKOFF_SECONDS: Final = MAX_RETRY_SECONDS
"""Seconds of the first pause, at the most, and of the longest. Each is a random part of twice the one before."""

MAX_MESSAGE_AGE: Final = 86400.0
"""Seconds for which a message is tried."""

OUTBOX_RETENTION: Final = 7 * 86400.0
MAX_DONE_MESSAGES: Final = 100_000
"""For how long, in seconds, and of how many messages that are done with it is remembered that they were."""

TRIM_INTERVAL: Final = 60.0
"""Seconds between two times of forgetting."""

CLOSE_GRACE_SECONDS: Final = 1.0
"""Seconds that what is under way has at the end."""

SEND_TIMEOUT: Final = 30.0
"""Seconds that a service which apprise speaks to may take."""


class DeliveryCounts:
    """What became of the attempts of one channel, since the server was started.

    Attributes:
        delivered: Messages that were taken.
        failed: Attempts in vain.
        given_up: Messages that are not tried any more.
    """

    __slots__ = ("delivered", "failed", "given_up")

    def __init__(self) -> None:
        self.delivered = self.failed = self.given_up = 0


class OutboxDispatcher:
    """Delivers what is in the outbox.

    Args:
        store: With the outbox.
        channels: Where to.
        leads: Whether it is for this server to do.
        clock: Seconds since the epoch.
        public_url: The URL that people come by, for links; ``""`` where it is not known.
        uniform: Returns a random number between two.
        webhooks: Sends webhooks.
        send_letter: Sends a message for people, or raises :class:`~.webhooks.DeliveryError`.

    Attributes:
        counts: By the name of the channel.
    """

    def __init__(
        self,
        store: Store,
        channels: Channels,
        *,
        is_leader: Callable[[], bool],
        clock: Callable[[], float],
        public_url: str = "",
        uniform: Callable[[float, float], float] = random.uniform,
        webhooks: Webhooks | None = None,
        send_message: Callable[[Channel, messages.Message], Awaitable[None]] | None = None,
    ) -> None:
        self.counts: dict[str, DeliveryCounts] = {}
        self._store = store
        self._channels = channels
        self._is_leader = is_leader
        self._clock = clock
        self._monotonic = monotonic_of(clock)
        self._jumps = ClockJumpDetector(clock)
        self._public_url = public_url
        self._uniform = uniform
        self._webhooks = webhooks or Webhooks()
        self._send_message = send_message or send_with_apprise
        self._disabled: dict[str, Channel] = {}
        self._backoff_until: dict[str, float] = {}
        self._failures: dict[str, int] = {}
        self._unrecorded: dict[str, MarkNotice | None] = {}  # None while it is being noted
        self._busy: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._trimmed_at = float("-inf")
        self._is_full = self._is_failing = False
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._wake: asyncio.Event | None = None
        self._closing = False
        self._lock = threading.Lock()

    def start(self) -> None:
        """Begin, if there are channels; may be called again."""
        with self._lock:
            if self._thread is None and not self._closing and self._channels.has_channels:
                ready = threading.Event()
                self._thread = threading.Thread(
                    target=self._run, args=(ready,), name="progressbar-courier", daemon=True
                )
                self._thread.start()
                ready.wait(5.0)

    def wake(self) -> None:
        """Look at the outbox soon: something was put in."""
        self._call_soon(lambda: None if self._wake is None else self._wake.set())

    def close(self, timeout: float = 2.0) -> None:
        """Stop; what is under way is done again by who comes next. Idempotent."""
        with self._lock:
            self._closing = True
            thread = self._thread
        self.wake()
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout)

    def is_disabled(self, name: str) -> bool:
        """Say whether a channel was turned off, because whoever it leads to wants no more."""
        channel = self._channels.get(name)
        return channel is not None and self._disabled.get(name) == channel

    async def send_test(self, channel: Channel, notice_id: str) -> str | None:
        """Send a message to a channel now.

        Returns:
            Why it was not delivered, or ``None`` if it was.
        """
        now = self._clock()
        sample = (
            '{"id": "test", "title": "A test", "description": "Somebody tries this channel.", "value": 0.5, '
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
        except BaseException:  # the thread is ours, and nobody else would hear of it
            logger.exception("the courier stopped")
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
                    more = await self._dispatch_due()
                    self._is_failing = False
                else:
                    more = False
            except StoreError as error:
                more = False
                if not self._is_failing:
                    logger.warning("the outbox cannot be read: %s", error)
                self._is_failing = True
            except Exception:
                more = False
                logger.exception("what is in the outbox could not be sent")
            if not more:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(POLL_INTERVAL):
                        await self._wake.wait()
        if self._tasks:
            # What is nearly through is marked, so that it need not be sent again.
            await asyncio.wait(self._tasks, timeout=CLOSE_GRACE_SECONDS)
        for task in self._tasks:
            task.cancel()

    async def _dispatch_due(self) -> bool:
        """Send what is due; say whether there may be more at once."""
        now = self._clock()
        for mark in list(self._unrecorded.values()):
            if mark is not None:
                await self._record_result(mark)
        self._jumps.poll()
        self._trim(now)
        self._backoff_until = {name: until for name, until in self._backoff_until.items() if until > self._monotonic()}
        due = self._store.read_due_notices(now, BATCH_SIZE, excluded_channels=[*self._busy, *self._backoff_until])
        by_channel: dict[str, list[Notice]] = {}
        for notice in due:
            if notice.notice_id not in self._unrecorded:
                by_channel.setdefault(notice.channel, []).append(notice)
        for name, some in by_channel.items():
            self._busy.add(name)
            task = asyncio.create_task(self._deliver(name, some))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return len(due) == BATCH_SIZE and bool(by_channel)

    async def _deliver(self, name: str, some: Sequence[Notice]) -> None:
        try:
            for notice in some:
                if self._closing or not await self._attempt(notice):
                    break
        except Exception:
            logger.exception("the messages to %s could not be sent", name)
            self._backoff_until[name] = self._monotonic() + MAX_BACKOFF_SECONDS / 60
        finally:
            self._busy.discard(name)
            assert self._wake is not None
            self._wake.set()

    async def _attempt(self, notice: Notice) -> bool:
        """Try to deliver a message; say whether the next may be tried now."""
        name, counts = notice.channel, self.counts.setdefault(notice.channel, DeliveryCounts())
        channel = self._channels.get(name)
        if channel is None or self.is_disabled(name):
            why = "there is no such channel any more" if channel is None else "the channel wants no more (410)"
            await self._give_up(notice, why, counts)
            return True
        if name in self._failures and self._is_too_old(notice):
            # One of the others has just been tried, and is to be for it, too.
            await self._give_up(notice, "nothing for this channel could be delivered for a day", counts)
            return True
        try:
            await self._send(channel, notice)
        except DeliveryError as error:
            return await self._handle_failure(channel, notice, error, counts)
        counts.delivered += 1
        self._failures.pop(name, None)
        log_event("message delivered", channel=name, event=notice.event, item=notice.item_id)
        await self._record_result(MarkNotice(notice.notice_id, notice.attempts, delivered_at=self._clock()))
        return True

    async def _handle_failure(
        self, channel: Channel, notice: Notice, error: DeliveryError, counts: DeliveryCounts
    ) -> bool:
        name, now, attempts, failed_at = channel.name, self._clock(), notice.attempts + 1, self._monotonic()
        counts.failed += 1
        if error.is_gone:
            self._disabled[name] = channel
            logger.warning("the channel %s is off until its entry changes or the server is started: %s", name, error)
            await self._give_up(notice, str(error), counts)
            return True
        if self._is_too_old(notice):
            await self._give_up(replace(notice, attempts=attempts), str(error), counts)
        else:
            pause = self._uniform(0.0, min(MAX_BACKOFF_SECONDS, MIN_BACKOFF_SECONDS * 2.0 ** min(notice.attempts, 20)))
            await self._record_result(MarkNotice(notice.notice_id, attempts, next_at=now + pause, error=str(error)))
        # The others for it would fail, too, and each may take as long. But none of them is to wait for the one that
        # nobody takes, so the channel is tried again before long.
        failures = self._failures[name] = self._failures.get(name, 0) + 1
        self._backoff_until[name] = failed_at + self._uniform(
            0.0, min(MAX_BACKOFF_SECONDS / 60, MIN_BACKOFF_SECONDS * 2.0 ** min(failures - 1, 20))
        )
        if failures == 1:
            logger.warning("a message to %s was not delivered and is tried again: %s", name, error)
        return False

    def _is_too_old(self, notice: Notice) -> bool:
        return self._clock() - notice.at >= MAX_MESSAGE_AGE and self._jumps.is_settled(MAX_MESSAGE_AGE)

    async def _give_up(self, notice: Notice, why: str, counts: DeliveryCounts) -> None:
        counts.given_up += 1
        logger.warning("a message to %s is given up: %s of %r; %s", notice.channel, notice.event, notice.item_id, why)
        await self._record_result(MarkNotice(notice.notice_id, notice.attempts, error=why))

    async def _record_result(self, mark: MarkNotice) -> None:
        """Note what became of a message; what cannot be noted now is noted later, and not sent again until then."""
        self._unrecorded[mark.notice_id] = None
        try:
            await asyncio.wrap_future(self._store.commit([mark]))
        except StoreError:
            self._unrecorded[mark.notice_id] = mark
        else:
            del self._unrecorded[mark.notice_id]

    async def _send(self, channel: Channel, notice: Notice) -> None:
        if channel.kind == "webhook":
            await self._webhooks.send(
                channel, notice.notice_id, int(self._clock()), messages.render_webhook(notice, self._public_url)
            )
        else:
            await self._send_message(channel, messages.render_message(notice, self._public_url))

    def _trim(self, now: float) -> None:
        if self._monotonic() - self._trimmed_at < TRIM_INTERVAL:
            return
        self._trimmed_at = self._monotonic()
        if self._jumps.is_settled(OUTBOX_RETENTION):
            self._store.enqueue([TrimNotices(now - OUTBOX_RETENTION, MAX_DONE_MESSAGES)])
        full = sum(outcome.waiting for outcome in self._store.read_delivery_stats()) >= MAX_WAITING_NOTICES
        if full and not self._is_full:
            logger.warning(
                "the outbox is full: %d messages wait, and what happens now is not told", MAX_WAITING_NOTICES
            )
        self._is_full = full


async def send_with_apprise(channel: Channel, message: messages.Message) -> None:
    """Send a message by apprise.

    Raises:
        DeliveryError: It was not delivered.
    """
    try:
        async with asyncio.timeout(SEND_TIMEOUT):
            why = await run_in_daemon_thread(lambda: _call_apprise(channel, message))
    except TimeoutError:
        why = f"{channel.destination} did not answer within {SEND_TIMEOUT:.0f} s"
    except Exception as error:  # noqa: BLE001 - whatever a plug-in raises, and its text may hold the address
        why = f"apprise failed: {type(error).__name__}"
    if why is not None:
        raise DeliveryError(why)


def _call_apprise(channel: Channel, message: messages.Message) -> str | None:
    """Send a message by apprise; return why it was not delivered."""
    try:
        import apprise
    except ImportError:
        return "it takes apprise: pip install 'progressbar-tracker[notify]'"
    # No redirects, which could lead anywhere; no other text than ours, and that as it is.
    asset = apprise.AppriseAsset(
        app_id="progressbar-tracker", app_desc="Progress", secure_logging=True, http_redirects=False,
        interpret_escapes=False,
    )  # fmt: skip
    service = apprise.Apprise(asset=asset)
    if not service.add(channel.url):
        return "apprise does not know such an address"
    sent = service.notify(body=message.text, title=message.title, body_format=apprise.NotifyFormat.TEXT)
    return None if sent else f"{channel.destination} did not take it; the lines of apprise in the log may say why"
