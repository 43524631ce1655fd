"""The pages for people: the dashboard, signing in and out, and the files they need."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path
from typing import TYPE_CHECKING, Final

from progressbar_tracker.server.access.devices import DEVICE_SECONDS
from progressbar_tracker.server.access.keys import credential_ends_at
from progressbar_tracker.server.access.sessions import is_same_site
from progressbar_tracker.server.dashboard.board_view import BoardQuery, present_board, present_run
from progressbar_tracker.server.http.blocking import run_while_connected
from progressbar_tracker.server.http.request import Request, decode_path_part
from progressbar_tracker.server.http.response import Header, Response, redirect
from progressbar_tracker.server.items.serializer import serialize_item, serialize_run
from progressbar_tracker.server.logs import log_event
from progressbar_tracker.server.models import credential_digest, digest
from progressbar_tracker.server.mutations import DropSession, SaveSession
from progressbar_tracker.server.problems import ProblemError
from progressbar_tracker.server.stores.base import StoreError

from .templates import HTML_CONTENT_TYPE, board_event_id, build_base_url, problem_page, render_page

if TYPE_CHECKING:
    from collections.abc import Mapping

    from progressbar_tracker.server.access.devices import DeviceCookies
    from progressbar_tracker.server.access.sessions import Password
    from progressbar_tracker.server.models import KeyRecord
    from progressbar_tracker.server.mutations import Write
    from progressbar_tracker.server.pools import Cancellation
    from progressbar_tracker.server.services import Services

MAX_RECENT_RUNS: Final = 8
"""How many ended runs the dashboard shows."""

MAX_AGENT_LENGTH: Final = 300
"""The most characters that are kept of what a browser calls itself."""

_CONTENT_TYPES: Final = {
    ".css": b"text/css; charset=utf-8",
    ".js": b"text/javascript; charset=utf-8",
    ".svg": b"image/svg+xml",
}
_STATIC_FILES: Final = {
    path.name: (path.read_bytes(), _CONTENT_TYPES[path.suffix])
    for path in sorted((Path(__file__).parent / "static").iterdir())
}
_STATIC_ETAGS: Final = {
    name: b'"%s"' % hashlib.sha256(body).hexdigest()[:16].encode() for name, (body, _) in _STATIC_FILES.items()
}


async def show_board(request: Request) -> Response:
    """``GET /``: the dashboard, with everything on it at the first paint."""
    services = request.services
    now = services.clock()
    query = BoardQuery.from_query(request.parse_query())
    items, event_id = services.read_board.page(), board_event_id(request)
    try:
        runs = await run_while_connected(
            request,
            services.pools.history,
            lambda cancellation: services.store.read_history(limit=MAX_RECENT_RUNS, cancellation=cancellation),
        )
    except StoreError:
        runs = []
    permissions = request.principal.permissions
    dismissible = "all" if "delete_all" in permissions else "own" if "delete_own" in permissions else "none"
    # Thousands of items take longer to write down than others should have to wait.
    return await run_while_connected(
        request,
        services.pools.pages,
        lambda _: render_page(
            request,
            "home.html",
            **present_board([serialize_item(item, now) for item in items], query, now),
            runs=[present_run(serialize_run(row.item, row.status, row.ended_at)) for row in runs],
            dismissible=dismissible,
            event_id=event_id,
            base_url=build_base_url(request),
        ),
    )


async def show_login(request: Request) -> Response:
    """``GET /login``."""
    return _render_login(request)


async def sign_in(request: Request) -> Response:
    """``POST /login``: the administrator's name and password, or a key."""
    if is_same_site(request.headers) is False:
        raise ProblemError("forbidden", "this request does not come from the dashboard's own pages")
    services = request.services
    form = await request.read_form()
    key = form.get("key", "").strip()
    # A right key is let in however many wrong attempts there were: nobody can guess one, and somebody else's attempts
    # from the same address, which may be that of a proxy, must not keep an administrator out.
    if key and (record := _find_key(services, key)) is not None:
        return await _start_session(request, "./", record, credential_digest(record.type, digest(key)))
    source = _get_attempt_source(request)
    wait = services.sign_in_attempts.retry_after(source, services.monotonic())
    if wait is not None:
        return _render_login(request, f"Too many wrong attempts. Try again in {wait} seconds.", 429, wait)
    services.sign_in_attempts.record(source, services.monotonic())
    password = services.password
    if not key and password is not None and await _verify_password(request, password, form, source):
        services.sign_in_attempts.discard_latest(source)
        return await _start_session(request, "./", devices=password.devices)
    log_event("sign-in refused", address=request.address)
    return _render_login(request, "That is not right.", 403)


async def _verify_password(request: Request, password: Password, form: Mapping[str, str], source: str) -> bool:
    """Verify a password in its turn.

    Raises:
        ProblemError: Nobody waits for the answer, or too many do. The attempt counts if its verification had begun.
    """
    has_begun = False

    def verify(_: Cancellation) -> bool:
        nonlocal has_begun
        has_begun = True
        return password.matches(form.get("username", ""), form.get("password", ""))

    try:
        known = None if request.find_device() is None else source
        return await run_while_connected(request, request.services.pools.password, verify, priority_holder=known)
    except ProblemError:
        if not has_begun:
            request.services.sign_in_attempts.discard_latest(source)
        raise


