"""The errors and the warning of this package.

    ProgressBarError
    |- ConfigError (ValueError)               names a variable or a file that cannot be used
    |- TransportError                         no usable response
    |- ResponseError                          the server refused the request
    |  |- PermissionError (builtins.PermissionError)   401, 403, or a permission that the key is known to lack
    |  |- ValidationError (ValueError)        400, 413, 422
    |  |- ItemNotFoundError (ValueError)      404
    |  |- ItemExistsError (ValueError)        409 on create
    |  |- ConflictError                       409 elsewhere: the run has ended, is another one, or is not stoppable
    |  |- RateLimitedError                    429, 507
    |  |- ServerError                         5xx
    StopRequested                             raised into a loop on request, see ``track(on_stop="raise")``
    TrackingWarning (UserWarning)

The 1.0.0 SDK documented ``except PermissionError`` and ``except ValueError``. Both still work, with the name from here
or from ``builtins``. The explicit client raises these errors; the tracker never does.
"""

from __future__ import annotations

import builtins

FOREIGN_REPLY_CODE = "unexpected-answer"
"""The ``code`` of an error whose response is not from a progress server."""

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
    "StopRequested",
    "TrackingWarning",
    "TransportError",
    "ValidationError",
]


class ProgressBarError(Exception):
    """The root of all errors of this package."""

    def __reduce__(self) -> tuple[object, ...]:
        # Process pools pickle exceptions, and the default __reduce__ loses keyword-only arguments.
        return (_rebuild, (type(self), self.args, dict(self.__dict__)))


def _rebuild(kind: type[ProgressBarError], args: tuple[object, ...], state: dict[str, object]) -> ProgressBarError:
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(state)
    return error


class ConfigError(ProgressBarError, ValueError):
    """A setting cannot be used; the message names the variable or the file."""


class TransportError(ProgressBarError):
    """No usable response: the connection was refused, timed out or cut off, or the response was not HTTP.

    Attributes:
        method: The HTTP method of the request.
        url: The URL of the request. It never contains the key.
    """

    def __init__(self, message: str, *, method: str = "", url: str = "") -> None:
        super().__init__(message)
        self.method = method
        self.url = url


class ResponseError(ProgressBarError):
    """The server refused the request.

    Attributes:
        status_code: The HTTP status. 403 also without a request, if the key is known to lack the permission.
        code: The last part of the problem's ``type``, such as ``"item-exists"``; ``""`` without a problem. It is
            ``"unexpected-answer"`` if the response is not from a progress server, but from a proxy, a sign-in page of a
            network, or another program.
        detail: The server's explanation, or ``""``.
        retry_after: Seconds to wait before another attempt, or ``None``.
        request_id: The id of the request in the server's log, or ``""``.
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
    """The key is unknown, revoked or expired (401), or lacks the permission (403)."""


class ValidationError(ResponseError, ValueError):
    """A field is missing, malformed or out of range."""


class ItemNotFoundError(ResponseError, ValueError):
    """No item has this id."""


class ItemExistsError(ResponseError, ValueError):
    """An item with this id exists already."""


class ConflictError(ResponseError):
    """The run has ended, another run has taken the item over, or the run does not accept stop requests."""


class RateLimitedError(ResponseError):
    """Too many requests or too many items; ``retry_after`` says when to try again."""


class ServerError(ResponseError):
    """The server failed or is overloaded."""


class StopRequested(Exception):  # noqa: N818 - it is no error
    """The stop of a run was requested. Raised by a loop of ``track(..., stoppable=True, on_stop="raise")`` only."""


class TrackingWarning(UserWarning):
    """Tracking cannot work as requested. The program is not affected."""
