"""Wrap a loop in ``track(...)``, close the laptop, and see from anywhere how far it is and how it ended.

``track`` is for loops and blocks, ``ProgressBar`` and ``AsyncProgressBar`` are the explicit client. Importing this
imports no HTTP library, no TLS and no asyncio: each is imported where it is first needed.
"""

from ._client import AsyncProgressBar, ProgressBar
from ._errors import (
    ConfigError,
    ConflictError,
    ItemExistsError,
    ItemNotFoundError,
    PermissionError,
    ProgressBarError,
    RateLimitedError,
    ResponseError,
    ServerError,
    TrackingWarning,
    TransportError,
    ValidationError,
)
from ._models import Change, Item, KeyInfo
from ._runtime import configure, flush, stats
from ._tracking.share import Share
from ._tracking.tracker import Tracker, track

__all__ = [
    "AsyncProgressBar",
    "Change",
    "ConfigError",
    "ConflictError",
    "Item",
    "ItemExistsError",
    "ItemNotFoundError",
    "KeyInfo",
    "PermissionError",
    "ProgressBar",
    "ProgressBarError",
    "RateLimitedError",
    "ResponseError",
    "ServerError",
    "Share",
    "Tracker",
    "TrackingWarning",
    "TransportError",
    "ValidationError",
    "configure",
    "flush",
    "stats",
    "track",
]
