"""Every error this package raises, and the one warning it gives.

    ProgressBarError
    |- ConfigError (ValueError)               a variable or a file that cannot be used, named
    |- TransportError                         no usable answer came back
    |- ResponseError                          the server answered, and the answer was no
    |  |- PermissionError (builtins.PermissionError)   401, 403, or a permission the key is known to lack
    |  |- ValidationError (ValueError)        400, 413, 422
    |  |- ItemNotFoundError (ValueError)      404
    |  |- ItemExistsError (ValueError)        409 on create
    |  |- ConflictError                       409 elsewhere: another run has taken the item over
    |  |- RateLimitedError                    429, 507
    |  |- ServerError                         5xx
    TrackingWarning (UserWarning)

The 1.0.0 SDK documented ``except PermissionError`` and ``except ValueError``; both go on working, whether the name
comes from here or from ``builtins``. The explicit client raises these; the tracker never does.
"""

from __future__ import annotations

import builtins

__all__ = [
    "ConfigError",
    "ConflictError",
    "ItemExistsError",
    "ItemNotFoundError",
    "PermissionError",
    "ProgressBarError",
    "RateLimitedError",
    "ResponseError",
    "ServerError",
    "TrackingWarning",
    "TransportError",
    "ValidationError",
]


class ProgressBarError(Exception):
    """The root of all errors of this package."""

    def __reduce__(self) -> tuple[object, ...]:
        # Exceptions cross process pools; the default recipe loses keyword-only arguments.
        return (_rebuild, (type(self), self.args, dict(self.__dict__)))


def _rebuild(kind: type[ProgressBarError], args: tuple[object, ...], state: dict[str, object]) -> ProgressBarError:
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(state)
    return error


class ConfigError(ProgressBarError, ValueError):
    """A setting cannot be used; the message names the variable or the file."""


class TransportError(ProgressBarError):
    """No usable answer: refused, timed out, cut off, or not HTTP.

    Attributes:
        method: The HTTP method of the request.
        url: Where it went. Never carries the key.
    """

    def __init__(self, message: str, *, method: str = "", url: str = "") -> None:
        super().__init__(message)
        self.method = method
        self.url = url


class ResponseError(ProgressBarError):
    """The server answered, and the answer was no.

    Attributes:
        status_code: The HTTP status; 403 also where the key is known to lack the permission and nothing was sent.
        code: The last part of the problem's ``type``, such as ``"item-exists"``; ``""`` where there is none.
        detail: The server's own sentence, or ``""``.
        retry_after: Seconds to wait before another attempt, or ``None``.
        request_id: What the request is called in the server's log, or ``""``.
    """

    def __init__(
        self,
        message: str,
        *,
        status_code: int,
        code: str = "",
        detail: str = "",
        retry_after: float | None = None,
        request_id: str = "",
    ) -> None:
        super().__init__(message)
        self.status_code = status_code
        self.code = code
        self.detail = detail
        self.retry_after = retry_after
        self.request_id = request_id


class PermissionError(ResponseError, builtins.PermissionError):
    """The key is unknown, revoked or expired (401), or may not do this (403)."""


class ValidationError(ResponseError, ValueError):
    """The server found a field missing, malformed or out of range."""


class ItemNotFoundError(ResponseError, ValueError):
    """No item has this id."""


class ItemExistsError(ResponseError, ValueError):
    """An item with this id exists already."""


class ConflictError(ResponseError):
    """The item belongs to another run by now."""


class RateLimitedError(ResponseError):
    """Too many requests or too many items; ``retry_after`` says when to try again."""


class ServerError(ResponseError):
    """The server failed, or is not able to answer at the moment."""


class TrackingWarning(UserWarning):
    """Tracking was asked for in a way that cannot work; the program itself is not affected."""
