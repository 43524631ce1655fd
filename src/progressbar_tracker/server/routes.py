"""The table of all routes. What is not in it does not exist; what is in it has an action that somebody must be allowed.

The first match wins, so the narrow rows stand before the wide ones.
"""

from __future__ import annotations

from typing import Annotated, Final

from msgspec import Meta

from progressbar_tracker._models import Status
from progressbar_tracker.server.api import (
    channels,
    documents,
    events,
    health,
    history,
    items,
    keys,
    legacy,
    sessions,
    shares,
)
from progressbar_tracker.server.api import schemas as shape
from progressbar_tracker.server.dashboard import (
    admin_pages,
    docs_page,
    history_page,
    item_page,
    pages,
    share_page,
)
from progressbar_tracker.server.http.request import TEXT_LENGTH
from progressbar_tracker.server.http.route import About, Parameter, Row
from progressbar_tracker.server.models import EndStatus

_TEXT: Final = Annotated[str, Meta(max_length=TEXT_LENGTH, pattern=shape.LINE)]
_GROUP: Final = Parameter("group", "Only those of a group.", _TEXT)
_ITEMS: Final = Parameter("limit", "The most rows of a page.", Annotated[int, Meta(ge=1, le=items.MOST)])
_RUNS: Final = Parameter("limit", "The most rows of a page.", Annotated[int, Meta(ge=1, le=history.MOST)])
_AFTER: Final = Parameter(
    "after", "Where to go on; from `Link`.", Annotated[str, Meta(min_length=1, max_length=items.CURSOR)]
)
_END: Final = Parameter("status", "Only those that ended so.", EndStatus)
_ITEM: Final = Parameter("id", "Only those of an item.", _TEXT)
_SEARCH: Final = Parameter("q", "Only those with this text in their id or title.", _TEXT)
_PAGED: Final = (("Link", "The next page, relative, with `rel=next`; absent on the last."),)
_ETAG: Final = ("ETag", "Of what is answered; send it along as `If-None-Match`.")
_HTML: Final = "text/html"
_STREAM: Final = "text/event-stream"

