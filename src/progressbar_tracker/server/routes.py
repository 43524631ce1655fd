"""The table of all routes, each with the action that its client must be allowed.

The first match wins, so specific rows precede general ones.
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
    board_page,
    docs_page,
    history_page,
    item_page,
    share_page,
    sign_in_page,
    static_files,
)
from progressbar_tracker.server.http.request import MAX_TEXT_LENGTH
from progressbar_tracker.server.http.route import Parameter, Route, RouteDoc
from progressbar_tracker.server.models import EndStatus

_TEXT_TYPE: Final = Annotated[str, Meta(max_length=MAX_TEXT_LENGTH, pattern=shape.LINE_PATTERN)]
_GROUP_PARAMETER: Final = Parameter("group", "Only items of a group.", _TEXT_TYPE)
_ITEM_LIMIT_PARAMETER: Final = Parameter(
    "limit", "Maximum rows of a page.", Annotated[int, Meta(ge=1, le=items.MAX_PAGE_SIZE)]
)
_RUN_LIMIT_PARAMETER: Final = Parameter(
    "limit", "Maximum rows of a page.", Annotated[int, Meta(ge=1, le=history.MAX_HISTORY_PAGE)]
)
_AFTER_PARAMETER: Final = Parameter(
    "after",
    "The cursor of the next page, from `Link`.",
    Annotated[str, Meta(min_length=1, max_length=items.MAX_CURSOR_LENGTH)],
)
_END_STATUS_PARAMETER: Final = Parameter("status", "Only runs with this end.", EndStatus)
_ITEM_PARAMETER: Final = Parameter("id", "Only runs of an item.", _TEXT_TYPE)
_SEARCH_PARAMETER: Final = Parameter("q", "Only runs with this text in their id or title.", _TEXT_TYPE)
_LINK_HEADERS: Final = (("Link", "The next page, relative, with `rel=next`; absent on the last."),)
_ETAG_HEADER: Final = ("ETag", "The tag of this response, for `If-None-Match`.")
_HTML_TYPE: Final = "text/html"
_STREAM_TYPE: Final = "text/event-stream"

ROUTES: Final[tuple[Route, ...]] = (
    Route("GET", "/progress", "read", legacy.list_items, doc=RouteDoc(
        "All items, highest weight first, then oldest.", list[shape.Item],
    )),
    Route("POST", "/progress", "create", legacy.create_item, doc=RouteDoc(
        "Create an item. The response waits for the commit.", shape.Item, (201,), shape.LegacyItem,
        problems=("item-exists", "too-many-items", "unavailable"),
    )),
    Route("PUT", "/progress", "update", legacy.update_item, doc=RouteDoc(
        "Replace only the title, description, value and weight of an item.", shape.Item,
        body=shape.LegacyItem, problems=("item-not-found", "unavailable"),
    )),
    Route("DELETE", "/progress", "delete", legacy.delete_item, doc=RouteDoc(
        "Remove an item from the list; its run moves to the history.", shape.Item,
        query=(Parameter("id", "The item.", shape.Id),), problems=("item-not-found", "invalid-field", "unavailable"),
    )),
    Route("GET", "/api/key-info", "any", keys.get_key_info, doc=RouteDoc(
        "The permissions of the key, and the server's version and limits.", shape.KeyInfo,
    )),
    Route("POST", "/api/v1/items:batch", "any", items.write_batch, doc=RouteDoc(
        "Up to 500 operations, each with its own result. One commit persists the durable ones.",
        shape.BatchResult, body=shape.Batch, problems=("unavailable",),
    )),
    Route("GET", "/api/v1/items", "read", items.list_items, doc=RouteDoc(
        "Items, highest weight first, then oldest. Responds with 304 if `If-None-Match` still matches.", shape.Items,
        query=(_GROUP_PARAMETER, Parameter("status", "Only items of a status.", Status), _ITEM_LIMIT_PARAMETER,
        _AFTER_PARAMETER),
        problems=("invalid-field", "bad-request"), headers=(*_LINK_HEADERS, _ETAG_HEADER),
    )),
    Route("GET", "/api/v1/items/{id:path}", "read", items.get_item, doc=RouteDoc(
        "One item.", shape.Item, problems=("item-not-found",),
    )),
    Route("PUT", "/api/v1/items/{id:path}", "update", items.put_item, doc=RouteDoc(
        "Create an item, or replace its writable fields. Another `run_id` takes it over: its run moves to the history, "
        "and a new one begins. A `seq` that is not newer changes nothing.", shape.Item, (200, 201),
        shape.ItemWrite, problems=("run-superseded", "run-ended", "too-many-items", "unavailable"),
    )),
    Route("PATCH", "/api/v1/items/{id:path}", "update", items.patch_item, doc=RouteDoc(
        "Change the fields of the body (RFC 7396: absent keeps, null clears); an empty body is a sign of life.",
        shape.Item, body=shape.ItemPatch, problems=("item-not-found", "run-superseded", "run-ended", "unavailable"),
    )),
    Route("DELETE", "/api/v1/items/{id:path}", "delete", items.delete_item, doc=RouteDoc(
        "Remove an item from the list; its run moves to the history, with its end or as deleted.", shape.Item,
        query=(Parameter("run_id", "Only if the item still belongs to this run.", shape.RunId),),
        problems=("item-not-found", "run-superseded", "unavailable"),
    )),
    Route("GET", "/api/v1/events", "read", events.stream_events, doc=RouteDoc(
        "Server-Sent Events: `snapshot`, then `change` at most twice a second, and `hb` without changes. "
        "`Last-Event-ID` continues an earlier stream.", _STREAM_TYPE,
        query=(_GROUP_PARAMETER, Parameter("id", "Only one item.", _TEXT_TYPE)),
        problems=("invalid-field", "too-many-streams"),
    )),
    Route("GET", "/api/v1/history", "read", history.list_runs, doc=RouteDoc(
        "Runs that have ended or were deleted, newest first.", shape.Runs,
        query=(_GROUP_PARAMETER, _END_STATUS_PARAMETER, _ITEM_PARAMETER, _SEARCH_PARAMETER, _RUN_LIMIT_PARAMETER,
        _AFTER_PARAMETER), problems=("invalid-field", "unavailable"),
        headers=_LINK_HEADERS,
    )),
    Route("GET", "/api/v1/history.csv", "read", history.export_csv, doc=RouteDoc(
        "All matching runs as CSV, for spreadsheets.", "text/csv", query=(_GROUP_PARAMETER,
        _END_STATUS_PARAMETER, _ITEM_PARAMETER, _SEARCH_PARAMETER),
        problems=("invalid-field", "unavailable"),
    )),
    Route("GET", "/api/v1/history.json", "read", history.export_json, doc=RouteDoc(
        "All matching runs in one JSON document.", shape.Runs, query=(_GROUP_PARAMETER, _END_STATUS_PARAMETER,
        _ITEM_PARAMETER, _SEARCH_PARAMETER),
        problems=("invalid-field", "unavailable"),
    )),
    Route("GET", "/api/v1/keys", "manage", keys.list_keys, doc=RouteDoc("All keys, without their secrets.",
    shape.Keys)),
    Route("POST", "/api/v1/keys", "manage", keys.create_key, doc=RouteDoc(
        "Create a key; only this response contains it.", shape.MadeKey, (201,), shape.KeyWrite,
        problems=("too-many-keys", "unavailable"),
    )),
    Route("DELETE", "/api/v1/keys/{key_id}", "manage", keys.revoke_key, doc=RouteDoc(
        "Revoke a key at once, with its streams and sessions. Its items stay.", shape.Key,
        problems=("not-found", "last-admin-key", "unavailable"),
    )),
    Route("POST", "/api/v1/keys/{key_id}/rotate", "manage", keys.rotate_key, doc=RouteDoc(
        "Issue a new secret for a key; the old one works for one more day.", shape.MadeKey,
        problems=("not-found", "invalid-field", "unavailable"),
    )),
    Route("GET", "/api/v1/sessions", "manage", sessions.list_sessions, doc=RouteDoc(
        "The sessions of signed-in browsers.", shape.Sessions,
    )),
    Route("DELETE", "/api/v1/sessions/{session_id}", "manage", sessions.revoke_session, doc=RouteDoc(
        "Sign a browser out at once.", shape.Session, problems=("not-found", "unavailable"),
    )),
    Route("GET", "/api/v1/shares", "manage", shares.list_shares, doc=RouteDoc(
        "All shares, without their tokens.", shape.Shares,
    )),
    Route("POST", "/api/v1/shares", "manage", shares.create_share, doc=RouteDoc(
        "Create a read-only link to a group or an item; only this response contains it.", shape.MadeShare, (201,),
        shape.ShareWrite, problems=("too-many-shares", "unavailable"),
    )),
    Route("DELETE", "/api/v1/shares/{share_id}", "manage", shares.revoke_share, doc=RouteDoc(
        "Revoke a share, and close its streams.", shape.Share, problems=("not-found", "unavailable"),
    )),
    Route("GET", "/api/v1/channels", "manage", channels.list_channels, doc=RouteDoc(
        "The notification channels, with the delivery statistics of each.", shape.Channels,
        problems=("unavailable",),
    )),
    Route("POST", "/api/v1/channels/{name}/test", "manage", channels.test_channel, doc=RouteDoc(
        "Send a test message to a channel, and return whether it was delivered.", shape.Tested, problems=("not-found",),
    )),
    Route("GET", "/s/{token}", "public", share_page.show_share, is_page=True, doc=RouteDoc(
        "The page of a share.", _HTML_TYPE, problems=("not-found", "unavailable"),
    )),
    Route("GET", "/s/{token}/events", "public", share_page.stream_share, doc=RouteDoc(
        "The event stream of a share.", _STREAM_TYPE, problems=("not-found", "too-many-streams"),
    )),
    Route("GET", "/badge/{token}.svg", "public", share_page.render_badge, doc=RouteDoc(
        "The progress bar of a share as an SVG image.", "image/svg+xml", problems=("not-found", "unavailable"),
    )),
    Route("GET", "/healthz", "public", health.get_health, doc=RouteDoc("Liveness of the server.", shape.Alive)),
    Route("GET", "/readyz", "public", health.check_readiness, doc=RouteDoc(
        "Readiness: the database accepts writes.", shape.Ready, problems=("unavailable",),
    )),
    Route("GET", "/metrics", "read", health.get_metrics, doc=RouteDoc(
        "Metrics of this server for Prometheus; `/docs` lists them.", "text/plain",
    )),
    Route("GET", "/openapi.json", "public", documents.get_openapi, doc=RouteDoc("This document.", "application/json")),
    Route("GET", "/docs", "public", docs_page.show_docs, is_page=True, doc=RouteDoc("The documentation for humans.",
    _HTML_TYPE)),
    Route("GET", "/problems/{code}", "public", docs_page.show_problem, is_page=True, doc=RouteDoc(
        "The meaning of a problem, and what to do.", _HTML_TYPE, problems=("not-found",),
    )),
    Route("GET", "/", "read", board_page.show_board, is_page=True, doc=RouteDoc("The board.", _HTML_TYPE)),
    Route("GET", "/items/{id:path}", "read", item_page.show_item, is_page=True, doc=RouteDoc(
        "An item with its curve and its runs.", _HTML_TYPE, problems=("item-not-found", "unavailable"),
    )),
    Route("GET", "/history", "read", history_page.show_history, is_page=True, doc=RouteDoc(
        "The history.", _HTML_TYPE, query=(_GROUP_PARAMETER, _END_STATUS_PARAMETER, _SEARCH_PARAMETER,
        _AFTER_PARAMETER), problems=("invalid-field", "unavailable"),
    )),
    Route("GET", "/keys", "manage", admin_pages.show_keys, is_page=True, doc=RouteDoc("Keys, shares and sessions.",
    _HTML_TYPE)),
    Route("GET", "/channels", "manage", admin_pages.show_channels, is_page=True, doc=RouteDoc(
        "The notification channels.", _HTML_TYPE, problems=("unavailable",),
    )),
    Route("GET", "/login", "public", sign_in_page.show_login, is_page=True, doc=RouteDoc(
        "The sign-in page.", _HTML_TYPE,
    )),
    Route("POST", "/login", "public", sign_in_page.sign_in, is_page=True, doc=RouteDoc(
        "Sign in; redirects to the board.", _HTML_TYPE, (303,), shape.SignIn,
        media_type="application/x-www-form-urlencoded", problems=("forbidden", "rate-limited", "unavailable"),
    )),
    Route("POST", "/logout", "public", sign_in_page.sign_out, is_page=True, doc=RouteDoc(
        "Sign out.", _HTML_TYPE, (303,), problems=("forbidden", "unavailable"),
    )),
    Route("GET", "/auth/{token}", "public", sign_in_page.redeem_link, is_page=True, doc=RouteDoc(
        "A one-time sign-in link.", _HTML_TYPE, (303,), problems=("forbidden", "unavailable"),
    )),
    Route("HEAD", "/auth/{token}", "public", sign_in_page.peek_link, doc=RouteDoc(
        "An empty response: link previews must not use up the link.", _HTML_TYPE,
    )),
    Route("GET", "/static/{name}", "public", static_files.get_static_file, doc=RouteDoc(
        "The scripts and styles of the pages.", "*/*", problems=("not-found",), headers=(_ETAG_HEADER,),
    )),
)  # fmt: skip
