"""The codes of all problems that the server can answer with.

The code is the last part of the problem's ``type``. The client maps it to an exception, so a code is part of the
interface, and never gets another meaning.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, TypeAlias

if TYPE_CHECKING:
    from progressbar_tracker._models import FieldError, Problem

    from .quota import Quota

ProblemCode: TypeAlias = Literal[
    "bad-request", "malformed-json", "unauthorized", "forbidden", "item-not-found", "not-found",
    "method-not-allowed", "item-exists", "run-superseded", "run-ended", "not-stoppable", "last-admin-key",
    "too-many-keys", "too-many-shares", "too-many-schedules", "too-many-ping-tokens", "too-many-subscriptions",
    "push-unavailable", "body-too-large",
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
    "method-not-allowed": (405, "The path does not support this method"),
    "item-exists": (409, "An item with this id exists"),
    "run-superseded": (409, "The item belongs to another run"),
    "run-ended": (409, "The run has ended"),
    "not-stoppable": (409, "The run does not accept stop requests"),
    "last-admin-key": (409, "The last admin key cannot be removed"),
    "too-many-keys": (409, "Too many keys"),
    "too-many-shares": (409, "Too many shares"),
    "too-many-ping-tokens": (409, "Too many ping tokens"),
    "too-many-schedules": (409, "Too many schedules"),
    "too-many-subscriptions": (409, "Too many push subscriptions"),
    "body-too-large": (413, "The body is too large"),
    "unsupported-media-type": (415, "The body must be JSON"),
    "invalid-field": (422, "A field is missing or out of range"),
    "too-many-items": (429, "Too many items"),
    "rate-limited": (429, "Too many requests"),
    "too-many-streams": (503, "Too many streams are open"),
    "too-many-bytes": (503, "Too many responses are unread"),
    "misdirected": (421, "The server does not answer under this name"),
    "internal-error": (500, "The server failed"),
    "push-unavailable": (501, "The server cannot send push messages"),
    "unavailable": (503, "The server cannot write at the moment"),
    "outcome-unknown": (503, "It is not known whether this was written"),
}


PROBLEM_REMEDIES: Final[dict[ProblemCode, str]] = {
    "bad-request": "Correct the request as the detail says: its path, its query or the shape of its body.",
    "malformed-json": "Send valid UTF-8 JSON. NaN and lone surrogates are not allowed.",
    "unauthorized": "Send a key of this server in X-API-KEY. An admin can create a new one if yours has ended.",
    "forbidden": "Use a key with the permission: a write key changes its own items only; keys and shares need an admin "
    "key.",
    "item-not-found": "Create the item first; it may have been deleted, or have expired by its ttl.",
    "not-found": "Check the path; the share or key may have been revoked.",
    "method-not-allowed": "Use a method that the Allow header names.",
    "item-exists": "Update the item, or use another id.",
    "run-superseded": "A newer run has the item: stop writing, or take it over by a PUT with your own run_id.",
    "run-ended": "An ended run cannot change: start a new run by a PUT with another run_id.",
    "not-stoppable": "Start the program with stoppable=True, or with run --stoppable or exec --stoppable.",
    "last-admin-key": "Create another admin key first.",
    "too-many-keys": "Use one key for many programs; ended keys are deleted some time later.",
    "too-many-shares": "Revoke unused shares, or let them expire.",
    "too-many-ping-tokens": "Revoke unused ping tokens; one serves all jobs of a group.",
    "too-many-schedules": "Delete schedules of jobs that no longer run.",
    "too-many-subscriptions": "Delete subscriptions that are not needed any more; a group needs only one.",
    "push-unavailable": "The operator installs progressbar-tracker[notify], and starts the server again.",
    "body-too-large": "Send less: 64 KiB in a request, 1 MiB and 500 operations in a batch.",
    "unsupported-media-type": "Send the body as application/json.",
    "invalid-field": "Correct the field that `field` names, as the detail says.",
    "too-many-items": "Delete items, let ended ones expire by a ttl, or raise PROGRESSBAR_MAX_ITEMS.",
    "rate-limited": "Wait for the seconds in Retry-After; a batch or a stream needs fewer requests.",
    "too-many-streams": "Wait for the seconds in Retry-After, or request the list instead.",
    "too-many-bytes": "Read the requested responses, then wait for the seconds in Retry-After. The operator can raise "
    "PROGRESSBAR_MAX_UNREAD.",
    "misdirected": "Use a name of the server; its operator can add names to PROGRESSBAR_ALLOWED_HOSTS.",
    "internal-error": "The server has a bug; its log has the details.",
    "unavailable": "Retry after the seconds in Retry-After; the log of the server has the reason.",
    "outcome-unknown": "Retry the same request after the seconds in Retry-After: it is never written twice. The "
    "storage of the server did not answer in time.",
}
"""The remedy of each problem, for clients."""


DEFAULT_RETRY_AFTER: Final = 5
"""The default of Retry-After, in seconds."""


class ProblemError(Exception):
    """A refusal of the server.

    Attributes:
        code: A key of :data:`PROBLEM_CODES`.
        detail: The reason, as a sentence for people.
        field: The invalid field, if the problem is about one.
        retry_after: Whole seconds until the next attempt, or ``None``.
        allow: The supported methods, for ``method-not-allowed``.
        quota: The exhausted limit, if there is one.
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
        # Temporary problems always have a Retry-After.
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
        """Return the problem as an RFC 9457 document."""
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
