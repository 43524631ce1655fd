"""Send messages through Apprise, which is imported on first use."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from progressbar_tracker.server.threads import run_in_daemon_thread

from .webhooks import DeliveryError

if TYPE_CHECKING:
    from .channels import Channel
    from .messages import Message

SEND_TIMEOUT: Final = 30.0
"""Seconds for one message through Apprise."""


async def send_with_apprise(channel: Channel, message: Message) -> None:
    """Send a message through Apprise.

    Raises:
        DeliveryError: It was not delivered.
    """
    try:
        async with asyncio.timeout(SEND_TIMEOUT):
            reason = await run_in_daemon_thread(lambda: _call_apprise(channel, message))
    except TimeoutError:
        reason = f"{channel.destination} did not answer within {SEND_TIMEOUT:.0f} s"
    except Exception as error:  # noqa: BLE001  # a plug-in may raise any error, and its text may contain the URL
        reason = f"apprise failed: {type(error).__name__}"
    if reason is not None:
        raise DeliveryError(reason)


def _call_apprise(channel: Channel, message: Message) -> str | None:
    """Send a message; return the reason of a failure."""
    try:
        import apprise
    except ImportError:
        return "this kind needs the apprise package: pip install apprise"
    # A redirect could lead to any address. Apprise must neither add to the text nor interpret it.
    asset = apprise.AppriseAsset(
        app_id="progressbar-tracker", app_desc="Progress", secure_logging=True, http_redirects=False,
        interpret_escapes=False,
    )  # fmt: skip
    service = apprise.Apprise(asset=asset)
    if not service.add(channel.url):
        return "apprise does not know such an address"
    sent = service.notify(body=message.text, title=message.title, body_format=apprise.NotifyFormat.TEXT)
    return None if sent else f"{channel.destination} did not take it; the lines of apprise in the log may say why"
