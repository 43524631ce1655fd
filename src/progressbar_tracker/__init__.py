"""Wrap a loop in ``track(...)`` and follow its progress and its end from anywhere.

``track`` is for loops and blocks; ``ProgressBar`` and ``AsyncProgressBar`` are the explicit client. The import of this
package loads no HTTP library, no TLS and no asyncio: they are imported at their first use.
"""

from . import _version
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
    StopRequested,
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
    "StopRequested",
    "Tracker",
    "TrackingWarning",
    "TransportError",
    "ValidationError",
    "configure",
    "flush",
    "stats",
    "track",
]

__version__ = _version.VERSION
