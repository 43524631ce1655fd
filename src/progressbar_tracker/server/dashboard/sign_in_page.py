"""Sign in with a password, a key or a link, and sign out."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from progressbar_tracker.server.access.devices import DEVICE_SECONDS
from progressbar_tracker.server.access.keys import compute_credential_end
from progressbar_tracker.server.access.sessions import is_same_site
from progressbar_tracker.server.http.blocking import run_while_connected
from progressbar_tracker.server.http.response import Header, Response, redirect
from progressbar_tracker.server.http.return_path import parse_return_path
from progressbar_tracker.server.logs import log_event
from progressbar_tracker.server.models import credential_digest, digest
from progressbar_tracker.server.mutations import DropSession, SaveSession
from progressbar_tracker.server.problems import ProblemError

from .templates import HTML_CONTENT_TYPE, problem_page, render_page

if TYPE_CHECKING:
    from collections.abc import Mapping

    from progressbar_tracker.server.access.devices import DeviceCookies
    from progressbar_tracker.server.access.sessions import Password
    from progressbar_tracker.server.http.request import Request
    from progressbar_tracker.server.models import KeyRecord
    from progressbar_tracker.server.mutations import Write
    from progressbar_tracker.server.pools import Cancellation
    from progressbar_tracker.server.services import Services

MAX_AGENT_LENGTH: Final = 300
"""The most characters stored of a User-Agent header."""

MAX_USERNAME_LENGTH: Final = 200
"""The most characters of a user name that a refused sign-in shows again."""

RETURN_SECONDS: Final = 600
"""Seconds for which a browser remembers the page to return to after a sign-in with a link."""


async def show_login(request: Request) -> Response:
    """``GET /login?next=``: the form, or a redirect to ``next`` for a signed-in browser."""
    return_path = _read_return_path(request)
    request.identify_viewer()
    if request.optional_principal is not None:
        return redirect(f"./{return_path or ''}")
    return _render_login(request, return_path=return_path)


async def sign_in(request: Request) -> Response:
    """``POST /login``: the administrator's name and password, or a key."""
    if is_same_site(request.headers) is False:
        raise ProblemError("forbidden", "this request does not come from the dashboard's own pages")
    services = request.services
    form = await request.read_form()
    key = form.get("key", "").strip()
    return_path = parse_return_path(form.get("next"))
    target = f"./{return_path or ''}"
    # A valid key is accepted after any number of wrong attempts. Keys cannot be guessed, and attempts of others from
    # the same address, such as a proxy's, must not lock an administrator out.
    if key and (record := _find_key(services, key)) is not None:
        return await _start_session(request, target, record, credential_digest(record.type, digest(key)))
    source = _get_attempt_source(request)
    wait = services.sign_in_attempts.retry_after(source, services.monotonic())
    username = form.get("username", "")[:MAX_USERNAME_LENGTH]
    if wait is not None:
        message = f"Too many wrong attempts. Try again in {wait} seconds."
        return _render_login(request, message, 429, wait, return_path=return_path, username=username)
    services.sign_in_attempts.record(source, services.monotonic())
    password = services.password
    if not key and password is not None and await _verify_password(request, password, form, source):
        services.sign_in_attempts.discard_latest(source)
        return await _start_session(request, target, devices=password.devices)
    log_event("sign-in refused", address=request.address)
    message = "The name, password or key is wrong."
    return _render_login(request, message, 403, return_path=return_path, username=username)


async def _verify_password(request: Request, password: Password, form: Mapping[str, str], source: str) -> bool:
    """Verify a password in the pool for passwords.

    Raises:
        ProblemError: The client has disconnected, or the queue is full. The attempt counts if its verification had
            begun.
    """
    has_begun = False

    def verify(_: Cancellation) -> bool:
        nonlocal has_begun
        has_begun = True
        return password.matches(form.get("username", ""), form.get("password", ""))

    try:
        known_source = None if request.find_device() is None else source
        return await run_while_connected(request, request.services.pools.password, verify, priority_holder=known_source)
    except ProblemError:
        if not has_begun:
            request.services.sign_in_attempts.discard_latest(source)
        raise


def _get_attempt_source(request: Request) -> str:
    """Return the source that attempts are counted by: a browser that signed in before, or the address."""
    device = request.find_device()
    return request.address if device is None else f"device {device}"


def _find_key(services: Services, key: str) -> KeyRecord | None:
    try:
        services.credentials.identify(key)
    except ProblemError:
        return None
    return services.keyring.find(key, services.clock())


async def redeem_link(request: Request) -> Response:
    """``GET /auth/{token}?next=``: sign in with a one-time link.

    The link is rarely opened from the sign-in page, so that a cookie of that page remembers where to return to.
    """
    cookies = request.parse_cookies()
    remembered = (cookies[name] for name in request.services.return_cookie_names if name in cookies)
    return_path = _read_return_path(request) or parse_return_path(next(remembered, None))
    if not request.services.sign_in_links.redeem(request.parse_path_text("token"), request.services.monotonic()):
        return _render_login(request, "This link has been used or has expired.", 403, return_path=return_path)
    return await _start_session(request, f"../{return_path or ''}")