def _get_attempt_source(request: Request) -> str:
    """Return what attempts are counted by: a browser that signed in before, or the address."""
    device = request.find_device()
    return request.address if device is None else f"device {device}"


def _find_key(services: Services, key: str) -> KeyRecord | None:
    try:
        services.credentials.identify(key)
    except ProblemError:
        return None
    return services.keyring.find(key, services.clock())


async def redeem_link(request: Request) -> Response:
    """``GET /auth/{token}``: a one-time link."""
    if not request.services.sign_in_links.redeem(
        decode_path_part(request.path_params["token"].encode("latin-1")), request.services.monotonic()
    ):
        return _render_login(request, "This link was used already or is too old.", 403)
    return await _start_session(request, "../")


async def peek_link(_: Request) -> Response:
    """``HEAD /auth/{token}``: programs that look at links before a person does must not use them up."""
    return Response(200, b"", HTML_CONTENT_TYPE)


async def sign_out(request: Request) -> Response:
    """``POST /logout``."""
    services, cookie, ours = request.services, request.get_session_cookie(), is_same_site(request.headers)
    # Another site's request comes without the cookie, and the answer must not clear it.
    if ours is False or (cookie is not None and not ours):
        raise ProblemError("forbidden", "this request does not come from the dashboard's own pages")
    gone = _build_cookies(request, None)
    record = None if cookie is None else services.sessions.find(cookie, services.clock())
    if record is None:
        return redirect("login", gone)
    try:
        await services.credentials.end_session(record)
    except ProblemError as problem:
        reply = problem_page(request.scope, problem)
        return Response(reply.status, reply.body, reply.content_type, (*reply.headers, *gone))
    return redirect("login", gone)


async def get_static_file(request: Request) -> Response:
    """``GET /static/{name}``."""
    found = _STATIC_FILES.get(request.path_params["name"])
    if found is None:
        raise ProblemError("not-found", "there is no such file")
    body, kind = found
    etag = _STATIC_ETAGS[request.path_params["name"]]
    headers = ((b"etag", etag), (b"cache-control", b"no-cache"))
    if request.headers.get(b"if-none-match") == etag:
        return Response(304, headers=headers)
    return Response(200, body, kind, headers)


async def _start_session(
    request: Request,
    target: str,
    key: KeyRecord | None = None,
    credential: str | None = None,
    devices: DeviceCookies | None = None,
) -> Response:
    services, now = request.services, request.services.clock()
    key_id, until = None, math.inf
    if key is not None:
        key_id, until = key.key_id, credential_ends_at(key, credential)
    credential = credential or services.operator_credential
    agent = request.headers.get(b"user-agent", b"").decode("latin-1")[:MAX_AGENT_LENGTH]
    # Always a new cookie: one that was there before may be known to whoever put it there.
    over = services.sessions.evict_oldest(key_id)
    cookie, record = services.sessions.begin(now, key_id=key_id, credential=credential, until=until, agent=agent)
    writes: list[Write] = [SaveSession(record), *(DropSession(one.hash) for one in over)]
    if (former := request.get_session_cookie()) is not None and (ended := services.sessions.end(former)) is not None:
        writes.append(DropSession(ended.hash))
    try:
        await services.unit_of_work.commit(writes)
    except BaseException:
        # The cookie is never sent, and the sessions that made room for it have ended.
        services.sessions.drop(record)
        services.store.enqueue([DropSession(record.hash), *writes[1:]])
        raise
    if over:
        services.hub.wake()
    headers = _build_cookies(request, cookie, int(record.expires_at - now))
    if devices is not None:
        name = _choose_cookie_name(request, services.device_cookie_names)
        headers.append(_build_cookie(request, name, devices.issue(now), DEVICE_SECONDS))
    return redirect(target, headers)


def _choose_cookie_name(request: Request, names: tuple[str, str]) -> str:
    # What begins with __Host- can be set by this host alone, over TLS alone, and for no sub-path.
    host_only, plain = names
    return host_only if request.is_secure and not request.services.settings.base_path else plain


def _build_cookies(request: Request, value: str | None, seconds: int = 0) -> list[Header]:
    """Return the headers that set the session cookie, or ``None`` to clear it, and clear the one of another name."""
    name, there = _choose_cookie_name(request, request.services.cookie_names), request.parse_cookies()
    headers = [] if value is None else [_build_cookie(request, name, value, seconds)]
    return headers + [
        _build_cookie(request, other, "", 0)
        for other in request.services.cookie_names
        if other in there and not (other == name and value is not None)
    ]


def _build_cookie(request: Request, name: str, value: str, seconds: int) -> Header:
    path = request.services.settings.base_path or "/"
    secure = "; Secure" if request.is_secure or name.startswith("__Host-") else ""
    text = f"{name}={value}; Path={path}; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}"
    return b"set-cookie", text.encode()


def _render_login(request: Request, message: str = "", status: int = 200, wait: int | None = None) -> Response:
    reply = render_page(
        request, "login.html", status, message=message, has_password=request.services.password is not None
    )
    headers: tuple[Header, ...] = () if wait is None else ((b"retry-after", b"%d" % wait),)
    if request.scope["method"] == "POST":
        headers += request.services.sign_in_attempts.quota(
            _get_attempt_source(request), request.services.monotonic()
        ).headers()
    return Response(status, reply.body, reply.content_type, headers)
