"""Every reason for which the server says no, by code.

The code is the last part of the problem's ``type``; the client maps it to an exception, so a code is part of the
interface and is never reused for another meaning.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, TypeAlias

if TYPE_CHECKING:
    from progressbar_tracker._models import FieldError, Problem

    from .quota import Quota

ProblemCode: TypeAlias = Literal[
    "bad-request", "malformed-json", "unauthorized", "forbidden", "item-not-found", "not-found",
    "method-not-allowed", "item-exists", "run-superseded", "run-ended", "last-admin-key", "too-many-keys",
    "too-many-shares", "body-too-large",
    "unsupported-media-type", "invalid-field", "too-many-items", "rate-limited", "too-many-streams", "internal-error",
    "unavailable", "outcome-unknown", "misdirected", "too-many-bytes",
]  # fmt: skip

PROBLEM_CODES: Final[dict[ProblemCode, tuple[int, str]]] = {
    "bad-request": (400, "The request cannot be understood"),
    "malformed-json": (400, "The body is not JSON"),
    "unauthorized": (401, "A valid key is needed"),
    "forbidden": (403, "The key may not do this"),
    "item-not-found": (404, "No item has this id"),
    "not-found": (404, "Nothing is here"),
    "method-not-allowed": (405, "The method does not fit the path"),
    "item-exists": (409, "An item with this id exists"),
    "run-superseded": (409, "The item belongs to another run"),
    "run-ended": (409, "The run has ended"),
    "last-admin-key": (409, "The last admin key stays"),
    "too-many-keys": (409, "Too many keys"),
    "too-many-shares": (409, "Too many shares"),
    "body-too-large": (413, "The body is too large"),
    "unsupported-media-type": (415, "The body must be JSON"),
    "invalid-field": (422, "A field is missing or out of range"),
    "too-many-items": (429, "Too many items"),
    "rate-limited": (429, "Too many requests"),
    "too-many-streams": (503, "Too many streams are open"),
    "too-many-bytes": (503, "Too much waits to be read"),
    "misdirected": (421, "The server does not have this name"),
    "internal-error": (500, "The server failed"),
    "unavailable": (503, "The server cannot write at the moment"),
    "outcome-unknown": (503, "It is not known whether this was written"),
}


PROBLEM_REMEDIES: Final[dict[ProblemCode, str]] = {
    "bad-request": "Mend the request as the detail says: its path, its query or the shape of its body.",
    "malformed-json": "Send JSON in UTF-8; NaN and lone surrogates are none.",
    "unauthorized": "Send a key that this server knows in X-API-KEY; an admin makes another for one that ended.",
    "forbidden": "Use a key that may do it: a write key changes its own items only, keys and shares take an admin key.",
    "item-not-found": "Create the item first; it may have been deleted, or have expired by its ttl.",
    "not-found": "Look at the path; what was a share or a key here may have been revoked.",
    "method-not-allowed": "Use a method that Allow names.",
    "item-exists": "Update the item, or take another id.",
    "run-superseded": "A newer run has the item: fall silent, or take it over by a PUT with a run_id of your own.",
    "run-ended": "What has ended stays so: begin a new run by a PUT with another run_id.",
    "last-admin-key": "Make another admin key first.",
    "too-many-keys": "Use one key for many programs; keys that have ended are forgotten some time later.",
    "too-many-shares": "Revoke shares that nobody looks at, or let them expire.",
    "body-too-large": "Send less: 64 KiB in a request, 1 MiB and 500 operations in a batch.",
    "unsupported-media-type": "Send the body as application/json.",
    "invalid-field": "Mend the field that `field` names, as the detail says.",
    "too-many-items": "Delete items, let ended ones expire by a ttl, or raise PROGRESSBAR_MAX_ITEMS.",
    "rate-limited": "Wait for as many seconds as Retry-After says; a batch or a stream takes fewer requests.",
    "too-many-streams": "Wait for as many seconds as Retry-After says, or ask for the list instead.",
    "too-many-bytes": "Read the responses that were asked for, then wait for as many seconds as Retry-After says; the "
    "operator may raise PROGRESSBAR_MAX_UNREAD.",
    "misdirected": "Use a name that the server has; its operator adds names by PROGRESSBAR_ALLOWED_HOSTS.",
    "internal-error": "It is the server's fault, and its log says why.",
    "unavailable": "Send it again after as many seconds as Retry-After says; the log of the server says why.",
    "outcome-unknown": "Send the same request again after as many seconds as Retry-After says: what was written is not "
    "written twice. The storage of the server did not answer in time.",
}
"""What whoever gets a problem can do about it."""


DEFAULT_RETRY_AFTER: Final = 5
"""Seconds after which to try again where nobody knows better."""


class ProblemError(Exception):
    """The answer is no; ``code`` says which no, ``detail`` why in one sentence.

    Attributes:
        code: One of :data:`PROBLEM_CODES`.
        detail: A sentence for people.
        field: The field at fault, where there is one.
        retry_after: Whole seconds to wait before another attempt, or ``None``.
        allow: The methods that fit, for ``method-not-allowed``.
        quota: The limit that was reached, where there is one to tell of.
    """

    def __init__(
        self,
        code: ProblemCode,
        detail: str,
        *,
        field: str | None = None,
        retry_after: int | None = None,
        allow: tuple[str, ...] = (),
        quota: Quota | None = None,
    ) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.field = field
        # Whoever is to come back is told when.
        self.retry_after = (
            DEFAULT_RETRY_AFTER if retry_after is None and PROBLEM_CODES[code][0] in {429, 503} else retry_after
        )
        self.allow = allow
        self.quota = quota

    @property
    def status(self) -> int:
        """The HTTP status."""
        return PROBLEM_CODES[self.code][0]

    def document(self) -> Problem:
        """Return the RFC 9457 document."""
        status, title = PROBLEM_CODES[self.code]
        document: Problem = {
            "type": f"/problems/{self.code}",
            "title": title,
            "status": status,
            "detail": self.detail,
        }
        if self.field is not None:
            document["field"] = self.field
        return document


def field_problem(error: FieldError) -> ProblemError:
    """Return the problem for a field that breaks a rule."""
    return ProblemError("invalid-field", str(error), field=error.field)


def missing_field(field: str) -> ProblemError:
    """Return the problem for a field that is not there."""
    return ProblemError("invalid-field", f"{field} is missing", field=field)
