"""The table of all routes, each with the action that its client must be allowed.

The first match wins, so specific rows precede general ones.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final, Literal

from msgspec import Meta

from progressbar_tracker.server.api import (
    channels,
    curves,
    documents,
    events,
    health,
    history,
    history_exports,
    items,
    keys,
    legacy,
    ping,
    ping_tokens,
    run_history,
    schedules,
    sessions,
    shares,
    stop,
    subscriptions,
    tails,
    timeline,
)
from progressbar_tracker.server.api import push_schemas as push_shape
from progressbar_tracker.server.api import run_schemas as run_shape
from progressbar_tracker.server.api import schedule_schemas as schedule_shape
from progressbar_tracker.server.api import schemas as shape
from progressbar_tracker.server.dashboard import (
    admin_pages,
    board_page,
    docs_page,
    handbook_page,
    history_page,
    item_page,
    schedules_page,
    share_page,
    sign_in_page,
    static_files,
    today_page,
)
from progressbar_tracker.server.http.request import MAX_TEXT_LENGTH
from progressbar_tracker.server.http.route import Parameter, Route, RouteDoc
from progressbar_tracker.server.items import former_runs
from progressbar_tracker.server.items.conditions import StatusFilter
from progressbar_tracker.server.models import EndStatus

if TYPE_CHECKING:
    from progressbar_tracker.server.problems import ProblemCode

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
_STATUS_PARAMETER: Final = Parameter("status", "Only items of a status, or running ones of a condition.", StatusFilter)
_END_STATUS_PARAMETER: Final = Parameter("status", "Only runs with this end.", EndStatus)
_ITEM_PARAMETER: Final = Parameter("id", "Only runs of an item.", _TEXT_TYPE)
_REQUIRED_ID_PARAMETER: Final = Parameter("id", "The item.", shape.Id, is_required=True)
_RUN_PARAMETER: Final = Parameter("run_id", "Only this run.", _TEXT_TYPE)
_PARENT_PARAMETER: Final = Parameter("parent", "Only runs of the children of an item.", _TEXT_TYPE)
_INNER_PARAMETER: Final = Parameter(
    "inner", "`false` leaves out runs with a parent, except failed ones.", Literal["true", "false"]
)
_SINCE_PARAMETER: Final = Parameter("since", "Only runs that ended then or later.", shape.Instant)
_UNTIL_PARAMETER: Final = Parameter("until", "Only runs that started then or earlier.", shape.Instant)
_SEARCH_PARAMETER: Final = Parameter("q", "Only runs with this text in their id or title.", _TEXT_TYPE)
_FORMER_OF_PARAMETER: Final = Parameter(
    "former_of",
    "The successful runs from which an item is estimated, at most 16: those of its id, or with fewer than three those "
    "of ids that differ in dates, long numbers and random tokens. Only `limit` can be combined with it.",
    _TEXT_TYPE,
)
_HISTORY_PARAMETERS: Final = (
    _GROUP_PARAMETER, _END_STATUS_PARAMETER, _ITEM_PARAMETER, _RUN_PARAMETER, _PARENT_PARAMETER, _INNER_PARAMETER,
    _SINCE_PARAMETER, _UNTIL_PARAMETER, _SEARCH_PARAMETER,
)  # fmt: skip
_INTERVAL_PARAMETERS: Final = (
    Parameter("since", "The start of the interval; by default a day before its end.", shape.Instant),
    Parameter("until", "The end of the interval; by default now.", shape.Instant),
)
_NEXT_PARAMETER: Final = Parameter(
    "next", "The page to open, relative to the root of the dashboard. Another URL leads to the board."
)
_LINK_HEADERS: Final = (("Link", "The next page, relative, with `rel=next`; absent on the last."),)
_ETAG_HEADER: Final = ("ETag", "The tag of this response, for `If-None-Match`.")
_EVENT_ID_HEADER: Final = (
    "Event-ID",
    "The `Last-Event-ID` with which the event stream continues from this list, within 30 seconds without a snapshot.",
)
_HTML_TYPE: Final = "text/html"
_STREAM_TYPE: Final = "text/event-stream"

_PING_PARAMETERS: Final = (Parameter("rid", "The id of the run, a UUID.", shape.RunId),)
_PING_PROBLEMS: Final[tuple[ProblemCode, ...]] = (
    "not-found",
    "bad-request",
    "rate-limited",
    "too-many-items",
    "unavailable",
)
_PING_DOC: Final = RouteDoc(
    "Report that the run of an id has succeeded, as for healthchecks. The body of a POST is kept as its output. The id "
    "has a schedule, or is that of an item, of the token's group.",
    "text/plain", query=_PING_PARAMETERS, problems=(*_PING_PROBLEMS, "body-too-large"),
)  # fmt: skip
_PING_SIGNAL_DOC: Final = RouteDoc(
    "Report `start`, `fail`, `log`, or an exit code from 0 to 255 of the run of an id, as for healthchecks.",
    "text/plain", query=_PING_PARAMETERS, problems=(*_PING_PROBLEMS, "body-too-large"),
)  # fmt: skip

ROUTES: Final[tuple[Route, ...]] = (
    Route("GET", "/progress", "read", legacy.list_items, is_compressible=True, doc=RouteDoc(
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
        query=(_REQUIRED_ID_PARAMETER,), problems=("item-not-found", "invalid-field", "unavailable"),
    )),
    Route("GET", "/api/key-info", "any", keys.get_key_info, doc=RouteDoc(
        "The permissions of the key, and the server's version and limits.", shape.KeyInfo,
    )),
    Route("POST", "/api/v1/items:batch", "any", items.write_batch, doc=RouteDoc(
        "Up to 500 operations, each with its own result. One commit persists the durable ones.",
        shape.BatchResult, body=shape.Batch, problems=("unavailable",),
    )),
    Route("POST", "/api/v1/items/{id:path}:stop", "stop", stop.request_stop, doc=RouteDoc(
        "Request that the program stops the current run. The request ends with the run, and a repeated one changes "
        "nothing. The response waits for the commit.", shape.Item, body=shape.StopWrite,
        problems=("item-not-found", "run-superseded", "run-ended", "not-stoppable", "unavailable"),
    )),
    Route("GET", "/api/v1/items", "read", items.list_items, is_compressible=True, doc=RouteDoc(
        "Items, highest weight first, then oldest. Responds with 304 if `If-None-Match` still matches.", shape.Items,
        query=(_GROUP_PARAMETER, _STATUS_PARAMETER, _ITEM_LIMIT_PARAMETER,
        _AFTER_PARAMETER),
        problems=("invalid-field", "bad-request"), headers=(*_LINK_HEADERS, _ETAG_HEADER, _EVENT_ID_HEADER),
    )),
    Route("GET", "/api/v1/items/{id:path}", "read", items.get_item, is_compressible=True, doc=RouteDoc(
        "One item.", shape.Item, problems=("item-not-found",),
    )),
    Route("PUT", "/api/v1/items/{id:path}", "update", items.put_item, doc=RouteDoc(
        "Create an item, or replace its writable fields. Another `run_id` takes it over: its run moves to the history, "
        "and a new one begins. A `seq` that is not newer changes nothing.", shape.WrittenItem, (200, 201),
        shape.ItemWrite, problems=("run-superseded", "run-ended", "too-many-items", "unavailable"),
    )),
    Route("PATCH", "/api/v1/items/{id:path}", "update", items.patch_item, doc=RouteDoc(
        "Change the fields of the body (RFC 7396: absent keeps, null clears); an empty body is a sign of life.",
        shape.WrittenItem, body=shape.ItemPatch,
        problems=("item-not-found", "run-superseded", "run-ended", "unavailable"),
    )),
    Route("DELETE", "/api/v1/items/{id:path}", "delete", items.delete_item, doc=RouteDoc(
        "Remove an item from the list; its run moves to the history, with its end or as deleted.", shape.Item,
        query=(Parameter("run_id", "Only if the item still belongs to this run.", shape.RunId),),
        problems=("item-not-found", "run-superseded", "unavailable"),
    )),
    Route("GET", "/api/v1/schedules", "read", schedules.list_schedules, is_compressible=True, doc=RouteDoc(
        "The schedules, in the order of their ids.", schedule_shape.Schedules, query=(
            Parameter("id", "Only the schedule of this id, if there is one.", _TEXT_TYPE),
            Parameter("limit", "Maximum rows of a page.", Annotated[
                int, Meta(ge=1, le=schedules.MAX_SCHEDULE_PAGE)
            ]),
            Parameter("after", "The cursor of the next page, from `Link`.", _TEXT_TYPE),
        ), problems=("invalid-field",), headers=_LINK_HEADERS,
    )),
    Route("GET", "/api/v1/schedules/{id:path}", "read", schedules.get_schedule, doc=RouteDoc(
        "The schedule of an id.", schedule_shape.Schedule, problems=("not-found", "unavailable"),
    )),
    Route("PUT", "/api/v1/schedules/{id:path}", "update", schedules.put_schedule, doc=RouteDoc(
        "Set when the item of an id is expected to start; the item need not exist yet. A schedule belongs to the key "
        "that set it first.", schedule_shape.Schedule, (200, 201), schedule_shape.ScheduleWrite,
        problems=("too-many-schedules", "unavailable"),
    )),
    Route("DELETE", "/api/v1/schedules/{id:path}", "delete", schedules.delete_schedule, doc=RouteDoc(
        "Delete a schedule. The item stays.", schedule_shape.Schedule, problems=("not-found", "unavailable"),
    )),
    Route("GET", "/api/v1/events", "read", events.stream_events, doc=RouteDoc(
        "Server-Sent Events: `snapshot`, then `change` at most twice a second, and `hb` without changes. "
        "`Last-Event-ID` continues an earlier stream.", _STREAM_TYPE,
        query=(_GROUP_PARAMETER, Parameter("id", "Only one item.", _TEXT_TYPE)),
        problems=("invalid-field", "too-many-streams"),
    )),
    Route("GET", "/api/v1/history", "read", history.list_runs, is_compressible=True, doc=RouteDoc(
        "Runs that have left the list, ended or deleted, newest first. An ended item that is still listed is not in "
        "the history yet.", shape.Runs, query=(*_HISTORY_PARAMETERS, _FORMER_OF_PARAMETER, _RUN_LIMIT_PARAMETER,
        _AFTER_PARAMETER), problems=("invalid-field", "unavailable"), headers=_LINK_HEADERS,
    )),
    Route("GET", "/api/v1/history:recent", "read", run_history.list_recent_runs, is_compressible=True, doc=RouteDoc(
        "The newest runs of the history of up to 50 ids, without ended items that are still listed.",
        run_shape.RecentRuns, query=(
            Parameter("id", "The items; repeat the name for each.", Annotated[
                list[shape.Id], Meta(min_length=1, max_length=run_history.MAX_RECENT_IDS)
            ], is_required=True),
            Parameter("limit", "Maximum runs of each id.", Annotated[
                int, Meta(ge=1, le=run_history.MAX_RECENT_RUNS)
            ]),
        ), problems=("invalid-field", "unavailable"),
    )),
    Route("GET", "/api/v1/history:statistics", "read", run_history.get_statistics, is_compressible=True, doc=RouteDoc(
        "The statistics of the latest 1,000 runs of an id, with the current one if it has ended.", run_shape.Statistics,
        query=(_REQUIRED_ID_PARAMETER,), problems=("invalid-field", "unavailable"),
    )),
    Route("GET", "/api/v1/timeline", "read", timeline.get_timeline, is_compressible=True, doc=RouteDoc(
        "The runs of the history that overlap an interval, latest end first, at most 10,000, without inner ones that "
        "have not failed. Ended items that are still listed are not included.", run_shape.Timeline,
        query=(_GROUP_PARAMETER, *_INTERVAL_PARAMETERS), problems=("invalid-field", "unavailable"),
    )),
    Route("GET", "/api/v1/curves", "read", curves.get_curves, is_compressible=True, doc=RouteDoc(
        "The curve of a run on the list or in the history, and then those of the successful runs before it, newest "
        "first.", run_shape.Curves, query=(
            _REQUIRED_ID_PARAMETER,
            Parameter("run_id", "The run; by default the current or the latest one.", _TEXT_TYPE),
            Parameter("former", "Maximum former runs.", Annotated[int, Meta(ge=0, le=former_runs.MAX_FORMER_RUNS)]),
        ), problems=("item-not-found", "invalid-field", "unavailable"),
    )),
    Route("GET", "/api/v1/tails/{id:path}", "read_tail", tails.get_tail, is_compressible=False, doc=RouteDoc(
        "The last lines of the output of a run on the list or in the history. The key needs the permission "
        "`read_tail`. Responds with 304 if `If-None-Match` still matches.", run_shape.Tail, query=(
            Parameter("run_id", "The run; by default the current or the latest one.", _TEXT_TYPE),
        ), problems=("item-not-found", "invalid-field", "unavailable"), headers=(_ETAG_HEADER,),
    )),
    Route("GET", "/api/v1/history.csv", "read", history_exports.export_csv, is_compressible=True, doc=RouteDoc(
        "All matching runs as CSV, for spreadsheets.", "text/csv", query=_HISTORY_PARAMETERS,
        problems=("invalid-field", "unavailable"),
    )),
    Route("GET", "/api/v1/history.json", "read", history_exports.export_json, is_compressible=True, doc=RouteDoc(
        "All matching runs in one JSON document.", shape.Runs, query=_HISTORY_PARAMETERS,
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
    Route("GET", "/api/v1/ping-tokens", "manage", ping_tokens.list_ping_tokens, doc=RouteDoc(
        "All ping tokens, without their secrets.", schedule_shape.PingTokens,
    )),
    Route("POST", "/api/v1/ping-tokens", "manage", ping_tokens.create_ping_token, doc=RouteDoc(
        "Create a token that can only ping, the items of one group; only this response contains it.",
        schedule_shape.MadePingToken, (201,), schedule_shape.PingTokenWrite,
        problems=("too-many-ping-tokens", "unavailable"),
    )),
    Route("DELETE", "/api/v1/ping-tokens/{token_id}", "manage", ping_tokens.revoke_ping_token, doc=RouteDoc(
        "Revoke a ping token.", schedule_shape.PingToken, problems=("not-found", "unavailable"),
    )),
    Route("GET", "/ping/{token}/{slug}", "public", ping.receive_ping, doc=_PING_DOC),
    Route("POST", "/ping/{token}/{slug}", "public", ping.receive_ping, doc=_PING_DOC),
    Route("GET", "/ping/{token}/{slug}/{signal}", "public", ping.receive_ping, doc=_PING_SIGNAL_DOC),
    Route("POST", "/ping/{token}/{slug}/{signal}", "public", ping.receive_ping, doc=_PING_SIGNAL_DOC),
    Route("GET", "/api/v1/channels", "manage", channels.list_channels, doc=RouteDoc(
        "The notification channels, with the delivery statistics of each.", shape.Channels,
        problems=("unavailable",),
    )),
    Route("POST", "/api/v1/channels/{name}/test", "manage", channels.test_channel, doc=RouteDoc(
        "Send a test message to a channel, and return whether it was delivered.", shape.Tested, problems=("not-found",),
    )),
    Route("GET", "/api/v1/push/key", "any", subscriptions.get_push_key, doc=RouteDoc(
        "The key with which a browser subscribes at its push service. The first request creates it.",
        push_shape.PushKey,
        problems=("push-unavailable", "unavailable", "outcome-unknown"),
    )),
    Route("GET", "/api/v1/push/subscriptions", "any", subscriptions.list_subscriptions, doc=RouteDoc(
        "The push subscriptions of this session or key.", push_shape.Subscriptions,
    )),
    Route("POST", "/api/v1/push/subscriptions", "any", subscriptions.create_subscription, doc=RouteDoc(
        "Subscribe a browser to an item, a run or a group. The subscription ends with the session or key that creates "
        "it. A repeated one replaces its events and keys.", push_shape.Subscription, (200, 201),
        push_shape.SubscriptionWrite,
        problems=("too-many-subscriptions", "push-unavailable", "unavailable"),
    )),
    Route("PATCH", "/api/v1/push/subscriptions/{subscription_id}", "any", subscriptions.move_subscription, doc=RouteDoc(
        "Move a push subscription of this session or key to another endpoint of its browser, with its messages.",
        push_shape.Subscription, body=push_shape.BrowserFields,
        problems=("not-found", "push-unavailable", "unavailable", "outcome-unknown"),
    )),
    Route("DELETE", "/api/v1/push/subscriptions/{subscription_id}", "any", subscriptions.delete_subscription,
    doc=RouteDoc(
        "End a push subscription of this session or key.", push_shape.Subscription,
        problems=("not-found", "unavailable"),
    )),
    Route("GET", "/s/{token}", "public", share_page.show_share, is_page=True, is_compressible=True, doc=RouteDoc(
        "The page of a share.", _HTML_TYPE, problems=("not-found", "unavailable"),
    )),
    Route("GET", "/s/{token}/items", "public", share_page.list_shared_items, is_compressible=True, doc=RouteDoc(
        "The items of a share. Responds with 304 if `If-None-Match` still matches.", shape.PublicItems,
        problems=("not-found",), headers=(_ETAG_HEADER, _EVENT_ID_HEADER),
    )),
    Route("GET", "/s/{token}/history", "public", share_page.list_shared_runs, is_compressible=True, doc=RouteDoc(
        "The last runs that ended: of a group up to 8, of an item one.", shape.PublicRuns,
        problems=("not-found", "unavailable"),
    )),
    Route("GET", "/s/{token}/events", "public", share_page.stream_share, doc=RouteDoc(
        "The event stream of a share.", _STREAM_TYPE, problems=("not-found", "too-many-streams"),
    )),
    Route("GET", "/s/{token}/today", "public", share_page.show_shared_today, is_page=True, doc=RouteDoc(
        "The timeline of a shared group.", _HTML_TYPE, problems=("not-found",),
    )),
    Route("GET", "/s/{token}/timeline", "public", share_page.get_shared_timeline, is_compressible=True, doc=RouteDoc(
        "The timeline of a shared group, as `/api/v1/timeline`.", run_shape.Timeline, query=_INTERVAL_PARAMETERS,
        problems=("not-found", "invalid-field", "unavailable"),
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
    Route("GET", "/openapi.json", "public", documents.get_openapi, is_compressible=True, doc=RouteDoc(
        "This document.", "application/json",
    )),
    Route("GET", "/docs", "public", docs_page.show_docs, is_page=True, is_compressible=True, doc=RouteDoc(
        "The documentation for humans.", _HTML_TYPE,
    )),
    Route("GET", "/problems/{code}", "public", docs_page.show_problem, is_page=True, is_compressible=True, doc=RouteDoc(
        "The meaning of a problem, and what to do.", _HTML_TYPE, problems=("not-found",),
    )),
    Route("GET", "/handbook", "public", handbook_page.show_index, is_page=True, doc=RouteDoc(
        "The entrance of the handbook, which lists its pages.", _HTML_TYPE, query=(Parameter(
            "q", "The words that the script of the page searches for.", str),), headers=(_ETAG_HEADER,),
    )),
    Route("GET", "/handbook/search.json", "public", handbook_page.get_search_index, doc=RouteDoc(
        "The text of the handbook, for the search of its pages.", "application/json", headers=(_ETAG_HEADER,),
    )),
    Route("GET", "/handbook/images/{name}", "public", handbook_page.get_image, doc=RouteDoc(
        "A picture of the handbook.", "*/*", problems=("not-found",), headers=(_ETAG_HEADER,),
    )),
    Route("GET", "/handbook/{part}/{page}", "public", handbook_page.show_page, is_page=True, doc=RouteDoc(
        "A page of the handbook.", _HTML_TYPE, problems=("not-found",), headers=(_ETAG_HEADER,),
    )),
    Route("GET", "/", "read", board_page.show_board, is_page=True, is_compressible=True, doc=RouteDoc(
        "The board.", _HTML_TYPE,
    )),
    Route("GET", "/items/{id:path}", "read", item_page.show_item, is_page=True, is_compressible=True, doc=RouteDoc(
        "An item with its curve and its runs, or one of its runs.", _HTML_TYPE, query=(Parameter(
            "run", "The id of a run; without it, the current or the last one.", _TEXT_TYPE),),
        problems=("item-not-found", "unavailable"),
    )),
    Route("GET", "/today", "read", today_page.show_today, is_page=True, is_compressible=True, doc=RouteDoc(
        "The timeline of the day.", _HTML_TYPE,
    )),
    Route("GET", "/schedules", "read", schedules_page.show_schedules, is_page=True, is_compressible=True, doc=RouteDoc(
        "The schedules, and a form to set them.", _HTML_TYPE, query=(
            Parameter("after", "The id after which the page begins.", _TEXT_TYPE),
            Parameter("id", "The item whose schedule the form shows.", _TEXT_TYPE),
            Parameter("set", "The item whose schedule the form has set.", _TEXT_TYPE),
        ),
        problems=("invalid-field",),
    )),
    Route("GET", "/history", "read", history_page.show_history, is_page=True, is_compressible=True, doc=RouteDoc(
        "The history. The page passes its query to `/api/v1/history`.", _HTML_TYPE,
    )),
    Route("GET", "/keys", "manage", admin_pages.show_keys, is_page=True, doc=RouteDoc("Keys, shares and sessions.",
    _HTML_TYPE)),
    Route("GET", "/channels", "manage", admin_pages.show_channels, is_page=True, doc=RouteDoc(
        "The notification channels.", _HTML_TYPE, problems=("unavailable",),
    )),
    Route("GET", "/login", "public", sign_in_page.show_login, is_page=True, doc=RouteDoc(
        "The sign-in page; a signed-in browser is redirected to `next` or the board.", _HTML_TYPE, (200, 303),
        query=(_NEXT_PARAMETER,),
    )),
    Route("POST", "/login", "public", sign_in_page.sign_in, is_page=True, doc=RouteDoc(
        "Sign in; redirects to `next` or the board.", _HTML_TYPE, (303,), shape.SignIn,
        media_type="application/x-www-form-urlencoded", problems=("forbidden", "rate-limited", "unavailable"),
    )),
    Route("POST", "/logout", "public", sign_in_page.sign_out, is_page=True, doc=RouteDoc(
        "Sign out.", _HTML_TYPE, (303,), problems=("forbidden", "unavailable"),
    )),
    Route("GET", "/auth/{token}", "public", sign_in_page.redeem_link, is_page=True, doc=RouteDoc(
        "A one-time sign-in link. It leads to `next`, to the page that asked for the sign-in, or to the board.",
        _HTML_TYPE, (303,), query=(_NEXT_PARAMETER,), problems=("forbidden", "unavailable"),
    )),
    Route("HEAD", "/auth/{token}", "public", sign_in_page.peek_link, doc=RouteDoc(
        "An empty response: link previews must not use up the link.", _HTML_TYPE,
    )),
    Route("GET", "/static/{digest}/{name}", "public", static_files.get_immutable_file, doc=RouteDoc(
        "The scripts, styles and icons of the pages. Browsers keep those with the current digest for a year.", "*/*",
        problems=("not-found",), headers=(_ETAG_HEADER,),
    )),
    Route("GET", "/static/{name}", "public", static_files.get_static_file, doc=RouteDoc(
        "The same files, checked at each use.", "*/*", problems=("not-found",), headers=(_ETAG_HEADER,),
    )),
    Route("GET", "/favicon.ico", "public", static_files.get_favicon, doc=RouteDoc(
        "The icon of the dashboard.", "image/x-icon", problems=("not-found",), headers=(_ETAG_HEADER,),
    )),
    Route("GET", "/manifest.webmanifest", "public", static_files.get_manifest, doc=RouteDoc(
        "The web app manifest, for the installation of the dashboard.", "application/manifest+json",
        problems=("not-found",), headers=(_ETAG_HEADER,),
    )),
    Route("GET", "/sw.js", "public", static_files.get_service_worker, doc=RouteDoc(
        "The service worker of the dashboard.", "text/javascript", problems=("not-found",), headers=(_ETAG_HEADER,),
    )),
)  # fmt: skip