async def peek_link(_: Request) -> Response:
    """``HEAD /auth/{token}``: no effect, as programs that preview links must not use them up."""
    return Response(200, b"", HTML_CONTENT_TYPE)


async def sign_out(request: Request) -> Response:
    """``POST /logout``."""
    services, cookie = request.services, request.get_session_cookie()
    same_site = is_same_site(request.headers)
    # A cross-site request has no cookie, and its response must not clear the cookie.
    if same_site is False or (cookie is not None and not same_site):
        raise ProblemError("forbidden", "this request does not come from the dashboard's own pages")
    cleared_cookies = _build_cookies(request, None)
    record = None if cookie is None else services.sessions.find(cookie, services.clock())
    if record is None:
        return redirect("login", cleared_cookies)
    try:
        await services.credentials.end_session(record)
    except ProblemError as problem:
        response = problem_page(request, problem)
        return Response(response.status, response.body, response.content_type, (*response.headers, *cleared_cookies))
    return redirect("login", cleared_cookies)


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
        key_id, until = key.key_id, compute_credential_end(key, credential)
    credential = credential or services.operator_credential
    agent = request.headers.get(b"user-agent", b"").decode("latin-1")[:MAX_AGENT_LENGTH]
    # Always a new cookie: an attacker may have planted the previous one.
    evicted = services.sessions.evict_oldest(key_id)
    cookie, record = services.sessions.begin(now, key_id=key_id, credential=credential, until=until, agent=agent)
    writes: list[Write] = [SaveSession(record), *(DropSession(session.hash) for session in evicted)]
    if (former := request.get_session_cookie()) is not None and (ended := services.sessions.end(former)) is not None:
        writes.append(DropSession(ended.hash))
    try:
        await services.unit_of_work.commit(writes)
    except BaseException:
        # The cookie is never sent, but the evicted sessions have ended.
        services.sessions.drop(record)
        services.store.enqueue([DropSession(record.hash), *writes[1:]])
        raise
    if evicted:
        services.hub.wake()
    headers = _build_cookies(request, cookie, int(record.expires_at - now))
    if devices is not None:
        name = _choose_cookie_name(request, services.device_cookie_names)
        headers.append(_build_cookie(request, name, devices.issue(now), DEVICE_SECONDS))
    return redirect(target, headers)


def _choose_cookie_name(request: Request, names: tuple[str, str]) -> str:
    # Only this host can set a __Host- cookie, only over TLS, and only for the root path.
    host_only, plain = names
    return host_only if request.is_secure and not request.services.settings.base_path else plain


def _build_cookies(request: Request, value: str | None, seconds: int = 0) -> list[Header]:
    """Return headers that set the session cookie, and clear those of other names; a value of ``None`` clears all."""
    name, cookies = _choose_cookie_name(request, request.services.cookie_names), request.parse_cookies()
    # Lax: a link in a mail or a chat opens the page. All writes check where they come from.
    headers = [] if value is None else [_build_cookie(request, name, value, seconds, same_site="Lax")]
    headers += [
        _build_cookie(request, other, "", 0) for other in request.services.return_cookie_names if other in cookies
    ]
    return headers + [
        _build_cookie(request, other, "", 0)
        for other in request.services.cookie_names
        if other in cookies and not (other == name and value is not None)
    ]


def _build_cookie(request: Request, name: str, value: str, seconds: int, *, same_site: str = "Strict") -> Header:
    path = request.services.settings.base_path or "/"
    secure = "; Secure" if request.is_secure or name.startswith("__Host-") else ""
    text = f"{name}={value}; Path={path}; Max-Age={seconds}; HttpOnly; SameSite={same_site}{secure}"
    return b"set-cookie", text.encode()


def _read_return_path(request: Request) -> str | None:
    try:
        return parse_return_path(request.parse_query().get("next"))
    except ProblemError:
        return None


def _render_login(
    request: Request,
    message: str = "",
    status: int = 200,
    wait: int | None = None,
    *,
    return_path: str | None = None,
    username: str = "",
) -> Response:
    response = render_page(
        request,
        "login.html",
        status,
        message=message,
        has_password=request.services.password is not None,
        return_path=return_path,
        username=username,
    )
    headers: tuple[Header, ...] = () if wait is None else ((b"retry-after", b"%d" % wait),)
    if return_path is not None:
        name = _choose_cookie_name(request, request.services.return_cookie_names)
        value = return_path.replace(";", "%3B").replace(",", "%2C")  # which end the value of a cookie
        headers += (_build_cookie(request, name, value, RETURN_SECONDS, same_site="Lax"),)
    if request.scope["method"] == "POST":
        headers += request.services.sign_in_attempts.quota(
            _get_attempt_source(request), request.services.monotonic()
        ).headers()
    return Response(status, response.body, response.content_type, headers)