TABLE: Final[tuple[Row, ...]] = (
    Row("GET", "/progress", "read", legacy.listed, about=About(
        "All items, highest weight first, then oldest.", list[shape.Item],
    )),
    Row("POST", "/progress", "create", legacy.create, about=About(
        "Create an item. It is on disk before it is answered.", shape.Item, (201,), shape.LegacyItem,
        problems=("item-exists", "too-many-items", "unavailable"),
    )),
    Row("PUT", "/progress", "update", legacy.update, about=About(
        "Replace title, description, value and weight of an item, and nothing else of it.", shape.Item,
        takes=shape.LegacyItem, problems=("item-not-found", "unavailable"),
    )),
    Row("DELETE", "/progress", "delete", legacy.delete, about=About(
        "Take an item off the list; its run goes to the history.", shape.Item,
        query=(Parameter("id", "Which.", shape.Id),), problems=("item-not-found", "invalid-field", "unavailable"),
    )),
    Row("GET", "/api/key-info", "any", keys.info, about=About(
        "What the key may do, and what the server is.", shape.KeyInfo,
    )),
    Row("POST", "/api/v1/items:batch", "any", items.batch, about=About(
        "Up to 500 operations, judged one by one; each has a result of its own. One commit keeps what has to be on "
        "disk.", shape.BatchResult, takes=shape.Batch, problems=("unavailable",),
    )),
    Row("GET", "/api/v1/items", "read", items.listed, about=About(
        "Items, highest weight first, then oldest. Answers 304 to an `If-None-Match` that is still true.", shape.Items,
        query=(_GROUP, Parameter("status", "Only those of a status.", Status), _ITEMS, _AFTER),
        problems=("invalid-field", "bad-request"), headers=(*_PAGED, _ETAG),
    )),
    Row("GET", "/api/v1/items/{id:path}", "read", items.one, about=About(
        "One item.", shape.Item, problems=("item-not-found",),
    )),
    Row("PUT", "/api/v1/items/{id:path}", "update", items.put, about=About(
        "Create an item, or replace what clients may write of it. With another `run_id` it is taken over: its run goes "
        "to the history, and a new one begins. A `seq` that is not newer changes nothing.", shape.Item, (200, 201),
        shape.ItemWrite, problems=("other-run", "ended", "too-many-items", "unavailable"),
    )),
    Row("PATCH", "/api/v1/items/{id:path}", "update", items.patch, about=About(
        "Change what the body names (RFC 7396: absent keeps, null clears); an empty one is a sign of life.",
        shape.Item, takes=shape.ItemPatch, problems=("item-not-found", "other-run", "ended", "unavailable"),
    )),
    Row("DELETE", "/api/v1/items/{id:path}", "delete", items.delete, about=About(
        "Take an item off the list; its run goes to the history, with its end or as deleted.", shape.Item,
        query=(Parameter("run_id", "Only if the item is still of this run.", shape.RunId),),
        problems=("item-not-found", "other-run", "unavailable"),
    )),
    Row("GET", "/api/v1/events", "read", events.stream, about=About(
        "Server-Sent Events: `snapshot`, then `change` at most twice a second, `hb` in silence. `Last-Event-ID` "
        "goes on where a stream ended.", _STREAM, query=(_GROUP, Parameter("id", "Only one item.", _TEXT)),
        problems=("invalid-field", "too-many-streams"),
    )),
    Row("GET", "/api/v1/history", "read", history.listed, about=About(
        "Runs that have ended or were deleted, newest first.", shape.Runs,
        query=(_GROUP, _END, _ITEM, _SEARCH, _RUNS, _AFTER), problems=("invalid-field", "unavailable"),
        headers=_PAGED,
    )),
    Row("GET", "/api/v1/history.csv", "read", history.as_csv, about=About(
        "The same as a table for spreadsheets, all of it.", "text/csv", query=(_GROUP, _END, _ITEM, _SEARCH),
        problems=("invalid-field", "unavailable"),
    )),
    Row("GET", "/api/v1/history.json", "read", history.as_json, about=About(
        "The same in one document, all of it.", shape.Runs, query=(_GROUP, _END, _ITEM, _SEARCH),
        problems=("invalid-field", "unavailable"),
    )),
    Row("GET", "/api/v1/keys", "manage", keys.listed, about=About("All keys, without their secrets.", shape.Keys)),
    Row("POST", "/api/v1/keys", "manage", keys.create, about=About(
        "Make a key; it is told this once.", shape.MadeKey, (201,), shape.KeyWrite,
        problems=("too-many-keys", "unavailable"),
    )),
    Row("DELETE", "/api/v1/keys/{key_id}", "manage", keys.revoke, about=About(
        "End a key, at once: its streams and its browsers too. What it owns stays.", shape.Key,
        problems=("not-found", "last-admin-key", "unavailable"),
    )),
    Row("POST", "/api/v1/keys/{key_id}/rotate", "manage", keys.rotate, about=About(
        "Give a key a new secret; the old one works for a day more.", shape.MadeKey,
        problems=("not-found", "invalid-field", "unavailable"),
    )),
    Row("GET", "/api/v1/sessions", "manage", sessions.listed, about=About(
        "The browsers that are signed in.", shape.Sessions,
    )),
    Row("DELETE", "/api/v1/sessions/{session_id}", "manage", sessions.revoke, about=About(
        "Sign a browser out, at once.", shape.Session, problems=("not-found", "unavailable"),
    )),
    Row("GET", "/api/v1/shares", "manage", shares.listed, about=About(
        "All shares, without their tokens.", shape.Shares,
    )),
    Row("POST", "/api/v1/shares", "manage", shares.create, about=About(
        "Make a read-only link to a group or an item; it is told this once.", shape.MadeShare, (201,),
        shape.ShareWrite, problems=("too-many-shares", "unavailable"),
    )),
    Row("DELETE", "/api/v1/shares/{share_id}", "manage", shares.revoke, about=About(
        "End a share, and what looks through it.", shape.Share, problems=("not-found", "unavailable"),
    )),
    Row("GET", "/api/v1/channels", "manage", channels.listed, about=About(
        "The channels that can be told of items, and what became of the messages to each.", shape.Channels,
        problems=("unavailable",),
    )),
    Row("POST", "/api/v1/channels/{name}/test", "manage", channels.test, about=About(
        "Send a message to a channel now, and say whether it was taken.", shape.Tested, problems=("not-found",),
    )),
    Row("GET", "/s/{token}", "public", share_page.seen, page=True, about=About(
        "The page behind a share.", _HTML, problems=("not-found", "unavailable"),
    )),
    Row("GET", "/s/{token}/events", "public", share_page.stream, about=About(
        "What changes of what a share is for.", _STREAM, problems=("not-found", "too-many-streams"),
    )),
    Row("GET", "/badge/{token}.svg", "public", share_page.badge, about=About(
        "A picture of the bar of a share, for other pages.", "image/svg+xml", problems=("not-found", "unavailable"),
    )),
    Row("GET", "/healthz", "public", health.alive, about=About("Whether the server is there.", shape.Alive)),
    Row("GET", "/readyz", "public", health.ready, about=About(
        "Whether its database takes writes.", shape.Ready, problems=("unavailable",),
    )),
    Row("GET", "/metrics", "read", health.measured, about=About(
        "What this server counts, for Prometheus; `/docs` lists it.", "text/plain",
    )),
    Row("GET", "/openapi.json", "public", documents.openapi, about=About("This document.", "application/json")),
    Row("GET", "/docs", "public", docs_page.docs, page=True, about=About("The same for people.", _HTML)),
    Row("GET", "/problems/{code}", "public", docs_page.problem, page=True, about=About(
        "What the type of a problem means, and what to do.", _HTML, problems=("not-found",),
    )),
    Row("GET", "/", "read", pages.home, page=True, about=About("The board.", _HTML)),
    Row("GET", "/items/{id:path}", "read", item_page.item, page=True, about=About(
        "An item with its curve and its runs.", _HTML, problems=("item-not-found", "unavailable"),
    )),
    Row("GET", "/history", "read", history_page.history, page=True, about=About(
        "The history.", _HTML, query=(_GROUP, _END, _SEARCH, _AFTER), problems=("invalid-field", "unavailable"),
    )),
    Row("GET", "/keys", "manage", admin_pages.keys, page=True, about=About("Keys, shares and browsers.", _HTML)),
    Row("GET", "/channels", "manage", admin_pages.channels, page=True, about=About(
        "Whom the server tells of items.", _HTML, problems=("unavailable",),
    )),
    Row("GET", "/login", "public", pages.login, page=True, about=About("The sign-in page.", _HTML)),
    Row("POST", "/login", "public", pages.sign_in, page=True, about=About(
        "Sign in; sends on to the board.", _HTML, (303,), shape.SignIn,
        media="application/x-www-form-urlencoded", problems=("forbidden", "rate-limited", "unavailable"),
    )),
    Row("POST", "/logout", "public", pages.sign_out, page=True, about=About(
        "Sign out.", _HTML, (303,), problems=("forbidden", "unavailable"),
    )),
    Row("GET", "/auth/{token}", "public", pages.redeem, page=True, about=About(
        "A one-time sign-in link.", _HTML, (303,), problems=("forbidden", "unavailable"),
    )),
    Row("HEAD", "/auth/{token}", "public", pages.peek, about=About(
        "Nothing: what only looks at a link must not use it up.", _HTML,
    )),
    Row("GET", "/static/{name}", "public", pages.file, about=About(
        "What the pages are made of.", "*/*", problems=("not-found",), headers=(_ETAG,),
    )),
)  # fmt: skip
